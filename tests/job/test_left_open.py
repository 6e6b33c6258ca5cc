"""An order that could not be cancelled is told of, whatever becomes of the numbers after it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from tests.buyer import Colour
from tests.job.accounts import adds_up
from tests.job.scene import (
    BUY,
    CANCEL,
    OFFERS,
    POLL,
    Moment,
    Result,
    Scene,
    always,
    cancel_task,
    interrupt,
    staged,
)
from x402sms.errors import X402SMSError
from x402sms.sandbox import Fault
from x402sms.virtualsms.effects import Event, NotCancelled

PRICES = {"US": "0.10", "GB": "0.12"}


def _second_number(scene: Scene, then: Callable[[], None], *, timeout: float = 900) -> Result:
    """A job whose first number cannot be cancelled; `then` once that is known."""

    def told(event: Event) -> None:
        if isinstance(event, NotCancelled):
            scene.sandbox.set_faults({})
            then()

    scene.sandbox.set_faults([always("drop-before", CANCEL, paid=True)])
    return scene.receive(max_numbers=2, max_total="1", timeout=timeout, on_event=told)


# What befalls the job after its first number was left open -> how many numbers it buys.
ENDS: dict[str, tuple[list[Fault], int]] = {
    "no SMS either": ([], 2),
    "its polls fail": ([always("error-500", POLL)], 2),
    "its polls never get through": ([always("drop-before", POLL, paid=True)], 2),
    "no offers can be read": ([always("error-500", OFFERS)], 1),
    "the service is gone": ([always("drop-before", OFFERS)], 1),
    "no stock is left": ([always("no-stock", BUY)], 1),
    "the purchase fails": ([always("error-500", BUY)], 1),
    "the purchase may be paid": ([always("html-502-before", BUY, paid=True)], 1),
    "the next one cannot be cancelled either": ([always("drop-before", CANCEL, paid=True)], 2),
}


@pytest.mark.parametrize(("faults", "bought"), ENDS.values(), ids=ENDS)
def test_the_error_names_it_and_the_command(
    faults: list[Fault], bought: int, colour: Colour
) -> None:
    with staged(colour, only=PRICES) as scene:
        ended = _second_number(scene, lambda: scene.sandbox.set_faults(faults))
        assert isinstance(ended.error, X402SMSError)
        assert len(scene.order_ids) == bought
        assert scene.orders[0] == "waiting"
        for order_id, status in zip(scene.order_ids, scene.orders, strict=True):
            if status == "waiting":
                assert f"`x402sms orders cancel {order_id}`" in ended.said
        adds_up(scene, ended)


def test_the_code_of_the_next_number_warns_of_it(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:

        def speaks() -> None:
            scene.at(
                Moment(POLL),
                lambda: scene.sandbox.deliver_sms(scene.order_ids[-1], "Your code is 424242"),
            )

        ended = _second_number(scene, speaks)
        assert ended.code is not None
        assert (ended.code.code, scene.orders) == ("424242", ["waiting", "confirmed"])
        [warning] = [each for each in ended.code.warnings if scene.order_ids[0] in each]
        assert f"`x402sms orders cancel {scene.order_ids[0]}`" in warning


def test_ctrl_c_during_the_next_number_notes_both(colour: Colour) -> None:
    stop = interrupt if colour == "sync" else cancel_task
    with staged(colour, only=PRICES) as scene:
        ended = _second_number(scene, lambda: scene.at(Moment(POLL), stop))
        assert isinstance(ended.error, BaseException)
        assert not isinstance(ended.error, Exception)
        first, second = scene.order_ids
        assert scene.orders == ["waiting", "cancelled"]
        assert f"`x402sms orders cancel {first}`" in ended.said
        assert f"the order {second} is cancelled, 0.12 USDC refunded" in ended.said
        assert ended.refunded == Decimal("0.12")


def test_ctrl_c_before_the_next_number_notes_it_too(colour: Colour) -> None:
    stop = interrupt if colour == "sync" else cancel_task
    with staged(colour, only=PRICES) as scene:
        ended = _second_number(scene, lambda: scene.at(Moment(OFFERS), stop))
        assert not isinstance(ended.error, Exception)
        [first] = scene.order_ids
        assert f"`x402sms orders cancel {first}`" in ended.said


def test_a_block_that_is_left_during_the_next_number_notes_both(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:

        def told(event: Event) -> None:
            if isinstance(event, NotCancelled):
                scene.sandbox.set_faults([always("error-500", POLL)])

        job = scene.job(max_numbers=2, max_total="1", max_swaps=0, on_event=told)
        scene.entered(job)
        scene.sandbox.set_faults([always("drop-before", CANCEL, paid=True)])
        with pytest.raises(X402SMSError) as caught:
            scene.wait_for(lambda: job.wait(900))
        scene.left(job, caught.value)
        assert scene.orders == ["waiting", "cancelled"]
        said = "\n".join([str(caught.value), *caught.value.__notes__])
        assert f"`x402sms orders cancel {scene.order_ids[0]}`" in said
        assert scene.order_ids[1] in said
