"""The service as typed methods: `Client` and, method for method its twin, `AsyncClient`.

Each method is one `Call` (see `virtualsms/calls.py` for shapes, units and errors), sent over a
paying transport. Beside the errors named there every method may raise PaymentError, ClockSkew,
LedgerError and HostNotReachable, and ValueError for an argument that cannot be right.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from itertools import takewhile
from types import TracebackType
from typing import Any, Self, TypeVar, assert_never

import anyio
import httpx

from x402sms.base_client import BaseClient
from x402sms.driver import drive, drive_async
from x402sms.errors import AlreadyPaid, PaymentUnknown, UnreadableResponse, X402SMSError
from x402sms.exchange import (
    READ_TRIES,
    cut_short,
    receipt_of,
    request_for,
    result_of,
    unreachable,
)
from x402sms.ledger import Ledger
from x402sms.limits import Amount, SpendLimits
from x402sms.money import parse_usdc, to_usdc
from x402sms.protocol.networks import Network
from x402sms.protocol.types import Receipt
from x402sms.recovery import not_older, since
from x402sms.resources import (
    Account,
    AsyncAccount,
    AsyncCountries,
    AsyncOrders,
    AsyncPayments,
    AsyncServices,
    Countries,
    Orders,
    Services,
)
from x402sms.steady import in_thread
from x402sms.transport import AsyncX402Transport, X402Transport
from x402sms.virtualsms.calls import Call
from x402sms.virtualsms.models import Order
from x402sms.virtualsms.verification import (
    Announce,
    Bought,
    Buy,
    Code,
    Effect,
    Event,
    Make,
    Now,
    Sleep,
    receive_code,
)
from x402sms.wallet import Signer

DEFAULT_TIMEOUT = httpx.Timeout(30, connect=10)

# A purchase may have been paid for although it ended so.
LOST = (AlreadyPaid, PaymentUnknown, UnreadableResponse)

T = TypeVar("T")


class Client(BaseClient):
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
                rpc_url=self.settings.rpc_url,
                transport=transport,
                on_payment=self._paid,
            ),
        )
        self.services = Services(self)
        self.countries = Countries(self)
        self.account = Account(self)
        self.orders = Orders(self)
        self.payments = self._ledger_view()

    def build_request(
        self, call: Call[Any], *, intent: str | None = None, max_price: Amount | None = None
    ) -> httpx.Request:
        return request_for(self._http, call, intent=intent, max_price=max_price)

    def call(
        self, call: Call[T], *, intent: str | None = None, max_price: Amount | None = None
    ) -> T:
        """Send one `Call`. `intent` names the purchase; above `max_price` USDC nothing is paid."""
        request = self.build_request(call, intent=intent, max_price=max_price)
        return result_of(call, self._answer(request))

    def create_order(
        self, call: Call[Order], *, intent: str | None = None, max_price: Amount | None = None
    ) -> Order:
        """`call` for `POST /orders`: an order that was paid for while its answer was lost is found
        in `GET /orders` and returned; `last_receipt` says so."""
        request = self.build_request(call, intent=intent, max_price=max_price)
        try:
            response = self._answer(request)
            order = result_of(call, response)
        except LOST as error:
            found = self._found_instead(error)
            if found is None:
                raise
            return found
        self._delivered(receipt_of(response), order)
        return order

    def _found_instead(self, lost: Exception) -> Order | None:
        """The order whose answer was lost. What goes wrong in looking is a note to that error."""
        try:
            payment = self._payment_of(lost)
            if payment is None:
                return None
            for _ in range(READ_TRIES):
                orders = self._orders_since(since([payment]))
                order, contested = self._match(payment, orders)
                if order is not None or not contested:
                    return order
        except X402SMSError as error:
            lost.add_note(f"looking for the order in GET /orders failed: {error}")
        return None

    def _orders_since(self, earliest: datetime) -> list[Order]:
        return list(takewhile(lambda order: not_older(order, earliest), self.orders.list()))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        """The answer with its body read: of a paid one that is cut short, at another try."""
        for tries_left in reversed(range(READ_TRIES)):
            try:
                response = self._http.send(request, stream=True)
            except httpx.TransportError as error:
                raise unreachable(request, error) from error
            try:
                response.read()
                break
            except httpx.TransportError as error:
                if receipt_of(response) is None or not tries_left:
                    raise cut_short(response, error) from error
            finally:
                response.close()
        self.last_receipt = receipt_of(response) or self.last_receipt
        return response

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

        Nothing dearer is signed, for the number or for any of the small calls around it.

        `on_number` gets the number, to be typed in where the code is wanted; `on_event` all that
        happens. Whatever goes wrong after the purchase, the order is cancelled for its refund.

        Raises SpendLimitExceeded, NoStock, ServiceNotFound; NoCodeReceived, saying whether the
        order was cancelled.
        """
        watch = _watch(on_number, on_event)

        def perform(effect: Effect) -> object:
            match effect:
                case Make():
                    return self.call(effect.call, max_price=ceiling)
                case Buy():
                    return self.create_order(
                        effect.call, intent=effect.intent, max_price=effect.max_price
                    )
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


