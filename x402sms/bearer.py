"""httpx transports that show an API key: the REST side of the service, paid from a balance.

The key is on the request only while it is being sent, and only to the origin that it is for: no
redirect, log or exception carries it. What is sent once is not sent again.
"""

from __future__ import annotations

import httpx

from x402sms.api_keys import ApiKey
from x402sms.errors import ConfigError, PaymentUnknown
from x402sms.purchase import EXTENSION, is_loopback
from x402sms.steady import SteadyStream
from x402sms.transport import NEVER_SENT, with_header


class _Bearer:
    """What both colours share. Raises ConfigError for a key that would go out in the clear."""

    def __init__(self, key: ApiKey, base_url: str) -> None:
        url = httpx.URL(base_url)
        if url.scheme != "https" and not is_loopback(url.host):
            raise ConfigError(
                f"an API key is sent over https only, not to {url.scheme}://{url.host}; nothing "
                "was sent"
            )
        self._key = key
        self._origin = _origin(url)

    def outgoing(self, request: httpx.Request) -> httpx.Request:
        if _origin(request.url) != self._origin:
            return request
        return with_header(request, "Authorization", f"Bearer {self._key.reveal()}")


class BearerTransport(httpx.BaseTransport):
    """Sends through `inner` with the key. A POST that gets no answer raises PaymentUnknown."""

    def __init__(self, key: ApiKey, base_url: str, inner: httpx.BaseTransport) -> None:
        self._bearer = _Bearer(key, base_url)
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        try:
            return self._inner.handle_request(self._bearer.outgoing(request))
        except BaseException as error:
            _forget_what_was_sent(request, error)
            if _has_no_effect(request, error):
                raise
            raise _unanswered(request, error) from error

    def close(self) -> None:
        self._inner.close()


class AsyncBearerTransport(httpx.AsyncBaseTransport):
    """BearerTransport for tasks."""

    def __init__(self, key: ApiKey, base_url: str, inner: httpx.AsyncBaseTransport) -> None:
        self._bearer = _Bearer(key, base_url)
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        try:
            response = await self._inner.handle_async_request(self._bearer.outgoing(request))
        except BaseException as error:
            _forget_what_was_sent(request, error)
            if _has_no_effect(request, error):
                raise
            raise _unanswered(request, error) from error
        if isinstance(response.stream, httpx.AsyncByteStream):
            response.stream = SteadyStream(response.stream)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _forget_what_was_sent(request: httpx.Request, error: BaseException) -> None:
    """The key is in the frames of what sent it, and in the request that an error may name.

    Of causes too, but not of contexts: those may be the caller's own.
    """
    failed: BaseException | None = error
    while failed is not None:
        failed.__traceback__ = None
        if isinstance(failed, httpx.RequestError):
            failed.request = request
        failed = failed.__cause__


def _has_no_effect(request: httpx.Request, error: BaseException) -> bool:
    lost = isinstance(error, httpx.TransportError) and not isinstance(error, NEVER_SENT)
    return request.method == "GET" or not lost


def _unanswered(request: httpx.Request, error: BaseException) -> PaymentUnknown:
    return PaymentUnknown(
        f"no answer to {request.method} {request.url.path} ({type(error).__name__}): it may have "
        "been carried out, and charged to the account's balance",
        intent=request.extensions.get(EXTENSION, {}).get("intent"),
    )
