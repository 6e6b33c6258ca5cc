"""How an order ends without a code, and when another number may be bought."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.buyer import Colour
from tests.job.accounts import closed, exact
from tests.job.scene import (
    BUY,
    CANCEL,
    CONFIRM,
    LOOK,
    POLL,
    Moment,
    always,
    once,
    staged,
)
from x402sms.errors import NoCodeReceived, SpendLimitExceeded
from x402sms.sandbox import Fault
from x402sms.sandbox.orders import Status
from x402sms.virtualsms.effects import Bought, Cancelled, Confirmed, NotCancelled, Received

PRICES = {"US": "0.10", "GB": "0.12", "DE": "0.20"}
PAYS_CANCEL = Moment(CANCEL, "before")


def test_a_time_out_cancels_for_the_refund_and_says_so(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        ended = scene.receive(timeout=180)
        [order_id] = scene.order_ids
        assert isinstance(ended.error, NoCodeReceived)
        assert str(ended.error) == (
            f"no SMS within 180 s; the order {order_id} is cancelled, 0.10 USDC refunded; it cost "
            "0.004 USDC in all"
        )
        assert (ended.error.order_id, ended.error.cancelled) == (order_id, True)
        assert (ended.error.refunded, ended.error.cost) == (Decimal("0.10"), Decimal("0.004"))
        assert ended.told(Cancelled) == [Cancelled(order_id, Decimal("0.10"))]
        exact(scene, ended)


@pytest.mark.parametrize("kind", ["fault", "delivery"])
def test_an_sms_that_beats_the_cancel_is_returned(kind: str, colour: Colour) -> None:
    faults = [once("sms-beats-cancel", CANCEL)] if kind == "fault" else []
    with staged(colour, only=PRICES, faults=faults) as scene:
        if kind == "delivery":
            scene.at(
                PAYS_CANCEL,
                lambda: scene.sandbox.deliver_sms(scene.order_ids[0], "Your code is 424242"),
            )
        ended = scene.receive(max_numbers=3)
        assert ended.code is not None
        assert ended.code.code == ("424242" if kind == "delivery" else ended.code.code)
        assert (ended.code.text or "").endswith(ended.code.code or "?")
        assert (len(ended.told(Received)), ended.told(Cancelled)) == (1, [])
        assert (scene.orders, scene.paid(LOOK)) == (["confirmed"], 1)
        closed(scene, ended)


def test_cancelled_already_is_success(colour: Colour) -> None:
    """400 "Cannot cancel order with status: cancelled": the order is read again."""
    with staged(colour, only=PRICES) as scene:
        scene.at(
            PAYS_CANCEL,
            lambda: setattr(scene.sandbox.state.orders.all()[0], "status", Status.CANCELLED),
        )
        ended = scene.receive()
        assert isinstance(ended.error, NoCodeReceived)
        assert (ended.error.cancelled, ended.error.refunded) == (True, Decimal("0.10"))
        assert "is cancelled, 0.10 USDC refunded" in ended.said
        assert scene.orders == ["cancelled"]


def test_confirmed_meanwhile_is_a_code_and_not_a_cancel(colour: Colour) -> None:
    """409: the order was received and confirmed, by somebody else with the same wallet."""
    with staged(colour, only=PRICES) as scene:

        def confirmed() -> None:
            scene.sandbox.deliver_sms(scene.order_ids[0], "Your code is 424242")
            scene.sandbox.state.orders.all()[0].status = Status.CONFIRMED

        scene.at(PAYS_CANCEL, confirmed)
        ended = scene.receive()
        assert ended.code is not None
        assert ended.code.code == "424242"
        assert (scene.sent(CONFIRM), ended.told(Confirmed)) == (0, [])
        closed(scene, ended)


EXPIRIES = {
    "while it is polled": {"order_seconds": 150, "cooldown": 200},
    "before the cancel is allowed": {"order_seconds": 250, "cooldown": 300},
}


@pytest.mark.parametrize("config", EXPIRIES.values(), ids=EXPIRIES)
def test_an_order_that_expired_is_not_said_to_be_refunded(
    config: dict[str, Any], colour: Colour
) -> None:
    with staged(colour, only=PRICES, **config) as scene:
        ended = scene.receive(timeout=200, max_numbers=3)
        [order_id] = scene.order_ids  # no other number: the refund of this one is not known
        assert isinstance(ended.error, NoCodeReceived)
        assert ended.error.cancelled is not True
        assert ended.error.refunded == 0
        assert "refunded;" not in ended.said
        assert order_id in ended.said
        assert f"x402sms orders show {order_id}" in ended.said
        assert ended.told(Cancelled) == []
        assert [event.order_id for event in ended.told(NotCancelled)] == [order_id]
        assert scene.orders == ["expired"] or config["cooldown"] == 300
        assert ended.cost == sum((p.amount for p in scene.rows), Decimal(0))


def test_an_order_that_expired_says_that_the_refund_is_unknown(colour: Colour) -> None:
    with staged(colour, only=PRICES, order_seconds=150, cooldown=200) as scene:
        ended = scene.receive(timeout=200)
        assert isinstance(ended.error, NoCodeReceived)
        assert ended.error.cancelled is None
        assert "whether that is refunded is" in ended.said
        closed(scene, ended)


def test_the_next_number_is_bought_once_the_one_before_is_known_to_be_cancelled(
    colour: Colour,
) -> None:
    with staged(colour, only=PRICES) as scene:
        ended = scene.receive(max_numbers=3, timeout=900)
        assert isinstance(ended.error, NoCodeReceived)
        assert [bought.order.country for bought in ended.told(Bought)] == ["US", "GB", "DE"]
        assert scene.orders == ["cancelled"] * 3
        assert ended.error.refunded == Decimal("0.42")
        assert all(order_id in ended.said for order_id in scene.order_ids)
        intents = [row.intent for row in scene.rows if row.url.endswith("/orders")]
        assert intents == [ended.intent, f"{ended.intent}#2", f"{ended.intent}#3"]
        exact(scene, ended)


def test_the_code_may_come_to_the_second_number(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:

        def later() -> None:
            scene.at(
                Moment(POLL),
                lambda: scene.sandbox.deliver_sms(scene.order_ids[-1], "Your code is 424242"),
            )

        scene.at(Moment(CANCEL, "after"), later)
        ended = scene.receive(max_numbers=3, timeout=900)
        assert ended.code is not None
        assert (ended.code.code, ended.code.order.country) == ("424242", "GB")
        assert scene.orders == ["cancelled", "confirmed"]
        assert ended.refunded == Decimal("0.10")
        exact(scene, ended)


UNSURE = {
    "it never got through": [always("drop-before", CANCEL, paid=True)],
    "the service fails": [always("error-500", CANCEL, paid=True)],
}


@pytest.mark.parametrize("faults", UNSURE.values(), ids=UNSURE)
def test_no_next_number_after_a_cancel_that_is_not_certain(
    faults: list[Fault], colour: Colour
) -> None:
    with staged(colour, only=PRICES, faults=faults) as scene:
        ended = scene.receive(max_numbers=3, timeout=900)
        assert isinstance(ended.error, NoCodeReceived)
        assert ended.error.cancelled is False
        assert (scene.paid(BUY), len(ended.told(Bought))) == (1, 1)


@pytest.mark.parametrize(
    ("most", "bought"),
    [("0.21", 1), ("0.22", 2), ("0.41", 2), ("0.42", 3), ("5", 3)],
)
def test_max_total_allows_for_a_next_number_within_what_may_be_lost(
    most: str, bought: int, colour: Colour
) -> None:
    faults = [always("drop-before", CANCEL, paid=True)]
    with staged(colour, only=PRICES, faults=faults) as scene:
        ended = scene.receive(max_numbers=3, timeout=1500, max_total=most)
        assert isinstance(ended.error, NoCodeReceived)
        assert (scene.paid(BUY), len(ended.told(Bought))) == (bought, bought)
        assert all(f"`x402sms orders cancel {each}`" in ended.said for each in scene.order_ids)
        if bought < 3:
            assert isinstance(ended.error.__cause__, SpendLimitExceeded)
            assert ended.error.__cause__.limit == "max_total"


def test_no_other_country_to_go_to_is_said_with_what_came_before(colour: Colour) -> None:
    with staged(colour, only={"US": "0.10"}) as scene:
        ended = scene.receive(max_numbers=3, timeout=900)
        assert isinstance(ended.error, NoCodeReceived)
        assert "is cancelled, 0.10 USDC refunded" in ended.said
        assert scene.orders == ["cancelled"]
        exact(scene, ended)


def test_a_block_that_asks_for_no_code_cancels_as_it_is_left(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        job = scene.job()
        scene.entered(job)
        assert scene.orders == ["waiting"]
        scene.left(job)
        assert scene.orders == ["cancelled"]
        assert (job.cost, job.refunded) == (Decimal("0.002"), Decimal("0.10"))
        paid, refunded = scene.books
        assert job.cost == paid - refunded


def test_a_block_with_a_code_confirms_as_it_is_left(colour: Colour) -> None:
    with staged(colour, only=PRICES, sms_after=30) as scene:
        job = scene.job()
        scene.entered(job)
        code = scene.wait_for(lambda: job.wait(timeout=180))
        assert scene.orders == ["received"]
        scene.left(job)
        assert scene.orders == ["confirmed"]
        assert job.code.code == code.code
        paid, refunded = scene.books
        assert job.cost == job.code.cost == paid - refunded


def test_a_block_left_open_by_a_cancel_that_fails_raises_and_says_what_to_do(
    colour: Colour,
) -> None:
    faults = [always("drop-before", CANCEL, paid=True)]
    with staged(colour, only=PRICES, faults=faults) as scene:
        job = scene.job()
        scene.entered(job)
        [order_id] = scene.order_ids
        with pytest.raises(NoCodeReceived, match=f"`x402sms orders cancel {order_id}`"):
            scene.left(job)
