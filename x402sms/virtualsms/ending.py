"""How an order ends without a code: cancelled for its refund, whatever stands in the way."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, auto
from typing import Any

from x402sms.errors import (
    AlreadyPaid,
    CooldownActive,
    HostNotReachable,
    OrderAlreadyConfirmed,
    OrderExpired,
    PaymentRefused,
    PaymentUnknown,
    RateLimited,
    ServerError,
    UnreadableResponse,
    ValidationFailed,
    X402SMSError,
)
from x402sms.text import one_line
from x402sms.virtualsms import calls
from x402sms.virtualsms.effects import (
    Announce,
    Cancelled,
    Effect,
    HeldBack,
    NotCancelled,
    Now,
    Paused,
    Sleep,
)
from x402sms.virtualsms.models import Cancellation, Order, OrderStatus
from x402sms.virtualsms.patience import LONGEST_PAUSE, make

DEFAULT_HOLD = 120  # seconds: the usual cooldown, where a refusal does not say how long
LONGEST_HOLD = 600  # a service that says "in an hour" does not get to hold a program
SHORTEST_HOLD = 2  # ... or "at once", again and again: twice as long each time
LAST_CALL = 10  # seconds before the order's end: the last moment to cancel it

# Seconds between tries of what failed for a reason that may pass.
PAUSES = (2, 5, 10, 20, 30)

# What may pass. After each but the first two the money of the call may have moved.
PASSING = (
    HostNotReachable,
    RateLimited,
    ServerError,
    UnreadableResponse,
    PaymentUnknown,
    PaymentRefused,
    AlreadyPaid,
)


class How(Enum):
    CANCELLED = auto()
    RECEIVED = auto()  # an SMS came first: nothing is refunded, and `order` has the code
    EXPIRED = auto()  # whether that is refunded is not documented
    OPEN = auto()  # it could not be ended


@dataclass(frozen=True, slots=True)
class End:
    """`refund` in USDC; `why` is for people, of an order that is not known to be cancelled."""

    how: How
    order: Order
    refund: Decimal | None = None
    why: str = ""

    @property
    def is_certain(self) -> bool:
        """Whether all that was paid for it is known to come back."""
        price = self.order.price
        full = self.refund is not None and price is not None and self.refund >= price
        return self.how is How.CANCELLED and (full or price is None)


@dataclass(frozen=True, slots=True)
class Moments:
    """When an order may be cancelled and when it expires, on the clock of Now; None: not said."""

    cancel_at: float | None = None
    expires_at: float | None = None


def cancel(order: Order, moments: Moments) -> Generator[Effect, Any, End]:
    """Cancel as soon as the service allows it, and before the order expires. Raises nothing of
    ours: what cannot be done is said by the End."""
    try:
        end = yield from _cancel(order, moments)
    except X402SMSError as error:
        end = End(How.OPEN, order, why=one_line(str(error), 300))
    yield from announce(end)
    return end


def announce(end: End) -> Generator[Effect, Any, None]:
    """Tell how an order ended. An SMS that came first is told by the job, with its code."""
    order_id = end.order.order_id
    if end.how is How.CANCELLED:
        yield Announce(Cancelled(order_id, end.refund))
    elif end.how is not How.RECEIVED:
        yield Announce(NotCancelled(order_id, end.why))


def _cancel(order: Order, moments: Moments) -> Generator[Effect, Any, End]:
    now: float = yield Now()
    latest = math.inf if moments.expires_at is None else moments.expires_at - LAST_CALL
    if moments.cancel_at is not None:
        yield from _hold(order, min(moments.cancel_at, latest) - now)
        now = yield Now()
    until = now + LONGEST_HOLD  # not of cancel_at: that may be long past
    pauses, least = iter(PAUSES), SHORTEST_HOLD
    while True:
        answer = yield from _ask(order, until=until)
        if isinstance(answer, End):
            return answer
        said = one_line(str(answer), 300)
        now = yield Now()
        if isinstance(answer, CooldownActive):
            if now >= until:
                return End(How.OPEN, order, why=said)
            wait: float = DEFAULT_HOLD if answer.retry_after is None else answer.retry_after
            if now < latest:  # later, the order is there by its own word: our clock knows less
                wait = min(wait, latest - now)
            yield from _hold(order, min(max(wait, least), until - now))
            least = min(2 * least, LONGEST_PAUSE)
            continue
        end = yield from look(order, until=until)
        if end.how is not How.OPEN:
            return end
        if isinstance(answer, OrderExpired):
            return End(How.EXPIRED, end.order, why=f"{said}; whether that is refunded is not known")
        pause = next(pauses, None)
        now = yield Now()
        if pause is None or now + pause > until:
            return End(How.OPEN, end.order, why=said)
        yield Announce(Paused(pause, said))
        yield Sleep(pause)


def _ask(order: Order, *, until: float) -> Generator[Effect, Any, End | X402SMSError]:
    """Ask once to cancel. What may pass, or leaves open how the order stands, is returned."""
    try:
        answer: Cancellation = yield from make(calls.cancel_order(order.order_id), until=until)
    except (
        CooldownActive,
        ValidationFailed,
        OrderAlreadyConfirmed,
        OrderExpired,
        *PASSING,
    ) as error:
        return error
    if answer.success and answer.status == OrderStatus.CANCELLED:
        return End(How.CANCELLED, order, _believed(order, answer.refund_amount))
    return X402SMSError(f"the service answered {answer.status} (success: {answer.success})")


def _believed(order: Order, refund: Decimal | None) -> Decimal | None:
    """Of a refund that is told. Where it is not, it is full by the reference; more cannot be."""
    if refund is None or order.price is None:
        return order.price if refund is None else refund
    return min(refund, order.price)


def look(order: Order, *, until: float) -> Generator[Effect, Any, End]:
    """How the order stands by what the service says now; open where it cannot be asked."""
    try:
        now: Order = yield from make(calls.get_order(order.order_id), until=until)
    except OrderExpired:
        return End(How.EXPIRED, order, why="it has expired, and whether that is refunded is open")
    except X402SMSError as error:
        return End(How.OPEN, order, why=one_line(str(error), 300))
    return standing(merged(order, now))


def standing(order: Order) -> End:
    """How an order has ended, if it has."""
    if order.has_sms:
        return End(How.RECEIVED, order)
    if order.status == OrderStatus.CANCELLED:
        # The reference: a cancelled order is refunded in full.
        return End(How.CANCELLED, order, order.price)
    if order.is_final:
        why = f"it is {order.status}, and whether that is refunded is not known"
        return End(How.EXPIRED, order, why=why)
    return End(How.OPEN, order, why=f"it is still {order.status}")


def merged(order: Order, newer: Order) -> Order:
    """What was known of an order, with what an answer that leaves much out says now."""
    said = {
        name: getattr(newer, name)
        for name in Order.model_fields
        if name in newer.model_fields_set and getattr(newer, name) is not None
    }
    # Its id is what it is asked for by, and what is cancelled, and its price is what was paid: no
    # answer changes those.
    kept: dict[str, object] = {"order_id": order.order_id}
    if order.price is not None:
        kept["price"] = order.price
    return order.model_copy(update={**(newer.model_extra or {}), **said, **kept})


def _hold(order: Order, seconds: float) -> Generator[Effect, Any, None]:
    if seconds > 0:
        yield Announce(HeldBack(order.order_id, seconds))
        yield Sleep(seconds)
