"""Paid and not delivered: which order did a payment buy? Pure, but for building the requests.

The ledger knows a purchase by its fingerprint. The request that would buy an order like this one
has a fingerprint too: where they are equal, its price is what was paid, and the order is no older
than the payment, it is what the payment bought. Two equal purchases are interchangeable, so each
order is given out once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from x402sms.ledger import Payment
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
) -> dict[str, Order]:
    """nonce -> the order it bought, as far as they can be told; each order at most once."""
    free = sorted(
        (order for order in orders if order.order_id not in taken and order.created_at is not None),
        key=lambda order: order.created_at or datetime.max.replace(tzinfo=UTC),
    )
    bought = [(order, _fingerprints(order, fingerprint)) for order in free]
    found: dict[str, Order] = {}
    for payment in payments:
        earliest = since([payment])
        for index, (order, fingerprints) in enumerate(bought):
            same = payment.fingerprint in fingerprints and order.price in (None, payment.amount)
            if same and not_older(order, earliest):
                found[payment.nonce] = order
                del bought[index]
                break
    return found


def _fingerprints(order: Order, fingerprint: Fingerprint) -> set[str]:
    """Of the requests that may have bought it: a row need not say for how many hours it was."""
    if order.service is None or order.country is None:
        return set()
    try:
        hours = (None, *_hours(order))
        found = set()
        for rental_hours in hours:
            call = calls.create_order(order.service, order.country, rental_hours)
            found.add(fingerprint(call))
            for country in (None, order.country):  # a job's, which may have left it open
                found.add(fingerprint(call, purchase_of(order.service, country, rental_hours)))
        return found
    except ValueError:  # a service or country that no request of ours can name
        return set()


def _hours(order: Order) -> list[int]:
    """The rental's hours: as the order says, or as its end does, or any that are sold."""
    said = (order.model_extra or {}).get("rental_hours")
    if isinstance(said, int) and said > 0:
        return [said]
    if order.rental_until is None or order.created_at is None:
        return list(_TIERS)
    hours = round((order.rental_until - order.created_at) / timedelta(hours=1))
    return [hours] if hours > 0 else []
