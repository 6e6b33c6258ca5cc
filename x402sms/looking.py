"""Asked for, and no answer: which order in `GET /orders` came of it? As a generator of effects.

An order is taken for this purchase's only where it can be no other's: it is of what was asked for
and of when, no other purchase has it or may have, and there is no second one. What cannot be told
stays in doubt. That nothing came of it is believed of a list that would have to show it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from x402sms.account_books import AccountBooks
from x402sms.errors import X402SMSError
from x402sms.ledger import Charge
from x402sms.ordering import Effect, InLedger, orders_since
from x402sms.text import one_line
from x402sms.virtualsms.calls import Call
from x402sms.virtualsms.job import purchase_of
from x402sms.virtualsms.models import Order
from x402sms.virtualsms.names import normalise_country

# A request that was sent so long ago is not on its way any more.
ARRIVED_BY_NOW = 300  # seconds
# The service's clock may differ from ours by so much; an order of a time that only a greater
# difference could explain leaves a doubt.
SLACK = timedelta(seconds=120)
DOUBT = timedelta(hours=1)
# The list has "active + recent" orders: of what was asked for before, it need not say anything.
RECENT = 24 * 3600  # seconds
_A_PAGE = 20  # a list of so many may have been cut off there, without a word


@dataclass(frozen=True, slots=True)
class CameOf:
    """The order that came of it; or whether it is known that nothing did. `hint` is for people."""

    order: Order | None = None
    is_nothing: bool = False
    hint: str = ""


def what_came_of(
    books: AccountBooks, charge: Charge, call: Call[Order]
) -> Generator[Effect, Any, CameOf]:
    """`charge` as the ledger has it. An order that is found is written down as charged.

    What goes wrong in looking leaves it in doubt, and is the hint.
    """
    asked = _Asked.of(charge, call)
    try:
        orders = yield from orders_since(asked.at - DOUBT)
    except X402SMSError as error:
        return CameOf(hint=f"; looking for it in GET /orders failed: {one_line(str(error), 200)}")
    charges: list[Charge] = yield InLedger(books.charges)
    taken = {each.order_id for each in charges}
    free = [each for each in orders if each.order_id not in taken]
    fits = [each for each in free if asked.is_for(each) and not asked.is_far_from(each)]
    if not fits:
        is_nothing = (
            ARRIVED_BY_NOW <= books.now - charge.asked_at < RECENT
            and not any(asked.may_be_for(each) for each in free)
            and _reaches(orders, asked.at - SLACK)
        )
        return CameOf(is_nothing=is_nothing)
    others = [each for each in charges if each.intent != charge.intent and asked.vies(each)]
    order = fits[0]
    if len(fits) > 1 or not asked.is_near(order) or any(_is_near(order, it) for it in others):
        named = ", ".join(one_line(each.order_id, 60) for each in fits[:5])
        return CameOf(hint=f"; it may be one of these orders, or none: {named}")
    if not (yield InLedger(partial(books.settle, charge, order.price, order.order_id))):
        return CameOf()
    reason = f"the answer was lost; found {one_line(order.order_id, 60)} in GET /orders"
    books.tell(charge, order.price, reason)
    return CameOf(order)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What was asked for, and when. `country` is None where any would do."""

    at: datetime
    account: str
    service: str
    country: str | None
    hours: int | None

    @classmethod
    def of(cls, charge: Charge, call: Call[Order]) -> _Asked:
        body = call.json or {}
        service, hours = str(body.get("service")), body.get("rental_hours")
        anywhere = charge.what == purchase_of(service, None, hours)
        country = None if anywhere else body.get("country")
        return cls(_moment(charge), charge.account, service, country, hours)

    def is_for(self, order: Order) -> bool:
        """Whether an order is what was asked for, as far as it says."""
        service = order.service
        return self._is_there(order) and (
            service is None or service.strip().lower() == self.service.lower()
        )

    def may_be_for(self, order: Order) -> bool:
        """A service has several names, and the list may have it under another."""
        return self.is_near(order) and self._is_there(order)

    def _is_there(self, order: Order) -> bool:
        rented = order.rental_until is not None
        elsewhere = None not in (self.country, order.country) and (
            normalise_country(order.country or "") != self.country
        )
        return not elsewhere and not (rented and self.hours is None)

    def is_near(self, order: Order) -> bool:
        """In time, and it says enough for that."""
        said = None not in (order.service, order.country)
        return said and _is_near_in_time(order, self.at)

    def is_far_from(self, order: Order) -> bool:
        created = order.created_at
        return created is not None and abs(created - self.at) > DOUBT

    def vies(self, charge: Charge) -> bool:
        """Whether it is a purchase that is in doubt as well, and perhaps of the same."""
        same = charge.account == self.account and self.service in charge.what
        return same and charge.order_id is None and charge.state == "unknown"


def _moment(charge: Charge) -> datetime:
    return datetime.fromtimestamp(charge.asked_at, UTC)


def _is_near(order: Order, charge: Charge) -> bool:
    return _is_near_in_time(order, _moment(charge))


def _is_near_in_time(order: Order, asked_at: datetime) -> bool:
    if order.created_at is None:
        return False
    return -SLACK <= order.created_at - asked_at <= timedelta(seconds=ARRIVED_BY_NOW) + SLACK


def _reaches(orders: Iterable[Order], moment: datetime) -> bool:
    """Whether the list was read as far back as that, or to its end."""
    moments = [each.created_at for each in orders if each.created_at is not None]
    return len(moments) < _A_PAGE or min(moments) < moment
