"""The service as typed methods: `Client` and, method for method its twin, `AsyncClient`.

Each method is one `Call` (see `virtualsms/calls.py` for shapes, units and errors), sent over a
paying transport. Beside the errors named there every method may raise PaymentError, ClockSkew,
LedgerError and HostNotReachable, and ValueError for an argument that cannot be right.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from types import TracebackType
from typing import Self, TypeVar, assert_never

import anyio
import httpx

from x402sms.config import Settings, environment, load_settings
from x402sms.driver import drive, drive_async
from x402sms.exchange import cut_short, request_for, result_of, unreachable
from x402sms.ledger import Ledger, open_ledger
from x402sms.limits import Amount, SpendLimits
from x402sms.money import parse_usdc, to_usdc
from x402sms.protocol.networks import Network
from x402sms.protocol.types import PaymentState, Receipt
from x402sms.resources import (
    Account,
    AsyncAccount,
    AsyncCountries,
    AsyncOrders,
    AsyncPayments,
    AsyncServices,
    Countries,
    Orders,
    Payments,
    Services,
)
from x402sms.transport import AsyncX402Transport, X402Transport
from x402sms.virtualsms.calls import Call
from x402sms.virtualsms.verification import (
    Announce,
    Bought,
    Code,
    Effect,
    Event,
    Make,
    Now,
    Sleep,
    receive_code,
)
from x402sms.wallet import Signer, Wallet

DEFAULT_TIMEOUT = httpx.Timeout(30, connect=10)

T = TypeVar("T")


class Meter:
    """The receipts of a client's calls while `with client.meter()` is open."""

    def __init__(self) -> None:
        self.receipts: list[Receipt] = []

    @property
    def total(self) -> Decimal:
        """USDC promised and not known to be void. Refused and unknown payments count."""
        counted = (r.amount for r in self.receipts if r.state is not PaymentState.VOID)
        return sum(counted, Decimal(0))


class _Client:
    """Settings, wallet, ledger and receipts: what both colours have. Sends nothing itself."""

    def __init__(
        self,
        wallet: Signer | None,
        *,
        network: str | Network | None,
        base_url: str | None,
        limits: SpendLimits | None,
        ledger: Ledger | str | os.PathLike[str] | None,
        rpc_url: str | None,
        on_payment: Callable[[Receipt], None] | None,
    ) -> None:
        env = environment()
        self.settings: Settings = load_settings(
            env,
            network=network,
            base_url=base_url,
            limits=limits,
            ledger=os.fspath(ledger) if isinstance(ledger, str | os.PathLike) else None,
            rpc_url=rpc_url,
        )
        self.wallet: Signer = Wallet.from_env(env) if wallet is None else wallet
        self._owns_ledger = ledger is None or isinstance(ledger, str | os.PathLike)
        self.ledger: Ledger = (
            open_ledger(self.settings.ledger)
            if ledger is None or isinstance(ledger, str | os.PathLike)
            else ledger
        )
        self.last_receipt: Receipt | None = None
        self._on_payment = on_payment
        self._meters: list[Meter] = []

    @contextmanager
    def meter(self) -> Iterator[Meter]:
        """Collect what this client pays for: `with sms.meter() as m: ...; m.total`."""
        meter = Meter()
        self._meters.append(meter)
        try:
            yield meter
        finally:
            self._meters.remove(meter)

    def _paid(self, receipt: Receipt) -> None:
        self.last_receipt = receipt
        for meter in self._meters:
            meter.receipts.append(receipt)
        if self._on_payment is not None:
            self._on_payment(receipt)

    def _ledger_view(self) -> Payments:
        return Payments(self.ledger, self.settings.network, self.wallet.address)

    def _close_ledger(self) -> None:
        if self._owns_ledger:
            self.ledger.close()