class AsyncClient(BaseClient):
    """`Client`, to be awaited. An async context manager, for asyncio."""

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
                rpc_url=self.settings.rpc_url,
                transport=transport,
                on_payment=self._paid,
            ),
        )
        self.services = AsyncServices(self)
        self.countries = AsyncCountries(self)
        self.account = AsyncAccount(self)
        self.orders = AsyncOrders(self)
        self.payments = AsyncPayments(self._ledger_view())

    def build_request(
        self, call: Call[Any], *, intent: str | None = None, max_price: Amount | None = None
    ) -> httpx.Request:
        return request_for(self._http, call, intent=intent, max_price=max_price)

    async def call(
        self, call: Call[T], *, intent: str | None = None, max_price: Amount | None = None
    ) -> T:
        """Send one `Call`. `intent` names the purchase; above `max_price` USDC nothing is paid."""
        request = self.build_request(call, intent=intent, max_price=max_price)
        return result_of(call, await self._answer(request))

    async def create_order(
        self, call: Call[Order], *, intent: str | None = None, max_price: Amount | None = None
    ) -> Order:
        """`call` for `POST /orders`: an order that was paid for while its answer was lost is found
        in `GET /orders` and returned; `last_receipt` says so."""
        request = self.build_request(call, intent=intent, max_price=max_price)
        try:
            response = await self._answer(request)
            order = result_of(call, response)
        except LOST as error:
            found = await self._found_instead(error)
            if found is None:
                raise
            return found
        await in_thread(partial(self._delivered, receipt_of(response)), order)
        return order

    async def _found_instead(self, lost: Exception) -> Order | None:
        """The order whose answer was lost. What goes wrong in looking is a note to that error."""
        try:
            payment = await in_thread(self._payment_of, lost)
            if payment is None:
                return None
            for _ in range(READ_TRIES):
                orders = await self._orders_since(since([payment]))
                order, contested = await in_thread(partial(self._match, payment), orders)
                if order is not None or not contested:
                    return order
        except X402SMSError as error:
            lost.add_note(f"looking for the order in GET /orders failed: {error}")
        return None

    async def _orders_since(self, earliest: datetime) -> list[Order]:
        orders: list[Order] = []
        async for order in self.orders.list():
            if not not_older(order, earliest):
                break
            orders.append(order)
        return orders

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        """The answer with its body read: of a paid one that is cut short, at another try."""
        for tries_left in reversed(range(READ_TRIES)):
            try:
                response = await self._http.send(request, stream=True)
            except httpx.TransportError as error:
                raise unreachable(request, error) from error
            try:
                await response.aread()
                break
            except httpx.TransportError as error:
                if receipt_of(response) is None or not tries_left:
                    raise cut_short(response, error) from error
            finally:
                await response.aclose()
        self.last_receipt = receipt_of(response) or self.last_receipt
        return response

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

        ceiling = to_usdc(parse_usdc(max_price))
        stopped = False

        async def perform(effect: Effect) -> object:
            # Once cancelled, the order is still to be cancelled: what is left is shielded, since
            # a cancel scope would cancel each of its calls again.
            nonlocal stopped
            result: object = None
            with anyio.CancelScope(shield=stopped):
                try:
                    result = await do(effect)
                except anyio.get_cancelled_exc_class():
                    stopped = True
                    raise
            return result

        async def do(effect: Effect) -> object:
            match effect:
                case Make():
                    return await self.call(effect.call, max_price=ceiling)
                case Buy():
                    return await self.create_order(
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
