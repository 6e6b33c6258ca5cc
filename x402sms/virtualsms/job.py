"""A job's terms, what it knows while it runs, and what it returns. Values only."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from decimal import Decimal

from x402sms.errors import NoCodeReceived
from x402sms.money import usdc
from x402sms.virtualsms.ending import DEFAULT_HOLD, End, How, Moments
from x402sms.virtualsms.inbox import Inbox
from x402sms.virtualsms.models import Order

MOST_NUMBERS = 100  # of one intent, ever


@dataclass(frozen=True, slots=True)
class Terms:
    """What is wanted, and what it may cost: prices in USDC, times in seconds.

    `intent` names the job: its first number is bought under it, the n-th under `intent#n`.
    `max_numbers` bounds how many numbers are bought, each after the one before was cancelled:
    known to be cancelled, unless all that is not known to be refunded stays within `max_total`.
    A number that is silent for `swap_after` is swapped, at most `max_swaps` times.
    """

    service: str
    max_price: Decimal
    intent: str
    country: str | None = None
    max_swaps: int = 0
    max_numbers: int = 1
    max_total: Decimal | None = None
    swap_after: float = DEFAULT_HOLD
    pattern: re.Pattern[str] | None = None
    rental_hours: int | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """What was received. `code` is None where none can be found in `text`.

    `price` is the number's, `cost` what the whole job has cost so far: all its calls and numbers,
    less what was refunded; both in USDC. `warnings` says what went wrong beside it.
    """

    code: str | None
    text: str | None
    order: Order
    price: Decimal | None
    cost: Decimal
    warnings: tuple[str, ...] = ()

    @property
    def order_id(self) -> str:
        return self.order.order_id

    @property
    def phone_number(self) -> str | None:
        return self.order.phone_number


@dataclass
class Job:
    """What a job knows. `order` is the present one; `ends` are those of the numbers before it."""

    terms: Terms
    order: Order | None = None
    code: Code | None = None
    ends: list[End] = field(default_factory=list)
    numbers: int = 0  # bought under the intent, or tried to be
    before: int = 0  # of them, by earlier runs that are over
    paid_for: dict[str, Decimal] = field(default_factory=dict)  # order id -> USDC, by this run
    paid_before: Decimal = Decimal(0)  # USDC for numbers of earlier runs, as far as it is known
    swaps: int = 0
    refused_swaps: int = 0
    inbox: Inbox = field(default_factory=Inbox)
    moments: Moments = field(default_factory=Moments)
    mail: bool = False  # webhooks tell of what comes
    hints: int = 0  # events without text and code that were followed by a poll
    swap_at: float = 0
    polled_at: float = -math.inf
    no_replacement: bool = False
    silent_in: set[str] = field(default_factory=set)  # countries whose numbers brought nothing
    service_ahead: float = 0  # seconds by which the service's clock is before ours
    confirmed: bool = False
    warnings: list[str] = field(default_factory=list)

    @property
    def refunded(self) -> Decimal:
        """USDC that is known to have come back."""
        return sum((end.refund or Decimal(0) for end in self.ends), Decimal(0))

    @property
    def at_stake(self) -> Decimal:
        """USDC paid for numbers and not known to come back."""
        return sum((self._lost(end) for end in self.ends if not end.is_certain), Decimal(0))

    def _lost(self, end: End) -> Decimal:
        order = end.order
        paid = self.paid_for.get(order.order_id, order.price or self.terms.max_price)
        refund = end.refund if end.how is How.CANCELLED else None
        return max(Decimal(0), paid - (refund or 0))

    @property
    def numbers_left(self) -> int:
        """How many more may be bought."""
        bound = min(self.before + self.terms.max_numbers, MOST_NUMBERS)
        return max(0, bound - self.numbers)

    @property
    def is_rental(self) -> bool:
        return self.terms.rental_hours is not None

    def need_order(self) -> Order:
        if self.order is None:
            raise NoCodeReceived("this job has no number: it was not opened, or has ended")
        return self.order


def intent_of(terms: Terms, number: int) -> str:
    """Of the n-th number that a job buys."""
    return terms.intent if number == 1 else f"{terms.intent}#{number}"


def purchase_of(service: str, country: str | None, rental_hours: int | None) -> str:
    """What a job buys, whichever country it comes to be where `country` is open."""
    rented = "" if rental_hours is None else f" for {rental_hours} hours"
    return f"a number for {service} in {country or 'any country'}{rented}"


CANCELLED = {How.CANCELLED: True, How.OPEN: False, How.EXPIRED: None, How.RECEIVED: False}


def told(end: End) -> str:
    """What became of an order and of its money, and what to do next."""
    order_id = end.order.order_id
    match end.how:
        case How.CANCELLED:
            refunded = "" if end.refund is None else f", {usdc(end.refund)} USDC refunded"
            return f"the order {order_id} is cancelled{refunded}"
        case How.EXPIRED:
            return f"the order {order_id} is over: {end.why}; see `x402sms orders show {order_id}`"
        case How.RECEIVED:
            return f"the order {order_id} got an SMS first: see `x402sms orders show {order_id}`"
        case _:
            return (
                f"the order {order_id} could NOT be cancelled ({end.why}): see `x402sms orders "
                f"show {order_id}` and try `x402sms orders cancel {order_id}`"
            )


def left_open(order: Order) -> str:
    return (
        f"the order {order.order_id} may still be open: cancel it for its refund with "
        f"`x402sms orders cancel {order.order_id}`"
    )


def kept(order: Order) -> str:
    order_id = order.order_id
    return f"the rental {order_id} is kept; `x402sms orders release {order_id}` ends it early"
