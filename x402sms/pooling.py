"""Requests that wait for a connection wait here, never in httpcore's pool.

httpcore 1.0.9 loses a connection for ever when a request that waits for one is cancelled, or times
out, just as it is given a new one (httpcore issue 1093). Its pool therefore gets no limit and so
has nobody waiting: what else a badly timed cancellation may make it lose blocks nobody either.
"""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import anyio
import httpx

from x402sms.steady import SteadyStream, finish

MAX_CONNECTIONS = 100  # httpx's own default
KEPT_SECONDS = 5  # an idle connection is kept alive; httpx's own default


class AsyncPooledTransport(httpx.AsyncBaseTransport):
    """At most `max_connections` requests at a time; the others wait, first come, first served.

    A request has its place until its answer is closed. One that gets none within the `pool`
    timeout (seconds, None for ever) raises httpx.PoolTimeout. `inner` is what sends: a limit of
    its own (`httpx.Limits(max_connections=...)`) should be None. The default keeps as many
    connections alive as there are places. httpx would keep 20, and counts the busy ones among
    them: with more than 20 busy, each that comes free would be closed. Nor does it look through
    all of them, as httpcore does several times a request: with 100 connections that costs more
    than everything else (see `benchmarks/`).
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport | None = None,
        *,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        if max_connections < 1:
            raise ValueError("max_connections must be at least 1")
        self._inner = _Lanes(max_connections) if inner is None else inner
        self._places = _Places(max_connections)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self._places.take(request)
        try:
            response = await self._inner.handle_async_request(request)
            if not isinstance(response.stream, httpx.AsyncByteStream):
                raise RuntimeError("the inner transport gave no AsyncByteStream")
        except BaseException:
            self._places.give_back()
            raise
        response.stream = _PlacedStream(response.stream, self._places)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


@dataclass
class _Lane:
    """One connection to one origin, in a pool of its own."""

    origin: tuple[bytes, bytes, int | None]
    transport: httpx.AsyncHTTPTransport
    idle_since: float = field(default=0.0)


class _Lanes(httpx.AsyncBaseTransport):
    """A lane for each request that is under way, the one used last again: it is still alive.

    At most `keep` idle ones are kept. How many are busy is for the caller to bound.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._tls = httpx.create_ssl_context()
        self._idle: deque[_Lane] = deque()  # the one used last is the last

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        lane = self._take(request.url)
        try:
            response = await lane.transport.handle_async_request(request)
        except BaseException:
            # httpcore loses one whose request is cancelled twice: it goes with the lane.
            await finish(lane.transport.aclose)
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101  httpx's own
        response.stream = _LaneStream(response.stream, lane, self)
        return response

    def _take(self, url: httpx.URL) -> _Lane:
        origin = (url.raw_scheme, url.raw_host, url.port)
        for index in range(len(self._idle) - 1, -1, -1):
            if self._idle[index].origin == origin:
                lane = self._idle[index]
                del self._idle[index]
                return lane
        return _Lane(origin, _one_connection(self._tls))

    async def take_back(self, lane: _Lane) -> None:
        """A lane whose answer is closed. Those that are idle for long, or too many, go."""
        lane.idle_since = time.monotonic()
        self._idle.append(lane)
        long_ago = lane.idle_since - KEPT_SECONDS
        while self._idle and (self._idle[0].idle_since < long_ago or len(self._idle) > self._keep):
            await self._idle.popleft().transport.aclose()

    async def aclose(self) -> None:
        self._keep = 0  # those that are under way go when their answers are closed
        while self._idle:
            await self._idle.popleft().transport.aclose()


class _LaneStream(httpx.AsyncByteStream):
    """An answer's stream that gives its lane back once it is closed."""

    def __init__(self, stream: httpx.AsyncByteStream, lane: _Lane, lanes: _Lanes) -> None:
        self._stream = stream
        self._lane = lane
        self._lanes = lanes

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            await self._lanes.take_back(self._lane)


def _one_connection(tls: ssl.SSLContext) -> httpx.AsyncHTTPTransport:
    limits = httpx.Limits(
        max_connections=None, max_keepalive_connections=1, keepalive_expiry=KEPT_SECONDS
    )
    return httpx.AsyncHTTPTransport(verify=tls, limits=limits)


class _Places:
    """A fair semaphore. anyio's own was not both fair and safe to cancel in each of its versions.

    Nothing is awaited between a decision and its effect, so one loop needs no lock.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total  # more than 0 only while nobody waits
        self._waiting: deque[anyio.Event] = deque()

    async def take(self, request: httpx.Request) -> None:
        if self._free:
            self._free -= 1
            return
        seconds = request.extensions.get("timeout", {}).get("pool")
        mine = anyio.Event()
        self._waiting.append(mine)
        try:
            with anyio.move_on_after(seconds):
                await mine.wait()
        except BaseException:
            if mine.is_set():  # it came too late for this one: to the next
                self.give_back()
            else:
                self._waiting.remove(mine)
            raise
        if not mine.is_set():
            self._waiting.remove(mine)
            raise httpx.PoolTimeout(
                f"all {self._total} connections were in use for {seconds:g} s", request=request
            )

    def give_back(self) -> None:
        if self._waiting:
            self._waiting.popleft().set()
        else:
            self._free += 1


class _PlacedStream(SteadyStream):
    """An answer's stream that gives its place back once, when it is closed."""

    def __init__(self, stream: httpx.AsyncByteStream, places: _Places) -> None:
        super().__init__(stream)
        self._places = places
        self._closed = False

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            await super().aclose()
        finally:
            self._places.give_back()
