"""Ctrl-C, a cancelled task and exceptions, at each moment of a job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.buyer import Colour
from tests.job.accounts import adds_up, closed
from tests.job.scene import (
    BUY,
    CANCEL,
    CONFIRM,
    LIST,
    OFFERS,
    POLL,
    SLEEP,
    SWAP,
    Moment,
    Result,
    Scene,
    cancel_task,
    in_scope,
    interrupt,
    once,
    staged,
    twice,
)
from x402sms.errors import NoCodeReceived
from x402sms.virtualsms.effects import Cancelled, Received

PRICES = {"US": "0.10", "GB": "0.12"}
WAYS = ("Ctrl-C", "task.cancel", "cancel scope")

# Moment -> the orders that are left.
MOMENTS = {
    "before anything is asked": (Moment(OFFERS, "before", paid=False), []),
    "before the number is asked for": (Moment(BUY, "before", paid=False), []),
    "before it is paid for": (Moment(BUY, "before"), None),
    "after it is paid for": (Moment(BUY, "after"), ["cancelled"]),
    "before a poll": (Moment(POLL, "before", paid=False), ["cancelled"]),
    "while it polls": (Moment(POLL, "before"), ["cancelled"]),
    "after a poll": (Moment(POLL, "after"), ["cancelled"]),
    "before a swap": (Moment(SWAP, "before"), ["cancelled"]),
    "after a swap": (Moment(SWAP, "after"), ["cancelled"]),
}


def _run(scene: Scene, way: str, moment: Moment, **options: Any) -> Result:
    """A job that is interrupted at that moment."""
    if way == "Ctrl-C":
        scene.at(moment, interrupt)
        return scene.receive(**options)
    if way == "task.cancel":
        scene.at(moment, cancel_task)
        return scene.receive(**options)
    cancel, scoped = in_scope(scene, lambda job: job.receive(300))
    scene.at(moment, cancel)
    return scene.run("telegram", scoped, **options)


def _colour(way: str) -> Colour:
    return "sync" if way == "Ctrl-C" else "async"


def _is_interrupted(way: str, ended: Result) -> None:
    assert ended.code is None
    kinds = {"Ctrl-C": KeyboardInterrupt, "task.cancel": asyncio.CancelledError}
    if way in kinds:
        assert type(ended.error) is kinds[way]
    else:
        assert ended.error is None  # the scope has caught it


@pytest.mark.parametrize(("moment", "left"), MOMENTS.values(), ids=MOMENTS)
@pytest.mark.parametrize("way", WAYS)
def test_an_interrupted_job_cancels_what_it_bought(
    way: str, moment: Moment, left: list[str] | None
) -> None:
    with staged(_colour(way), only=PRICES) as scene:
        ended = _run(scene, way, moment, max_swaps=1)
        _is_interrupted(way, ended)
        # Before the paid request left nobody knows whether it did: it is made again, cancelled.
        assert scene.orders == (["cancelled"] if left is None else left)
        assert scene.paid(BUY) == len(scene.orders) <= 1
        if scene.orders:
            assert ended.told(Cancelled)[-1] == Cancelled(scene.order_ids[0], Decimal("0.10"))
        closed(scene, ended)


@pytest.mark.parametrize("way", WAYS)
def test_an_interrupted_pause_cancels_what_was_bought(way: str) -> None:
    with staged(_colour(way), only=PRICES, faults=[once("rate-limit", POLL)]) as scene:
        ended = _run(scene, way, SLEEP)
        _is_interrupted(way, ended)
        assert scene.orders == ["cancelled"]
        closed(scene, ended)


@pytest.mark.parametrize("way", WAYS[:2])
def test_the_order_is_noted_to_the_interruption(way: str) -> None:
    with staged(_colour(way), only=PRICES) as scene:
        ended = _run(scene, way, Moment(POLL))
        order_id = scene.order_ids[0]
        assert f"the order {order_id} is cancelled, 0.10 USDC refunded" in ended.said


SECOND = {
    "while it waits for the cooldown": SLEEP,
    "before the cancel is sent": Moment(CANCEL, "before"),
    "after the cancel is sent": Moment(CANCEL, "after"),
}


@pytest.mark.parametrize("second", SECOND.values(), ids=SECOND)
@pytest.mark.parametrize("way", WAYS[:2])
def test_a_second_one_leaves_the_order_in_the_ledger_and_notes_the_command(
    way: str, second: Moment
) -> None:
    again = interrupt if way == "Ctrl-C" else cancel_task
    with staged(_colour(way), only=PRICES) as scene:
        scene.at(Moment(POLL, "before", paid=False), twice(scene, second, again))
        ended = scene.receive(intent="job-1")
        _is_interrupted(way, ended)
        [order_id] = scene.order_ids
        assert f"cancel it for its refund with `x402sms orders cancel {order_id}`" in ended.said
        assert scene.row_of("job-1").delivered == order_id
        adds_up(scene, ended)
        if second.when == "after":
            assert scene.orders == ["cancelled"]
            return
        assert scene.orders == ["waiting"]
        scene.sandbox.advance(120)
        scene.wait_for(lambda: scene.client.orders.cancel(order_id))
        assert scene.orders == ["cancelled"]


def test_an_interruption_with_the_code_there_still_confirms(colour: Colour) -> None:
    again = interrupt if colour == "sync" else cancel_task

    def stop(event: object) -> None:
        if isinstance(event, Received):
            again()

    with staged(colour, only=PRICES, sms_after=30) as scene:
        ended = scene.receive(on_event=stop)
        assert isinstance(ended.error, KeyboardInterrupt | asyncio.CancelledError)
        assert scene.orders == ["confirmed"]
        assert (scene.paid(CONFIRM), scene.sent(CANCEL), len(ended.told(Received))) == (1, 0, 1)
        closed(scene, ended)


def test_an_exception_in_the_body_cancels_and_is_raised(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        job = scene.job()
        scene.entered(job)
        error = RuntimeError("the form has changed")
        scene.left(job, error)  # returns nothing: the body's error goes on
        [order_id] = scene.order_ids
        assert error.__notes__ == [f"the order {order_id} is cancelled, 0.10 USDC refunded"]
        assert scene.orders == ["cancelled"]


def test_an_exception_in_the_body_after_the_code_confirms(colour: Colour) -> None:
    with staged(colour, only=PRICES, sms_after=30) as scene:
        job = scene.job()
        scene.entered(job)
        scene.wait_for(lambda: job.wait(timeout=180))
        error = RuntimeError("the form has changed")
        scene.left(job, error)
        assert not hasattr(error, "__notes__")
        assert scene.orders == ["confirmed"]


@pytest.mark.parametrize("sms_after", [None, 30])
def test_an_on_number_callback_that_raises_cancels(sms_after: float | None, colour: Colour) -> None:
    def fails(number: str) -> None:
        raise LookupError(f"no field for {number}")

    with staged(colour, only=PRICES, sms_after=sms_after) as scene:
        ended = scene.receive(on_number=fails)
        # An SMS that came before the cancel was allowed is not thrown away.
        if sms_after is None:
            assert isinstance(ended.error, LookupError)
            assert f"the order {scene.order_ids[0]} is cancelled, 0.10 USDC refunded" in ended.said
            assert scene.orders == ["cancelled"]
        else:
            assert ended.code is not None
            assert "no field for" in " ".join(ended.code.warnings)
            assert scene.orders == ["confirmed"]
        closed(scene, ended)


def test_an_on_number_callback_that_raises_as_a_block_is_entered_cancels(colour: Colour) -> None:
    """`__exit__` is not called for a block that was never entered."""

    def fails(number: str) -> None:
        raise LookupError(number)

    with staged(colour, only=PRICES) as scene:
        job = scene.job(on_number=fails)
        with pytest.raises(LookupError):
            scene.entered(job)
        assert scene.orders == ["cancelled"]


def test_a_block_interrupted_as_it_is_entered_cancels() -> None:
    with staged("sync", only=PRICES) as scene:
        job = scene.job()
        scene.at(Moment(BUY, "after"), interrupt)
        with pytest.raises(KeyboardInterrupt):
            scene.entered(job)
        assert scene.orders == ["cancelled"]


@pytest.mark.parametrize("way", WAYS[:2])
def test_interrupted_as_a_block_without_a_code_is_left_it_still_cancels(way: str) -> None:
    again = interrupt if way == "Ctrl-C" else cancel_task
    with staged(_colour(way), only=PRICES) as scene:
        job = scene.job()
        scene.entered(job)
        scene.at(SLEEP, again)
        with pytest.raises((KeyboardInterrupt, asyncio.CancelledError)) as stopped:
            scene.left(job)
        assert scene.orders == ["cancelled"]
        assert f"the order {scene.order_ids[0]} is cancelled" in stopped.value.__notes__[0]


@pytest.mark.parametrize("way", WAYS[:2])
def test_interrupted_twice_as_a_block_is_left_notes_the_command(way: str) -> None:
    again = interrupt if way == "Ctrl-C" else cancel_task
    with staged(_colour(way), only=PRICES) as scene:
        job = scene.job()
        scene.entered(job)
        scene.at(SLEEP, twice(scene, SLEEP, again))
        with pytest.raises((KeyboardInterrupt, asyncio.CancelledError)) as stopped:
            scene.left(job)
        assert f"`x402sms orders cancel {scene.order_ids[0]}`" in stopped.value.__notes__[0]


def test_interrupted_while_a_lost_purchase_is_looked_for_it_is_found_and_cancelled() -> None:
    with staged("sync", only=PRICES, faults=[once("drop-after-settle", BUY, times=4)]) as scene:
        scene.at(Moment(LIST), interrupt)
        ended = scene.receive(intent="job-1")
        assert isinstance(ended.error, KeyboardInterrupt)
        assert scene.orders == ["cancelled"]
        assert f"the order {scene.order_ids[0]} is cancelled, 0.10 USDC refunded" in ended.said
        closed(scene, ended)


@pytest.mark.parametrize("second", SECOND.values(), ids=SECOND)
@pytest.mark.parametrize("way", WAYS[:2])
def test_a_second_one_while_the_purchase_is_undone_notes_the_command(
    way: str, second: Moment
) -> None:
    again = interrupt if way == "Ctrl-C" else cancel_task
    with staged(_colour(way), only=PRICES) as scene:
        scene.at(Moment(BUY, "after"), twice(scene, second, again))
        ended = scene.receive()
        _is_interrupted(way, ended)
        assert f"`x402sms orders cancel {scene.order_ids[0]}`" in ended.said
        assert scene.paid(BUY) == 1
        adds_up(scene, ended)


@pytest.mark.parametrize("way", WAYS[:2])
def test_a_second_one_while_the_purchase_is_looked_for_says_so(way: str) -> None:
    again = interrupt if way == "Ctrl-C" else cancel_task
    with staged(_colour(way), only=PRICES) as scene:
        scene.at(Moment(BUY, "before"), twice(scene, Moment(BUY), again))
        ended = scene.receive(intent="job-1")
        _is_interrupted(way, ended)
        assert "a number may have been paid for" in ended.said
        again_ended = scene.receive(intent="job-1")
        assert isinstance(again_ended.error, NoCodeReceived)
        assert scene.orders == ["cancelled"]
        assert scene.paid(BUY) == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError], ids=lambda kind: kind.__name__)
def test_an_interruption_ends_with_the_code_where_the_sms_came_first(
    kind: type[BaseException],
) -> None:
    def stop() -> None:
        raise kind

    with staged("sync", only=PRICES, sms_after=30) as scene:
        stops: Callable[[], None] = stop
        scene.at(Moment(POLL, "before", paid=False), stops)
        ended = scene.receive()
        assert scene.orders == ["confirmed"]
        assert (ended.code is None) == (kind is KeyboardInterrupt)
        assert not isinstance(ended.error, NoCodeReceived)
        closed(scene, ended)
