"""`sms.services`, `sms.orders` and so on: one line a call, in both colours.

Shapes, units and errors stand with the calls themselves, in `virtualsms/calls.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Protocol, TypeVar

from x402sms.limits import Amount
from x402sms.protocol.labels import checked_labels
from x402sms.virtualsms import calls
from x402sms.virtualsms.calls import Call
from x402sms.virtualsms.models import (
    Balance,
    Cancellation,
    Country,
    Offer,
    Order,
    OrderStatus,
    Page,
    Profile,
    Service,
    Sms,
    SmsResult,
    Stats,
    Transaction,
)
from x402sms.virtualsms.names import matches

T = TypeVar("T")
LONGEST_POLL = calls.MAX_LONG_POLL_SECONDS


class Caller(Protocol):
    """What sends a `Call`: `Client`."""

    def call(
        self, call: Call[T], *, intent: str | None = None, max_price: Amount | None = None
    ) -> T: ...

    def create_order(
        self, call: Call[Order], *, intent: str | None = None, max_price: Amount | None = None
    ) -> Order: ...

    def listen_to(self, order_id: str) -> Listener: ...


class Listener(Protocol):
    """Who has the messages of an order."""

    def messages(self, timeout: float) -> Iterator[Sms]: ...


class AsyncListener(Protocol):
    """Who has the messages of an order, awaited."""

    def messages(self, timeout: float) -> AsyncIterator[Sms]: ...


class AsyncCaller(Protocol):
    """What sends a `Call`, awaited: `AsyncClient`."""

    async def call(
        self, call: Call[T], *, intent: str | None = None, max_price: Amount | None = None
    ) -> T: ...

    async def create_order(
        self, call: Call[Order], *, intent: str | None = None, max_price: Amount | None = None
    ) -> Order: ...

    def listen_to(self, order_id: str) -> AsyncListener: ...


class _Resource:
    def __init__(self, client: Caller) -> None:
        self._client = client


class _AsyncResource:
    def __init__(self, client: AsyncCaller) -> None:
        self._client = client


class Services(_Resource):
    """What numbers can be had for."""

    def list(self) -> tuple[Service, ...]:
        return self._client.call(calls.list_services())

    def search(self, text: str) -> tuple[Service, ...]:
        """Those whose id or name contains `text`; asks for the whole list, one paid call."""
        return _search(self.list(), text)

    def cheapest(self, service: str) -> Offer:
        return self._client.call(calls.find_cheapest(service))

    def availability(self, service: str) -> tuple[Offer, ...]:
        return self._client.call(calls.service_availability(service))


class AsyncServices(_AsyncResource):
    """`Services`, to be awaited."""

    async def list(self) -> tuple[Service, ...]:
        return await self._client.call(calls.list_services())

    async def search(self, text: str) -> tuple[Service, ...]:
        """Those whose id or name contains `text`; asks for the whole list, one paid call."""
        return _search(await self.list(), text)

    async def cheapest(self, service: str) -> Offer:
        return await self._client.call(calls.find_cheapest(service))

    async def availability(self, service: str) -> tuple[Offer, ...]:
        return await self._client.call(calls.service_availability(service))


class Countries(_Resource):
    """Where numbers are from, by ISO 3166-1 alpha-2 code."""

    def list(self) -> tuple[Country, ...]:
        return self._client.call(calls.list_countries())

    def pricing(self, country: str) -> tuple[Offer, ...]:
        return self._client.call(calls.country_pricing(country))


class AsyncCountries(_AsyncResource):
    """`Countries`, to be awaited."""

    async def list(self) -> tuple[Country, ...]:
        return await self._client.call(calls.list_countries())

    async def pricing(self, country: str) -> tuple[Offer, ...]:
        return await self._client.call(calls.country_pricing(country))


class Account(_Resource):
    """The account behind the wallet."""

    def profile(self) -> Profile:
        return self._client.call(calls.get_profile())

    def balance(self) -> Balance:
        return self._client.call(calls.get_balance())

    def stats(self) -> Stats:
        return self._client.call(calls.get_stats())

    def transactions(self) -> Iterator[Transaction]:
        """Newest first as the service sends them; each page is a paid call, made when needed."""
        return _rows(self._client, calls.list_transactions)


class AsyncAccount(_AsyncResource):
    """`Account`, to be awaited."""

    async def profile(self) -> Profile:
        return await self._client.call(calls.get_profile())

    async def balance(self) -> Balance:
        return await self._client.call(calls.get_balance())

    async def stats(self) -> Stats:
        return await self._client.call(calls.get_stats())

    def transactions(self) -> AsyncIterator[Transaction]:
        """Newest first as the service sends them; each page is a paid call, made when needed."""
        return _async_rows(self._client, calls.list_transactions)


class Orders(_Resource):
    """Numbers bought or rented."""

    def create(
        self,
        service: str,
        country: str,
        *,
        rental_hours: int | None = None,
        max_price: Amount | None = None,
        intent: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Order:
        """Buy a number. Above `max_price` (USDC) nothing is signed. `labels` say in the ledger what
        it is for, beside its service and country."""
        call = _number(service, country, rental_hours, labels)
        return self._client.create_order(call, intent=intent, max_price=max_price)

    def list(self, *, status: OrderStatus | str | None = None) -> Iterator[Order]:
        """Active and recent orders; each page is a paid call, made when needed."""
        return _rows(self._client, lambda page: calls.list_orders(page, status=status))

    def get(self, order_id: str) -> Order:
        return self._client.call(calls.get_order(order_id))

    def wait_for_sms(self, order_id: str, timeout: int = LONGEST_POLL) -> SmsResult:
        """One long-poll of at most 180 s, one paid call."""
        return self._client.call(calls.wait_for_sms(order_id, timeout))

    def messages(self, order_id: str, timeout: float = LONGEST_POLL) -> Iterator[Sms]:
        """Each message of an order once, as it comes; ends after `timeout` seconds without one.

        Each long-poll is a paid call.
        """
        return self._client.listen_to(order_id).messages(timeout)

    def swap(self, order_id: str) -> Order:
        return self._client.call(calls.swap_order(order_id))

    def cancel(self, order_id: str) -> Cancellation:
        return self._client.call(calls.cancel_order(order_id))

    def confirm(self, order_id: str) -> Order:
        return self._client.call(calls.confirm_order(order_id))

    def extend(
        self,
        order_id: str,
        hours: int,
        *,
        max_price: Amount | None = None,
        intent: str | None = None,
    ) -> Order:
        """Buy more hours of a rental. Above `max_price` (USDC) nothing is signed."""
        call = calls.extend_rental(order_id, hours)
        return self._client.call(call, intent=intent, max_price=max_price)

    def release(self, order_id: str) -> Order:
        return self._client.call(calls.release_rental(order_id))


class AsyncOrders(_AsyncResource):
    """`Orders`, to be awaited."""

    async def create(
        self,
        service: str,
        country: str,
        *,
        rental_hours: int | None = None,
        max_price: Amount | None = None,
        intent: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Order:
        """Buy a number. Above `max_price` (USDC) nothing is signed. `labels` say in the ledger what
        it is for, beside its service and country."""
        call = _number(service, country, rental_hours, labels)
        return await self._client.create_order(call, intent=intent, max_price=max_price)

    def list(self, *, status: OrderStatus | str | None = None) -> AsyncIterator[Order]:
        """Active and recent orders; each page is a paid call, made when needed."""
        return _async_rows(self._client, lambda page: calls.list_orders(page, status=status))

    async def get(self, order_id: str) -> Order:
        return await self._client.call(calls.get_order(order_id))

    async def wait_for_sms(
        self,
        order_id: str,
        timeout: int = LONGEST_POLL,  # noqa: ASYNC109  the server's time to wait, not ours
    ) -> SmsResult:
        """One long-poll of at most 180 s, one paid call."""
        return await self._client.call(calls.wait_for_sms(order_id, timeout))

    def messages(
        self,
        order_id: str,
        timeout: float = LONGEST_POLL,
    ) -> AsyncIterator[Sms]:
        """Each message of an order once, as it comes; ends after `timeout` seconds without one.

        Each long-poll is a paid call.
        """
        return self._client.listen_to(order_id).messages(timeout)

    async def swap(self, order_id: str) -> Order:
        return await self._client.call(calls.swap_order(order_id))

    async def cancel(self, order_id: str) -> Cancellation:
        return await self._client.call(calls.cancel_order(order_id))

    async def confirm(self, order_id: str) -> Order:
        return await self._client.call(calls.confirm_order(order_id))

    async def extend(
        self,
        order_id: str,
        hours: int,
        *,
        max_price: Amount | None = None,
        intent: str | None = None,
    ) -> Order:
        """Buy more hours of a rental. Above `max_price` (USDC) nothing is signed."""
        call = calls.extend_rental(order_id, hours)
        return await self._client.call(call, intent=intent, max_price=max_price)

    async def release(self, order_id: str) -> Order:
        return await self._client.call(calls.release_rental(order_id))


def _number(
    service: str, country: str, rental_hours: int | None, labels: Mapping[str, str] | None
) -> Call[Order]:
    call = calls.create_order(service, country, rental_hours)
    return calls.labelled(call, None, checked_labels(labels or {}))


def _search(services: tuple[Service, ...], text: str) -> tuple[Service, ...]:
    return tuple(service for service in services if matches(text, service.id, service.name))


def _rows(client: Caller, page_call: Callable[[int], Call[Page[T]]]) -> Iterator[T]:
    number: int | None = 1
    while number is not None:
        page = client.call(page_call(number))
        yield from page.items
        number = page.next_page


async def _async_rows(
    client: AsyncCaller, page_call: Callable[[int], Call[Page[T]]]
) -> AsyncIterator[T]:
    number: int | None = 1
    while number is not None:
        page = await client.call(page_call(number))
        for item in page.items:
            yield item
        number = page.next_page
