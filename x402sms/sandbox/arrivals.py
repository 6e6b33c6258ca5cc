"""What arrives at a number by itself, and when."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class Arrival:
    """An SMS, `after` so many seconds (None: never). `text` None: one with a code of its own."""

    after: float | None
    text: str | None = None

    def __post_init__(self) -> None:
        if self.after is not None and self.after < 0:
            raise ValueError("an SMS arrives after so many seconds, at least 0")

    def due(self, now: float) -> float | None:
        return None if self.after is None else now + self.after


class Arrivals:
    """What the next new numbers get: what was planned, one each, then the usual."""

    def __init__(self, usual: float | None) -> None:
        self._usual = Arrival(usual)
        self._planned: deque[Arrival] = deque()

    def plan(self, arrival: Arrival) -> None:
        self._planned.append(arrival)

    def take(self) -> Arrival:
        return self._planned.popleft() if self._planned else self._usual

    def give_back(self, arrival: Arrival) -> None:
        """The number that took it does not come to be."""
        if arrival is not self._usual:
            self._planned.appendleft(arrival)
