"""The job, "get me a code for SERVICE under PRICE", as a generator of effects: no I/O, no clock.

Whoever drives it performs each effect and sends the result back, or throws the failure in:
so a time-out, an error and Ctrl-C all pass through here, and an order that is still open is
cancelled for its refund before the failure goes on.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from x402sms.errors import (
    APIError,
    CooldownActive,
    NoCodeReceived,
    NoStock,
    SpendLimitExceeded,
    X402SMSError,
)
from x402sms.virtualsms import calls
from x402sms.virtualsms.calls import Call
from x402sms.virtualsms.models import Cancellation, Offer, Order, SmsResult
from x402sms.virtualsms.names import normalise_country

LONGEST_POLL = calls.MAX_LONG_POLL_SECONDS
SHORTEST_INTERVAL = 5  # the vendor asks not to poll faster
LONGEST_HOLD = 180  # seconds that a refusal to cancel is waited for
DEFAULT_HOLD = 120  # its usual cooldown, where a refusal does not say how long


@dataclass(frozen=True, slots=True)
class Code:
    """What was received. `code` is the service's reading of `text`, and may be None.

    `price` is the number's, in USDC. `warnings` says what went wrong after the code was there.
    """

    code: str | None
    text: str | None
    order: Order
    price: Decimal | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Make:
    """Make a call. Result: what it parses to."""

    call: Call[Any]


@dataclass(frozen=True, slots=True)
class Buy:
    """Buy an order; one that was paid for while its answer was lost is found. Result: Order."""

    call: Call[Order]
    intent: str | None
    max_price: Decimal


@dataclass(frozen=True, slots=True)
class Now:
    """Result: seconds on a clock that never goes back."""


@dataclass(frozen=True, slots=True)
class Sleep:
    seconds: float


@dataclass(frozen=True, slots=True)
class Chosen:
    """The cheapest offer under the ceiling, about to be bought."""

    offer: Offer


@dataclass(frozen=True, slots=True)
class Bought:
    """The number to hand over: `order.phone_number`."""

    order: Order


@dataclass(frozen=True, slots=True)
class Waiting:
    """A poll begins; the job gives up in so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Received:
    """The SMS is there."""

    sms: SmsResult


@dataclass(frozen=True, slots=True)
class HeldBack:
    """The service refuses to cancel yet; trying again in so many seconds."""

    order_id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The order is cancelled; `refund` in USDC, None where the service does not say."""

    order_id: str
    refund: Decimal | None


Event = Chosen | Bought | Waiting | Received | HeldBack | Cancelled


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell whoever watches. Result: None."""

    event: Event


Effect = Make | Buy | Now | Sleep | Announce
Step = Generator[Effect, Any, Any]


def receive_code(
    service: str,
    *,
    max_price: Decimal,
    country: str | None = None,
    timeout: float = 180,
    intent: str | None = None,
) -> Generator[Effect, Any, Code]:
    """Buy the cheapest number under `max_price` (USDC), wait `timeout` seconds, confirm.

    Raises SpendLimitExceeded where every offer is dearer, NoStock, ServiceNotFound; and
    NoCodeReceived after it cancelled the order, saying whether that worked.
    """
    offer = yield from _cheapest(service, country, max_price)
    yield Announce(Chosen(offer))
    call = calls.create_order(service, offer.country or country or "")
    order: Order = yield Buy(call, intent, max_price)
    try:
        yield Announce(Bought(order))
        sms = yield from _wait(order.order_id, timeout)
    except GeneratorExit:
        raise
    except BaseException:
        yield from _cancel(order.order_id)
        raise
    if sms is None:
        sms = yield from _give_up(order.order_id, timeout)
    yield Announce(Received(sms))
    warnings = yield from _confirm(order.order_id)
    price = offer.price if order.price is None else order.price
    return Code(sms.code, sms.text, order, price, warnings)


