"""Many paid calls at once through one async client, in a process of its own.

python -m benchmarks.crowd SIDE URL CALLS     prints one line of JSON
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.measure import peak_mb
from benchmarks.sides import OFFICIALS, our_settings

OURS = "x402sms"
BARE = "two bare httpx calls"
# httpx would give up on a connection after 5 s; here each call waits for its turn.
PATIENCE = httpx.Timeout(120)
_POOL = httpx.Limits(max_connections=100, max_keepalive_connections=100)


def client_of(side: str, folder: str) -> httpx.AsyncClient:
    if side == OURS:
        from x402sms import AsyncX402Transport  # noqa: PLC0415  not in the others' memory

        transport: httpx.AsyncBaseTransport = AsyncX402Transport(
            **our_settings(Path(folder) / "payments.db")
        )
    elif side == BARE:
        transport = httpx.AsyncHTTPTransport(limits=_POOL)
    else:
        official = next(each for each in OFFICIALS if each.name == side)
        official.choose()
        transport = official.transport(httpx.AsyncHTTPTransport(limits=_POOL))
    return httpx.AsyncClient(transport=transport, timeout=PATIENCE)


async def crowd(side: str, url: str, calls: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        async with client_of(side, folder) as client:

            async def one() -> float:
                started = time.perf_counter()
                response = await client.get(url)
                if side == BARE:
                    await client.get(url)
                elif response.status_code != 200:
                    raise RuntimeError(f"answered {response.status_code}")
                return time.perf_counter() - started

            await one()  # whatever loads at the first call is loaded
            before = time.perf_counter()
            cpu = time.process_time()
            taken = await asyncio.gather(*(one() for _ in range(calls)))
            seconds = time.perf_counter() - before
            cpu = time.process_time() - cpu
    cuts = statistics.quantiles(taken, n=100)
    return {
        "per_second": calls / seconds,
        "p50": cuts[49],
        "p99": cuts[98],
        "cpu_ms": cpu / calls * 1000,
        "peak_mb": peak_mb(),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(crowd(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
