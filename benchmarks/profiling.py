"""Where the time of a paid call goes: `make profile`, or `python -m benchmarks.profiling [async]`.

Pyinstrument's tree of some hundred calls, the shop in process.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from pathlib import Path

import httpx
from pyinstrument import Profiler
from pyinstrument.renderers import ConsoleRenderer

from benchmarks.shop import URL, shop
from benchmarks.sides import our_settings
from x402sms import AsyncX402Transport, X402Transport

CALLS = 1000
_TENTH_OF_MS = 0.0001  # seconds between two looks
_LEAST = 0.01  # of all the time: what takes less is not shown


def synchronous(ledger: Path) -> None:
    settings = our_settings(ledger, transport=httpx.MockTransport(shop))
    with httpx.Client(transport=X402Transport(**settings)) as client:
        for _ in range(CALLS):
            client.get(URL)


async def asynchronous(ledger: Path) -> None:
    settings = our_settings(ledger, transport=httpx.MockTransport(shop))
    async with httpx.AsyncClient(transport=AsyncX402Transport(**settings)) as client:
        for _ in range(CALLS):
            await client.get(URL)


def profiled(*, colour: str = "sync") -> str:
    """The tree, in seconds of all the calls together."""
    os.environ["PYINSTRUMENT_IGNORE_OVERHEAD_WARNING"] = "1"
    profiler = Profiler(interval=_TENTH_OF_MS, async_mode="disabled")
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "payments.db"
        with profiler:
            if colour == "async":
                asyncio.run(asynchronous(ledger))
            else:
                synchronous(ledger)
    renderer = ConsoleRenderer(show_all=True, unicode=True)
    _, _, tree = profiler.output(renderer).partition("\n\n")  # its banner names folders
    _, _, tree = tree.partition("\n\n")
    shown = "\n".join(_worth_a_line(tree.strip().split("\n")))
    return f"{CALLS:,} paid calls ({colour}), the ledger on disk, in seconds\n\n{shown}\n"


def _worth_a_line(lines: list[str]) -> list[str]:
    """Whatever takes less is beneath something that takes as much: no branch loses its stem."""
    seconds = [_seconds(line) for line in lines]
    return [line for line, each in zip(lines, seconds, strict=True) if each >= seconds[0] * _LEAST]


def _seconds(line: str) -> float:
    found = re.search(r"[0-9]+\.[0-9]+", line)
    return float(found[0]) if found else 0


if __name__ == "__main__":
    print(profiled(colour="async" if sys.argv[1:] == ["async"] else "sync"))
