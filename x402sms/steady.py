"""Work that is finished once it is begun, whatever is cancelled meanwhile.

anyio's shield holds off anyio's own cancel scopes, but not `asyncio.Task.cancel()`. A commit that
nobody waits for, or a connection whose closing was cut short, would be left behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import httpx

A = TypeVar("A")
T = TypeVar("T")


async def finish(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The result of `work`. A cancellation that comes meanwhile is raised once it is done."""
    with anyio.CancelScope(shield=True):
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # trio: the scope is enough
            return await work()
        return await _finish_on_asyncio(asyncio.ensure_future(work()))
    raise RuntimeError("unreachable")  # for mypy: a CancelScope might swallow an exception


async def _finish_on_asyncio(task: asyncio.Future[T]) -> T:
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:  # noqa: BLE001  the task's own: its result raises it again, below
            break
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # looked at, or asyncio complains that nobody did
        raise cancelled
    return task.result()


async def in_thread(function: Callable[[A], T], argument: A) -> T:
    """Off the loop, where commits and foreign signers may block."""

    async def work() -> T:
        return await anyio.to_thread.run_sync(function, argument)

    return await finish(work)


class SteadyStream(httpx.AsyncByteStream):
    """An answer's stream whose closing always gives its connection back."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        await finish(self._stream.aclose)
