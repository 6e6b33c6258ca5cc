"""Orders: what state each is in and what may be done to it.

Time passes lazily: an order is brought up to date whenever it is looked at, so no timer runs.
Every action returns a function that takes it back, for the payment that then does not settle.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b

from x402sms.money import format_usdc
from x402sms.sandbox.arrivals import Arrivals
from x402sms.sandbox.catalogue import Catalogue
from x402sms.sandbox.clock import Bell, Clock
from x402sms.sandbox.payments import PaymentRecord
from x402sms.sandbox.places import Country
from x402sms.sandbox.problems import Problem, validation
from x402sms.sandbox.words import Service

Undo = Callable[[], None]

RENTAL_HOURS = (4, 24, 72, 168, 720)
_HOUR = 3600


class Status(StrEnum):
    """`created` lasts until the purchase is settled; `completed` is a rental ended early."""

    CREATED = "created"
    WAITING = "waiting"
    RECEIVED = "received"
    CONFIRMED = "confirmed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    COMPLETED = "completed"


ACTIVE = (Status.WAITING, Status.RECEIVED)


@dataclass
class Sms:
    sender: str
    content: str
    code: str | None
    received_at: float  # Unix time, like every moment here
    phone_number: str  # the one it was sent to: after a swap, perhaps no longer the order's


@dataclass
class Order:
    order_id: str
    owner: str
    service: Service
    country: Country
    price_atomic: int
    phone_number: str
    created_at: float
    number_since: float
    expires_at: float
    rental_hours: int | None
    status: Status = Status.CREATED
    messages: list[Sms] = field(default_factory=list)
    read: int = 0  # how many of the messages a rental's poll has handed out
    previous_number: str | None = None
    sms_due_at: float | None = None
    sms_text: str | None = None  # of the SMS that is due; None: one with a code of its own
    charges: list[PaymentRecord] = field(default_factory=list)

    @property
    def newest(self) -> Sms | None:
        """The message a poll answers with: the newest; of a rental, the newest not yet read."""
        if self.rental_hours is not None and self.read == len(self.messages):
            return None
        return self.messages[-1] if self.messages else None


class OrderBook:
    """`order_seconds`, `cooldown` and `sms_after` are in seconds."""

    def __init__(
        self,
        catalogue: Catalogue,
        clock: Clock,
        bell: Bell,
        *,
        seed: int,
        order_seconds: int,
        cooldown: int,
        sms_after: float | None,
    ) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._bell = bell
        self._seed = seed
        self._order_seconds = order_seconds
        self.cooldown = cooldown
        self.arrivals = Arrivals(sms_after)
        self._orders: dict[str, Order] = {}
        # Told what happens to an order by itself, and when; what a caller does, the routes tell.
        self.tell: Callable[[str, Order, float], None] = _nobody
        self._numbers = 0
        self._created = 0

    # --- looking

    def all(self) -> list[Order]:
        """Every settled order, newest first."""
        orders = [order for order in self._orders.values() if order.status is not Status.CREATED]
        for order in orders:
            self.refresh(order)
        return orders[::-1]

    def of(self, wallet: str) -> list[Order]:
        return [order for order in self.all() if order.owner == wallet]

    def find(self, order_id: str, wallet: str | None = None) -> Order:
        """The order, if it is `wallet`'s (None: anyone's); else 404, whoever's it may be."""
        order = self._orders.get(order_id)
        if order is None or order.status is Status.CREATED or wallet not in {None, order.owner}:
            raise Problem(404, "order-not-found", f"No order {order_id[:80]}")
        self.refresh(order)
        return order

    def refresh(self, order: Order) -> None:
        """Let happen to `order` whatever was due by now."""
        now = self._clock.now()
        due = order.sms_due_at
        if order.status is Status.WAITING and due is not None and due <= min(now, order.expires_at):
            self._deliver_own(order, due)
        if now >= order.expires_at:
            if order.status is Status.WAITING:
                order.status = Status.EXPIRED
                self.tell("order.expired", order, order.expires_at)
            elif order.status is Status.RECEIVED:
                # Left alone, a received order confirms itself at the end of its window.
                order.status = Status.CONFIRMED
                self.tell("order.confirmed", order, order.expires_at)

    def catch_up(self) -> float | None:
        """Let happen to all orders whatever was due, in that order; returns when the next is."""
        active = [order for order in self._orders.values() if order.status in ACTIVE]
        for order in sorted(active, key=self.next_change):
            self.refresh(order)
        left = (self.next_change(order) for order in active if order.status in ACTIVE)
        return min(left, default=None)

    def next_change(self, order: Order) -> float:
        """When something happens to `order` by itself, in Unix time."""
        if order.status is Status.WAITING and order.sms_due_at is not None:
            return min(order.sms_due_at, order.expires_at)
        return order.expires_at

    # --- buying

    def create(
        self, wallet: str, service: Service, country: Country, price: int, hours: int | None
    ) -> tuple[Order, Undo]:
        """Take a number out of stock for `wallet`; the order exists for others once opened."""
        if not self._catalogue.take(service, country):
            raise no_stock(service, country)
        now = self._clock.now()
        self._created += 1
        arrival = self.arrivals.take()
        held = self._order_seconds if hours is None else hours * _HOUR
        order = Order(
            order_id=f"ord_{self._digest('order', self._created):016x}",
            owner=wallet,
            service=service,
            country=country,
            price_atomic=price,
            phone_number=self._new_number(country),
            created_at=now,
            number_since=now,
            expires_at=now + held,
            rental_hours=hours,
            sms_due_at=arrival.due(now),
            sms_text=arrival.text,
        )
        self._orders[order.order_id] = order

        def undo() -> None:
            del self._orders[order.order_id]
            self.arrivals.give_back(arrival)
            self._catalogue.give_back(service, country)

        return order, undo

    def open(self, order: Order, record: PaymentRecord) -> None:
        """The purchase is settled: from now on the number waits for its SMS."""
        order.charges.append(record)
        order.status = Status.WAITING
        self._bell.ring()

    # --- acting

    def swap(self, order: Order) -> Undo:
        _must_be(order, (Status.WAITING,), "swap")
        left = self._cooldown_left(order.number_since)
        if left > 0:
            raise Problem(
                400,
                "hold-period",
                f"The number is in its hold period for {left} more seconds",
                headers={"Retry-After": str(left)},
                extra={
                    "error": f"Cannot swap during the {self.cooldown} second hold period",
                    "seconds_remaining": left,
                },
            )
        if not self._catalogue.take(order.service, order.country):
            raise no_replacement()
        before = (order.phone_number, order.previous_number, order.number_since)
        times = (order.expires_at, order.sms_due_at, order.sms_text)
        now = self._clock.now()
        arrival = self.arrivals.take()
        order.previous_number, order.phone_number = (
            order.phone_number,
            self._new_number(order.country),
        )
        order.number_since, order.sms_due_at = now, arrival.due(now)
        order.sms_text = arrival.text
        if order.rental_hours is None:
            order.expires_at = now + self._order_seconds
        self._bell.ring()

        def undo() -> None:
            order.phone_number, order.previous_number, order.number_since = before
            order.expires_at, order.sms_due_at, order.sms_text = times
            self.arrivals.give_back(arrival)
            self._catalogue.give_back(order.service, order.country)

        return undo

    def cancel(self, order: Order) -> Undo:
        _must_be(order, (Status.WAITING,), "cancel")
        left = self._cooldown_left(order.created_at)
        if left > 0:
            detail = (
                f"Cannot cancel within {self.cooldown} seconds of purchase. "
                f"Please wait {left} seconds."
            )
            raise Problem(425, "too-early", detail, headers={"Retry-After": str(left)})
        self._catalogue.give_back(order.service, order.country)
        undo_status = self._change(order, Status.CANCELLED)

        def undo() -> None:
            self._catalogue.take(order.service, order.country)
            undo_status()

        return undo

    def confirm(self, order: Order) -> Undo:
        _must_be(order, (Status.RECEIVED,), "confirm")
        return self._change(order, Status.CONFIRMED)

    def extend(self, order: Order, hours: int, price: int) -> Undo:
        """Hold a rental `hours` longer for `price` more."""
        _must_be_rental(order, "extend")
        _must_be(order, ACTIVE, "extend")
        order.expires_at += hours * _HOUR
        order.price_atomic += price

        def undo() -> None:
            order.expires_at -= hours * _HOUR
            order.price_atomic -= price

        return undo

    def release(self, order: Order) -> Undo:
        _must_be_rental(order, "release")
        _must_be(order, ACTIVE, "release")
        return self._change(order, Status.COMPLETED)

    def mark_read(self, order: Order) -> Undo:
        """The messages so far were handed out; only rentals make use of it."""
        before, order.read = order.read, len(order.messages)

        def undo() -> None:
            order.read = before

        return undo

    def deliver(
        self,
        order: Order,
        text: str,
        sender: str | None,
        code: str | None,
        *,
        to_previous: bool = False,
    ) -> None:
        """An SMS arrives. Several may; none does once the order is over.

        One `to_previous` was sent to the number that was swapped out. Messages are the order's,
        whichever of its numbers they came to: this one too makes the order received.
        """
        if order.status not in ACTIVE:
            raise validation(f"Cannot deliver to an order with status: {order.status}")
        number = order.previous_number if to_previous else order.phone_number
        if number is None:
            raise validation("Cannot deliver to a previous number: the order was never swapped")
        found = code if code is not None else find_code(text)
        now = self._clock.now()
        self._append(order, Sms(sender or order.service.name, text, found, now, number))

    def deliver_now(self, order: Order) -> None:
        """The SMS that would come by itself comes now, if the order still waits for one."""
        if order.status is Status.WAITING:
            self._deliver_own(order, self._clock.now())

    # --- inside

    def _deliver_own(self, order: Order, moment: float) -> None:
        text = order.sms_text
        if text is None:
            drawn = self._digest("code", order.order_id, order.phone_number)
            text = f"Your {order.service.name} code is {drawn % 1_000_000:06d}"
        sms = Sms(order.service.name, text, find_code(text), moment, order.phone_number)
        self._append(order, sms)

    def _append(self, order: Order, sms: Sms) -> None:
        order.messages.append(sms)
        order.status = Status.RECEIVED
        order.sms_due_at = None
        self.tell("order.sms_received", order, sms.received_at)
        self._bell.ring()

    def _change(self, order: Order, status: Status) -> Undo:
        before, order.status = order.status, status
        self._bell.ring()

        def undo() -> None:
            order.status = before
            self._bell.ring()

        return undo

    def _cooldown_left(self, since: float) -> int:
        """Whole seconds, rounded up."""
        return max(0, math.ceil(since + self.cooldown - self._clock.now()))

    def _new_number(self, country: Country) -> str:
        """Well formed and never given twice: the dialling code, 555 and seven digits."""
        self._numbers += 1
        # A step coprime to 10^7 visits every suffix before it repeats one.
        suffix = (self._seed * 104_729 + self._numbers * 7_654_321) % 10_000_000
        return f"+{country.dial}555{suffix:07d}"

    def _digest(self, *parts: object) -> int:
        text = "\n".join(str(part) for part in (self._seed, *parts))
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def _nobody(kind: str, order: Order, at: float) -> None:
    """Until somebody wants to know."""


