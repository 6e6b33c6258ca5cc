"""Whatever is cancelled, and whenever, every connection can be used again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any

import anyio
import httpx
import pytest

from tests.chaos.parts import NO_TLS
from x402sms import AsyncX402Transport, Wallet
from x402sms.ledger import SQLiteLedger
from x402sms.pooling import AsyncPooledTransport

pytestmark = pytest.mark.anyio

ANYWHERE = "http://service.example/"
AT_ONCE = httpx.Timeout(10, pool=0)
SOON = httpx.Timeout(10, pool=0.01)
EVENTUALLY = httpx.Timeout(10, pool=None)


class Service:
    """Answers over loopback; `/half` only with the first half of its answer."""

    def __init__(self) -> None:
        self.connections = 0
        self.open = 0
        self.closed = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while True:
                asked = await reader.readuntil(b"\r\n\r\n")
                body = b"half" if b"/half" in asked else b"halfhalf"
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n" + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            self.closed.set()
            writer.close()


@asynccontextmanager
async def running_service() -> AsyncIterator[Service]:
    service = Service()
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    service.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield service


class Stub(httpx.AsyncBaseTransport):
    """Answers at once, unless `sending` or `closing` is awaited first."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.sending: Callable[[], Awaitable[Any]] | None = None
        self.closing: Callable[[], Awaitable[Any]] | None = None
        self.stream: httpx.AsyncByteStream | httpx.SyncByteStream = _Body(self)
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.order.append(request.url.path)
        if self.sending is not None:
            await self.sending()
        return httpx.Response(200, stream=self.stream)

    async def aclose(self) -> None:
        self.closed = True


class _Body(httpx.AsyncByteStream):
    def __init__(self, stub: Stub) -> None:
        self._stub = stub

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"body"

    async def aclose(self) -> None:
        if self._stub.closing is not None:
            await self._stub.closing()


class SyncOnly(httpx.SyncByteStream):
    pass


async def opened(
    client: httpx.AsyncClient, url: str = ANYWHERE, patience: httpx.Timeout = EVENTUALLY
) -> httpx.Response:
    return await client.send(client.build_request("GET", url, timeout=patience), stream=True)


async def usable(client: httpx.AsyncClient, url: str = ANYWHERE) -> int:
    """How many requests get a place at the same time, without waiting."""
    async with AsyncExitStack() as stack:
        for count in range(1000):
            try:
                response = await opened(client, url, AT_ONCE)
            except httpx.PoolTimeout:
                return count
            stack.push_async_callback(response.aclose)
    raise AssertionError("no limit")


