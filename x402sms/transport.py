"""httpx transports that pay: two thin drivers over `protocol/flow.py`.

    httpx.Client(transport=X402Transport(Wallet.from_env(), network="base"))

A transport, not an `httpx.Auth`: it sees a failure of the paid request, and the payment header
exists only on the request it sends itself, so no redirect can carry it elsewhere.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import anyio
import httpx

from x402sms.driver import drive, drive_async
from x402sms.errors import LedgerError, PaymentRefused
from x402sms.paying import Paying
from x402sms.pooling import AsyncPooledTransport
from x402sms.protocol.body import MAX_BYTES
from x402sms.protocol.effects import (
    Answer,
    CheckChain,
    Effect,
    NeverSent,
    Now,
    ReadBody,
    Remembered,
    Send,
    Sign,
    Sleep,
)
from x402sms.protocol.flow import pay
from x402sms.protocol.types import Receipt
from x402sms.protocol.wire import Headers
from x402sms.purchase import EXTENSION, purchase_of
from x402sms.steady import SteadyStream, Together, in_thread
from x402sms.wallet import Wallet

# httpx raises these before a byte of the request has left.
NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
)

T = TypeVar("T")


class X402Transport(Paying[httpx.BaseTransport], httpx.BaseTransport):
    __doc__ = f"An httpx transport that pays from a wallet. {Paying.__doc__}"

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()  # buffered once: what is sent again is what was sent first
        exchange = _Exchange(request)
        flow = pay(self._payer, purchase_of(request))
        try:
            receipt = drive(flow, lambda effect: self._perform(effect, exchange))
        except BaseException as error:  # noqa: BLE001  raised again, once nothing is left open
            if exchange.response is not None:
                exchange.response.close()
            self.tell(exchange.receipt)
            failure = exchange.for_the_caller(error)
            raise failure from failure.__cause__
        self.tell(exchange.to_tell(receipt))
        return exchange.delivered(receipt)

    def _perform(self, effect: Effect, exchange: _Exchange) -> object:
        match effect:
            case Send():
                return exchange.received(self._send(effect, exchange))
            case ReadBody():
                body = _Body()
                for chunk in exchange.stream(httpx.SyncByteStream):
                    if not body.take(chunk):
                        break
                exchange.current.close()
                return exchange.was_read(body)
            case Sleep():
                time.sleep(effect.seconds)
                return None
            case _:
                try:
                    return exchange.noted(self.perform_here(effect))
                except LedgerError as error:
                    self.log_failure(effect, error)
                    raise

    def _send(self, effect: Send, exchange: _Exchange) -> httpx.Response:
        if exchange.response is not None:
            exchange.response.close()
        try:
            return self._transport.handle_request(exchange.outgoing(effect))
        except NEVER_SENT as error:
            raise NeverSent from error

    def close(self) -> None:
        self._transport.close()
        self.close_own()

    def make_transport(self) -> httpx.BaseTransport:
        return httpx.HTTPTransport()


class AsyncX402Transport(Paying[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport):
    __doc__ = f"An async httpx transport that pays from a wallet. {Paying.__doc__}"

    @cached_property
    def _writing(self) -> Together:
        return Together(self.in_one_commit)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        exchange = _Exchange(request)
        flow = pay(self._payer, purchase_of(request))
        try:
            receipt = await drive_async(flow, lambda effect: self._perform(effect, exchange))
        except BaseException as error:  # noqa: BLE001  raised again, once nothing is left open
            if exchange.response is not None:
                await exchange.response.aclose()
            self.tell(exchange.receipt)
            failure = exchange.for_the_caller(error)
            raise failure from failure.__cause__
        self.tell(exchange.to_tell(receipt))
        return exchange.delivered(receipt)

    async def _perform(self, effect: Effect, exchange: _Exchange) -> object:
        match effect:
            case Send():
                return exchange.received(await self._send(effect, exchange))
            case ReadBody():
                body = _Body()
                async for chunk in exchange.stream(httpx.AsyncByteStream):
                    if not body.take(chunk):
                        break
                await exchange.current.aclose()
                return exchange.was_read(body)
            case Sleep():
                await anyio.sleep(effect.seconds)
                return None
            case Now() | Remembered() | Sign() | CheckChain() if self._is_quick(effect):
                return self.perform_here(effect)  # cheaper than a thread
            case Sign() | CheckChain():  # foreign signers and nodes may take long
                return await in_thread(self.perform_here, effect)
            case _:  # commits block
                try:
                    return exchange.noted(await self._writing.in_thread(self.perform_here, effect))
                except LedgerError as error:
                    self.log_failure(effect, error)
                    raise

    def _is_quick(self, effect: Now | Remembered | Sign | CheckChain) -> bool:
        match effect:
            case Now():
                return True
            case Remembered():
                return self.quotes.at_hand(effect.route)
            case Sign():
                return type(self._wallet) is Wallet  # 0.03 ms
            case CheckChain():
                return not self.reads_chain

    async def _send(self, effect: Send, exchange: _Exchange) -> httpx.Response:
        if exchange.response is not None:
            await exchange.response.aclose()
        try:
            response = await self._transport.handle_async_request(exchange.outgoing(effect))
        except NEVER_SENT as error:
            raise NeverSent from error
        stream = response.stream
        if isinstance(stream, httpx.AsyncByteStream) and not isinstance(stream, SteadyStream):
            response.stream = SteadyStream(stream)
        return response

    async def aclose(self) -> None:
        await self._transport.aclose()
        self.close_own()

    def make_transport(self) -> httpx.AsyncBaseTransport:
        return AsyncPooledTransport()


def with_header(request: httpx.Request, name: str, value: str) -> httpx.Request:
    """A copy to be sent: the request that the caller has, and may log, never carries the header."""
    headers = request.headers.copy()
    headers[name] = value
    return httpx.Request(
        request.method,
        request.url,
        headers=headers,
        stream=request.stream,
        extensions=request.extensions,
    )


@dataclass
class _Exchange:
    """One logical request and the last answer to it."""

    request: httpx.Request
    response: httpx.Response | None = None
    receipt: Receipt | None = None

    @property
    def current(self) -> httpx.Response:
        if self.response is None:
            raise RuntimeError("the flow sends before it asks for anything else")
        return self.response

    def stream(self, kind: type[T]) -> T:
        """The answer's own stream: nothing is decoded before it is bounded."""
        stream = self.current.stream
        if not isinstance(stream, kind):
            raise RuntimeError(f"the inner transport gave no {kind.__name__}")
        return stream

    def outgoing(self, effect: Send) -> httpx.Request:
        """The request as it goes out: with the payment, a copy that nobody else ever holds."""
        self.response = None
        request = self.request
        if effect.payment is None:
            return request
        return with_header(request, *effect.payment)

    def received(self, response: httpx.Response) -> Answer:
        self.response = response
        return Answer(response.status_code, Headers(response.headers.multi_items()))

    def was_read(self, body: _Body) -> bytes | None:
        """The read answer takes the place of the stream that is gone."""
        content = body.content()
        self.response = httpx.Response(
            self.current.status_code,
            headers=self.current.headers,
            stream=httpx.ByteStream(content or b""),
            extensions=self.current.extensions,
        )
        return content

    def noted(self, result: object) -> object:
        """Keep the last receipt: a call that fails has no other way to hand it out."""
        if isinstance(result, Receipt):
            self.receipt = result
        return result

    def to_tell(self, receipt: Receipt | None) -> Receipt | None:
        """What this call paid, as the flow has it in the end: of one that is replayed nothing."""
        return None if self.receipt is None else receipt or self.receipt

    def delivered(self, receipt: Receipt | None) -> httpx.Response:
        if receipt is not None:
            self.current.extensions[EXTENSION] = receipt
        return self.current

    def for_the_caller(self, error: BaseException) -> BaseException:
        if isinstance(error, NeverSent) and error.__cause__ is not None:
            return error.__cause__
        if isinstance(error, PaymentRefused):
            error.response = self.response
        return error


class _Body:
    """Chunks up to the bound; what is larger is not kept."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0

    def take(self, chunk: bytes) -> bool:
        """Whether more may come."""
        self._chunks.append(chunk)
        self._size += len(chunk)
        return self._size <= MAX_BYTES

    def content(self) -> bytes | None:
        return b"".join(self._chunks) if self._size <= MAX_BYTES else None
