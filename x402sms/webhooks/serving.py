"""A receiver on a socket of its own, in the foreground."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from x402sms.errors import ConfigError, EventStoreError
from x402sms.sockets import LOOPBACK, listener_on
from x402sms.webhooks.receiver import WebhookReceiver

logger = logging.getLogger("x402sms")

CATCH_UP_SECONDS = 30  # between two looks for what a crash left
MOST_CONNECTIONS = 200
_FAREWELL = 5  # seconds for what is under way when it is stopped


def listen(
    receiver: WebhookReceiver,
    *,
    host: str = LOOPBACK,
    port: int = 0,
    path: str = "/",
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. `on_ready` gets the URL; port 0 takes a free one.

    What a crash left is handled at the start and every half a minute. Raises ConfigError for an
    address that cannot be used.
    """
    if not path.startswith("/") or set(path) & set("?#{} "):
        raise ConfigError(f"{path!r} is no path of a URL: it begins with a slash")
    app = Starlette(routes=[Route(path, receiver)])
    server = _Server(app, listener_on(host, port), lambda url: (on_ready or _ignore)(url + path))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, server.stop)
        catching_up = asyncio.create_task(_catch_up(receiver))
        try:
            await server.run()
        finally:
            catching_up.cancel()
            # Those that were stopped are still ending what they had begun, such as a program.
            left = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.wait(left or {catching_up}, timeout=_FAREWELL)

    asyncio.run(main())


class _Server(uvicorn.Server):
    """uvicorn, leaving signals and logging to whoever runs it."""

    def __init__(
        self, app: Starlette, listener: socket.socket, on_ready: Callable[[str], None]
    ) -> None:
        self._listener = listener
        self._on_ready = on_ready
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=MOST_CONNECTIONS,
                timeout_graceful_shutdown=_FAREWELL,
            )
        )

    async def run(self) -> None:  # type: ignore[override]  # uvicorn's own is not for a loop
        with self._listener:
            await self.serve([self._listener])

    def stop(self) -> None:
        self.should_exit = True

    def capture_signals(self) -> Any:
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self._listener.getsockname()[:2]
        self._on_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")


async def _catch_up(receiver: WebhookReceiver) -> None:
    while True:
        try:
            await receiver.catch_up()
        except EventStoreError:
            logger.exception("what a crash left is not handled yet")
        await asyncio.sleep(CATCH_UP_SECONDS)


def _ignore(url: str) -> None:
    pass
