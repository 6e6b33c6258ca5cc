"""Answers that are lost on the way: of the purchase, a poll, a swap, a cancel, a confirm."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from tests.buyer import Colour
from tests.job.accounts import closed, exact
from tests.job.scene import BUY, CANCEL, CONFIRM, LIST, POLL, SWAP, always, once, staged
from x402sms.errors import NoCodeReceived, PaymentUnknown, ServerError
from x402sms.protocol.types import PaymentState
from x402sms.virtualsms.effects import Cancelled, NotCancelled, Swapped

PRICES = {"US": "0.10", "GB": "0.12"}
BEFORE = ("drop-before", "error-500", "html-502-before")
AFTER = ("drop-after-settle", "html-502", "plain-error", "truncate")


@pytest.mark.parametrize("fault", [*BEFORE, *AFTER, "duplicate", "slow"])
@pytest.mark.parametrize("route", [BUY, POLL, CONFIRM])
def test_an_answer_lost_once_costs_neither_the_code_nor_a_second_payment(
    route: str, fault: str, colour: Colour
) -> None:
    with staged(colour, only=PRICES, sms_after=30, faults=[once(fault, route)]) as scene:
        ended = scene.receive()
        assert ended.code is not None
        assert ended.code.code is not None
        assert ended.code.code in (ended.code.text or "")
        assert (scene.paid(BUY), len(scene.orders)) == (1, 1)
        assert scene.sandbox.faults_struck() == {fault: 1}
        closed(scene, ended)


@pytest.mark.parametrize("fault", [*BEFORE, *AFTER, "duplicate", "slow"])
def test_the_answer_to_a_cancel_lost_once_is_still_a_cancel(fault: str, colour: Colour) -> None:
    with staged(colour, only=PRICES, faults=[once(fault, CANCEL)]) as scene:
        ended = scene.receive()
        assert isinstance(ended.error, NoCodeReceived)
        assert ended.error.cancelled is True
        assert ended.error.refunded == Decimal("0.10")
        assert ended.error.cost == ended.cost
        assert (scene.orders, scene.paid(CANCEL)) == (["cancelled"], 1)
        closed(scene, ended)


@pytest.mark.parametrize("fault", [*BEFORE, *AFTER, "duplicate", "slow"])
def test_the_answer_to_a_swap_lost_once_is_one_swap(fault: str, colour: Colour) -> None:
    with staged(colour, only=PRICES, faults=[once(fault, SWAP)]) as scene:
        ended = scene.receive(max_swaps=1)
        assert isinstance(ended.error, NoCodeReceived)
        assert scene.paid(SWAP) == 1
        [swapped] = ended.told(Swapped)
        [order] = scene.sandbox.state.orders.all()
        assert swapped.order.phone_number == order.phone_number
        assert order.previous_number is not None
        assert scene.orders == ["cancelled"]
        closed(scene, ended)


@pytest.mark.parametrize("fault", AFTER)
def test_the_answer_to_the_purchase_lost_always_is_found_in_the_orders(
    fault: str, colour: Colour
) -> None:
    with staged(colour, only=PRICES, sms_after=30, faults=[always(fault, BUY, paid=True)]) as scene:
        ended = scene.receive(intent="job-1")
        assert ended.code is not None
        assert ended.code.order_id == scene.order_ids[0]
        assert (scene.paid(BUY), len(scene.orders), scene.paid(LIST)) == (1, 1, 1)
        assert scene.row_of("job-1").delivered == scene.order_ids[0]
        closed(scene, ended)


def test_a_purchase_that_never_gets_through_is_not_bought_elsewhere(colour: Colour) -> None:
    faults = [always("drop-before", BUY, paid=True)]
    with staged(colour, only=PRICES, sms_after=30, faults=faults) as scene:
        ended = scene.receive(intent="job-1")
        assert isinstance(ended.error, PaymentUnknown)
        assert "its end is not known" in ended.said
        assert "Try again only with the same intent, 'job-1'" in ended.said
        assert "x402sms payments reconcile 0x" in ended.said
        assert (scene.paid(BUY), scene.orders) == (0, [])
        assert scene.row_of("job-1").state is PaymentState.UNKNOWN
        assert closed(scene, ended).idle == Decimal("0.10")

        scene.sandbox.set_faults({})
        again = scene.receive(intent="job-1")
        assert again.code is not None
        assert (scene.paid(BUY), len(scene.orders)) == (1, 1)


@pytest.mark.parametrize("fault", [*BEFORE, *AFTER])
def test_polls_that_are_lost_always_end_the_job_with_a_cancel(fault: str, colour: Colour) -> None:
    with staged(colour, only=PRICES, faults=[always(fault, POLL, paid=True)]) as scene:
        ended = scene.receive()
        assert isinstance(ended.error, PaymentUnknown | ServerError | NoCodeReceived)
        assert f"the order {scene.order_ids[0]} is cancelled, 0.10 USDC refunded" in ended.said
        assert scene.orders == ["cancelled"]
        closed(scene, ended)


@pytest.mark.parametrize("fault", [*BEFORE, *AFTER])
def test_polls_that_are_lost_always_do_not_lose_the_sms(fault: str, colour: Colour) -> None:
    faults = [always(fault, POLL, paid=True)]
    with staged(colour, only=PRICES, sms_after=30, faults=faults) as scene:
        ended = scene.receive()
        assert ended.code is not None
        assert re.fullmatch(r"Your Telegram code is \d{6}", ended.code.text or "")
        assert any("something went wrong" in warning for warning in ended.code.warnings)
        assert scene.orders == ["confirmed"]
        closed(scene, ended)


@pytest.mark.parametrize("fault", AFTER)
def test_the_answer_to_a_cancel_lost_always_is_still_a_cancel(fault: str, colour: Colour) -> None:
    faults = [always(fault, CANCEL, paid=True)]
    with staged(colour, only=PRICES, faults=faults) as scene:
        ended = scene.receive()
        assert isinstance(ended.error, NoCodeReceived)
        assert (ended.error.cancelled, ended.error.refunded) == (True, Decimal("0.10"))
        assert scene.orders == ["cancelled"]
        closed(scene, ended)


@pytest.mark.parametrize("fault", BEFORE)
def test_a_cancel_that_never_gets_through_says_so_and_what_to_do(
    fault: str, colour: Colour
) -> None:
    with staged(colour, only=PRICES, faults=[always(fault, CANCEL, paid=True)]) as scene:
        ended = scene.receive(max_numbers=3)
        [order_id] = scene.order_ids  # no second number: the first is not known to be refunded
        assert isinstance(ended.error, NoCodeReceived)
        assert ended.error.cancelled is False
        assert ended.error.refunded == 0
        assert f"the order {order_id} could NOT be cancelled" in ended.said
        assert f"try `x402sms orders cancel {order_id}`" in ended.said
        assert [event.order_id for event in ended.told(NotCancelled)] == [order_id]
        assert ended.told(Cancelled) == []
        assert scene.orders == ["waiting"]

        scene.sandbox.set_faults({})
        scene.wait_for(lambda: scene.client.orders.cancel(order_id))
        assert scene.orders == ["cancelled"]


@pytest.mark.parametrize("fault", AFTER)
def test_the_answer_to_a_swap_lost_always_is_one_swap(fault: str, colour: Colour) -> None:
    with staged(colour, only=PRICES, faults=[always(fault, SWAP, paid=True)]) as scene:
        ended = scene.receive(max_swaps=1)
        assert isinstance(ended.error, NoCodeReceived)
        assert (scene.paid(SWAP), len(ended.told(Swapped))) == (1, 1)
        assert scene.orders == ["cancelled"]
        closed(scene, ended)


@pytest.mark.parametrize("fault", BEFORE)
def test_a_swap_that_never_gets_through_ends_with_the_first_number_cancelled(
    fault: str, colour: Colour
) -> None:
    with staged(colour, only=PRICES, faults=[always(fault, SWAP, paid=True)]) as scene:
        ended = scene.receive(max_swaps=1)
        assert isinstance(ended.error, NoCodeReceived)
        assert ended.error.cancelled is True
        assert (scene.paid(SWAP), ended.told(Swapped)) == (0, [])
        assert scene.orders == ["cancelled"]
        closed(scene, ended)


@pytest.mark.parametrize("fault", ["confirm-fails", *BEFORE, *AFTER])
def test_confirm_fails_still_returns_the_code_with_a_warning(fault: str, colour: Colour) -> None:
    faults = [always(fault, CONFIRM, paid=True)]
    with staged(colour, only=PRICES, sms_after=30, faults=faults) as scene:
        ended = scene.receive()
        assert ended.code is not None
        assert re.fullmatch(r"\d{6}", ended.code.code or "")
        [warning] = ended.code.warnings
        [order_id] = scene.order_ids
        assert re.match(rf"the order {order_id} (could not|may not) be confirmed", warning)
        assert scene.orders == ["received" if fault in ("confirm-fails", *BEFORE) else "confirmed"]
        closed(scene, ended)


def test_nothing_is_lost_where_nothing_goes_wrong(colour: Colour) -> None:
    with staged(colour, only=PRICES, sms_after=30) as scene:
        ended = scene.receive()
        assert ended.code is not None
        assert ended.code.warnings == ()
        assert ended.code.cost == ended.cost
        exact(scene, ended)
