"""Answers to paid requests are lost: each purchase is paid at most once, and the books agree."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account

from tests.chaos.parts import (
    NO_TLS,
    ONE_USDC,
    Bought,
    End,
    assert_books_agree,
    buy,
    buy_async,
    intents_of,
    key_of,
    no_limits,
    nonce_of,
    paid_on_chain,
    reconciled,
    tell,
)
from tests.chaos.proxy import FAULTS, Proxy, running_proxy
from tests.parts.fixtures import LocalChain
from tests.parts.official_server import WEATHER_ATOMIC, run_official_server
from x402sms import AsyncX402Transport, PaymentState, Wallet, X402Transport
from x402sms.ledger import SQLiteLedger
from x402sms.sandbox import SandboxConfig, running_sandbox

PURCHASES = 200
FEWER = 40
AT_ONCE = 8
SHARE = 0.3
PAUSES = (0.01, 0.02, 0.05)
TIMEOUT = httpx.Timeout(5, read=1)
ORDER = {"service": "telegram", "country": "US"}


def settings(wallet: Wallet, ledger: SQLiteLedger, rpc_url: str | None) -> dict[str, Any]:
    return {
        "wallet": wallet,
        "network": "base",
        "ledger": ledger,
        "limits": no_limits(),
        "rpc_url": rpc_url,
        "retry_pauses": PAUSES,
    }


def buy_in_threads(
    method: str, url: str, intents: list[str], paying: dict[str, Any], **options: Any
) -> list[Bought]:
    transport = X402Transport(**paying, transport=httpx.HTTPTransport(verify=NO_TLS))
    with (
        httpx.Client(transport=transport, timeout=TIMEOUT) as client,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        return list(pool.map(lambda intent: buy(client, method, url, intent, **options), intents))


def buy_in_tasks(url: str, intents: list[str], paying: dict[str, Any]) -> list[Bought]:
    async def main() -> list[Bought]:
        inner = httpx.AsyncHTTPTransport(
            verify=NO_TLS, limits=httpx.Limits(max_connections=AT_ONCE)
        )
        transport = AsyncX402Transport(**paying, transport=inner)
        async with httpx.AsyncClient(transport=transport, timeout=TIMEOUT) as client:
            turns = asyncio.Semaphore(AT_ONCE)

            async def one(intent: str) -> Bought:
                async with turns:
                    return await buy_async(client, "GET", url, intent)

            return await asyncio.gather(*map(one, intents))

    return asyncio.run(main())


@pytest.mark.parametrize(("colour", "purchases"), [("sync", PURCHASES), ("async", FEWER)])
def test_behind_the_official_server_each_purchase_settles_at_most_once(
    colour: str, purchases: int, seed: str, own_chain: LocalChain, tmp_path: Path
) -> None:
    wallet = Wallet.from_key(key_of(seed))
    own_chain.usdc.mint(wallet.address, ONE_USDC * 100)
    intents = intents_of(seed, purchases)
    book = tmp_path / "ledger.db"
    with (
        run_official_server(own_chain.rpc_url, Account.create().address) as server,
        running_proxy(server.url, seed=seed, share=SHARE) as proxy,
        SQLiteLedger(book) as ledger,
    ):
        url = f"{proxy.url}/paid/weather"
        paying = settings(wallet, ledger, own_chain.rpc_url)
        if colour == "sync":
            bought = buy_in_threads("GET", url, intents, paying)
        else:
            bought = buy_in_tasks(url, intents, paying)
    ends = Counter(each.end for each in bought)
    paid = paid_on_chain(own_chain, wallet.address)
    tell(f"{proxy.figures()}; {dict(ends)}; {len(paid)} payments on the chain")

    assert_faults_were_seen(proxy, purchases)
    assert len(paid) <= purchases
    assert {each.amount_atomic for each in paid} == {WEATHER_ATOMIC}
    rows = reconciled(own_chain, book)
    assert rows.keys() == {nonce_of(wallet, intent) for intent in intents}
    assert_books_agree(paid, rows)
    # What its caller was told holds by the chain: what was delivered or called paid is paid.
    settled = {row.intent for row in rows.values() if row.state is PaymentState.SETTLED}
    told = {
        intent for intent, each in zip(intents, bought, strict=True) if each.end is not End.OPEN
    }
    assert told <= settled


def test_behind_a_server_that_replays_every_purchase_is_paid_once_and_delivered(
    seed: str, tmp_path: Path
) -> None:
    wallet = Wallet.from_key(key_of(seed))
    intents = intents_of(seed, PURCHASES)
    with (
        running_sandbox(SandboxConfig(network="base")) as sandbox,
        running_proxy(sandbox.url, seed=seed, share=SHARE) as proxy,
        SQLiteLedger(tmp_path / "ledger.db") as ledger,
    ):
        sandbox.fund(wallet.address, 1000)
        sandbox.set_stock("telegram", "US", PURCHASES)
        url = f"{proxy.url}/orders"
        bought = buy_in_threads("POST", url, intents, settings(wallet, ledger, None), json=ORDER)
        payments = sandbox.payments()
        rows = list(ledger.payments())
    tell(f"{proxy.figures()}; {Counter(each.end for each in bought)}; {len(payments)} payments")

    assert_faults_were_seen(proxy, PURCHASES)
    assert [each.end for each in bought] == [End.DELIVERED] * PURCHASES
    assert len({json.loads(each.content)["order_id"] for each in bought}) == PURCHASES
    assert len(payments) == PURCHASES
    nonces = {nonce_of(wallet, intent) for intent in intents}
    assert {payment["nonce"] for payment in payments} == nonces
    assert {row.nonce: row.state for row in rows} == dict.fromkeys(nonces, PaymentState.SETTLED)


def assert_faults_were_seen(proxy: Proxy, purchases: int) -> None:
    """So that a proxy that does nothing does not pass for a client that stands everything."""
    assert proxy.paid_requests >= purchases
    assert proxy.faults.total() > 0
    if purchases == PURCHASES:
        assert proxy.faults.keys() == set(FAULTS)
        assert proxy.faults.total() > proxy.paid_requests * SHARE / 2
