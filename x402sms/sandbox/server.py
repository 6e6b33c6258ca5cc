"""A sandbox on a real socket: in a thread for tests, or in the foreground for the command line."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import uvicorn
from fastapi import FastAPI

from x402sms.sandbox.app import create_app
from x402sms.sandbox.config import SandboxConfig
from x402sms.sandbox.controls import Controls
from x402sms.sandbox.dropping import DroppingProtocol
from x402sms.sandbox.sending import send_webhooks
from x402sms.sandbox.state import Sandbox
from x402sms.sockets import LOOPBACK, listener_on

Result = TypeVar("Result")

_PATIENCE = 15  # seconds for anything that takes milliseconds


class RunningSandbox(Controls):
    """A sandbox that serves. The methods may be called from any thread but the server's own."""

    def __init__(self, server: _Server) -> None:
        super().__init__(server.sandbox, f"http://{LOOPBACK}:{server.port}")
        self._server = server
        self.app: FastAPI = server.app

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._server.loop).result(_PATIENCE)


@contextmanager
def running_sandbox(config: SandboxConfig | None = None) -> Iterator[RunningSandbox]:
    """A sandbox in a thread of this process; when the block ends, so does it, cleanly."""
    server = _Server(config or SandboxConfig())
    failure: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(server.run_until_stopped())
        except BaseException as error:  # noqa: BLE001  raised again in the caller's thread
            failure.append(error)
        finally:
            server.up.set()

    thread = threading.Thread(target=run, name="x402sms-sandbox", daemon=True)
    thread.start()
    try:
        server.up.wait(_PATIENCE)
        if failure or not server.started:
            raise RuntimeError("the sandbox did not start") from (failure[0] if failure else None)
        yield RunningSandbox(server)
    finally:
        server.should_exit = True
        thread.join(_PATIENCE)
    if thread.is_alive():
        raise RuntimeError("the sandbox did not stop")
    if failure:
        raise RuntimeError("the sandbox failed") from failure[0]


def serve(config: SandboxConfig | None = None) -> None:
    """Serve until SIGINT or SIGTERM; prints one line of JSON on stdout when ready."""
    server = _Server(config or SandboxConfig())

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, server.stop)
        await server.run_until_stopped(announce=True)

    asyncio.run(main())


class _Server(uvicorn.Server):
    """uvicorn on a loopback socket, leaving signals and logging to whoever runs it."""

    def __init__(self, config: SandboxConfig) -> None:
        self.app = create_app(config)
        self.sandbox: Sandbox = self.app.state.sandbox
        self.sandbox.settlement.check()
        self._socket = listener_on(LOOPBACK, config.port)
        self.port: int = self._socket.getsockname()[1]
        self.up = threading.Event()
        self.loop: asyncio.AbstractEventLoop
        self._announce = False
        self._sending: asyncio.Task[None] | None = None
        super().__init__(
            uvicorn.Config(
                self.app,
                loop="asyncio",
                http=DroppingProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=5,
            )
        )

    async def run_until_stopped(self, *, announce: bool = False) -> None:
        self.loop = asyncio.get_running_loop()
        self._announce = announce
        with self._socket:
            await self.serve([self._socket])

    def stop(self) -> None:
        self.should_exit = True

    def capture_signals(self) -> Any:
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._announce:
            sys.stdout.write(RunningSandbox(self).ready_line() + "\n")
            sys.stdout.flush()
        url = self.sandbox.config.webhook_url
        if url is not None:
            self._sending = asyncio.create_task(send_webhooks(self.sandbox, url))
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.sandbox.close()
        await super().shutdown(sockets)
        if self._sending is not None:
            self._sending.cancel()
            try:
                await self._sending
            except asyncio.CancelledError:
                pass
