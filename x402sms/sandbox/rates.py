"""The service's rate limit: so many requests of one caller within a minute."""

from __future__ import annotations

import math
from collections import defaultdict, deque

from x402sms.sandbox.clock import Clock
from x402sms.sandbox.problems import Problem

WINDOW = 60  # seconds


class Rates:
    """`limit` requests of one caller in any 60 seconds of `clock`; None for no limit.

    A request that is refused does not count. A long-poll counts once, when it begins.
    """

    def __init__(self, limit: int | None, clock: Clock) -> None:
        self._limit = limit
        self._clock = clock
        self._seen: defaultdict[str, deque[float]] = defaultdict(deque)

    def count(self, caller: str) -> None:
        """Raises Problem (429) if this is one too many."""
        if self._limit is None:
            return
        now, seen = self._clock.now(), self._seen[caller]
        while seen and seen[0] <= now - WINDOW:
            seen.popleft()
        if len(seen) >= self._limit:
            raise too_many(max(1, math.ceil(seen[0] + WINDOW - now)))
        seen.append(now)


def too_many(seconds: int) -> Problem:
    return Problem(
        429,
        "rate-limited",
        f"Too many requests; try again in {seconds} seconds",
        headers={"Retry-After": str(seconds)},
    )
