"""A proxy on loopback that ill-treats the answers to paid requests, as a network does.

What it does to which payment is a function of a seed, the payment's nonce and how often that nonce
came by: not of the order in which concurrent requests happen to arrive.
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final
from urllib.parse import urlsplit

PATIENCE: Final = 30  # seconds for anything that takes milliseconds

_PAYMENT_HEADERS: Final = (b"payment-signature", b"x-payment")
_WITHOUT_BODY: Final = (b"204", b"304")


class Fault(StrEnum):
    """What becomes of a paid request. In all but `NOT_FORWARDED` the server has answered it."""

    DROPPED = "the connection is closed instead of the answer"
    DELAYED = "the answer is held back until the client has gone"
    TRUNCATED = "the answer ends within its body"
    DUPLICATED = "the server gets the request twice, at once; one of the answers is returned"
    NOT_FORWARDED = "the connection is closed, and the server has seen nothing"


FAULTS: Final = tuple(Fault)


@dataclass(frozen=True)
class _Message:
    """A request or an answer, byte for byte."""

    head: bytes
    body: bytes

    @property
    def headers(self) -> dict[bytes, bytes]:
        lines = (line.partition(b":") for line in self.head.split(b"\r\n")[1:] if line)
        return {name.strip().lower(): value.strip() for name, _, value in lines}

    @property
    def nonce(self) -> str | None:
        """Of the payment that a request carries."""
        for name in _PAYMENT_HEADERS:
            if (header := self.headers.get(name)) is not None:
                payment = json.loads(base64.b64decode(header, validate=True))
                nonce: str = payment["payload"]["authorization"]["nonce"]
                return nonce
        return None

    @property
    def is_last(self) -> bool:
        return self.headers.get(b"connection", b"").lower() == b"close"

    def half(self) -> bytes:
        """The head, and the body as far as its middle; of an answer without a body, half a head."""
        if not self.body:
            return self.head[: len(self.head) // 2]
        return self.head + self.body[: len(self.body) // 2]


class Proxy:
    """In front of `upstream`, on its own loopback port. What it counts may be read at any time."""

    def __init__(self, upstream: str, *, seed: str, share: float, faults: Sequence[Fault]) -> None:
        parts = urlsplit(upstream)
        self._upstream = parts.hostname, parts.port
        self._path = parts.path
        self._seed = seed
        self._share = share
        self._faults = faults
        self.port = 0
        self.faults: Counter[Fault] = Counter()
        self.presentations: Counter[str] = Counter()  # by nonce
        self.forwarded: set[str] = set()  # the nonces that the server has seen
        self.open_connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self._path}"

    @property
    def paid_requests(self) -> int:
        return self.presentations.total()

    def figures(self) -> str:
        done = ", ".join(f"{fault.name.lower()} {self.faults[fault]}" for fault in FAULTS)
        return f"{self.paid_requests} paid requests: {self.faults.total()} ill-treated ({done})"

    def wait_until_unused(self) -> None:
        """Return once no client holds a connection; TimeoutError if that never is."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.open_connections == 0, PATIENCE):
                raise TimeoutError(f"{self.open_connections} connections are still open")

    async def run(self, up: threading.Event, stop: asyncio.Event) -> None:
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        up.set()
        await stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks)
        await server.wait_closed()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._count(1)
        try:
            while (request := await _read(reader, answers=False)) is not None:
                if not await self._serve(request, reader, writer) or request.is_last:
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client, the server or the test has gone
        finally:
            await _close(writer)
            self._tasks.discard(task)
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._changed:
            self.open_connections += change
            self._changed.notify_all()

    async def _serve(
        self, request: _Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer it, or not; whether the connection goes on."""
        nonce = request.nonce
        fault, dice = self._fate(nonce)
        if fault is Fault.NOT_FORWARDED:
            return False
        if nonce is not None:
            self.forwarded.add(nonce)
        if fault is Fault.DUPLICATED:
            answer = dice.choice(await asyncio.gather(self._ask(request), self._ask(request)))
        else:
            answer = await self._ask(request)
        match fault:
            case Fault.DROPPED:
                return False
            case Fault.DELAYED:
                await asyncio.wait_for(reader.read(), PATIENCE)  # until it has hung up
                return False
            case Fault.TRUNCATED:
                writer.write(answer.half())
                await writer.drain()
                return False
        writer.write(answer.head + answer.body)
        await writer.drain()
        return not answer.is_last

    def _fate(self, nonce: str | None) -> tuple[Fault | None, Random]:
        if nonce is None:
            return None, Random()  # noqa: S311  never rolled
        self.presentations[nonce] += 1
        dice = Random(f"{self._seed}:{nonce}:{self.presentations[nonce]}")  # noqa: S311  to repeat
        if dice.random() >= self._share:
            return None, dice
        fault = dice.choice(self._faults)
        self.faults[fault] += 1
        return fault, dice

    async def _ask(self, request: _Message) -> _Message:
        reader, writer = await asyncio.open_connection(*self._upstream)
        try:
            writer.write(request.head + request.body)
            await writer.drain()
            answer = await asyncio.wait_for(_read(reader, answers=True), PATIENCE)
        finally:
            await _close(writer)
        if answer is None:
            raise ConnectionResetError("the server gives no answer")
        return answer


@contextmanager
def running_proxy(
    upstream: str, *, seed: str, share: float, faults: Sequence[Fault] = FAULTS
) -> Iterator[Proxy]:
    """A proxy in a thread, ill-treating that share of the answers to paid requests.

    When the block ends, its connections are closed and its thread has ended.
    """
    proxy = Proxy(upstream, seed=seed, share=share, faults=faults)
    up, stop, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(proxy.run(up, stop))

    thread = threading.Thread(target=run, name="chaos-proxy", daemon=True)
    thread.start()
    try:
        if not up.wait(PATIENCE):
            raise RuntimeError("the proxy did not start")
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)
    if thread.is_alive():
        raise RuntimeError("the proxy did not stop")


async def _read(reader: asyncio.StreamReader, *, answers: bool) -> _Message | None:
    """The next message; None where the other side has hung up instead."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    headers = _Message(head, b"").headers
    if answers and head.split(maxsplit=2)[1] in _WITHOUT_BODY:
        body = b""
    elif b"content-length" in headers:
        body = await reader.readexactly(int(headers[b"content-length"]))
    elif headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        body = await _read_chunks(reader)
    else:
        body = await reader.read() if answers else b""
    return _Message(head, body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    """As they are on the wire. (No trailers: our servers send none.)"""
    body = b""
    while True:
        size = await reader.readuntil(b"\r\n")
        chunk = await reader.readexactly(int(size.partition(b";")[0], 16) + 2)
        body += size + chunk
        if chunk == b"\r\n":
            return body


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        await writer.wait_closed()
    except (ConnectionError, asyncio.CancelledError):
        pass
