"""Time that tests can move, and a bell that wakes whoever waits for something to change."""

from __future__ import annotations

import asyncio
import time


class Bell:
    """`ring()` wakes everyone who is in `wait()` at that moment."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, seconds: float | None) -> None:
        """Return at the next ring or after `seconds` of real time (None: only at a ring)."""
        event = self._event
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass


class Clock:
    """Unix time in seconds: the machine's, plus what it was advanced by."""

    def __init__(self, bell: Bell) -> None:
        self.offset = 0.0
        self._bell = bell

    def now(self) -> float:
        return time.time() + self.offset

    def advance(self, seconds: float) -> None:
        """Move forward; nobody who waits for a moment sleeps past it."""
        if seconds < 0:
            raise ValueError("the clock only moves forward")
        self.offset += seconds
        self._bell.ring()
