"""The sandbox without a socket."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.sandbox.conftest import NO_TLS
from tests.sandbox.paying import Wallet, challenge_of, encode
from tests.sandbox.reaching import WAYS, Way, reached
from x402sms.errors import ConfigError
from x402sms.sandbox import Fault, InProcessSandbox, SandboxConfig, asgi_sandbox


def _async_client(sandbox: InProcessSandbox) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=sandbox.url, transport=sandbox.transport, verify=NO_TLS)


async def _pay(client: httpx.AsyncClient, wallet: Wallet, path: str) -> httpx.Response:
    challenge = challenge_of(await client.get(path), wallet.dialect)
    return await client.get(path, headers={wallet.header_name: encode(wallet.document(challenge))})


def _wallet(sandbox: InProcessSandbox) -> Wallet:
    assert sandbox.funded_key is not None
    return Wallet(sandbox.funded_key, sandbox.network, "v2")


@pytest.mark.anyio
async def test_it_answers_in_the_callers_own_loop() -> None:
    threads = threading.active_count()
    with asgi_sandbox() as sandbox:
        wallet = _wallet(sandbox)
        async with _async_client(sandbox) as client:
            answers = await asyncio.gather(*(_pay(client, wallet, "/me/balance") for _ in range(5)))
        assert [answer.status_code for answer in answers] == [200] * 5
        assert sandbox.books(wallet.address) == (5_000, 0)
        assert sandbox.balance(wallet.address) == 100_000_000 - 5_000
        assert threading.active_count() == threads


@pytest.mark.anyio
async def test_what_a_test_does_while_a_call_waits_wakes_it() -> None:
    with asgi_sandbox() as sandbox:
        wallet = _wallet(sandbox)
        async with _async_client(sandbox) as client:
            challenge = challenge_of(
                await client.post("/orders", json={"service": "telegram", "country": "US"}), "v2"
            )
            bought = await client.post(
                "/orders",
                json={"service": "telegram", "country": "US"},
                headers={wallet.header_name: encode(wallet.document(challenge))},
            )
            order_id = bought.json()["order_id"]
            poll = asyncio.create_task(_pay(client, wallet, f"/orders/{order_id}/sms?timeout=180"))
            await sandbox.state.until_polling(1, 10)
            sandbox.deliver_sms(order_id, "PIN 5521")
            assert (await poll).json()["code"] == "5521"


@pytest.mark.anyio
async def test_the_callers_read_timeout_ends_a_call_unpaid() -> None:
    with asgi_sandbox() as sandbox:
        wallet = _wallet(sandbox)
        sandbox.set_faults({"slow": 1})
        client = httpx.AsyncClient(
            base_url=sandbox.url, transport=sandbox.transport, timeout=0.01, verify=NO_TLS
        )
        async with client:
            with pytest.raises(httpx.ReadTimeout):
                await _pay(client, wallet, "/me")
        assert sandbox.payments() == []


def test_the_sync_transport_has_a_loop_of_its_own_that_ends_with_it() -> None:
    before = set(threading.enumerate())
    with reached() as (sandbox, buyer):
        assert set(threading.enumerate()) == before
        order_id = buyer.order()["order_id"]
        with ThreadPoolExecutor(1) as threads:
            poll = threads.submit(buyer.get, f"/orders/{order_id}/sms?timeout=180")
            sandbox.wait_for_pollers(1)
            sandbox.deliver_sms(order_id, "PIN 5521")
            assert poll.result()["code"] == "5521"
    assert set(threading.enumerate()) == before


def test_each_has_books_of_its_own() -> None:
    with reached(seed=1) as (one, buyer), reached(seed=1) as (other, _):
        order = buyer.order()
        assert one.orders_of(buyer.address) == [(order["order_id"], "waiting")]
        assert other.orders_of(buyer.address) == []
        assert (one.books(buyer.address)[0], other.payments()) == (210_500, [])


def test_its_controls_are_there_over_http_too() -> None:
    with reached() as (sandbox, buyer):
        answer = buyer.http.get(f"{sandbox.origin}/_sandbox/clock")
        assert set(answer.json()) == {"now", "chain_now"}
        assert answer.headers["X-Request-Id"] == "req_00000001"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("path", "status"), [("a%2Fb", 404), ("a%20b", 402), ("%C3%A9", 402), ("a%3Fb", 402)]
)
def test_a_path_that_is_encoded_arrives_as_over_a_socket(way: Way, path: str, status: int) -> None:
    with reached(way) as (_, buyer):
        assert buyer.http.get(f"/services/{path}/cheapest").status_code == status


def test_on_a_chain_it_needs_a_server() -> None:
    config = SandboxConfig(settlement="anvil", rpc_url="http://127.0.0.1:1")
    with pytest.raises(ConfigError, match="settles in memory"), asgi_sandbox(config):
        pass


@pytest.mark.anyio
async def test_beside_the_async_transport_nothing_blocks() -> None:
    with asgi_sandbox() as sandbox, pytest.raises(RuntimeError, match="needs no waiting"):
        sandbox.wait_for_pollers(1)


@pytest.mark.anyio
async def test_faults_reach_the_async_caller() -> None:
    with asgi_sandbox() as sandbox:
        wallet = _wallet(sandbox)
        async with _async_client(sandbox) as client:
            sandbox.set_faults([Fault("drop-after-settle", paid=True, times=1)])
            with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
                await _pay(client, wallet, "/me")
            sandbox.set_faults([Fault("truncate", paid=True, times=1)])
            with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
                await _pay(client, wallet, "/me")
        assert sandbox.books(wallet.address) == (2_000, 0)
