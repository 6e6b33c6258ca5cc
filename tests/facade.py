"""`Client` and `AsyncClient` behind one blocking face: a test that uses it is written once."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.buyer import Colour
from x402sms import AsyncClient, Client


@contextmanager
def facade(colour: Colour, **settings: Any) -> Iterator[Any]:
    """A client of that colour; what it returns is awaited, and what it iterates is a list."""
    if colour == "sync":
        with Client(**settings) as client:
            yield _Blocking(client, _take)
        return
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(AsyncClient(**settings)) as async_client,
    ):
        yield _Blocking(async_client, _awaited(portal))


class _Blocking:
    def __init__(self, target: Any, take: Callable[[Any], Any]) -> None:
        self._target = target
        self._take = take

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if name in ("services", "countries", "account", "orders", "payments"):
            return _Blocking(value, self._take)
        if not inspect.ismethod(value) or name == "meter":
            return value
        return lambda *args, **options: self._take(lambda: value(*args, **options))


def _take(call: Callable[[], Any]) -> Any:
    result = call()
    return list(result) if isinstance(result, Iterator) else result


def _awaited(portal: BlockingPortal) -> Callable[[Callable[[], Any]], Any]:
    async def take(call: Callable[[], Any]) -> Any:
        result = call()
        if isinstance(result, AsyncIterator):
            return [item async for item in result]
        return await result

    return lambda call: portal.call(take, call)