class Client(_Client):
    """The service, synchronous, paid per call from a wallet. A context manager.

    `wallet` defaults to `Wallet.from_env()`; `network`, `base_url`, `limits`, `ledger` and
    `rpc_url` to the environment (`X402SMS_*`, `.env`), then to Base, the vendor's host for that
    network, `SpendLimits()` and the user's own ledger. `transport` is the httpx transport to send
    through; `on_payment` gets every Receipt. Safe to share between threads.

    Raises ConfigError and LedgerError.
    """

    def __init__(
        self,
        wallet: Signer | None = None,
        *,
        network: str | Network | None = None,
        base_url: str | None = None,
        limits: SpendLimits | None = None,
        ledger: Ledger | str | os.PathLike[str] | None = None,
        rpc_url: str | None = None,
        timeout: httpx.Timeout | float | None = None,
        transport: httpx.BaseTransport | None = None,
        on_payment: Callable[[Receipt], None] | None = None,
    ) -> None:
        super().__init__(
            wallet,
            network=network,
            base_url=base_url,
            limits=limits,
            ledger=ledger,
            rpc_url=rpc_url,
            on_payment=on_payment,
        )
        self._http = httpx.Client(
            base_url=self.settings.base_url,
            timeout=DEFAULT_TIMEOUT if timeout is None else timeout,
            transport=X402Transport(
                self.wallet,
                network=self.settings.network,
                limits=self.settings.limits,
                ledger=self.ledger,
                transport=transport,
                on_payment=self._paid,
            ),
        )
        self.services = Services(self)
        self.countries = Countries(self)
        self.account = Account(self)
        self.orders = Orders(self)
        self.payments = self._ledger_view()

    def call(
        self, call: Call[T], *, intent: str | None = None, max_price: Amount | None = None
    ) -> T:
        """Send one `Call`. `intent` names the purchase; above `max_price` USDC nothing is paid."""
        request = request_for(self._http, call, intent=intent, max_price=max_price)
        try:
            response = self._http.send(request, stream=True)
        except httpx.TransportError as error:
            raise unreachable(request, error) from error
        try:
            response.read()
        except httpx.TransportError as error:
            raise cut_short(response, error) from error
        finally:
            response.close()
        return result_of(call, response)

    def receive_code(
        self,
        service: str,
        *,
        max_price: Amount,
        on_number: Callable[[str], None] | None = None,
        on_event: Callable[[Event], None] | None = None,
        country: str | None = None,
        timeout: float = 180,
        intent: str | None = None,
    ) -> Code:
        """Buy the cheapest number under `max_price` (USDC), wait for its SMS, confirm.

        `on_number` gets the number, to be typed in where the code is wanted; `on_event` all that
        happens. Whatever goes wrong after the purchase, the order is cancelled for its refund.

        Raises SpendLimitExceeded, NoStock, ServiceNotFound; NoCodeReceived, saying whether the
        order was cancelled.
        """
        watch = _watch(on_number, on_event)

        def perform(effect: Effect) -> object:
            match effect:
                case Make():
                    return self.call(effect.call, intent=effect.intent, max_price=effect.max_price)
                case Announce():
                    watch(effect.event)
                case Now():
                    return time.monotonic()
                case Sleep():
                    time.sleep(effect.seconds)
                case _:
                    assert_never(effect)
            return None

        ceiling = to_usdc(parse_usdc(max_price))
        job = receive_code(
            service, max_price=ceiling, country=country, timeout=timeout, intent=intent
        )
        return drive(job, perform)

    def close(self) -> None:
        self._http.close()
        self._close_ledger()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient(_Client):
    """`Client`, to be awaited. An async context manager, for asyncio and trio."""

    def __init__(
        self,
        wallet: Signer | None = None,
        *,
        network: str | Network | None = None,
        base_url: str | None = None,
        limits: SpendLimits | None = None,
        ledger: Ledger | str | os.PathLike[str] | None = None,
        rpc_url: str | None = None,
        timeout: httpx.Timeout | float | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        on_payment: Callable[[Receipt], None] | None = None,
    ) -> None:
        super().__init__(
            wallet,
            network=network,
            base_url=base_url,
            limits=limits,
            ledger=ledger,
            rpc_url=rpc_url,
            on_payment=on_payment,
        )
        self._http = httpx.AsyncClient(
            base_url=self.settings.base_url,
            timeout=DEFAULT_TIMEOUT if timeout is None else timeout,
            transport=AsyncX402Transport(
                self.wallet,
                network=self.settings.network,
                limits=self.settings.limits,
                ledger=self.ledger,
                transport=transport,
                on_payment=self._paid,
            ),
        )
        self.services = AsyncServices(self)
        self.countries = AsyncCountries(self)
        self.account = AsyncAccount(self)
        self.orders = AsyncOrders(self)
        self.payments = AsyncPayments(self._ledger_view())

    async def call(
        self, call: Call[T], *, intent: str | None = None, max_price: Amount | None = None
    ) -> T:
        """Send one `Call`. `intent` names the purchase; above `max_price` USDC nothing is paid."""
        request = request_for(self._http, call, intent=intent, max_price=max_price)
        try:
            response = await self._http.send(request, stream=True)
        except httpx.TransportError as error:
            raise unreachable(request, error) from error
        try:
            await response.aread()
        except httpx.TransportError as error:
            raise cut_short(response, error) from error
        finally:
            await response.aclose()
        return result_of(call, response)

    async def receive_code(
        self,
        service: str,
        *,
        max_price: Amount,
        on_number: Callable[[str], None] | None = None,
        on_event: Callable[[Event], None] | None = None,
        country: str | None = None,
        timeout: float = 180,  # noqa: ASYNC109  how long to wait for an SMS, not for a call
        intent: str | None = None,
    ) -> Code:
        """`Client.receive_code`, to be awaited. A task that is cancelled cancels the order."""
        watch = _watch(on_number, on_event)

        async def perform(effect: Effect) -> object:
            match effect:
                case Make():
                    return await self.call(
                        effect.call, intent=effect.intent, max_price=effect.max_price
                    )
                case Announce():
                    watch(effect.event)
                case Now():
                    return time.monotonic()
                case Sleep():
                    await anyio.sleep(effect.seconds)
                case _:
                    assert_never(effect)
            return None

        ceiling = to_usdc(parse_usdc(max_price))
        job = receive_code(
            service, max_price=ceiling, country=country, timeout=timeout, intent=intent
        )
        return await drive_async(job, perform)

    async def aclose(self) -> None:
        await self._http.aclose()
        self._close_ledger()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


def _watch(
    on_number: Callable[[str], None] | None, on_event: Callable[[Event], None] | None
) -> Callable[[Event], None]:
    def watch(event: Event) -> None:
        if on_event is not None:
            on_event(event)
        if on_number is not None and isinstance(event, Bought):
            on_number(event.order.phone_number or "")

    return watch
