"""httpx transports that pay: two thin drivers over `protocol/flow.py`.

    httpx.Client(transport=X402Transport(Wallet.from_env(), network="base"))

A transport, not an `httpx.Auth`: it sees a failure of the paid request, and the payment header
exists only on the request it sends itself, so no redirect can carry it elsewhere.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, assert_never

import anyio
import anyio.to_thread
import httpx

from x402sms.driver import drive, drive_async
from x402sms.errors import ConfigError, LedgerError, PaymentRefused
from x402sms.ledger import Ledger, open_ledger
from x402sms.limits import SpendLimits
from x402sms.money import parse_usdc
from x402sms.protocol.body import MAX_BYTES
from x402sms.protocol.flow import (
    Answer,
    Effect,
    NeverSent,
    Now,
    Payer,
    Purchase,
    ReadBody,
    Record,
    Reserve,
    Send,
    Sign,
    pay,
)
from x402sms.protocol.keccak import checksum_address
from x402sms.protocol.networks import Network, get_network
from x402sms.protocol.types import Receipt
from x402sms.protocol.wire import Headers
from x402sms.wallet import Signer, Wallet, sign

EXTENSION = "x402"
LONGEST_INTENT = 200
SETTLING_SECONDS = 30  # a resource server settles last, after the work that was asked for

logger = logging.getLogger("x402sms")

# httpx raises these before a byte of the request has left.
_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
)

TransportT = TypeVar("TransportT")
E = TypeVar("E")
T = TypeVar("T")


class _PayingTransport(Generic[TransportT]):
    """What both colours share: the settings, and every effect that is not the network's.

    `network` is `base` or `base-sepolia`; `limits` and `ledger` default to `SpendLimits()` and
    the user's own ledger; `transport` is the httpx transport to send through. `on_payment` gets
    each Receipt. `max_clock_skew` (seconds, None for any) is how far this machine's clock and the
    server's `Date` may differ; `clock` gives Unix seconds.

    Per request: `extensions={"x402": {"intent": "invoice-7", "max_amount": "0.05"}}`. The answer
    to a paid call carries its `Receipt` in `response.extensions["x402"]`.

    Sending raises PaymentError (see `x402sms.errors`), ClockSkew, LedgerError, and httpx's own.
    """

    def __init__(
        self,
        wallet: Signer,
        *,
        network: str | Network = "base",
        limits: SpendLimits | None = None,
        ledger: Ledger | None = None,
        transport: TransportT | None = None,
        on_payment: Callable[[Receipt], None] | None = None,
        max_clock_skew: int | None = 120,
        clock: Callable[[], float] = time.time,
    ) -> None:
        limits = SpendLimits() if limits is None else limits
        self._wallet = wallet
        self._payer = Payer(_address(wallet), get_network(network), limits, max_clock_skew)
        self._budgets = limits.budgets
        self._transport = self._make_transport() if transport is None else transport
        self._on_payment = on_payment
        self._clock = clock
        self._owns_ledger = ledger is None
        self._ledger = open_ledger() if ledger is None else ledger

    def _make_transport(self) -> TransportT:
        raise NotImplementedError

    def _perform_here(self, effect: Now | Reserve | Sign | Record) -> object:
        match effect:
            case Now():
                return int(self._clock())
            case Reserve():
                self._ledger.reserve(effect.attempt, self._budgets, now=int(self._clock()))
                return None
            case Sign():
                return sign(self._wallet, effect.authorization)
            case Record():
                return self._record(effect)
            case _:
                assert_never(effect)

    def _record(self, effect: Record) -> Receipt:
        try:
            payment = self._ledger.record(effect.attempt, effect.outcome, now=int(self._clock()))
        except LedgerError:
            logger.exception(
                "the end of the payment %s (%s) is not written down: in the ledger it stays open",
                effect.attempt.authorization.nonce_hex,
                effect.outcome.state,
            )
            raise
        return payment.receipt()

    def _deliver(self, exchange: _Exchange, receipt: Receipt | None) -> httpx.Response:
        response = exchange.current
        if receipt is not None:
            response.extensions[EXTENSION] = receipt
            self._tell(receipt)
        return response

    def _tell(self, receipt: Receipt) -> None:
        if self._on_payment is None:
            return
        try:
            self._on_payment(receipt)
        except Exception:
            # The answer is paid for: a faulty callback must not cost the caller that too.
            logger.exception("on_payment failed; the payment itself is made and recorded")

    def _close_ledger(self) -> None:
        if self._owns_ledger:
            self._ledger.close()


class X402Transport(_PayingTransport[httpx.BaseTransport], httpx.BaseTransport):
    __doc__ = f"An httpx transport that pays from a wallet. {_PayingTransport.__doc__}"

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()  # buffered once: what is sent again is what was sent first
        exchange = _Exchange(request)
        flow = pay(self._payer, _purchase(request))
        try:
            receipt = drive(flow, lambda effect: self._perform(effect, exchange))
        except BaseException as error:  # noqa: BLE001  raised again, once nothing is left open
            if exchange.response is not None:
                exchange.response.close()
            failure = exchange.for_the_caller(error)
            raise failure from failure.__cause__
        return self._deliver(exchange, receipt)

    def _perform(self, effect: Effect, exchange: _Exchange) -> object:
        match effect:
            case Send():
                try:
                    response = self._transport.handle_request(exchange.outgoing(effect))
                except _NEVER_SENT as error:
                    raise NeverSent from error
                return exchange.received(response)
            case ReadBody():
                body = _Body()
                for chunk in exchange.stream(httpx.SyncByteStream):
                    if not body.take(chunk):
                        break
                exchange.current.close()
                return exchange.was_read(body)
            case _:
                return self._perform_here(effect)

    def close(self) -> None:
        self._transport.close()
        self._close_ledger()

    def _make_transport(self) -> httpx.BaseTransport:
        return httpx.HTTPTransport()


class AsyncX402Transport(_PayingTransport[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport):
    __doc__ = f"An async httpx transport that pays from a wallet. {_PayingTransport.__doc__}"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        exchange = _Exchange(request)
        flow = pay(self._payer, _purchase(request))
        try:
            receipt = await drive_async(flow, lambda effect: self._perform(effect, exchange))
        except BaseException as error:  # noqa: BLE001  raised again, once nothing is left open
            if exchange.response is not None:
                with anyio.CancelScope(shield=True):
                    await exchange.response.aclose()
            failure = exchange.for_the_caller(error)
            raise failure from failure.__cause__
        return self._deliver(exchange, receipt)

    async def _perform(self, effect: Effect, exchange: _Exchange) -> object:
        match effect:
            case Send():
                try:
                    response = await self._transport.handle_async_request(exchange.outgoing(effect))
                except _NEVER_SENT as error:
                    raise NeverSent from error
                return exchange.received(response)
            case ReadBody():
                body = _Body()
                async for chunk in exchange.stream(httpx.AsyncByteStream):
                    if not body.take(chunk):
                        break
                await exchange.current.aclose()
                return exchange.was_read(body)
            case Now():
                return self._perform_here(effect)
            case Sign() if type(self._wallet) is Wallet:
                return self._perform_here(effect)  # 0.03 ms: cheaper than a thread
            case _:  # commits and foreign signers may block
                return await _in_thread(self._perform_here, effect)

    async def aclose(self) -> None:
        await self._transport.aclose()
        self._close_ledger()

    def _make_transport(self) -> httpx.AsyncBaseTransport:
        return httpx.AsyncHTTPTransport()


@dataclass
class _Exchange:
    """One logical request and the last answer to it."""

    request: httpx.Request
    response: httpx.Response | None = None

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
        headers = request.headers.copy()
        name, value = effect.payment
        headers[name] = value
        return httpx.Request(
            request.method,
            request.url,
            headers=headers,
            stream=request.stream,
            extensions=request.extensions,
        )

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


async def _in_thread(function: Callable[[E], T], effect: E) -> T:
    """Off the loop; once begun it is finished, whatever is cancelled meanwhile."""
    with anyio.CancelScope(shield=True):
        result = await anyio.to_thread.run_sync(function, effect)
    return result  # noqa: RET504  mypy: a CancelScope might have swallowed the return


def _purchase(request: httpx.Request) -> Purchase:
    options = _options(request)
    intent = options.setdefault("intent", secrets.token_hex(16))
    # httpx hands the extensions on to a redirect, and they stay on a request that is sent twice:
    # both are the same purchase, so both have the same nonce.
    request.extensions[EXTENSION] = options
    url = request.url
    origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
    target = url.raw_path.decode("ascii")
    parts = (request.method, origin, target, hashlib.sha256(request.content).hexdigest())
    read_timeout = request.extensions.get("timeout", {}).get("read")
    max_amount = options.get("max_amount")
    return Purchase(
        intent=intent,
        method=request.method,
        url=origin + target.partition("?")[0],
        fingerprint=hashlib.sha256("\n".join(parts).encode()).hexdigest(),
        private=url.scheme == "https" or _is_loopback(url.host),
        takes_seconds=0 if read_timeout is None else int(read_timeout) + SETTLING_SECONDS,
        max_amount_atomic=None if max_amount is None else _max_amount(max_amount),
    )


def _options(request: httpx.Request) -> dict[str, Any]:
    given = request.extensions.get(EXTENSION, {})
    if not isinstance(given, dict) or not given.keys() <= {"intent", "max_amount"}:
        raise ConfigError(
            'extensions={"x402": {...}} takes "intent" and "max_amount", and nothing else'
        )
    options = dict(given)
    if options.get("intent") is None:
        options.pop("intent", None)
    elif not _is_intent(options["intent"]):
        raise ConfigError(f"an intent is 1 to {LONGEST_INTENT} printable characters")
    return options


def _is_intent(intent: object) -> bool:
    return isinstance(intent, str) and 0 < len(intent) <= LONGEST_INTENT and intent.isprintable()


def _max_amount(max_amount: Any) -> int:
    try:
        return parse_usdc(max_amount)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"max_amount: {error}") from None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _address(wallet: Signer) -> str:
    if not isinstance(wallet, Signer):
        raise ConfigError(
            f"a {type(wallet).__name__} cannot sign: give a Wallet, or anything with .address and "
            ".sign_typed_data(...)"
        )
    try:
        return checksum_address(wallet.address)
    except ValueError as error:
        raise ConfigError(f"the wallet's address is {error}") from None
