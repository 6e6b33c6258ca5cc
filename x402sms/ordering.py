"""Buying an order that is not lost with its answer, as a generator of effects.

Paid for, and the answer lost: the order stands in `GET /orders`. It is found there by what was
bought and when, and returned.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import httpx

from x402sms.errors import APIError, PaymentUnknown, X402SMSError
from x402sms.exchange import READ_TRIES, receipt_of, result_of
from x402sms.ledger import Payment
from x402sms.protocol.types import PaymentState, Receipt
from x402sms.recovery import not_older, since
from x402sms.virtualsms import calls
from x402sms.virtualsms.calls import Call
from x402sms.virtualsms.models import Order, Page

MOST_PAGES = 20  # of a list that never ends: each may have to be paid for


@dataclass(frozen=True, slots=True)
class Fetch:
    """Send the request. Result: its answer, the body read."""

    request: httpx.Request


@dataclass(frozen=True, slots=True)
class Ask:
    """Make a call. Result: what it parses to."""

    call: Call[Any]


@dataclass(frozen=True, slots=True)
class InLedger:
    """Result: what `work` returns. It may block."""

    work: Callable[[], object]


Effect = Fetch | Ask | InLedger


class Books(Protocol):
    """What the ledger is asked, and told, of a purchase: `BaseClient`."""

    def payment_of(self, error: Exception) -> Payment | None: ...

    def match(self, payment: Payment, orders: list[Order]) -> tuple[Order | None, bool]: ...

    def delivered(self, receipt: Receipt | None, order: Order) -> None: ...


def buy_order(
    books: Books, call: Call[Order], request: httpx.Request
) -> Generator[Effect, Any, Order]:
    """The order that `request`, built from `call`, buys. Raises PaymentError and APIError."""
    try:
        response: httpx.Response = yield Fetch(request)
        order = result_of(call, response)
    except X402SMSError as error:
        if not _may_be_paid(error):
            raise
        found = yield from _find(books, error)
        if found is None:
            raise
        return found
    yield InLedger(partial(books.delivered, receipt_of(response), order))
    return order


def _may_be_paid(error: X402SMSError) -> bool:
    if isinstance(error, APIError):
        receipt = error.receipt
        return receipt is not None and receipt.state in (PaymentState.SETTLED, PaymentState.UNKNOWN)
    return isinstance(error, PaymentUnknown) or getattr(error, "receipt", None) is not None


def _find(books: Books, lost: Exception) -> Generator[Effect, Any, Order | None]:
    """The order whose answer was lost. What goes wrong in looking is a note to that error."""
    try:
        payment: Payment | None = yield InLedger(partial(books.payment_of, lost))
        if payment is None:
            return None
        for _ in range(READ_TRIES):
            orders = yield from _orders_since(payment)
            order, contested = yield InLedger(partial(books.match, payment, orders))
            if order is not None or not contested:
                found: Order | None = order
                return found
    except X402SMSError as error:
        lost.add_note(f"looking for the order in GET /orders failed: {error}")
    return None


def _orders_since(payment: Payment) -> Generator[Effect, Any, list[Order]]:
    """Newest first, as the service lists them; no page is paid for that holds only older ones."""
    earliest = since([payment])
    orders: list[Order] = []
    number = 1
    for _ in range(MOST_PAGES):
        page: Page[Order] = yield Ask(calls.list_orders(number))
        new = [order for order in page.items if not_older(order, earliest)]
        orders += new
        if page.next_page is None or not new or len(new) < len(page.items):
            break
        number = page.next_page
    return orders
