"""What a tool has at hand while it answers: the service, the jobs, and the agent's ear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from x402sms.base_client import Meter
from x402sms.client import AsyncClient
from x402sms.mcp_server.desk import Desk

PROGRESS_EVERY = 5.0  # seconds

# Seconds so far, seconds in all, what goes on.
Progress = Callable[[float, float, str], Awaitable[None]]


@dataclass(frozen=True)
class Request:
    """One call of a tool. `session` counts what this server has paid since it was started."""

    sms: AsyncClient
    desk: Desk
    session: Meter
    progress: Progress
    began: float = field(default_factory=anyio.current_time)

    @asynccontextmanager
    async def ticking(self, total: float, message: Callable[[], str]) -> AsyncIterator[None]:
        """Meanwhile the agent is told what goes on: at once, and every few seconds."""
        until = anyio.current_time() - self.began + total

        async def tell() -> None:
            while True:
                elapsed = anyio.current_time() - self.began  # only ever more, as MCP demands
                await self.progress(elapsed, until, message())
                await anyio.sleep(PROGRESS_EVERY)

        telling = asyncio.create_task(tell())
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
