"""What settling takes: the official server and facilitator, Circle's USDC, one node with Base's
block time.

The payments of one wallet need no order (EIP-3009 nonces are random); the transactions that the
facilitator settles them in are those of one account, and do.
"""

from __future__ import annotations

import asyncio
import statistics
import time

import httpx

from benchmarks.report import table
from tests.parts.fixtures import LocalChain, start_chain
from tests.parts.official_server import run_official_server
from x402sms import AsyncX402Transport, Receipt, SpendLimits, Wallet, open_ledger

AT_ONCE = 32
BLOCK_SECONDS = 2  # Base's
_PATIENCE = httpx.Timeout(120)


def settlements(rounds: int) -> str:
    """One after the other, then some at a time, all from one wallet."""
    wallet = Wallet.generate()
    with start_chain() as chain:
        chain.usdc.mint(wallet.address, 10**9)
        pay_to = Wallet.generate().address
        with run_official_server(chain.rpc_url, pay_to) as server:
            chain.anvil.request("evm_setIntervalMining", BLOCK_SECONDS)
            taken = asyncio.run(_settled(wallet, f"{server.url}/paid/weather", rounds))
        gas = [_gas(chain, transfer.transaction) for transfer in chain.usdc.transfers(to=pay_to)]
    rows = [(name, f"{rate:.2f}", f"{seconds:.2f}") for name, rate, seconds in taken]
    columns = (f"with a block every {BLOCK_SECONDS} s", "payments/s", "median s each")
    said = f"\nGas of one settlement: {statistics.median(gas):,.0f} (median of {len(gas)}).\n"
    return table("The official facilitator settles", columns, rows) + said


async def _settled(wallet: Wallet, url: str, rounds: int) -> list[tuple[str, float, float]]:
    transport = AsyncX402Transport(
        wallet, ledger=open_ledger(":memory:"), limits=SpendLimits(per_day="1000")
    )
    taken = []
    async with httpx.AsyncClient(transport=transport, timeout=_PATIENCE) as client:
        for name, at_once in (("one after the other", 1), (f"{AT_ONCE} at a time", AT_ONCE)):
            started, seconds = time.perf_counter(), []
            for _ in range(rounds):
                seconds += await asyncio.gather(*(_paid(client, url) for _ in range(at_once)))
            rate = rounds * at_once / (time.perf_counter() - started)
            taken.append((name, rate, statistics.median(seconds)))
    return taken


async def _paid(client: httpx.AsyncClient, url: str) -> float:
    started = time.perf_counter()
    response = await client.get(url)
    seconds = time.perf_counter() - started
    if not isinstance(response.extensions.get("x402"), Receipt):
        raise RuntimeError(f"answered {response.status_code}, and nothing was paid")
    return seconds


def _gas(chain: LocalChain, transaction: str) -> int:
    return int(chain.anvil.request("eth_getTransactionReceipt", transaction)["gasUsed"], 16)
