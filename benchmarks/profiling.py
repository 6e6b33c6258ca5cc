"""Where the time of a paid call goes: `make profile`, or `python -m benchmarks.profiling [async]`.

Pyinstrument's tree of some hundred calls, the shop in process.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import httpx
from pyinstrument import Profiler

from benchmarks.shop import URL, shop
from benchmarks.sides import our_settings
from x402sms import AsyncX402Transport, X402Transport

CALLS = 1000
_TENTH_OF_MS = 0.0001  # seconds between two looks


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


def main() -> None:
    profiler = Profiler(interval=_TENTH_OF_MS, async_mode="disabled")
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "payments.db"
        with profiler:
            if sys.argv[1:] == ["async"]:
                asyncio.run(asynchronous(ledger))
            else:
                synchronous(ledger)
    print(profiler.output_text(show_all=True, color=sys.stdout.isatty()))


if __name__ == "__main__":
    main()
