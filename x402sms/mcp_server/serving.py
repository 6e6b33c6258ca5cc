"""The two ways to reach the server: stdin and stdout of this program, or HTTP on loopback."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import anyio
import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings

from x402sms.client import AsyncClient
from x402sms.mcp_server.desk import Desk
from x402sms.mcp_server.server import build_server
from x402sms.mcp_server.telling import Describe
from x402sms.sockets import LOOPBACK, listener_on
from x402sms.text import one_line

PATH = "/mcp"
LONGEST_BODY = 256 * 1024  # bytes; what a tool takes is short
LONGEST_LINE = 1000
IDLE_SECONDS = 1800  # after which a session that nobody uses is dropped

Connect = Callable[[], AsyncClient]


def serve_stdio(connect: Connect, describe: Describe) -> int:
    """Serve whoever started this program until stdin ends. Returns the exit status.

    SIGINT and SIGTERM end the program here, with 128 and their number.
    """
    _log_in_lines()
    return anyio.run(_stdio, connect, describe)


def serve_http(connect: Connect, describe: Describe, port: int) -> int:
    """Serve on loopback until SIGINT or SIGTERM; one line of JSON on stdout when ready.

    Raises ConfigError for a port that cannot be used.
    """
    _log_in_lines()
    return anyio.run(_http, connect, describe, port)


@asynccontextmanager
async def _open(connect: Connect, describe: Describe) -> AsyncIterator[tuple[Server[Any], Desk]]:
    """The server on a client of its own; when the block ends, so do its jobs, then the client."""
    async with connect() as client, Desk(client, say=_say) as desk:
        with client.meter() as session:
            yield build_server(client, desk, session, describe, _say), desk


async def _stdio(connect: Connect, describe: Describe) -> int:
    async with _open(connect, describe) as (server, desk):
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_end_on_signal, desk)
                async with stdio_server() as (read, write):
                    await server.run(read, write, server.create_initialization_options())
                await desk.close()  # while a signal does not yet end the program
                group.cancel_scope.cancel()
        except* (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            _say("whoever started this server is gone")
            status = 1
        else:
            status = 0
    return status


async def _end_on_signal(desk: Desk) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            await desk.close()
            desk.say_what_is_interrupted()
            sys.stderr.flush()
            # The thread that reads stdin cannot be woken, and python would wait for it.
            os._exit(128 + number)


async def _http(connect: Connect, describe: Describe, port: int) -> int:
    with listener_on(LOOPBACK, port) as listener:
        port = listener.getsockname()[1]
        async with _open(connect, describe) as (server, _):
            app = server.streamable_http_app(
                streamable_http_path=PATH,
                max_request_body_size=LONGEST_BODY,
                session_idle_timeout=IDLE_SECONDS,
                transport_security=_only_from_here(port),
            )
            await _Uvicorn(app, port).until_stopped(listener)
    return 0


def _only_from_here(port: int) -> TransportSecuritySettings:
    """A web page may make a browser send here, under a name of its own (DNS rebinding)."""
    names = [f"{name}:{port}" for name in (LOOPBACK, "localhost")]
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=names,
        allowed_origins=[f"http://{name}" for name in names],
    )


class _Uvicorn(uvicorn.Server):
    """uvicorn on a loopback socket, with logging and signals left to us."""

    def __init__(self, app: Any, port: int) -> None:
        self._url = f"http://{LOOPBACK}:{port}{PATH}"
        super().__init__(
            uvicorn.Config(
                app,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )

    async def until_stopped(self, listener: socket.socket) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._stop_on_signal)
            await self.serve([listener])
            group.cancel_scope.cancel()

    async def _stop_on_signal(self) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                self.should_exit = True

    def capture_signals(self) -> Any:
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        sys.stdout.write(json.dumps({"url": self._url}) + "\n")
        sys.stdout.flush()


class _OneLine(logging.Formatter):
    """A stranger's text cannot steer a terminal, and of an exception only the kind is told."""

    def format(self, record: logging.LogRecord) -> str:
        kind = record.exc_info[0] if record.exc_info else None
        raised = "" if kind is None else f" ({kind.__name__})"
        return one_line(f"x402sms mcp: {record.getMessage()}{raised}", LONGEST_LINE)


def _log_in_lines() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def _say(text: str) -> None:
    sys.stderr.write(f"x402sms mcp: {one_line(text, LONGEST_LINE)}\n")
    sys.stderr.flush()
