"""The service as typed methods: `Client` and, method for method its twin, `AsyncClient`.

Each method is one `Call` (see `virtualsms/calls.py` for shapes, units and errors), sent over a
paying transport. Beside the errors named there every method may raise PaymentError, ClockSkew,
LedgerError and HostNotReachable, and ValueError for an argument that cannot be right.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, assert_never

import httpx

from x402sms.api_keys import ApiKey, as_key
from x402sms.base_client import BaseClient, Mailbox
from x402sms.bearer import AsyncBearerTransport, BearerTransport
from x402sms.clock import Clock
from x402sms.driver import drive, drive_async
from x402sms.exchange import (
    READ_TRIES,
    cut_short,
    receipt_of,
    request_for,
    result_of,
    unreachable,
)
from x402sms.job_options import JobOptions, inbox_of, wanted
from x402sms.ledger import Ledger
from x402sms.ledger_view import AsyncPayments
from x402sms.limits import Amount, SpendLimits
from x402sms.ordering import Ask, Effect, Fetch, InLedger
from x402sms.pacing import AsyncPacedTransport, PacedTransport
from x402sms.pooling import AsyncPooledTransport
from x402sms.protocol.networks import Network
from x402sms.protocol.types import Receipt
from x402sms.resources import (
    Account,
    AsyncAccount,
    AsyncCountries,
    AsyncOrders,
    AsyncServices,
    Countries,
    Orders,
    Services,
)
from x402sms.steady import in_thread
from x402sms.topping_up import TopUp, keep
from x402sms.transport import AsyncX402Transport, X402Transport
from x402sms.verifying import AsyncVerification, Verification
from x402sms.virtualsms.calls import Call
from x402sms.virtualsms.job import Code
from x402sms.virtualsms.models import Order
from x402sms.wallet import Signer

# A call may wait for a connection as long as it takes: a hundred long polls may be before it.
DEFAULT_TIMEOUT = httpx.Timeout(30, connect=10, pool=None)
# At 60 requests a minute, two a call, at most 90 polls of 180 s are under way at a time. More
# connections would cost more than they bring: httpcore looks over all of them for each request.
MAX_CONNECTIONS = 100

T = TypeVar("T")


class Client(BaseClient):
    """The service, synchronous, paid per call from a wallet, or with an API key from the balance
    of an account. A context manager.

    `wallet` is what pays. With an `api_key` and no wallet nothing is signed: what is bought is
    charged to the account (REST, a Bearer token), and the rest is free. With neither, the
    environment says: a wallet, else `X402SMS_API_KEY`, else the key that a top-up stored.

    `network`, `base_url`, `limits`, `ledger` and `rpc_url` default to the environment
    (`X402SMS_*`, `.env`), then to Base, the vendor's host for that network, `SpendLimits()` and the
    user's own ledger. `transport` is the httpx transport to send through; `on_payment` gets every
    Receipt. At most `requests_per_minute` HTTP requests are sent, a call that is one too many
    waits: "auto" is the service's own limit, 60, and none for a host on this machine; None is none.
    A paid call is two requests, or one where `prepay` lets it pay by what the route cost last:
    "auto" what only reads and costs at most 0.01 USDC, "always" whatever was paid for before, the
    same order too, "never" nothing (see `X402Transport`). `worker` names who of a fleet this is,
    else `X402SMS_WORKER`. `webhooks` is where the events that the service sends are kept (an
    EventStore, or its path): a job then waits for those, and polls less. `clock` is what is waited
    by, for tests. Safe to share between threads.

    Raises ConfigError and LedgerError.
    """

    def __init__(
        self,
        wallet: Signer | None = None,
        *,
        network: str | Network | None = None,
        base_url: str | None = None,
        api_key: str | ApiKey | None = None,
        limits: SpendLimits | None = None,
        ledger: Ledger | str | os.PathLike[str] | None = None,
        rpc_url: str | None = None,
        timeout: httpx.Timeout | float | None = None,
        transport: httpx.BaseTransport | None = None,
        on_payment: Callable[[Receipt], None] | None = None,
        requests_per_minute: int | Literal["auto"] | None = "auto",
        prepay: Literal["auto", "never", "always"] = "auto",
        worker: str | None = None,
        webhooks: Mailbox | str | os.PathLike[str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        api_key = None if api_key is None else as_key(api_key)  # no local of ours shows it
        super().__init__(
            wallet,
            network=network,
            base_url=base_url,
            api_key=api_key,
            limits=limits,
            ledger=ledger,
            rpc_url=rpc_url,
            on_payment=on_payment,
            requests_per_minute=requests_per_minute,
            prepay=prepay,
            worker=worker,
            webhooks=webhooks,
            clock=clock,
        )
        self._http = httpx.Client(
            base_url=self.settings.base_url,
            timeout=DEFAULT_TIMEOUT if timeout is None else timeout,
            transport=self._sending(transport or httpx.HTTPTransport()),
        )
        self.services = Services(self)
        self.countries = Countries(self)
        self.account = Account(self)
        self.orders = Orders(self)
        self.payments = self._ledger_view()

    def build_request(
        self,
        call: Call[Any],
        *,
        intent: str | None = None,
        purchase: str | None = None,
        max_price: Amount | None = None,
    ) -> httpx.Request:
        request = request_for(
            self._http, call, intent=intent, purchase=purchase, max_price=max_price
        )
        return self._identified(call, request)

    def call(
        self, call: Call[T], *, intent: str | None = None, max_price: Amount | None = None
    ) -> T:
        """Send one `Call`. `intent` names the purchase; above `max_price` USDC nothing is paid."""
        request = self.build_request(call, intent=intent, max_price=max_price)
        if (logic := self._charged(call, request, max_price)) is not None:
            return drive(logic, partial(self._perform, max_price))
        return result_of(call, self._answer(request))

    def create_order(
        self,
        call: Call[Order],
        *,
        intent: str | None = None,
        purchase: str | None = None,
        max_price: Amount | None = None,
    ) -> Order:
        """`call` for `POST /orders`: an order that was paid for while its answer was lost is found
        in `GET /orders` and returned; `last_receipt` says so."""
        request = self.build_request(call, intent=intent, purchase=purchase, max_price=max_price)
        return drive(self.buying(call, request, max_price), partial(self._perform, max_price))

    def verification(
        self, service: str, *, max_price: Amount, **options: Unpack[JobOptions]
    ) -> Verification:
        """A job, to be used as a context manager: entering it buys the cheapest number for
        `service` (an id or a name) under `max_price` USDC, for the number and for any of the small
        calls around it. See `JobOptions` for the options, `Verification` for what it does.

        Raises ValueError and TypeError for arguments that cannot be right; entering raises
        SpendLimitExceeded, NoStock, ServiceNotFound, CountryNotFound.
        """
        return Verification(self, wanted(service, max_price, options))

    def receive_code(
        self,
        service: str,
        *,
        max_price: Amount,
        timeout: float = 180,
        **options: Unpack[JobOptions],
    ) -> Code:
        """`verification` in one call: buy a number, wait `timeout` seconds for its SMS, confirm.

        `on_number` gets the number, to be typed in where the code is wanted. Whatever goes wrong
        after the purchase, the order is cancelled for its refund.

        Raises what entering a `verification` raises; NoCodeReceived, saying what came of the order.
        """
        return Verification(self, wanted(service, max_price, options)).receive(timeout)

    def topup(
        self,
        amount: Amount,
        *,
        api_key: str | ApiKey | None = None,
        new_account: bool = False,
        metadata: Mapping[str, str] | None = None,
        intent: str | None = None,
        store: bool = True,
    ) -> TopUp:
        """Pay `amount` whole USDC from the wallet onto an account's balance, for its API key.

        Onto the account of `api_key`, of this client's own, or of the one that was stored; where
        there is none, or with `new_account`, onto a new one. The key is stored for `Client()` to
        find, and returned. Under the same `intent` it is paid for once, and answered again.

        Raises PaymentError (your limits hold: the default is 1 USDC a call), ValueError,
        ConfigError without a wallet, Unauthorized for a key that is not known.
        """
        asked = self._topup(amount, api_key, new_account, metadata, intent)
        deposit = self.call(asked.call, intent=intent, max_price=asked.amount)
        return keep(self.settings, asked, deposit, store=store)

    def listen_to(self, order_id: str) -> Verification:
        """An order that is there already, for its messages."""
        return Verification(self, inbox_of(order_id))

    def _sending(self, inner: httpx.BaseTransport) -> httpx.BaseTransport:
        """With a wallet it pays, with an API key it shows that."""
        paced = inner if self.pace is None else PacedTransport(inner, self.pace)
        if self.books is not None:
            return BearerTransport(self.books.key, self.settings.base_url, paced)
        return X402Transport(
            self.wallet,
            network=self.settings.network,
            limits=self.settings.limits,
            ledger=self.ledger,
            rpc_url=self.settings.rpc_url,
            transport=paced,
            on_payment=self._paid,
            prepay=self.prepay,
            worker=self.settings.worker,
        )

    def _perform(self, max_price: Amount | None, effect: Effect) -> object:
        match effect:
            case Fetch():
                return self._answer(effect.request)
            case Ask():
                return self.call(effect.call, max_price=max_price)
            case InLedger():
                return effect.work()
            case _:
                assert_never(effect)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        """The answer with its body read: of a paid one that is cut short, at another try."""
        with self.turn(request):
            for tries_left in reversed(range(READ_TRIES)):
                try:
                    response = self._http.send(request, stream=True)
                except httpx.TransportError as error:
                    raise unreachable(request, error) from error
                try:
                    response.read()
                    break
                except httpx.RequestError as error:  # cut off, or not in the coding it names
                    if receipt_of(response) is None or not tries_left:
                        raise cut_short(response, error) from error
                finally:
                    response.close()
        return self._read(response)

    def close(self) -> None:
        self._http.close()
        self._close_own()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient(BaseClient):
    """`Client`, to be awaited. An async context manager, for asyncio."""

    def __init__(
        self,
        wallet: Signer | None = None,
        *,
        network: str | Network | None = None,
        base_url: str | None = None,
        api_key: str | ApiKey | None = None,
        limits: SpendLimits | None = None,
        ledger: Ledger | str | os.PathLike[str] | None = None,
        rpc_url: str | None = None,
        timeout: httpx.Timeout | float | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        on_payment: Callable[[Receipt], None] | None = None,
        requests_per_minute: int | Literal["auto"] | None = "auto",
        prepay: Literal["auto", "never", "always"] = "auto",
        worker: str | None = None,
        webhooks: Mailbox | str | os.PathLike[str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        api_key = None if api_key is None else as_key(api_key)  # no local of ours shows it
        super().__init__(
            wallet,
            network=network,
            base_url=base_url,
            api_key=api_key,
            limits=limits,
            ledger=ledger,
            rpc_url=rpc_url,
            on_payment=on_payment,
            requests_per_minute=requests_per_minute,
            prepay=prepay,
            worker=worker,
            webhooks=webhooks,
            clock=clock,
        )
        self._http = httpx.AsyncClient(
            base_url=self.settings.base_url,
            timeout=DEFAULT_TIMEOUT if timeout is None else timeout,
            transport=self._sending(
                transport or AsyncPooledTransport(max_connections=MAX_CONNECTIONS)
            ),
        )
        self.services = AsyncServices(self)
        self.countries = AsyncCountries(self)
        self.account = AsyncAccount(self)
        self.orders = AsyncOrders(self)
        self.payments = AsyncPayments(self._ledger_view())

    def build_request(
        self,
        call: Call[Any],
        *,
        intent: str | None = None,
        purchase: str | None = None,
        max_price: Amount | None = None,
    ) -> httpx.Request:
        request = request_for(
            self._http, call, intent=intent, purchase=purchase, max_price=max_price
        )
        return self._identified(call, request)

    async def call(
        self, call: Call[T], *, intent: str | None = None, max_price: Amount | None = None
    ) -> T:
        """Send one `Call`. `intent` names the purchase; above `max_price` USDC nothing is paid."""
        request = self.build_request(call, intent=intent, max_price=max_price)
        if (logic := self._charged(call, request, max_price)) is not None:
            return await drive_async(logic, partial(self._perform, max_price))
        return result_of(call, await self._answer(request))

    async def create_order(
        self,
        call: Call[Order],
        *,
        intent: str | None = None,
        purchase: str | None = None,
        max_price: Amount | None = None,
    ) -> Order:
        """`call` for `POST /orders`: an order that was paid for while its answer was lost is found
        in `GET /orders` and returned; `last_receipt` says so."""
        request = self.build_request(call, intent=intent, purchase=purchase, max_price=max_price)
        logic = self.buying(call, request, max_price)
        return await drive_async(logic, partial(self._perform, max_price))

    def verification(
        self, service: str, *, max_price: Amount, **options: Unpack[JobOptions]
    ) -> AsyncVerification:
        """`Client.verification`, as an async context manager."""
        return AsyncVerification(self, wanted(service, max_price, options))

    async def receive_code(
        self,
        service: str,
        *,
        max_price: Amount,
        timeout: float = 180,  # noqa: ASYNC109  how long to wait for an SMS, not for a call
        **options: Unpack[JobOptions],
    ) -> Code:
        """`Client.receive_code`, to be awaited. A task that is cancelled cancels the order."""
        return await AsyncVerification(self, wanted(service, max_price, options)).receive(timeout)

    async def topup(
        self,
        amount: Amount,
        *,
        api_key: str | ApiKey | None = None,
        new_account: bool = False,
        metadata: Mapping[str, str] | None = None,
        intent: str | None = None,
        store: bool = True,
    ) -> TopUp:
        """`Client.topup`, to be awaited."""
        prepare = partial(self._topup, amount, api_key, new_account, metadata, intent)
        asked = await in_thread(_do, prepare)
        deposit = await self.call(asked.call, intent=intent, max_price=asked.amount)
        return await in_thread(_do, partial(keep, self.settings, asked, deposit, store=store))

    def listen_to(self, order_id: str) -> AsyncVerification:
        """An order that is there already, for its messages."""
        return AsyncVerification(self, inbox_of(order_id))

    def _sending(self, inner: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        """As `Client._sending`."""
        paced = inner if self.pace is None else AsyncPacedTransport(inner, self.pace)
        if self.books is not None:
            return AsyncBearerTransport(self.books.key, self.settings.base_url, paced)
        return AsyncX402Transport(
            self.wallet,
            network=self.settings.network,
            limits=self.settings.limits,
            ledger=self.ledger,
            rpc_url=self.settings.rpc_url,
            transport=paced,
            on_payment=self._paid,
            prepay=self.prepay,
            worker=self.settings.worker,
        )

    async def _perform(self, max_price: Amount | None, effect: Effect) -> object:
        match effect:
            case Fetch():
                return await self._answer(effect.request)
            case Ask():
                return await self.call(effect.call, max_price=max_price)
            case InLedger():
                return await in_thread(_do, effect.work)
            case _:
                assert_never(effect)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        """The answer with its body read: of a paid one that is cut short, at another try."""
        with self.turn(request):
            for tries_left in reversed(range(READ_TRIES)):
                try:
                    response = await self._http.send(request, stream=True)
                except httpx.TransportError as error:
                    raise unreachable(request, error) from error
                try:
                    await response.aread()
                    break
                except httpx.RequestError as error:  # cut off, or not in the coding it names
                    if receipt_of(response) is None or not tries_left:
                        raise cut_short(response, error) from error
                finally:
                    await response.aclose()
        return self._read(response)

    async def aclose(self) -> None:
        await self._http.aclose()
        self._close_own()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


def _do(work: Callable[[], T]) -> T:
    return work()
