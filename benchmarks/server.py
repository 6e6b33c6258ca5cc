"""The same shop on loopback, in a process of its own: as little server as speaks HTTP/1.1.

python -m benchmarks.server     prints its URL, ends when its standard input does
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.shop import CHALLENGE, DELIVERED, SETTLED

_END = b"\r\n\r\n"


def _answer(status: str, header: str, value: str, body: bytes) -> bytes:
    lines = (f"HTTP/1.1 {status}", f"{header}: {value}", f"content-length: {len(body)}")
    return "\r\n".join((*lines, "content-type: application/json")).encode() + _END + body


ASK = _answer("402 Payment Required", "PAYMENT-REQUIRED", CHALLENGE, b"{}")
GIVE = _answer("200 OK", "PAYMENT-RESPONSE", SETTLED, DELIVERED)


class Shop(asyncio.Protocol):
    """Requests without a body, one after the other on a connection."""

    def __init__(self) -> None:
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  for mypy: of create_server
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._pending += data
        while _END in self._pending:
            head, _, self._pending = self._pending.partition(_END)
            self._transport.write(GIVE if b"\npayment-signature:" in head.lower() else ASK)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Shop, "127.0.0.1", 0, backlog=2048)
    async with server:
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x", flush=True)
        await loop.run_in_executor(None, sys.stdin.read)


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The URL of a shop that is open for as long as the block."""
    program = [sys.executable, "-m", "benchmarks.server"]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, stdin=pipe, stdout=pipe, text=True) as child:  # noqa: S603  ours
        assert child.stdout is not None  # noqa: S101  for mypy
        assert child.stdin is not None  # noqa: S101  for mypy
        try:
            yield child.stdout.readline().strip()
        finally:
            child.stdin.close()


if __name__ == "__main__":
    asyncio.run(main())
