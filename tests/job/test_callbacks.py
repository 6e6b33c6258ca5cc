"""A callback that raises: its own exception comes out, and the order is ended all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.buyer import Colour
from tests.job.accounts import audited, closed
from tests.job.scene import (
    BUY,
    CANCEL,
    LIST,
    POLL,
    SLEEP,
    Moment,
    Result,
    always,
    cancel_task,
    interrupt,
    lost,
    once,
    staged,
)
from x402sms.errors import NoCodeReceived, PaymentUnknown, X402SMSError
from x402sms.virtualsms.effects import (
    Bought,
    Cancelled,
    Chosen,
    Confirmed,
    Event,
    HeldBack,
    LeftOut,
    NotCancelled,
    Paused,
    Received,
    Swapped,
    Waiting,
)

PRICES = {"US": "0.10", "GB": "0.12"}

# As if the callback had made a call of its own: one of ours is still the callback's.
MINE: dict[str, Callable[[], Exception]] = {
    "ValueError": lambda: ValueError("mine"),
    "NoCodeReceived": lambda: NoCodeReceived("mine"),
    "PaymentUnknown": lambda: PaymentUnknown("mine"),
    "X402SMSError": lambda: X402SMSError("mine"),
}


def _raising(kind: type[Event], error: BaseException) -> Callable[[Event], None]:
    """A callback that raises once, at the first event of that kind."""
    left = [error]

    def callback(event: Event) -> None:
        if isinstance(event, kind) and left:
            raise left.pop()

    return callback


# Event -> how the sandbox is set up, the job's options, the orders that are left.
Case = tuple[type[Any], dict[str, Any], dict[str, Any], list[str]]
SILENT: dict[str, Any] = {}
SPEAKS = {"sms_after": 30}
BEFORE_THE_END: dict[str, Case] = {
    "Chosen": (Chosen, SILENT, {}, []),
    "LeftOut": (LeftOut, {"faults": [once("no-stock", BUY, paid=False)]}, {}, []),
    "Bought": (Bought, SILENT, {}, ["cancelled"]),
    "Waiting": (Waiting, SILENT, {}, ["cancelled"]),
    "Swapped": (Swapped, SILENT, {"max_swaps": 1}, ["cancelled"]),
    "Received": (Received, SPEAKS, {}, ["confirmed"]),
}
AT_THE_END: dict[str, Case] = {
    "HeldBack": (HeldBack, SILENT, {"timeout": 10}, ["cancelled"]),
    "Cancelled": (Cancelled, SILENT, {"timeout": 10}, ["cancelled"]),
    "NotCancelled": (
        NotCancelled,
        {"faults": [always("drop-before", CANCEL, paid=True)]},
        {"timeout": 10},
        ["waiting"],
    ),
    "Confirmed": (Confirmed, SPEAKS, {}, ["confirmed"]),
    "Paused before a poll": (
        Paused,
        {"faults": [once("error-500", POLL, times=4)]},
        {},
        ["cancelled"],
    ),
    "Paused before a cancel": (
        Paused,
        {"faults": [once("drop-before", CANCEL, times=5)]},
        {"timeout": 10},
        ["cancelled"],
    ),
}
CASES = {**BEFORE_THE_END, **AT_THE_END}


def _received(
    colour: Colour, case: Case, error: BaseException, seen: Callable[[Any, Result], None]
) -> None:
    kind, config, options, _ = case
    with staged(colour, only=PRICES, **config) as scene:
        seen(scene, scene.receive(on_event=_raising(kind, error), **options))


@pytest.mark.parametrize("mine", MINE.values(), ids=MINE)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_its_own_exception_comes_out_and_the_order_is_ended(
    case: Case, mine: Callable[[], Exception], colour: Colour
) -> None:
    error = mine()

    def seen(scene: Any, ended: Result) -> None:
        assert ended.error is error, repr(ended.error)
        assert scene.orders == case[3]
        audited(scene)
        if scene.orders == ["cancelled"]:
            assert ended.refunded == Decimal("0.10")
            assert f"{scene.order_ids[0]} is cancelled, 0.10 USDC refunded" in ended.said
            closed(scene, ended)
        if scene.orders == ["waiting"]:
            assert f"`x402sms orders cancel {scene.order_ids[0]}`" in ended.said

    _received(colour, case, error, seen)


# By then it could be cancelled at once, so nothing is held back.
LATER = {name: case for name, case in AT_THE_END.items() if name != "HeldBack"}


@pytest.mark.parametrize("case", LATER.values(), ids=LATER)
def test_no_further_number_is_bought_after_it(case: Case, colour: Colour) -> None:
    kind, config, options, left = case
    with staged(colour, only=PRICES, **config) as scene:
        error = ValueError("mine")
        options = {**options, "max_numbers": 3, "max_total": "5", "timeout": 900}
        ended = scene.receive(on_event=_raising(kind, error), **options)
        assert ended.error is error
        assert scene.paid(BUY) == 1
        assert scene.orders == left


@pytest.mark.parametrize("mine", MINE.values(), ids=MINE)
def test_who_is_told_the_number_is_no_different(
    mine: Callable[[], Exception], colour: Colour
) -> None:
    error = mine()

    def on_number(number: str) -> None:
        raise error

    with staged(colour, only=PRICES) as scene:
        ended = scene.receive(on_number=on_number)
        assert ended.error is error
        assert scene.orders == ["cancelled"]
        assert f"{scene.order_ids[0]} is cancelled, 0.10 USDC refunded" in ended.said
        closed(scene, ended)


@pytest.mark.parametrize("mine", MINE.values(), ids=MINE)
def test_a_purchase_in_doubt_is_still_found(mine: Callable[[], Exception], colour: Colour) -> None:
    """It is tried again after a pause that nobody may be told of."""
    error = mine()
    with staged(colour, only=PRICES) as scene:
        scene.change(BUY, lost)
        scene.change(LIST, lost)

        def clear(event: Event) -> None:
            if isinstance(event, Paused) and scene.changes:
                scene.changes.clear()
                raise error

        ended = scene.receive(on_event=clear, timeout=60)
        assert ended.error is error, repr(ended.error)
        assert (scene.paid(BUY), scene.orders) == (1, ["cancelled"])
        audited(scene)


@pytest.mark.parametrize("mine", MINE.values(), ids=MINE)
def test_a_purchase_that_is_not_found_is_noted_to_it(
    mine: Callable[[], Exception], colour: Colour
) -> None:
    error = mine()
    with staged(colour, only=PRICES) as scene:
        scene.change(BUY, lost)
        scene.change(LIST, lost)
        ended = scene.receive(on_event=_raising(Paused, error), intent="job-1")
        assert ended.error is error, repr(ended.error)
        assert "job-1" in ended.said
        assert "x402sms recover" in ended.said
        assert scene.paid(BUY) == 1


@pytest.mark.parametrize("kind", [HeldBack, Cancelled])
def test_a_block_is_left_with_it(kind: type[Event], colour: Colour) -> None:
    error = ValueError("mine")
    with staged(colour, only=PRICES) as scene:
        job = scene.job(on_event=_raising(kind, error))
        scene.entered(job)
        with pytest.raises(ValueError, match="mine") as caught:
            scene.left(job)
        assert caught.value is error
        assert scene.orders == ["cancelled"]


@pytest.mark.parametrize("kind", [HeldBack, Cancelled])
def test_what_a_block_raised_is_not_lost_to_it(kind: type[Event], colour: Colour) -> None:
    """The block's own exception goes on, and what the callback raised is noted to it."""
    own, error = KeyError("the block's"), ValueError("mine")
    with staged(colour, only=PRICES) as scene:
        job = scene.job(on_event=_raising(kind, error))
        scene.entered(job)
        assert not scene.left(job, own)  # it goes on
        assert any("ValueError('mine')" in note for note in own.__notes__)
        assert scene.orders == ["cancelled"]


