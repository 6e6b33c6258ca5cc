"""All of it, as one table each: to stdout, and into `benchmarks/RESULTS.md`.

make bench          some minutes
make bench QUICK=1  half a minute, noisier
"""

from __future__ import annotations

import asyncio
import os
import platform
import sqlite3
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from benchmarks import calls
from benchmarks.crowds import crowds
from benchmarks.fleets import fleets
from benchmarks.ledgers import rates
from benchmarks.profiling import profiled
from benchmarks.server import running
from benchmarks.settling import settlements
from benchmarks.starting import starts
from x402sms import __version__

RESULTS = Path(__file__).with_name("RESULTS.md")
PROFILE = Path(__file__).with_name("PROFILE.txt")
_INTRODUCTION = f"""# Results

One run of `make bench`: x402sms {__version__} beside x402 {version("x402")}, Python
{platform.python_version()}, SQLite {sqlite3.sqlite_version}, httpx {version("httpx")},
{os.cpu_count()} processors. Read the ratios, not the milliseconds: all sides take turns in one run.
See README.md for what is measured.
"""


def sections(scale: int) -> Iterator[str]:
    """`scale` 1 is the shortest run that says something."""
    yield _INTRODUCTION
    yield asyncio.run(calls.paid_in_process(100 * scale))
    yield asyncio.run(calls.signed(50 * scale))
    yield asyncio.run(calls.parsed(200 * scale))
    with running() as url:
        yield asyncio.run(calls.paid_over_loopback(url, 60 * scale))
        yield crowds(url, 1000, scale)
    yield rates(250 * scale)
    yield fleets(100 * scale)
    yield settlements(scale + 1)
    yield starts(2 * scale + 1)


def main() -> None:
    scale = 1 if "--quick" in sys.argv[1:] else 4
    written = []
    for section in sections(scale):
        print(section, flush=True)
        written.append(section)
    RESULTS.write_text("\n".join(written), encoding="utf-8")
    PROFILE.write_text(profiled(), encoding="utf-8")


if __name__ == "__main__":
    main()
