"""Buying an order that is not lost with its answer, as a generator of effects.

Paid for, and the answer lost: the order stands in `GET /orders`. It is found there by what was
bought and when, and returned.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Protocol

import httpx

from x402sms.errors import AlreadyPaid, APIError, PaymentUnknown, X402SMSError
from x402sms.exchange import READ_TRIES, receipt_of, result_of
from x402sms.ledger import Payment
from x402sms.protocol.types import PaymentState, Receipt
from x402sms.recovery import not_older, perhaps_paid, since
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

    def payment(self, nonce: str) -> Payment | None: ...

    def match(self, payment: Payment, orders: list[Order]) -> tuple[Order | None, bool]: ...

    def delivered(self, receipt: Receipt, order: Order) -> bool: ...


def buy_order(
    books: Books, call: Call[Order], request: httpx.Request
) -> Generator[Effect, Any, Order]:
    """The order that `request`, built from `call`, buys. Raises PaymentError and APIError."""
    try:
        response: httpx.Response = yield Fetch(request)
        order = result_of(call, response)
        receipt = receipt_of(response)
        if receipt is None or (yield InLedger(partial(books.delivered, receipt, order))):
            return order
        raise _taken(order, receipt)
    except X402SMSError as error:
        nonce = nonce_in_doubt(error)
        if nonce is None:
            raise
        found = yield from _find(books, nonce, error)
        if found is None:
            raise
        return found


def nonce_in_doubt(error: X402SMSError) -> str | None:
    """Of a payment that is made, or may be, though there is an error instead of an answer."""
    receipt = getattr(error, "receipt", None)
    if isinstance(error, APIError):
        doubt = receipt is not None and receipt.state in (
            PaymentState.SETTLED,
            PaymentState.UNKNOWN,
        )
        return receipt.nonce if receipt is not None and doubt else None
    return error.nonce if isinstance(error, PaymentUnknown | AlreadyPaid) else None


def _taken(order: Order, receipt: Receipt) -> AlreadyPaid:
    """Another purchase like it, whose answer was lost, was quicker to take the order for its own.

    There is one for each, and it does not matter which is whose.
    """
    return AlreadyPaid(
        f"the order {order.order_id} that was paid for is taken by another purchase like it, and "
        "the one which that has paid for is not to be found yet",
        receipt=receipt,
    )


def _find(books: Books, nonce: str, lost: Exception) -> Generator[Effect, Any, Order | None]:
    """The order whose answer was lost. What goes wrong in looking is a note to that error."""
    payment: Payment | None = None
    try:
        payment = yield InLedger(partial(books.payment, nonce))
        if payment is None:
            return None
        for _ in range(READ_TRIES):
            orders = yield from orders_since(since([payment]))
            order, contested = yield InLedger(partial(books.match, payment, orders))
            if order is not None or not contested:
                break
        else:
            order = None
        found: Order | None = order
    except X402SMSError as error:
        lost.add_note(f"looking for the order in GET /orders failed: {error}")
        found = None
    if found is None and payment is not None:
        lost.add_note(perhaps_paid(payment))
    return found


def orders_since(earliest: datetime) -> Generator[Effect, Any, list[Order]]:
    """Newest first, as the service lists them; no page is paid for that holds only older ones."""
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
