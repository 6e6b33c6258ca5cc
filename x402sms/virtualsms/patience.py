"""A call that the service asks us to make later."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

from x402sms.errors import APIError, RateLimited, X402SMSError
from x402sms.virtualsms.calls import Call
from x402sms.virtualsms.effects import Announce, Effect, Make, Now, Paused, Sleep

T = TypeVar("T")

DEFAULT_RETRY = 5  # seconds, where a 429 does not say
LONGEST_PAUSE = 60  # seconds, where the service wants less, and says no again and again


def make(call: Call[T], *, until: float) -> Generator[Effect, Any, T]:
    """The call's result. A 429 is waited out as long as that ends before `until` (see Now)."""
    intent: str | None = None
    least: float = 1
    while True:
        try:
            result: T = yield Make(call, intent)
        except RateLimited as limited:
            yield from wait_out(limited, until=until, least=least)
            least = min(2 * least, LONGEST_PAUSE)
            # A payment that went with the refused request can still settle: no second one.
            intent = None if limited.receipt is None else limited.receipt.intent
        else:
            return result


def in_doubt(error: X402SMSError) -> bool:
    """Whether a payment was made, or may have been, for a call that ended in this error."""
    receipt = error.receipt if isinstance(error, APIError) else None
    return receipt is not None and receipt.state in ("settled", "unknown")


def wait_out(limited: RateLimited, *, until: float, least: float) -> Generator[Effect, Any, None]:
    """Sleep for as long as a 429 says, or `least` if there is time. Raises it where that is too
    long."""
    asked = max(1, DEFAULT_RETRY if limited.retry_after is None else limited.retry_after)
    now: float = yield Now()
    if now + asked > until:
        raise limited
    seconds = max(asked, min(least, until - now))
    yield Announce(Paused(seconds, "the service limits the rate"))
    yield Sleep(seconds)