def test_each_event_is_told_until_it_raises_and_those_of_the_end_after_it(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        ended = scene.receive(on_event=_raising(Waiting, ValueError("mine")))
        assert [type(event) for event in ended.events] == [
            Chosen,
            Bought,
            Waiting,
            HeldBack,
            Cancelled,
        ]


def test_ctrl_c_in_a_callback_is_as_anywhere_else() -> None:
    with staged("sync", only=PRICES) as scene:
        ended = scene.receive(on_event=_raising(HeldBack, KeyboardInterrupt()), timeout=10)
        assert isinstance(ended.error, KeyboardInterrupt)
        assert scene.orders == ["cancelled"] or "x402sms orders cancel" in ended.said


@pytest.mark.parametrize("kind", [HeldBack, Cancelled])
def test_ctrl_c_is_not_lost_to_a_callback_that_raises_after_it(kind: type[Event]) -> None:
    with staged("sync", only=PRICES) as scene:
        scene.at(Moment(POLL, "before"), interrupt)
        ended = scene.receive(on_event=_raising(kind, ValueError("mine")))
        assert isinstance(ended.error, KeyboardInterrupt)
        assert scene.orders == ["cancelled"]


@pytest.mark.parametrize("kind", [HeldBack, Cancelled])
def test_nor_is_a_task_that_was_cancelled(kind: type[Event]) -> None:
    with staged("async", only=PRICES) as scene:
        scene.at(Moment(POLL, "before"), cancel_task)
        ended = scene.receive(on_event=_raising(kind, ValueError("mine")))
        assert isinstance(ended.error, asyncio.CancelledError)
        assert scene.orders == ["cancelled"]


INTERRUPTS = {"sync": KeyboardInterrupt, "async": asyncio.CancelledError}


@pytest.mark.parametrize("kind", [HeldBack, Cancelled])
def test_nor_is_one_that_came_in_the_block(kind: type[Event], colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        job = scene.job(on_event=_raising(kind, ValueError("mine")))
        scene.entered(job)
        assert not scene.left(job, INTERRUPTS[colour]())  # it goes on
        assert scene.orders == ["cancelled"]


def test_nor_is_one_that_came_after_it(colour: Colour) -> None:
    """An exception that waits for the order's end does not come in the place of Ctrl-C."""
    faults = [once("error-500", POLL, times=4)]
    with staged(colour, only=PRICES, faults=faults) as scene:
        job = scene.job(on_event=_raising(Paused, ValueError("mine")))
        scene.entered(job)
        stop = interrupt if colour == "sync" else cancel_task
        scene.at(SLEEP, stop)
        with pytest.raises(INTERRUPTS[colour]) as caught:
            scene.wait_for(lambda: job.wait(300))
        assert not scene.left(job, caught.value)
        assert scene.orders == ["cancelled"]


def test_a_wait_after_one_that_raised_is_as_before(colour: Colour) -> None:
    """Nothing of an exception that came out is left for the next call."""
    with staged(colour, only=PRICES, sms_after=60) as scene:
        events: list[Event] = []

        def callback(event: Event) -> None:
            events.append(event)
            if isinstance(event, Waiting) and len(events) == 3:
                raise ValueError("mine")

        job = scene.job(on_event=callback)
        scene.entered(job)
        with pytest.raises(ValueError, match="mine"):
            scene.wait_for(lambda: job.wait(300))
        assert scene.orders == ["waiting"]
        assert scene.wait_for(lambda: job.wait(300)).code is not None
        scene.left(job)
        assert scene.orders == ["confirmed"]


def test_an_sms_that_beats_the_cancel_after_it_confirms_the_order(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        scene.at(
            Moment(CANCEL, "before"),
            lambda: scene.sandbox.deliver_sms(scene.order_ids[0], "Your code is 424242"),
        )
        scene.receive(on_event=_raising(HeldBack, ValueError("mine")), timeout=10)
        assert scene.orders == ["confirmed"]
