"""An order that was paid for is not lost with its answer: it is found in the service's list."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.virtualsms.scripted import ERRORS, RECEIPT, paid_for
from x402sms.driver import drive
from x402sms.errors import (
    AlreadyPaid,
    APIError,
    HostNotReachable,
    LedgerError,
    NoStock,
    PaymentUnknown,
    ServerError,
    UnreadableResponse,
    X402SMSError,
)
from x402sms.exchange import READ_TRIES
from x402sms.ledger import Payment
from x402sms.ordering import MOST_PAGES, Ask, Effect, Fetch, InLedger, buy_order
from x402sms.protocol.types import PaymentState, Receipt
from x402sms.virtualsms import calls
from x402sms.virtualsms.models import Order, Page

CALL = calls.create_order("telegram", "GB")
REQUEST = httpx.Request("POST", "http://127.0.0.1/orders")
BOUGHT_AT = 1_790_000_000
ORDER = {"order_id": "o1", "phone_number": "+447700900101", "price": "0.15"}
LOST = [ERRORS["payment-unknown"](), ERRORS["already-paid"](), paid_for(ServerError("502"))]

PAYMENT = Payment(
    intent="job",
    fingerprint="f" * 64,
    method="POST",
    url="http://127.0.0.1/orders",
    network="eip155:8453",
    asset="0x" + "4" * 40,
    payer=RECEIPT.payer,
    pay_to=RECEIPT.pay_to,
    amount_atomic=150_000,
    valid_after=0,
    valid_before=BOUGHT_AT + 300,
    nonce=RECEIPT.nonce,
    dialect="v2",
    template="{}",
    state=PaymentState.UNKNOWN,
    reason=None,
    transaction=None,
    verified=False,
    reserved_atomic=150_000,
    first_at=BOUGHT_AT,
    settleable_until=BOUGHT_AT + 300,
    created_at=BOUGHT_AT,
    updated_at=BOUGHT_AT,
)


def order(number: int, seconds: float | None = 0) -> Order:
    at = None if seconds is None else datetime.fromtimestamp(BOUGHT_AT + seconds, UTC)
    return Order.model_validate({"order_id": f"o{number}", "status": "waiting", "created_at": at})


def page(*orders: Order, following: int | None = None) -> Page[Order]:
    return Page(items=orders, next_page=following)


class Played:
    """The service, the ledger and what is asked of both."""

    def __init__(
        self,
        answer: httpx.Response | Exception,
        *,
        pages: list[Page[Order] | Exception] | None = None,
        payment: Payment | Exception | None = PAYMENT,
        matches: list[tuple[Order | None, bool]] | None = None,
        taken: bool = False,
    ) -> None:
        self.answer = answer
        self.pages = pages or []
        self.row = payment
        self.matches = matches or []
        self.taken = taken
        self.asked: list[str] = []
        self.seen: list[list[str]] = []
        self.delivered_to: list[tuple[Receipt | None, str]] = []

    def run(self) -> Order:
        logic: Generator[Effect, Any, Order] = buy_order(self, CALL, REQUEST)
        return drive(logic, self._perform)

    def _perform(self, effect: Effect) -> object:
        match effect:
            case Fetch():
                return _raised(self.answer)
            case Ask():
                self.asked.append(effect.call.params["page"])
                following = self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]
                return _raised(following)
            case InLedger():
                return effect.work()

    def payment(self, nonce: str) -> Payment | None:
        found: Payment | None = _raised(self.row)
        return found

    def match(self, payment: Payment, orders: list[Order]) -> tuple[Order | None, bool]:
        self.seen.append([each.order_id for each in orders])
        if self.matches:
            return self.matches.pop(0)
        return (orders[0] if orders else None), False

    def delivered(self, receipt: Receipt, order: Order) -> bool:
        self.delivered_to.append((receipt, order.order_id))
        return not self.taken


def _raised(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer


def response(status: int = 200, body: object = ORDER, receipt: Receipt | None = None) -> Any:
    extensions = {} if receipt is None else {"x402": receipt}
    return httpx.Response(status, json=body, request=REQUEST, extensions=extensions)


@pytest.mark.parametrize("receipt", [None, RECEIPT], ids=["free", "paid"])
def test_an_answer_that_arrives_is_the_order_and_is_written_down(receipt: Receipt | None) -> None:
    played = Played(response(receipt=receipt))
    assert played.run().price == Decimal("0.15")
    assert played.delivered_to == ([] if receipt is None else [(receipt, "o1")])
    assert played.asked == []


def test_an_order_that_another_purchase_took_is_made_up_for_by_one_like_it() -> None:
    """Two equal purchases, and two orders: it does not matter which is whose."""
    played = Played(response(receipt=RECEIPT), taken=True, pages=[page(order(2))])
    assert played.run().order_id == "o2"


def test_where_there_is_none_like_it_what_was_paid_is_said() -> None:
    played = Played(response(receipt=RECEIPT), taken=True, pages=[page()])
    with pytest.raises(AlreadyPaid, match="o1") as caught:
        played.run()
    assert any("x402sms recover" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("lost", LOST, ids=lambda error: type(error).__name__)
def test_an_answer_that_was_lost_is_looked_for(lost: Exception) -> None:
    played = Played(lost, pages=[page(order(7))])
    assert played.run().order_id == "o7"
    assert played.asked == ["1"]


@pytest.mark.parametrize(
    "state", [PaymentState.SETTLED, PaymentState.UNKNOWN], ids=lambda state: state.value
)
@pytest.mark.parametrize(
    ("status", "body"),
    [(200, {"success": False}), (200, ["?"]), (502, {}), (503, {"type": "no-stock"})],
    ids=["not-done", "no-order", "502", "no-stock"],
)
def test_a_refusal_that_was_paid_for_is_looked_for_too(
    status: int, body: object, state: PaymentState
) -> None:
    played = Played(response(status, body, replace(RECEIPT, state=state)), pages=[page(order(7))])
    assert played.run().order_id == "o7"


NOT_PAID = {
    name: make for name, make in ERRORS.items() if name not in ("payment-unknown", "already-paid")
}


@pytest.mark.parametrize("name", [name for name in NOT_PAID if name != "rate-paid"])
def test_what_was_not_paid_is_not_looked_for(name: str) -> None:
    played = Played(NOT_PAID[name]())
    with pytest.raises(X402SMSError):
        played.run()
    assert played.asked == []


@pytest.mark.parametrize("state", [PaymentState.REFUSED, PaymentState.VOID, PaymentState.RESERVED])
def test_a_payment_that_the_server_did_not_take_is_not_looked_for(state: PaymentState) -> None:
    played = Played(response(503, {"type": "no-stock"}, replace(RECEIPT, state=state)))
    with pytest.raises(NoStock):
        played.run()
    assert played.asked == []


def test_a_payment_that_the_ledger_does_not_know_cannot_be_looked_for() -> None:
    played = Played(PaymentUnknown("lost", nonce=RECEIPT.nonce), payment=None)
    with pytest.raises(PaymentUnknown):
        played.run()
    assert played.asked == []


@pytest.mark.parametrize(
    "failure",
    [ServerError("502"), UnreadableResponse("html"), HostNotReachable("gone", host="h")],
    ids=lambda error: type(error).__name__,
)
def test_what_fails_in_looking_is_a_note_to_what_was_lost(failure: Exception) -> None:
    lost = PaymentUnknown("lost", nonce=RECEIPT.nonce)
    with pytest.raises(PaymentUnknown) as caught:
        Played(lost, pages=[failure]).run()
    assert caught.value is lost
    looked, perhaps = caught.value.__notes__
    assert looked == f"looking for the order in GET /orders failed: {failure}"
    assert perhaps.startswith("0.15 USDC may have been paid")


def test_a_ledger_that_cannot_be_read_is_a_note_too() -> None:
    with pytest.raises(PaymentUnknown) as caught:
        Played(PaymentUnknown("lost", nonce=RECEIPT.nonce), payment=LedgerError("locked")).run()
    assert "locked" in caught.value.__notes__[0]


def test_where_another_buyer_took_one_on_the_way_the_list_is_read_again() -> None:
    found = order(7)
    played = Played(
        PaymentUnknown("lost", nonce=RECEIPT.nonce),
        pages=[page(found)],
        matches=[(None, True), (found, True)],
    )
    assert played.run() == found
    assert played.asked == ["1", "1"]


@pytest.mark.parametrize(("contested", "reads"), [(True, READ_TRIES), (False, 1)])
def test_an_order_that_is_not_there_is_looked_for_a_few_times_at_most(
    contested: bool, reads: int
) -> None:
    played = Played(
        PaymentUnknown("lost", nonce=RECEIPT.nonce),
        pages=[page(order(7))],
        matches=[(None, contested)] * 9,
    )
    with pytest.raises(PaymentUnknown):
        played.run()
    assert len(played.asked) == reads


OLD = -timedelta(hours=1).total_seconds()


@pytest.mark.parametrize(
    ("pages", "asked", "seen"),
    [
        ([page(order(1), following=2), page(order(2))], ["1", "2"], ["o1", "o2"]),
        ([page(order(1), order(2, OLD), following=2)], ["1"], ["o1"]),
        ([page(order(1, OLD), following=2)], ["1"], []),
        ([page(order(1, None), following=2), page(order(2, OLD))], ["1", "2"], ["o1"]),
        ([page(order(1, -100))], ["1"], ["o1"]),
        ([page()], ["1"], []),
        ([page(following=2)], ["1"], []),
    ],
    ids=["two-pages", "older-ones-end-it", "all-old", "no-time", "clocks", "none", "empty-page"],
)
def test_no_page_is_paid_for_that_holds_only_older_orders(
    pages: list[Page[Order] | Exception], asked: list[str], seen: list[str]
) -> None:
    played = Played(
        PaymentUnknown("lost", nonce=RECEIPT.nonce), pages=pages, matches=[(order(7), False)]
    )
    played.run()
    assert (played.asked, played.seen) == (asked, [seen])


def test_a_list_without_an_end_is_not_read_to_its_end() -> None:
    class Endless(Played):
        def _perform(self, effect: Effect) -> object:
            if isinstance(effect, Ask):
                assert len(self.asked) < 10 * MOST_PAGES
                self.asked.append(effect.call.params["page"])
                return page(order(1, None), following=len(self.asked) + 1)
            return super()._perform(effect)

    played = Endless(PaymentUnknown("lost", nonce=RECEIPT.nonce), matches=[(None, False)])
    with pytest.raises(PaymentUnknown):
        played.run()
    assert len(played.asked) == MOST_PAGES


@pytest.mark.parametrize("error", [AlreadyPaid, APIError])
def test_the_first_error_is_the_one_that_is_raised(error: type[Exception]) -> None:
    lost = ERRORS["already-paid"]() if error is AlreadyPaid else paid_for(APIError("418"))
    with pytest.raises(error):
        Played(lost, pages=[page()]).run()
