"""Paid and not delivered: which order did a payment buy? Pure, but for building the requests.

The ledger knows a purchase by its fingerprint. The request that would buy an order like this one
has a fingerprint too: where they are equal, its price is what was paid, and the order is no older
than the payment, it is what the payment bought. Two equal purchases are interchangeable, so each
order is given out once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum, auto
from typing import Protocol

from x402sms.errors import ConfigError
from x402sms.ledger import Payment
from x402sms.money import to_usdc, usdc
from x402sms.protocol.types import PaymentState
from x402sms.virtualsms import calls
from x402sms.virtualsms.calls import Call
from x402sms.virtualsms.job import purchase_of
from x402sms.virtualsms.models import Order

# The service's clock may be this much behind ours, and a payment is older than its order.
SLACK = timedelta(seconds=120)

# Of rental hours, as the vendor sells them.
_TIERS = (4, 24, 72, 168, 720)


class Fingerprint(Protocol):
    def __call__(self, call: Call[Order], purchase: str | None = None) -> str: ...


def undelivered(payments: Iterable[Payment], orders_url: str) -> list[Payment]:
    """The purchases of orders that are paid, or may be, and brought nothing yet; oldest first."""
    lost = [
        payment
        for payment in payments
        if (payment.method, payment.url) == ("POST", orders_url)
        and payment.state is not PaymentState.VOID
        and payment.delivered is None
    ]
    return lost[::-1]


def delivered_orders(payments: Iterable[Payment]) -> set[str]:
    """The orders that are known to belong to a payment."""
    return {payment.delivered for payment in payments if payment.delivered is not None}


def since(payments: Sequence[Payment]) -> datetime:
    """No order of these payments is older."""
    return datetime.fromtimestamp(min(payment.first_at for payment in payments), UTC) - SLACK


def not_older(order: Order, earliest: datetime) -> bool:
    return order.created_at is None or order.created_at >= earliest


def match(
    payments: Sequence[Payment],
    orders: Iterable[Order],
    taken: set[str],
    fingerprint: Fingerprint,
    others: Sequence[Payment] = (),
) -> dict[str, Order]:
    """nonce -> the order it bought, as far as they can be told; each order at most once.

    An order goes to the payment that fits it best: one for its very country before one for any
    country, one of its very price before one whose price was changed on the way. One that an open
    payment of `others` fits better is left to that.
    """
    free = sorted(
        (order for order in orders if order.order_id not in taken and order.created_at is not None),
        key=lambda order: order.created_at or datetime.max.replace(tzinfo=UTC),
    )
    lots = [_Lot(order, *_fingerprints(order, fingerprint)) for order in free]
    found: dict[str, Order] = {}
    for fit in _Fit:
        for payment in payments:
            if payment.nonce in found:
                continue
            for index, lot in enumerate(lots):
                if lot.fit(payment) is fit and not lot.fits_better(others, fit):
                    found[payment.nonce] = lot.order
                    del lots[index]
                    break
    return found


def perhaps_paid(payment: Payment) -> str:
    """What to say, and to do next, where it is not known what a payment brought."""
    return (
        f"{usdc(payment.amount)} USDC may have been paid for it under the intent "
        f"{payment.intent!r}: the same again with that intent never pays twice and finds the "
        "order, and so does `x402sms recover`"
    )


class _Fit(IntEnum):
    """How well an order fits a payment, best first."""

    CLOSE = auto()
    LOOSE = auto()  # the payment was for any country
    CLOSE_BUT_REPRICED = auto()
    LOOSE_BUT_REPRICED = auto()


@dataclass(frozen=True)
class _Lot:
    """An order, and the fingerprints of what may have bought it."""

    order: Order
    close: frozenset[str]
    loose: frozenset[str]

    def fit(self, payment: Payment) -> _Fit | None:
        is_close = payment.fingerprint in self.close
        if not (is_close or payment.fingerprint in self.loose):
            return None
        if not not_older(self.order, since([payment])):
            return None
        price = self.order.price
        if price in (None, payment.amount):
            return _Fit.CLOSE if is_close else _Fit.LOOSE
        # Of several amounts that were signed under one nonce the row has the last and the most.
        if (
            payment.presentations > 1
            and price is not None
            and price <= to_usdc(payment.reserved_atomic)
        ):
            return _Fit.CLOSE_BUT_REPRICED if is_close else _Fit.LOOSE_BUT_REPRICED
        return None

    def fits_better(self, others: Iterable[Payment], than: _Fit) -> bool:
        return any((fit := self.fit(other)) is not None and fit < than for other in others)


def _fingerprints(order: Order, fingerprint: Fingerprint) -> tuple[frozenset[str], frozenset[str]]:
    """Of the requests that may have bought it in its country, and of a job's in any."""
    close: set[str] = set()
    loose: set[str] = set()
    if order.service is None or order.country is None:
        return frozenset(), frozenset()
    try:
        for hours in _hours(order):
            call = calls.create_order(order.service, order.country, hours)
            close.add(fingerprint(call))
            close.add(fingerprint(call, purchase_of(order.service, order.country, hours)))
            loose.add(fingerprint(call, purchase_of(order.service, None, hours)))
    except (ValueError, ConfigError):  # a service or country that no request of ours can name
        return frozenset(), frozenset()
    return frozenset(close), frozenset(loose)


def _hours(order: Order) -> list[int | None]:
    """A rental's hours: as the order says, or as its end does; else none, or any that are sold."""
    said = (order.model_extra or {}).get("rental_hours")
    if isinstance(said, int) and said > 0:
        return [said]
    if order.rental_until is None or order.created_at is None:
        return [None, *_TIERS]
    return [round((order.rental_until - order.created_at) / timedelta(hours=1))]
