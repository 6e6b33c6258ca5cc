"""A real connection that loses what comes back: the server has done its work, and was paid."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Literal

import httpx

Loss = Literal["drop", "truncate"]


class Losing(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Sends over HTTP. `loses` says for each paid request whether and how its answer is lost."""

    def __init__(self, loses: Callable[[httpx.Request], Loss | None]) -> None:
        self._loses = loses
        self._sync = httpx.HTTPTransport()
        self._async = httpx.AsyncHTTPTransport()
        self.lost: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._sync.handle_request(request)
        content = b"".join(response.iter_raw())
        response.close()
        return self._answer(request, response, content)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._async.handle_async_request(request)
        content = b"".join([chunk async for chunk in response.aiter_raw()])
        await response.aclose()
        return self._answer(request, response, content)

    def close(self) -> None:
        self._sync.close()

    async def aclose(self) -> None:
        await self._async.aclose()

    def _answer(
        self, request: httpx.Request, response: httpx.Response, content: bytes
    ) -> httpx.Response:
        paid = "payment-signature" in request.headers or "x-payment" in request.headers
        loss = self._loses(request) if paid else None
        if loss is not None:
            self.lost.append(f"{request.method} {request.url.path}")
        if loss == "drop":
            raise httpx.ReadError("the connection was lost")
        stream: httpx.ByteStream | _CutShort = httpx.ByteStream(content)
        if loss == "truncate":
            stream = _CutShort(content[: len(content) // 2])
        return httpx.Response(response.status_code, headers=response.headers, stream=stream)


class _CutShort(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        yield self._content
        raise httpx.RemoteProtocolError("the body ended too early")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk
