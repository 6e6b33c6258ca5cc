"""Times, taken in turn so that the machine's moods hit all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

Call = Callable[[], Awaitable[object]]
# Rounds before the first that counts: SQLite's log grows for its first 1,000 pages, which is some
# 200 payments, and is written over from then on, which costs the disk half as much.
WARM_UP = 200


@dataclass(frozen=True)
class Sample:
    """Milliseconds of one side: on the clock, and of this process' own time on a processor."""

    wall: list[float]
    cpu: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.wall)

    @property
    def spread(self) -> tuple[float, float]:
        """The first and the ninth decile."""
        cuts = statistics.quantiles(self.wall, n=10)
        return cuts[0], cuts[8]

    @property
    def cpu_median(self) -> float:
        return statistics.median(self.cpu)


async def interleaved(calls: dict[str, Call], rounds: int) -> dict[str, Sample]:
    """Each call once a round."""
    samples = {name: Sample([], []) for name in calls}
    for number in range(WARM_UP + rounds):
        for name, call in calls.items():
            cpu, wall = time.process_time(), time.perf_counter()
            await call()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if number >= WARM_UP:
                samples[name].wall.append(wall * 1000)
                samples[name].cpu.append(cpu * 1000)
    return samples


def calling(function: Callable[[], object]) -> Call:
    """A synchronous one among the others."""

    async def call() -> object:
        return function()

    return call


def peak_mb() -> float:
    """The most memory this process had. Not `ru_maxrss`, in which a child begins with its parent's
    (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
