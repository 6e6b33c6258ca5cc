"""Work that is finished once it is begun, whatever is cancelled meanwhile.

anyio's shield holds off anyio's own cancel scopes, but not `asyncio.Task.cancel()`. A commit that
nobody waits for, or a connection whose closing was cut short, would be left behind.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

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


MOST_TOGETHER = 64


class Together:
    """Short blocking work of many tasks, off the loop: what comes while a thread is at work is done
    in one go after it, inside `around`.

    Handing each piece to a thread costs more than the piece. Where `around` fails, each piece is
    done once more alone, so what is done in it must be undone when it fails. As with `in_thread`,
    what has begun is finished, whoever is cancelled, and each piece runs in its task's context.
    """

    def __init__(self, around: Callable[[], AbstractContextManager[None]]) -> None:
        self._around = around
        self._waiting: deque[_Piece[Any]] = deque()
        self._busy = False

    async def in_thread(self, function: Callable[[A], T], argument: A) -> T:
        piece: _Piece[T] = _Piece(partial(function, argument))
        return await finish(partial(self._result, piece))

    async def _result(self, piece: _Piece[T]) -> T:
        # Waiting from here on only: a task that is stopped before it begins would never take over.
        self._waiting.append(piece)
        if not self._busy:
            self._call_next()
        try:
            await piece.called.wait()
        except BaseException:  # only where every task is stopped, this one of ours included
            self._leave(piece)
            raise
        if self._waiting and self._waiting[0] is piece:  # its turn to see to the next ones
            await self._do_next()
        return piece.result()

    async def _do_next(self) -> None:
        self._busy = True
        count = min(len(self._waiting), MOST_TOGETHER)
        pieces = [self._waiting.popleft() for _ in range(count)]
        try:
            await anyio.to_thread.run_sync(self._do, pieces)
        finally:
            for piece in pieces:
                piece.called.set()
            self._call_next()

    def _call_next(self) -> None:
        """Busy until the one that is called has taken over: nobody overtakes it."""
        self._busy = bool(self._waiting)
        if self._waiting:
            self._waiting[0].called.set()

    def _leave(self, piece: _Piece[Any]) -> None:
        if piece in self._waiting:
            self._waiting.remove(piece)
            if piece.called.is_set():
                self._call_next()

    def _do(self, pieces: list[_Piece[Any]]) -> None:
        if len(pieces) == 1 or not self._done_together(pieces):
            for piece in pieces:
                piece.do()
        for piece in pieces:
            piece.done = True  # not before the commit: whoever is told of it goes on and signs

    def _done_together(self, pieces: list[_Piece[Any]]) -> bool:
        try:
            with self._around():
                for piece in pieces:
                    piece.do()
        except Exception:  # noqa: BLE001  alone, each meets what is wrong itself
            return False
        return True


@dataclass(eq=False)
class _Piece(Generic[T]):
    work: Callable[[], T]
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    called: anyio.Event = field(default_factory=anyio.Event)
    done: bool = False
    _error: BaseException | None = None
    _values: list[T] = field(default_factory=list)

    def do(self) -> None:
        try:
            value = self.context.run(self.work)
        except BaseException as error:  # noqa: BLE001  raised where it is waited for
            self._error, self._values = error, []
        else:
            self._error, self._values = None, [value]

    def result(self) -> T:
        if not self.done:  # nor may anybody else begin it: a thread may be at it
            raise RuntimeError("the task that was to do it was stopped")
        if self._error is not None:
            raise self._error
        return self._values[0]


class SteadyStream(httpx.AsyncByteStream):
    """An answer's stream whose closing always gives its connection back."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        await finish(self._stream.aclose)