def no_stock(service: Service, country: Country) -> Problem:
    return Problem(503, "no-stock", f"No number for {service.id} in {country.iso2} now")


def no_stock_anywhere(service: Service) -> Problem:
    return Problem(503, "no-stock", f"No number for {service.id} in any country now")


def no_replacement() -> Problem:
    said = "No replacement available"
    return Problem(404, "no-replacement", said, title=said)


def find_code(text: str) -> str | None:
    """The first run of digits that looks like a code, `123-456` and `123 456` joined; or None."""
    match = re.search(r"(?<!\d)(?:\d{3}[- ]\d{3}|\d{4,8})(?!\d)", text, re.ASCII)
    return re.sub("[- ]", "", match[0]) if match else None


def refund_text(order: Order) -> str:
    """What cancelling gives back, as the wire has it: everything paid for the order."""
    return format_usdc(sum(record.amount_atomic for record in order.charges))


def _must_be(order: Order, allowed: tuple[Status, ...], action: str) -> None:
    if order.status in allowed:
        return
    if order.status is Status.CONFIRMED:
        raise Problem(409, "order-already-confirmed", f"Order {order.order_id} is confirmed")
    if order.status is Status.EXPIRED:
        raise Problem(410, "order-expired", f"The window of order {order.order_id} has passed")
    raise validation(f"Cannot {action} order with status: {order.status}")


def _must_be_rental(order: Order, action: str) -> None:
    if order.rental_hours is None:
        raise validation(f"Cannot {action} an order that is not a rental")