def _cheapest(
    service: str, country: str | None, max_price: Decimal
) -> Generator[Effect, Any, Offer]:
    if country is None:
        offer: Offer = yield Make(calls.find_cheapest(service))
    else:
        code = normalise_country(country)
        offers: tuple[Offer, ...] = yield Make(calls.service_availability(service))
        there = [offer for offer in offers if offer.country == code and offer.in_stock]
        if not there:
            raise NoStock(
                f"no number for {service} in {code} now; nothing was bought. Try another country, "
                "or leave the country open"
            )
        offer = min(there, key=lambda there: there.price)
    if offer.price > max_price:
        raise SpendLimitExceeded(
            f"nothing bought: the cheapest number for {service} costs {offer.price} USDC "
            f"({offer.country}), and your ceiling is {max_price}; raise it with max_price "
            "(--max-price), or try another country",
            limit="max_price",
            allowed=max_price,
            amount=offer.price,
        )
    return offer


def _wait(order_id: str, timeout: float) -> Generator[Effect, Any, SmsResult | None]:
    """Long-poll until an SMS is there or the time is up: each poll is a paid call."""
    started: float = yield Now()
    now = started
    while (left := started + timeout - now) >= 1:
        yield Announce(Waiting(left))
        sms: SmsResult = yield Make(
            calls.wait_for_sms(order_id, min(LONGEST_POLL, math.floor(left)))
        )
        if sms.has_sms:
            return sms
        asked, now = now, (yield Now())
        too_soon = min(asked + SHORTEST_INTERVAL, started + timeout) - now
        if too_soon > 0:
            yield Sleep(too_soon)
            now = yield Now()
    return None


def _give_up(order_id: str, timeout: float) -> Generator[Effect, Any, SmsResult]:
    """Cancel for the refund. An SMS that came while we did is returned all the same."""
    cancellation = yield from _cancel(order_id)
    if cancellation is None:
        sms = yield from _last_look(order_id)
        if sms is not None:
            return sms
    raise NoCodeReceived(
        f"no SMS within {timeout:.0f} s; {_how_it_ended(order_id, cancellation)}",
        order_id=order_id,
        cancelled=None if cancellation is None else True,
    )


def _how_it_ended(order_id: str, cancellation: Cancellation | None) -> str:
    if cancellation is None:
        return (
            f"the order {order_id} could NOT be cancelled: see `x402sms orders show {order_id}` "
            f"and try `x402sms orders cancel {order_id}`"
        )
    refund = cancellation.refund_amount
    refunded = "" if refund is None else f", {refund} USDC refunded"
    return f"the order {order_id} is cancelled{refunded}"


def _cancel(order_id: str) -> Generator[Effect, Any, Cancellation | None]:
    """None where the service would not, for whatever reason."""
    try:
        try:
            cancellation: Cancellation = yield Make(calls.cancel_order(order_id))
        except CooldownActive as cooldown:
            seconds = DEFAULT_HOLD if cooldown.retry_after is None else cooldown.retry_after
            if seconds > LONGEST_HOLD:
                return None
            yield Announce(HeldBack(order_id, seconds))
            yield Sleep(seconds)
            cancellation = yield Make(calls.cancel_order(order_id))
    except X402SMSError:
        return None
    if not cancellation.success:
        return None
    yield Announce(Cancelled(order_id, cancellation.refund_amount))
    return cancellation


def _last_look(order_id: str) -> Generator[Effect, Any, SmsResult | None]:
    try:
        sms: SmsResult = yield Make(calls.wait_for_sms(order_id, 0))
    except X402SMSError:
        return None
    return sms if sms.has_sms else None


def _confirm(order_id: str) -> Generator[Effect, Any, tuple[str, ...]]:
    try:
        yield Make(calls.confirm_order(order_id))
    except APIError as error:
        return (f"the order {order_id} could not be confirmed: {error}",)
    except X402SMSError as error:
        return (f"the order {order_id} may not be confirmed: {error}",)
    return ()
