"""Paying with the first request, by what the route was last paid by.

What is remembered passes through all the checks that a fresh challenge does, but that of this
machine's clock, and what is signed has the purchase's own nonce: if the price has moved, the new
one is signed under that, so no more than one settlement within the ceilings can come of it.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

from x402sms.errors import PaymentError
from x402sms.protocol.attempt import make_attempt
from x402sms.protocol.effects import (
    Answer,
    Effect,
    Now,
    Payer,
    Prepay,
    Purchase,
    Quote,
    Remembered,
    Reserve,
)
from x402sms.protocol.quote import PAYMENT_REQUIRED, parse_quote
from x402sms.protocol.types import Attempt, PaymentRequired
from x402sms.protocol.wire import Headers

# What a call may pay without being asked, by itself: a cent, in units of 10^-6 USDC.
MOST_AHEAD_ATOMIC = 10_000
_READS = ("GET", "HEAD")


@dataclass
class Latest:
    """What is paid in the end, and by which quote; `ahead` is how it was sent first."""

    attempt: Attempt
    quote: Quote | None = None
    ahead: bool = False
    anew: bool = False  # signed once more, for what an answer asked
    moved: bool = False  # ... which was another amount, or another recipient


@dataclass(frozen=True, slots=True)
class Asked:
    """A challenge that answers a payment."""

    answer: Answer
    quote: Quote
    challenge: PaymentRequired


def may_go_ahead(payer: Payer, purchase: Purchase) -> bool:
    """Whether a call like this one pays ahead where its price is known: else it need not be."""
    reads = purchase.method in _READS
    return payer.prepay is Prepay.ALWAYS or (payer.prepay is Prepay.AUTO and reads)


def is_for_next_time(payer: Payer, purchase: Purchase, attempt: Attempt) -> bool:
    """Whether the next call like this one may pay what this one did, without asking."""
    return may_go_ahead(payer, purchase) and _may_be_risked(payer, attempt)


def _may_be_risked(payer: Payer, attempt: Attempt) -> bool:
    small = attempt.authorization.amount_atomic <= MOST_AHEAD_ATOMIC
    return small or payer.prepay is Prepay.ALWAYS


def attempt_ahead(payer: Payer, purchase: Purchase) -> Generator[Effect, Any, Attempt | None]:
    """The attempt that goes with the first request, reserved. None: ask first."""
    if not may_go_ahead(payer, purchase):
        return None
    quote: Quote | None = yield Remembered(purchase.route)
    if quote is None:
        return None
    now: int = yield Now()
    try:
        attempt = _attempt_by(quote, payer, purchase, now)
        if attempt is not None:
            yield Reserve(attempt)
    except PaymentError:  # not as it was then: what it costs now may be another matter
        return None
    return attempt


def _attempt_by(quote: Quote, payer: Payer, purchase: Purchase, now: int) -> Attempt | None:
    challenge = parse_quote(quote)
    if challenge is None:
        return None
    if quote.bought != purchase.fingerprint:  # the same price, and another resource
        challenge = replace(challenge, resource=None)
    # No `Date` to compare with: a clock that is off is found out by the answer.
    attempt = make_attempt(payer, purchase, challenge, _ASKED, now)
    return attempt if _may_be_risked(payer, attempt) else None


_ASKED = Answer(PAYMENT_REQUIRED, Headers(()))
