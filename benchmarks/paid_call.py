"""What one paid call costs on the client's side: ours beside the official client, in one run.

    make bench

The server is a MockTransport that answers at once, so what is measured is the client: parse the
402, decide, write the ledger, sign, send again. Interleaved, medians; machines are noisy, so read
the ratios. Nothing here is asserted in a test.
"""

from __future__ import annotations

import asyncio
import base64
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
from eth_account import Account
from x402 import x402Client
from x402.http.clients.httpx import x402AsyncTransport
from x402.mechanisms.evm.exact.register import register_exact_evm_client
from x402.mechanisms.evm.signers import EthAccountSigner

from x402sms import AsyncX402Transport, SpendLimits, Wallet, X402Transport, open_ledger

ROUNDS = 300
KEY = "0x" + "5a" * 32
URL = "https://shop.example/x"
OFFER = {
    "scheme": "exact",
    "network": "eip155:8453",
    "amount": "1000",
    "asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
    "payTo": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    "maxTimeoutSeconds": 60,
    "extra": {"name": "USD Coin", "version": "2"},
}
Call = Callable[[], Awaitable[object]]


def _encoded(value: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


CHALLENGE = _encoded({"x402Version": 2, "resource": {"url": URL}, "accepts": [OFFER]})
SETTLED = _encoded({"success": True, "transaction": "0x" + "ab" * 32, "network": "eip155:8453"})


def shop(request: httpx.Request) -> httpx.Response:
    if "payment-signature" not in request.headers:
        return httpx.Response(402, headers={"PAYMENT-REQUIRED": CHALLENGE}, json={})
    return httpx.Response(200, headers={"PAYMENT-RESPONSE": SETTLED}, json={"delivered": True})


async def measure(calls: dict[str, Call]) -> dict[str, list[float]]:
    """Milliseconds of each call, taken in turn so that the machine's moods hit all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(ROUNDS + 20):
        for name, call in calls.items():
            started = time.perf_counter()
            await call()
            if round_number >= 20:  # the first ones warm up
                times[name].append((time.perf_counter() - started) * 1000)
    return times


def synchronous(client: httpx.Client) -> Call:
    async def call() -> object:
        return client.get(URL)

    return call


async def main() -> None:
    no_limit = SpendLimits(per_day=None)
    wallet = Wallet.from_key(KEY)
    mock = httpx.MockTransport(shop)
    with tempfile.TemporaryDirectory() as folder:
        disk = open_ledger(Path(folder) / "payments.db")
        settings: dict[str, Any] = {"limits": no_limit, "transport": mock}
        bare = httpx.Client(transport=mock)
        ours = httpx.Client(transport=X402Transport(wallet, ledger=disk, **settings))
        memory = httpx.Client(
            transport=X402Transport(wallet, ledger=open_ledger(":memory:"), **settings)
        )
        ours_async = httpx.AsyncClient(
            transport=AsyncX402Transport(wallet, ledger=disk, **settings)
        )
        official = x402Client()
        register_exact_evm_client(official, EthAccountSigner(Account.from_key(KEY)))
        official_http = httpx.AsyncClient(transport=x402AsyncTransport(official, mock))

        async def two_bare_calls() -> object:
            return bare.get(URL), bare.get(URL)

        times = await measure(
            {
                "two bare httpx calls (the floor)": two_bare_calls,
                "x402sms, ledger on disk": synchronous(ours),
                "x402sms, ledger in memory": synchronous(memory),
                "x402sms async, ledger on disk": lambda: ours_async.get(URL),
                "official x402 (no ledger)": lambda: official_http.get(URL),
            }
        )
        for client in (bare, ours, memory):
            client.close()
        await ours_async.aclose()
        await official_http.aclose()
        disk.close()
    report(times)


def report(times: dict[str, list[float]]) -> None:
    reference = statistics.median(times["official x402 (no ledger)"])
    print(f"{ROUNDS} calls each, interleaved\n")
    print("| one paid call, client side | median ms | p90 ms | official = 1 |")
    print("|---|---|---|---|")
    for name, taken in times.items():
        median = statistics.median(taken)
        p90 = statistics.quantiles(taken, n=10)[8]
        print(f"| {name} | {median:.2f} | {p90:.2f} | {median / reference:.2f} |")


if __name__ == "__main__":
    asyncio.run(main())