async def as_far_as_it_comes() -> None:
    """Every task that can go on without the network has done so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def lose_one(client: httpx.AsyncClient, url: str) -> None:
    """With one connection: a queued request is cancelled in the moment that it gets a new one."""
    first = await opened(client, f"{url}/half")
    queued = asyncio.create_task(client.get(url))
    await as_far_as_it_comes()
    await first.aclose()
    queued.cancel()
    with pytest.raises(asyncio.CancelledError):
        await queued


# What it is for


async def test_httpcore_still_loses_connections() -> None:
    """When this fails, httpcore is cured: look whether this transport is still needed."""
    limits = httpx.Limits(max_connections=1)
    bare = httpx.AsyncHTTPTransport(verify=NO_TLS, limits=limits)
    async with running_service() as service, httpx.AsyncClient(transport=bare) as client:
        await lose_one(client, service.url)
        with pytest.raises(httpx.PoolTimeout):
            await client.get(service.url, timeout=SOON)


async def test_ours_does_not() -> None:
    async with running_service() as service, pooled_client(1) as client:
        await lose_one(client, service.url)
        assert await usable(client, service.url) == 1


@asynccontextmanager
async def pooled_client(max_connections: int) -> AsyncIterator[httpx.AsyncClient]:
    transport = AsyncPooledTransport(
        httpx.AsyncHTTPTransport(
            verify=NO_TLS,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=max_connections),
        ),
        max_connections=max_connections,
    )
    async with httpx.AsyncClient(transport=transport, timeout=EVENTUALLY) as client:
        yield client


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
@pytest.mark.parametrize("path", ["/", "/half"])
@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept-alive"])
async def test_a_request_may_be_cancelled_at_any_step(times: int, path: str, *, kept: bool) -> None:
    """At each turn of the loop, from before its start to after its end."""
    async with running_service() as service, pooled_client(1) as client:
        for turns in range(1000):
            # An answer that is closed half read takes its connection with it.
            await read(client, service.url + ("/" if kept else "/half"))
            task = asyncio.create_task(read(client, service.url + path))
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.done():
                break
            for _ in range(times):
                task.cancel()
                await asyncio.sleep(0)
            await asyncio.wait([task])
            assert await usable(client, service.url) == 1
        else:
            raise AssertionError("it never ended")
        assert turns > 5


async def test_after_many_cancellations_every_connection_can_be_used(
    request: pytest.FixtureRequest,
) -> None:
    seed = request.config.getoption("hypothesis_seed")
    dice = Random(seed)  # noqa: S311  to repeat
    async with running_service() as service, pooled_client(4) as client:

        async def ask() -> None:
            timeout = dice.choice([EVENTUALLY, EVENTUALLY, SOON, AT_ONCE])
            try:
                await read(client, service.url + dice.choice(["/", "/half"]), timeout)
            except httpx.PoolTimeout:
                pass

        async def kill(task: asyncio.Task[None]) -> None:
            for _ in range(dice.choice([1, 1, 1, 2])):
                for _ in range(dice.randrange(60)):
                    await asyncio.sleep(0)
                task.cancel()

        for _ in range(30):
            tasks = [asyncio.create_task(ask()) for _ in range(20)]
            killers = [asyncio.create_task(kill(task)) for task in dice.sample(tasks, 12)]
            await asyncio.wait([*tasks, *killers])
            assert {type(task.exception()) for task in tasks if not task.cancelled()} <= {
                type(None)
            }, seed
            assert await usable(client, service.url) == 4, seed


async def read(client: httpx.AsyncClient, url: str, patience: httpx.Timeout = EVENTUALLY) -> None:
    """The first half of the answer, and the other one if it comes."""
    response = await opened(client, url, patience)
    try:
        async for _ in response.aiter_raw():
            if url.endswith("/half"):
                break
    finally:
        await response.aclose()


async def test_connections_are_kept_alive_however_many_are_busy() -> None:
    """httpx alone keeps 20."""
    busy = 30
    transport = AsyncX402Transport(Wallet.generate(), ledger=SQLiteLedger(":memory:"))
    async with running_service() as service, httpx.AsyncClient(transport=transport) as client:
        for _ in range(2):
            answers = [await opened(client, service.url) for _ in range(busy)]
            for answer in answers:
                await answer.aread()
        assert service.connections == busy
        assert await usable(client, service.url) == 100


# Waiting


@pytest.fixture
def stub() -> Stub:
    return Stub()


@asynccontextmanager
async def stubbed(stub: Stub, max_connections: int) -> AsyncIterator[httpx.AsyncClient]:
    transport = AsyncPooledTransport(stub, max_connections=max_connections)
    async with httpx.AsyncClient(transport=transport, timeout=EVENTUALLY) as client:
        yield client


async def test_first_come_first_served(stub: Stub) -> None:
    async with stubbed(stub, 2) as client:
        held = [await opened(client), await opened(client)]
        waiting = []
        for number in range(4):
            waiting.append(asyncio.create_task(opened(client, f"{ANYWHERE}{number}")))
            await as_far_as_it_comes()
        assert stub.order == ["/", "/"]
        for response in held:
            await response.aclose()
        await as_far_as_it_comes()
        assert stub.order == ["/", "/", "/0", "/1"]
        for task in waiting:
            await (await task).aclose()
        assert stub.order[2:] == ["/0", "/1", "/2", "/3"]
        assert await usable(client) == 2


async def test_one_that_comes_later_does_not_overtake_one_that_is_just_called(stub: Stub) -> None:
    async with stubbed(stub, 1) as client:
        first = await opened(client)
        waiting = asyncio.create_task(opened(client, f"{ANYWHERE}waiting"))
        await as_far_as_it_comes()
        await first.aclose()
        with pytest.raises(httpx.PoolTimeout):
            await opened(client, f"{ANYWHERE}late", AT_ONCE)
        await (await waiting).aclose()
        assert stub.order == ["/", "/waiting"]


@pytest.mark.parametrize("seconds", [0, 0.01])
async def test_the_pool_timeout_is_honoured(stub: Stub, seconds: float) -> None:
    async with stubbed(stub, 1) as client:
        first = await opened(client)
        with pytest.raises(
            httpx.PoolTimeout, match=f"all 1 connections .* {seconds:g} s"
        ) as caught:
            await opened(client, patience=httpx.Timeout(None, pool=seconds))
        assert caught.value.request.url == ANYWHERE
        await first.aclose()
        assert await usable(client) == 1
        assert stub.order == ["/", "/"]


async def test_a_request_without_timeouts_waits(stub: Stub) -> None:
    transport = AsyncPooledTransport(stub, max_connections=1)
    first = await transport.handle_async_request(httpx.Request("GET", ANYWHERE))
    second = asyncio.create_task(transport.handle_async_request(httpx.Request("GET", ANYWHERE)))
    await as_far_as_it_comes()
    assert not second.done()
    await first.aclose()
    await (await second).aclose()


async def by_task(task: asyncio.Task[Any], _: anyio.CancelScope) -> None:
    task.cancel()


async def by_scope(_: asyncio.Task[Any], scope: anyio.CancelScope) -> None:
    scope.cancel()


@pytest.mark.parametrize("called", [False, True], ids=["in the queue", "just called"])
@pytest.mark.parametrize("cancel", [by_task, by_scope])
async def test_a_cancelled_one_lets_the_next_go(
    stub: Stub, cancel: Callable[..., Awaitable[None]], *, called: bool
) -> None:
    scope = anyio.CancelScope()

    async def ask() -> None:
        with scope:  # which lets it have what it was just called for
            await (await opened(client, f"{ANYWHERE}cancelled")).aclose()

    async with stubbed(stub, 1) as client:
        first = await opened(client)
        cancelled = asyncio.create_task(ask())
        await as_far_as_it_comes()
        following = asyncio.create_task(opened(client, f"{ANYWHERE}next"))
        await as_far_as_it_comes()
        if called:
            await first.aclose()
        await cancel(cancelled, scope)
        await asyncio.wait([cancelled])
        await first.aclose()
        await (await following).aclose()
        assert [path for path in stub.order if path != "/cancelled"] == ["/", "/next"]
        assert await usable(client) == 1


# Giving back


async def refuse() -> None:
    raise httpx.ConnectError("refused")


async def test_a_failed_request_gives_its_place_back(stub: Stub) -> None:
    async with stubbed(stub, 1) as client:
        stub.sending = refuse
        for _ in range(3):
            with pytest.raises(httpx.ConnectError, match="refused"):
                await opened(client, patience=AT_ONCE)
        stub.sending = None
        assert await usable(client) == 1


async def test_an_answer_that_cannot_be_read_gives_its_place_back(stub: Stub) -> None:
    async with stubbed(stub, 1) as client:
        body, stub.stream = stub.stream, SyncOnly()
        with pytest.raises(RuntimeError, match="no AsyncByteStream"):
            await opened(client)
        stub.stream = body
        assert await usable(client) == 1


async def test_a_request_cancelled_while_it_is_sent_gives_its_place_back(stub: Stub) -> None:
    async with stubbed(stub, 1) as client:
        stub.sending = asyncio.Event().wait
        task = asyncio.create_task(opened(client))
        await as_far_as_it_comes()
        task.cancel()
        await asyncio.wait([task])
        stub.sending = None
        assert await usable(client) == 1


async def test_an_answer_closed_twice_gives_one_place_back(stub: Stub) -> None:
    async with stubbed(stub, 2) as client:
        response = await opened(client)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        await response.aclose()
        await response.stream.aclose()
        assert await usable(client) == 2


async def test_a_place_is_free_only_when_its_answer_is_closed_whoever_is_cancelled(
    stub: Stub,
) -> None:
    async with stubbed(stub, 1) as client:
        response = await opened(client)
        go_on = asyncio.Event()
        stub.closing = go_on.wait
        closing = asyncio.create_task(response.aclose())
        await as_far_as_it_comes()
        for _ in range(2):
            closing.cancel()
            await as_far_as_it_comes()
        assert await usable(client) == 0
        go_on.set()
        await asyncio.wait([closing])
        assert closing.cancelled()
        assert await usable(client) == 1


async def test_an_answer_that_fails_to_close_gives_its_place_back(stub: Stub) -> None:
    async with stubbed(stub, 1) as client:
        response = await opened(client)
        stub.closing = refuse
        with pytest.raises(httpx.ConnectError):
            await response.aclose()
        stub.closing = None
        assert await usable(client) == 1


async def test_closing_it_closes_the_inner_one(stub: Stub) -> None:
    async with stubbed(stub, 1):
        assert not stub.closed
    assert stub.closed


@pytest.mark.parametrize("number", [0, -1])
async def test_there_must_be_a_place(stub: Stub, number: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        AsyncPooledTransport(stub, max_connections=number)


# Lanes: what sends where no other transport is given


@asynccontextmanager
async def laned(max_connections: int) -> AsyncIterator[httpx.AsyncClient]:
    transport = AsyncPooledTransport(max_connections=max_connections)
    async with httpx.AsyncClient(transport=transport, timeout=EVENTUALLY) as client:
        yield client


async def test_a_connection_is_used_again_by_the_next_request_to_its_origin() -> None:
    async with running_service() as service, running_service() as other, laned(3) as client:
        for _ in range(3):
            await client.get(service.url)
            await client.get(other.url)
        assert (service.connections, other.connections) == (1, 1)


async def test_no_more_connections_are_kept_than_there_are_places() -> None:
    async with running_service() as service, running_service() as other, laned(1) as client:
        for _ in range(2):
            await client.get(service.url)
            await client.get(other.url)
        assert (service.connections, other.connections) == (2, 2)


async def test_a_connection_that_is_idle_for_long_is_closed_by_the_next_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever it is for: where no request comes to its own origin, httpcore would keep it."""
    monkeypatch.setattr("x402sms.pooling.KEPT_SECONDS", 0)
    async with running_service() as service, running_service() as other, laned(9) as client:
        await client.get(service.url)
        assert service.open == 1
        await client.get(other.url)
        with anyio.fail_after(10):
            await service.closed.wait()
        assert (service.open, other.open) == (0, 1)


async def test_requests_that_are_cancelled_leave_no_connections_open() -> None:
    """httpcore loses one whose request is cancelled twice: then it goes with its lane."""
    async with running_service() as service, laned(1) as client:
        for turns in range(1000):
            task = asyncio.create_task(read(client, f"{service.url}/half"))
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.done():
                break
            for _ in range(2):
                task.cancel()
                await asyncio.sleep(0)
            await asyncio.wait([task])
        await client.get(service.url)
        with anyio.fail_after(10):
            while service.open > 1:
                service.closed.clear()
                await service.closed.wait()
        assert service.connections > 1


async def test_a_connection_that_is_busy_when_all_are_closed_goes_with_its_answer() -> None:
    async with running_service() as service:
        async with laned(1) as client:
            answer = await opened(client, service.url)
        await answer.aread()
        with anyio.fail_after(10):
            await service.closed.wait()
        assert service.open == 0


async def test_a_request_that_fails_gives_its_lane_back() -> None:
    async with running_service() as service, laned(1) as client:
        async with running_service() as gone:
            pass
        for _ in range(2):
            with pytest.raises(httpx.ConnectError):
                await client.get(gone.url)
        await client.get(service.url)
        assert await usable(client, service.url) == 1
