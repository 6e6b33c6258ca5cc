"""A sandbox without a socket: httpx transports that call the application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any, TypeVar, cast
from urllib.parse import unquote

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.types import ASGIApp, Message, Scope

from x402sms.errors import ConfigError
from x402sms.sandbox.app import app_around
from x402sms.sandbox.config import SandboxConfig
from x402sms.sandbox.controls import Controls
from x402sms.sandbox.interference import DROP
from x402sms.sandbox.state import Sandbox

Result = TypeVar("Result")

ORIGIN = "http://127.0.0.1"  # nobody listens there: the transports answer
_CLIENT = ("127.0.0.1", 50000)


class InProcessSandbox(Controls):
    """A sandbox to be reached by one of its two transports, and not by both at a time.

    `transport` answers in the event loop of whoever asks; the methods are then to be called in
    that loop's thread. `sync_transport` answers in a loop of its own, and then the methods may
    be called from any thread.
    """

    def __init__(self, state: Sandbox, stack: ExitStack) -> None:
        super().__init__(state, ORIGIN)
        app = app_around(state)
        self._stack = stack
        self._portal: BlockingPortal | None = None
        self._beginning = Lock()
        self.transport: httpx.AsyncBaseTransport = _AsyncTransport(app)
        self.sync_transport: httpx.BaseTransport = _SyncTransport(app, self)

    def portal(self) -> BlockingPortal:
        """To the loop of the sync transport, which begins when it is first needed."""
        with self._beginning:
            if self._portal is None:
                self._portal = self._stack.enter_context(start_blocking_portal())
            return self._portal

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        if self._portal is not None:
            return cast(Result, self._portal.call(_awaited, work))
        try:
            work.send(None)
        except StopIteration as done:
            result: Result = done.value
            return result
        work.close()
        raise RuntimeError("only what needs no waiting can be asked beside the async transport")


async def _awaited(work: Coroutine[Any, Any, Result]) -> Result:
    return await work


@contextmanager
def asgi_sandbox(config: SandboxConfig | None = None) -> Iterator[InProcessSandbox]:
    """A sandbox in this process, without a server.

    Settles in memory only, and posts no webhooks (ConfigError): take them from `webhooks()`.
    """
    config = config or SandboxConfig()
    if config.settlement != "memory":
        raise ConfigError("a sandbox without a server settles in memory")
    if config.webhook_url is not None:
        raise ConfigError("a sandbox without a server posts no webhooks: take its .webhooks()")
    with ExitStack() as stack:
        state = Sandbox(config)
        stack.callback(state.close)
        yield InProcessSandbox(state, stack)


class _AsyncTransport(httpx.AsyncBaseTransport):
    """Like a connection, it gives up when the request's read timeout is over."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await _exchange(self._app, request, await request.aread())


class _SyncTransport(httpx.BaseTransport):
    def __init__(self, app: ASGIApp, sandbox: InProcessSandbox) -> None:
        self._app = app
        self._sandbox = sandbox

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._sandbox.portal().call(_exchange, self._app, request, request.read())


async def _exchange(app: ASGIApp, request: httpx.Request, body: bytes) -> httpx.Response:
    connection = _Connection(body)
    timeouts = request.extensions.get("timeout", {})
    try:
        async with asyncio.timeout(timeouts.get("read")):
            await app(_scope(request, connection), connection.receive, connection.send)
    except TimeoutError:
        raise httpx.ReadTimeout("no answer in time", request=request) from None
    return connection.response(request)


class _Connection:
    """One request and its answer, from the application's side."""

    def __init__(self, body: bytes) -> None:
        self._unread: bytes | None = body
        self._start: Message | None = None
        self._chunks: list[bytes] = []
        self._complete = False
        self._closed = asyncio.Event()

    def close(self) -> None:
        self._closed.set()

    async def receive(self) -> Message:
        if self._unread is not None and not self._closed.is_set():
            body, self._unread = self._unread, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._closed.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            self._complete = True
            self._closed.set()

    def response(self, request: httpx.Request) -> httpx.Response:
        if self._start is None:
            raise httpx.RemoteProtocolError(
                "Server disconnected without sending a response.", request=request
            )
        headers = self._start["headers"]
        body = _Body(self._chunks, None if self._complete else request)
        return httpx.Response(self._start["status"], headers=headers, stream=body)


class _Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """The chunks, and then, for the request whose answer was `cut` short, the failure."""

    def __init__(self, chunks: list[bytes], cut: httpx.Request | None) -> None:
        self._chunks = chunks
        self._cut = cut

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks
        if self._cut is not None:
            raise httpx.RemoteProtocolError(
                "peer closed connection without sending complete message body", request=self._cut
            )

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk


def _scope(request: httpx.Request, connection: _Connection) -> Scope:
    path = request.url.raw_path.partition(b"?")[0]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": (request.url.host, request.url.port or 80),
        "client": _CLIENT,
        "scheme": request.url.scheme,
        "method": request.method,
        "root_path": "",
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": request.url.query,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "state": {},
        "extensions": {DROP: connection.close},
    }
