"""Time that tests can move, and a bell that wakes whoever waits for something to change."""

from __future__ import annotations

import asyncio
import time

# Beyond the year 9999 no moment can be written.
_END_OF_TIME = 250_000_000_000.0


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
    """Unix time in seconds: the machine's, plus what it was advanced by.

    One that stands `still` begins with the machine's time and moves only when it is moved.
    """

    def __init__(self, bell: Bell, *, still: bool = False) -> None:
        self.offset = 0.0
        self._bell = bell
        self._still = time.time() if still else None

    def now(self) -> float:
        return (time.time() if self._still is None else self._still) + self.offset

    def advance(self, seconds: float) -> None:
        """Move forward; nobody who waits for a moment sleeps past it."""
        if seconds < 0:
            raise ValueError("the clock only moves forward")
        if self.now() + seconds > _END_OF_TIME:
            raise ValueError("the clock does not go beyond the year 9892")
        self.offset += seconds
        self._bell.ring()

    def reach(self, moment: float) -> None:
        """Of one that stands still: be at `moment`, if that is not in the past."""
        assert self._still is not None  # noqa: S101  nobody else could promise it
        if moment > self.now():
            self._still, self.offset = moment, 0.0
            self._bell.ring()
