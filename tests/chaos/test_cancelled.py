"""asyncio: tasks are cancelled at random points of their payments, and nothing is lost by it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from tests.chaos.child import EFFECTS, SENDS
from tests.chaos.parts import (
    NO_TLS,
    ONE_USDC,
    assert_books_agree,
    intents_of,
    key_of,
    no_limits,
    paid_on_chain,
    reconciled,
    tell,
)
from tests.chaos.proxy import Proxy, running_proxy
from tests.parts.fixtures import LocalChain
from x402sms import AsyncX402Transport, Wallet
from x402sms.errors import SpendLimitExceeded
from x402sms.ledger import SQLiteLedger
from x402sms.money import format_usdc
from x402sms.paying import Local
from x402sms.pooling import AsyncPooledTransport
from x402sms.protocol.networks import BASE
from x402sms.sandbox import RunningSandbox, SandboxConfig, running_sandbox

TASKS = 200
CANCELLED = TASKS // 10
ALLOWED = 150
PRICE_ATOMIC = 1_000  # of the sandbox's list of services
CONNECTIONS = 16
LATEST = (
    0.2  # seconds after a point: a payment takes about as long, the others in the queue with it
)

POINTS = [
    f"{when} {what}"
    for when in ("before", "after")
    for what in (*SENDS, *EFFECTS)
    if what != "Record"  # with an RPC, the end of an undisturbed payment is a Settle
]
SLOW_POINTS = ["before Send", "before paid Send", "before CheckChain"]


@dataclass
class Doom:
    """A task that is cancelled `later` seconds after it has come to a point; None: at once."""

    point: str
    later: float | None
    met: bool = False
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)

    def passed(self, point: str, task: asyncio.Task[Any]) -> None:
        """On the loop."""
        if point != self.point or self.met:
            return
        self.met = True
        if self.later is None:
            task.cancel()
        else:
            self.timer = task.get_loop().call_later(self.later, task.cancel)


@dataclass(frozen=True)
class _Fate:
    doom: Doom | None
    task: asyncio.Task[Any]

    def passed(self, point: str) -> None:
        """From whatever thread: the context of a task goes with its work."""
        if self.doom is not None:
            self.task.get_loop().call_soon_threadsafe(self.doom.passed, point, self.task)


_FATE: ContextVar[_Fate] = ContextVar("fate")


class _Wire(httpx.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        fate = _FATE.get(None)
        name = "paid Send" if "payment-signature" in request.headers else "Send"
        if fate is not None:
            fate.passed(f"before {name}")
        response = await super().handle_async_request(request)
        if fate is not None:
            fate.passed(f"after {name}")
        return response


class _Transport(AsyncX402Transport):
    """The transport under test; it only says where it is."""

    def perform_here(self, effect: Local) -> object:
        fate, name = _FATE.get(), type(effect).__name__
        fate.passed(f"before {name}")
        result = super().perform_here(effect)
        fate.passed(f"after {name}")
        return result


@dataclass
class Shop:
    """The sandbox, settling on a chain, behind a proxy that harms nothing and sees all."""

    sandbox: RunningSandbox
    proxy: Proxy

    @property
    def url(self) -> str:
        return f"{self.proxy.url}/services"

    @property
    def free_url(self) -> str:
        return f"http://127.0.0.1:{self.proxy.port}/_sandbox/payments"


@contextmanager
def open_shop(chain: LocalChain) -> Iterator[Shop]:
    config = SandboxConfig(network="base", settlement="anvil", rpc_url=chain.rpc_url)
    with (
        running_sandbox(config) as sandbox,
        running_proxy(sandbox.url, seed="", share=0) as proxy,
    ):
        yield Shop(sandbox, proxy)


def test_cancelled_tasks_lose_no_row_no_money_and_no_connection(
    seed: str, own_chain: LocalChain, tmp_path: Path
) -> None:
    wallet = Wallet.from_key(key_of(seed))
    own_chain.usdc.mint(wallet.address, ONE_USDC)
    book, budget = tmp_path / "ledger.db", ALLOWED * PRICE_ATOMIC
    dice = Random(seed)  # noqa: S311  to repeat
    dooms = doomed(dice)
    with open_shop(own_chain) as shop, SQLiteLedger(book) as ledger:
        transport = _Transport(
            wallet,
            ledger=ledger,
            limits=no_limits(total=format_usdc(budget)),
            rpc_url=own_chain.rpc_url,
            transport=AsyncPooledTransport(
                _Wire(verify=NO_TLS, limits=httpx.Limits(max_connections=None)),
                max_connections=CONNECTIONS,
            ),
        )
        ends = asyncio.run(buy_all(transport, shop, intents_of(seed, TASKS), dooms))
        shop.proxy.wait_until_unused()
        booked = {row.nonce for row in ledger.payments()}
        seen = set(shop.proxy.forwarded)
        spent = ledger.spent_atomic(network=BASE.caip2, payer=wallet.address)
    paid = paid_on_chain(own_chain, wallet.address)
    tell(f"{Counter(ends)}; {len(paid)} payments on the chain for {len(seen)} nonces sent")
    tell("\n".join(map(str, dooms.values())))

    cancelled = sum(end == "cancelled" for end in ends)
    assert CANCELLED / 4 <= cancelled <= sum(doom.met for doom in dooms.values()) <= CANCELLED
    assert ends.count("over budget") <= TASKS - ALLOWED
    assert seen <= booked
    assert {each.nonce for each in paid} <= seen
    assert sum(each.amount_atomic for each in paid) <= spent <= budget
    assert max(accumulate(each.amount_atomic for each in paid)) <= budget
    assert_books_agree(paid, reconciled(own_chain, book))


def doomed(dice: Random) -> dict[int, Doom]:
    """By the task's number. Half of them end at a point, half some time after one.

    They are of those that come while there is budget: the others have no payment to interrupt.
    """
    numbers = dice.sample(range(ALLOWED), CANCELLED)
    return {
        number: Doom(dice.choice(POINTS), None)
        if place % 2
        else Doom(dice.choice(SLOW_POINTS), dice.uniform(0, LATEST))
        for place, number in enumerate(numbers)
    }


async def buy_all(
    transport: AsyncX402Transport, shop: Shop, intents: list[str], dooms: dict[int, Doom]
) -> list[str]:
    """How each purchase ended. No connection is in use when all have."""
    timeout = httpx.Timeout(30, pool=None)  # far more tasks than connections: they queue
    async with httpx.AsyncClient(transport=transport, timeout=timeout) as client:
        tasks = [
            asyncio.create_task(buy(client, shop.url, intent, dooms.get(number)))
            for number, intent in enumerate(intents)
        ]
        ends = await asyncio.gather(*tasks)
        await use_every_connection(client, shop.free_url)
    return ends


async def buy(client: httpx.AsyncClient, url: str, intent: str, doom: Doom | None) -> str:
    task = asyncio.current_task()
    assert task is not None
    _FATE.set(_Fate(doom, task))
    try:
        response = await client.get(url, extensions={"x402": {"intent": intent}})
    except SpendLimitExceeded:
        return "over budget"
    except asyncio.CancelledError:
        return "cancelled"
    finally:
        if doom is not None and doom.timer is not None:
            doom.timer.cancel()
    return f"answered {response.status_code}"


async def use_every_connection(client: httpx.AsyncClient, url: str) -> None:
    """All at the same time: PoolTimeout if a cancelled task has kept one."""
    timeout = httpx.Timeout(10, pool=5)
    async with AsyncExitStack() as stack:
        for _ in range(CONNECTIONS):
            request = client.build_request("GET", url, timeout=timeout)
            response = await client.send(request, stream=True)
            stack.push_async_callback(response.aclose)
            assert response.status_code == 200


class _Cutting(httpx.AsyncHTTPTransport):
    """Cancels the victim at the moment that the `at`th answer begins to be closed."""

    victim: asyncio.Task[httpx.Response]

    def __init__(self, at: int) -> None:
        super().__init__(verify=NO_TLS, limits=httpx.Limits(max_connections=1))
        self._left = at

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Cut(response.stream, self)
        return response

    def closing(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.victim.cancel()  # comes at the next thing that it awaits


class _Cut(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, transport: _Cutting) -> None:
        self._stream = stream
        self._transport = transport

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        self._transport.closing()
        await self._stream.aclose()


@pytest.mark.parametrize(("at", "closed"), [(1, "the challenge"), (2, "the paid answer")])
def test_a_task_cancelled_while_an_answer_is_closed_keeps_no_connection(
    at: int, closed: str, tmp_path: Path
) -> None:
    """A connection that is half closed is never free again, and the next purchase waits for it."""
    wallet = Wallet.generate()

    async def main(sandbox: RunningSandbox, ledger: SQLiteLedger) -> None:
        cutting = _Cutting(at)
        transport = AsyncX402Transport(wallet, ledger=ledger, transport=cutting)
        async with httpx.AsyncClient(transport=transport, timeout=httpx.Timeout(10)) as client:
            cutting.victim = asyncio.create_task(client.get(f"{sandbox.url}/services"))
            await asyncio.wait([cutting.victim])
            assert cutting.victim.cancelled(), f"not while {closed} was closed"
            again = await client.get(f"{sandbox.url}/services", timeout=httpx.Timeout(10, pool=1))
            assert again.status_code == 200

    with (
        running_sandbox(SandboxConfig(network="base")) as sandbox,
        SQLiteLedger(tmp_path / "ledger.db") as ledger,
    ):
        sandbox.fund(wallet.address, 1)
        asyncio.run(main(sandbox, ledger))
