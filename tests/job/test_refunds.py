"""What came back, and what did not: never more than was paid, and never taken for granted."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.buyer import Colour
from tests.job.accounts import adds_up, audited
from tests.job.scene import (
    BUY,
    CANCEL,
    LIST,
    LOOK,
    SWAP,
    Change,
    Scene,
    always,
    lost,
    staged,
    with_fields,
    with_rows,
)
from x402sms.errors import NoCodeReceived, SpendLimitExceeded, X402SMSError
from x402sms.protocol.types import PaymentState
from x402sms.virtualsms.effects import Bought, Cancelled, NotCancelled

PRICES = {"US": "0.10", "GB": "0.12", "DE": "0.20"}
PART = "0.06"  # of the 0.10


@pytest.mark.parametrize("refund", ["0", "0.00", PART, "0.099999"])
def test_no_further_number_after_one_that_was_not_refunded_in_full(
    refund: str, colour: Colour
) -> None:
    with staged(colour, only=PRICES) as scene:
        scene.change(CANCEL, with_fields(refund_amount=refund))
        ended = scene.receive(max_numbers=3, timeout=900)
        assert isinstance(ended.error, NoCodeReceived)
        assert (scene.paid(BUY), scene.orders) == (1, ["cancelled"])
        assert ended.error.refunded == ended.refunded == Decimal(refund)
        assert ended.told(Cancelled) == [Cancelled(scene.order_ids[0], Decimal(refund))]
        assert ended.cost == scene.books[0] - Decimal(refund)


# What was lost of the first number and the price of the next make up the bound.
TOTALS = [
    ("0", "0.21", 1),
    ("0", "0.22", 2),
    (PART, "0.15", 1),
    (PART, "0.16", 2),
    ("0.10", "0.12", 2),
]


@pytest.mark.parametrize(("refund", "most", "bought"), TOTALS)
def test_what_was_not_refunded_counts_towards_max_total(
    refund: str, most: str, bought: int, colour: Colour
) -> None:
    with staged(colour, only=PRICES) as scene:
        scene.change(CANCEL, with_fields(refund_amount=refund))
        ended = scene.receive(max_numbers=2, timeout=900, max_total=most)
        assert isinstance(ended.error, NoCodeReceived)
        assert scene.paid(BUY) == bought
        assert len(ended.told(Bought)) == bought
        if bought == 1:
            assert isinstance(ended.error.__cause__, SpendLimitExceeded)
            assert ended.error.__cause__.limit == "max_total"


def test_a_later_run_does_not_go_on_after_what_was_not_refunded(
    colour: Colour, tmp_path: Path
) -> None:
    """What the order itself says is all that a later run knows."""
    with staged(colour, only=PRICES, ledger=str(tmp_path / "ledger.db")) as scene:
        scene.entered(scene.job(intent="job-1"))
        scene.leave()
        scene.enter()
        scene.change(CANCEL, with_fields(refund_amount="0"))
        ended = scene.receive(intent="job-1", max_numbers=3, timeout=900)
        assert isinstance(ended.error, NoCodeReceived)
        assert scene.paid(BUY) == 1
        audited(scene)


@pytest.mark.parametrize("refund", ["0.11", "99", "1000000"])
def test_no_more_comes_back_than_was_paid(refund: str, colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        scene.change(CANCEL, with_fields(refund_amount=refund))
        ended = scene.receive()
        assert isinstance(ended.error, NoCodeReceived)
        assert ended.error.refunded == ended.refunded == Decimal("0.10")
        assert "0.10 USDC refunded" in ended.said
        paid, refunded = scene.books
        assert ended.cost == ended.error.cost == paid - refunded


def _dear(*routes: str) -> dict[str, Change]:
    return {route: with_fields(price="0.90", price_charged="0.90") for route in routes}


NO_AMOUNT = with_fields(refund_amount=None)
# route -> what its answers say instead; the refund is then told by the order's price.
GROWN: dict[str, tuple[dict[str, Change], dict[str, Any]]] = {
    "as it is bought": ({**_dear(BUY), CANCEL: NO_AMOUNT}, {}),
    "as it is swapped": ({**_dear(SWAP), CANCEL: NO_AMOUNT}, {"max_swaps": 1}),
    "as it is looked at": ({**_dear(LOOK), CANCEL: lost}, {}),
    "as it is looked at after a lost swap": (
        {**_dear(LOOK), SWAP: lost, CANCEL: NO_AMOUNT},
        {"max_swaps": 1},
    ),
}


@pytest.mark.parametrize(("changes", "options"), GROWN.values(), ids=GROWN)
def test_a_price_that_grows_after_it_was_paid_is_not_believed(
    changes: dict[str, Change], options: dict[str, Any], colour: Colour
) -> None:
    with staged(colour, only=PRICES) as scene:
        for route, change in changes.items():
            scene.change(route, change)
        ended = scene.receive(**options)
        assert isinstance(ended.error, NoCodeReceived)
        assert scene.orders == ["cancelled"]
        assert ended.refunded == Decimal("0.10")
        assert ended.cost >= 0
        assert {event.order.price for event in ended.told(Bought)} == {Decimal("0.10")}
        audited(scene)


# --- an answer that contradicts itself


def _contradicting(scene: Scene, success: bool, status: str) -> None:
    scene.change(CANCEL, with_fields(success=success, status=status, refund_amount=None))


SAID = [(True, "waiting"), (True, "received"), (False, "cancelled"), (False, "waiting")]


@pytest.mark.parametrize(("success", "status"), SAID)
def test_a_cancel_that_contradicts_itself_is_checked_by_the_order(
    success: bool, status: str, colour: Colour
) -> None:
    with staged(colour, only=PRICES) as scene:
        _contradicting(scene, success, status)
        ended = scene.receive()
        assert isinstance(ended.error, NoCodeReceived)
        assert (ended.error.cancelled, ended.refunded) == (True, Decimal("0.10"))
        assert (scene.paid(LOOK), scene.paid(CANCEL)) == (1, 1)
        assert scene.orders == ["cancelled"]
        audited(scene)


@pytest.mark.parametrize(("success", "status"), SAID)
def test_where_the_order_still_waits_that_is_no_cancel(
    success: bool, status: str, colour: Colour
) -> None:
    with staged(colour, only=PRICES) as scene:
        _contradicting(scene, success, status)
        scene.change(LOOK, with_fields(status="waiting"))
        ended = scene.receive(max_numbers=3, timeout=900)
        [order_id] = scene.order_ids  # no other number
        assert isinstance(ended.error, NoCodeReceived)
        assert ended.error.cancelled is False
        assert ended.refunded == 0
        assert f"`x402sms orders cancel {order_id}`" in ended.said
        assert [event.order_id for event in ended.told(NotCancelled)] == [order_id]


# --- a purchase that is found later


def _cut_short(response: httpx.Response) -> httpx.Response:
    """It says that it was paid, and not for what."""
    kept = {k: v for k, v in response.headers.items() if k.lower() != "content-length"}
    return httpx.Response(response.status_code, headers=kept, content=b"{")


LOST: dict[str, tuple[Change, PaymentState]] = {
    "no answer": (lost, PaymentState.UNKNOWN),
    "an answer that cannot be read": (_cut_short, PaymentState.SETTLED),
}


@pytest.mark.parametrize("stock", [50, 0], ids=["in stock", "out of stock by then"])
@pytest.mark.parametrize(("loss", "state"), LOST.values(), ids=LOST)
def test_the_cost_counts_a_purchase_that_was_found_later(
    loss: Change, state: PaymentState, stock: int, colour: Colour, tmp_path: Path
) -> None:
    with staged(colour, only=PRICES, ledger=str(tmp_path / "ledger.db")) as scene:
        scene.change(BUY, loss)
        scene.change(LIST, lost)
        first = scene.receive(intent="job-1")
        assert isinstance(first.error, X402SMSError)
        assert scene.row_of("job-1").state is state
        lists = sum(row.amount for row in scene.rows if row.state is PaymentState.UNKNOWN)
        assert first.cost >= Decimal("0.10") + (lists if state is PaymentState.SETTLED else 0)

        scene.changes.clear()
        scene.sandbox.state.gate._answers.clear()  # nothing is replayed
        scene.sandbox.set_stock("telegram", "US", stock)
        scene.leave()
        scene.enter()
        before, _ = scene.books
        again = scene.receive(intent="job-1", timeout=60)
        after, refunded = scene.books
        assert scene.paid(BUY) == 1
        assert (scene.orders, again.refunded) == (["cancelled"], Decimal("0.10"))
        assert again.cost >= 0
        idle = sum(
            (row.amount for row in scene.rows if row.state is PaymentState.REFUSED), Decimal(0)
        )
        # The number counts in full for the run that gave it back; where that signed for the next
        # country as well, under the one nonce, at the price of that until it is reconciled.
        promised = scene.row_of("job-1").amount
        assert again.cost == after - before + idle + promised - refunded
        audited(scene)


def test_rows_that_say_no_price_do_not_change_what_was_paid(colour: Colour, tmp_path: Path) -> None:
    def without_price(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, "price": None} for row in rows]

    with staged(colour, only=PRICES, ledger=str(tmp_path / "ledger.db")) as scene:
        scene.change(BUY, lost)
        scene.change(LIST, with_rows(without_price))
        ended = scene.receive(timeout=60)
        assert isinstance(ended.error, NoCodeReceived)
        assert (scene.orders, ended.refunded) == (["cancelled"], Decimal("0.10"))
        adds_up(scene, ended)


def test_a_cancel_that_fails_leaves_all_of_it_at_stake(colour: Colour) -> None:
    faults = [always("drop-before", CANCEL, paid=True)]
    with staged(colour, only=PRICES, faults=faults) as scene:
        ended = scene.receive(max_numbers=2, timeout=900, max_total="0.21")
        assert isinstance(ended.error, NoCodeReceived)
        assert isinstance(ended.error.__cause__, SpendLimitExceeded)
        assert ended.error.__cause__.spent == Decimal("0.10")
        assert scene.paid(BUY) == 1
