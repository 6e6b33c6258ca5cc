"""The 18 documented endpoints, each a function that returns a `Call`: a request not yet made.

Any call may end in Unauthorized, RateLimited, ServerError, HostNotServing or UnreadableResponse
when it is made; the docstrings name only what is particular to each. An argument that cannot be
right (an order id with a slash, a negative number of hours) raises ValueError here, before
anything is sent. Prices are Decimal USDC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar

from x402sms.text import one_line
from x402sms.virtualsms.arguments import at_least_one, country_code, encoded, one_part
from x402sms.virtualsms.models import (
    Balance,
    Cancellation,
    Country,
    Deposit,
    Offer,
    Order,
    OrderStatus,
    Page,
    Profile,
    Service,
    SmsResult,
    Stats,
    Transaction,
)
from x402sms.virtualsms.pages import read_page, read_rows
from x402sms.virtualsms.reading import parse_json, read, unreadable

__all__ = [
    "MAX_LONG_POLL_SECONDS",
    "PER_PAGE",
    "Call",
    "cancel_order",
    "confirm_order",
    "country_pricing",
    "create_order",
    "extend_rental",
    "find_cheapest",
    "get_balance",
    "get_order",
    "get_profile",
    "get_stats",
    "labelled",
    "labels_for",
    "list_countries",
    "list_orders",
    "list_services",
    "list_transactions",
    "parse_json",
    "release_rental",
    "service_availability",
    "swap_order",
    "topup",
    "wait_for_sms",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

MAX_LONG_POLL_SECONDS = 180
# What a path is made of beside ids and codes.
_ROUTE_WORDS = frozenset(
    {"", "services", "countries", "cheapest", "pricing", "availability"}
    | {"me", "balance", "stats", "transactions", "orders", "sms"}
    | {"swap", "cancel", "confirm", "extend", "release"}
)
PER_PAGE = 50
_LONGEST_LABEL = 100


@dataclass(frozen=True, kw_only=True)
class Call(Generic[T_co]):
    """One request to the API, and how to read its answer.

    `path` is relative to the root of the API and percent-encoded. `json` is the body, or None
    for none. `parse` takes the parsed JSON of a 2xx (see `parse_json`) and raises only
    UnreadableResponse. The answer may take `long_poll_seconds` longer than an ordinary one.
    `buys` is true for what costs money beyond the call itself. What has no body has one price by
    `route`, its path without its values; a body may set it. `labels` say in the ledger what it is
    for: the service and country that it names.
    """

    method: Literal["GET", "POST"]
    path: str
    parse: Callable[[Any], T_co]
    params: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, Any] | None = field(default=None, repr=False)  # may hold an API key
    long_poll_seconds: int = 0
    buys: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def route(self) -> str:
        """`/orders/ord_1/sms` is `/orders/:/sms`."""
        return "/".join(part if part in _ROUTE_WORDS else ":" for part in self.path.split("/"))


# Discovery


def list_services() -> Call[tuple[Service, ...]]:
    """`GET /services`: every service, 2,500 and more, in one answer."""
    return Call(
        method="GET", path="/services", parse=lambda body: read_rows(Service, body, "services")
    )


def list_countries() -> Call[tuple[Country, ...]]:
    """`GET /countries`: every country, 145 and more, in one answer."""
    return Call(
        method="GET", path="/countries", parse=lambda body: read_rows(Country, body, "countries")
    )


def find_cheapest(service: str) -> Call[Offer]:
    """`GET /services/:service/cheapest`: the country with the lowest price in USDC.

    Raises ServiceNotFound, and NoStock where no country has a number.
    """
    service = _service(service)
    return Call(
        method="GET",
        path=f"/services/{encoded(service)}/cheapest",
        labels=labels_for(service=service),
        parse=lambda body: _complete(read(Offer, body), service=service),
    )


def country_pricing(iso2: str) -> Call[tuple[Offer, ...]]:
    """`GET /countries/:iso2/pricing`: price in USDC and stock of each service there.

    Raises CountryNotFound.
    """
    country = country_code(iso2)
    return Call(
        method="GET",
        path=f"/countries/{encoded(country)}/pricing",
        labels=labels_for(country=country),
        parse=lambda body: tuple(
            _complete(offer, country=country) for offer in read_rows(Offer, body, "pricing")
        ),
    )


def service_availability(service: str) -> Call[tuple[Offer, ...]]:
    """`GET /services/:service/availability`: price in USDC and stock in each country.

    Raises ServiceNotFound.
    """
    service = _service(service)
    return Call(
        method="GET",
        path=f"/services/{encoded(service)}/availability",
        labels=labels_for(service=service),
        parse=lambda body: tuple(
            _complete(offer, service=service) for offer in read_rows(Offer, body, "availability")
        ),
    )


# Account


def get_profile() -> Call[Profile]:
    """`GET /me`: the account's e-mail address, balance in USDC and plan."""
    return Call(method="GET", path="/me", parse=lambda body: read(Profile, body))


def get_balance() -> Call[Balance]:
    """`GET /me/balance`: the balance and its currency."""
    return Call(method="GET", path="/me/balance", parse=lambda body: read(Balance, body))


def get_stats() -> Call[Stats]:
    """`GET /me/stats`: the number of orders ever made, and the USDC spent on them."""
    return Call(method="GET", path="/me/stats", parse=lambda body: read(Stats, body))


def list_transactions(page: int = 1, *, per_page: int = PER_PAGE) -> Call[Page[Transaction]]:
    """`GET /me/transactions`: one page of the account's ledger; the first page is 1.

    The reference does not say how to ask for a page: `page` and `per_page` are our reading.
    """
    return Call(
        method="GET",
        path="/me/transactions",
        params=_paging(page, per_page),
        parse=lambda body: read_page(Transaction, body, page=page, per_page=per_page),
    )


LEAST_TOPUP, MOST_TOPUP = 2, 10_000  # USD


def topup(
    url: str, amount: int, api_key: str | None = None, metadata: Mapping[str, str] | None = None
) -> Call[Deposit]:
    """`POST` to the deposit endpoint at `url`, by x402 v1: `amount` whole USD onto the balance of
    the account that `api_key` is of, or of a new one.

    Not in the reference: the vendor's newer pages describe it. Raises Unauthorized for a key that
    is not known.
    """
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise ValueError("a top-up is a whole number of USD")
    if not LEAST_TOPUP <= amount <= MOST_TOPUP:
        raise ValueError(f"a top-up is {LEAST_TOPUP} to {MOST_TOPUP} USD")
    body: dict[str, Any] = {"amount_usd": amount}
    if metadata is not None:
        body["metadata"] = dict(metadata)
    if api_key is not None:
        body["api_key"] = api_key
    return Call(method="POST", path=url, json=body, parse=lambda answer: read(Deposit, answer))


# Orders


def create_order(service: str, country: str, rental_hours: int | None = None) -> Call[Order]:
    """`POST /orders`: buy a number; with `rental_hours`, rent it for so many hours.

    Gives the order with its id, number, end and price; an answer without a status is `created`.
    Raises ServiceNotFound, CountryNotFound, NoStock, InsufficientBalance, ValidationFailed.
    """
    body: dict[str, Any] = {"service": _service(service), "country": country_code(country)}
    known = {**body, "status": OrderStatus.CREATED}
    if rental_hours is not None:
        body["rental_hours"] = at_least_one("rental_hours", rental_hours)
    return Call(
        method="POST",
        path="/orders",
        json=body,
        parse=lambda answer: _order(answer, known),
        buys=True,
        labels=labels_for(service=body["service"], country=body["country"]),
    )


def list_orders(
    page: int = 1, *, status: OrderStatus | str | None = None, per_page: int = PER_PAGE
) -> Call[Page[Order]]:
    """`GET /orders`: one page of active and recent orders; the first page is 1.

    The reference does not say how to ask for a page or for a status: `page`, `per_page` and
    `status` are our reading.
    """
    params = _paging(page, per_page)
    if status is not None:
        params["status"] = str(status)
    return Call(
        method="GET",
        path="/orders",
        params=params,
        parse=lambda body: read_page(Order, body, page=page, per_page=per_page),
    )


def get_order(order_id: str) -> Call[Order]:
    """`GET /orders/:id`: the order as it stands now. Raises OrderNotFound."""
    order_id = _safe_id(order_id)
    return Call(
        method="GET",
        path=_order_path(order_id),
        parse=lambda body: _order(body, {"order_id": order_id}),
    )


def wait_for_sms(order_id: str, timeout: int = MAX_LONG_POLL_SECONDS) -> Call[SmsResult]:
    """`GET /orders/:id/sms`: wait up to `timeout` whole seconds (0 to 180) for an SMS.

    Counts as one request for the rate limit, however long it takes. The reference does not say
    how to ask for the time: `timeout` in the query is our reading; 0 only looks. An answer with
    no SMS is a result whose `has_sms` is false. Raises OrderNotFound, OrderExpired.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int):
        raise ValueError("timeout is a whole number of seconds")
    if not 0 <= timeout <= MAX_LONG_POLL_SECONDS:
        raise ValueError(f"timeout is between 0 and {MAX_LONG_POLL_SECONDS} seconds")
    return Call(
        method="GET",
        path=_order_path(order_id, "sms"),
        params={"timeout": str(timeout)},
        parse=lambda body: read(SmsResult, body),
        long_poll_seconds=timeout,
    )


def swap_order(order_id: str) -> Call[Order]:
    """`POST /orders/:id/swap`: another number for the same order, free.

    The answer may carry `previous_number`, and leave out most of what did not change; without a
    status it is `waiting`. Raises CooldownActive, OrderNotFound, OrderAlreadyConfirmed,
    OrderExpired, and NoStock where there is no other number.
    """
    return _change(order_id, "swap", OrderStatus.WAITING)


def cancel_order(order_id: str) -> Call[Cancellation]:
    """`POST /orders/:id/cancel`: give the number back for a full refund in USDC.

    Only before an SMS arrives; it races with one that is arriving. Raises CooldownActive,
    OrderNotFound, OrderAlreadyConfirmed, OrderExpired, and ValidationFailed for an order that is
    cancelled already.
    """
    return Call(method="POST", path=_order_path(order_id, "cancel"), parse=_cancellation)


def confirm_order(order_id: str) -> Call[Order]:
    """`POST /orders/:id/confirm`: finalize the charge. Without a status it is `confirmed`.

    Raises OrderNotFound, OrderExpired.
    """
    return _change(order_id, "confirm", OrderStatus.CONFIRMED)


def extend_rental(order_id: str, hours: int) -> Call[Order]:
    """`POST /orders/:id/extend`: buy so many more hours of a rental.

    An answer without a status is `waiting`. Raises OrderNotFound, OrderExpired,
    InsufficientBalance, ValidationFailed.
    """
    return _change(
        order_id,
        "extend",
        OrderStatus.WAITING,
        json={"hours": at_least_one("hours", hours)},
        buys=True,
    )


def release_rental(order_id: str) -> Call[Order]:
    """`POST /orders/:id/release`: end a rental early. Without a status it is `completed`.

    Whether anything is refunded varies. Raises OrderNotFound, OrderExpired.
    """
    return _change(order_id, "release", OrderStatus.COMPLETED)


def _change(
    order_id: str,
    action: str,
    status: OrderStatus,
    *,
    json: Mapping[str, Any] | None = None,
    buys: bool = False,
) -> Call[Order]:
    """A POST that changes an order. The reference does not say what the answer holds."""
    order_id = _safe_id(order_id)
    return Call(
        method="POST",
        path=_order_path(order_id, action),
        json=json,
        parse=lambda body: _order(body, {"order_id": order_id, "status": status}),
        buys=buys,
    )


def _order(body: Any, known: Mapping[str, Any]) -> Order:
    """The order in an answer, completed with what the call itself knows."""
    if isinstance(body, Mapping):
        if body.get("success") is False:
            raise unreadable(body, "success: false in an answer that is no error")
        body = {**body, **{key: known[key] for key in _left_out(body, known)}}
    return read(Order, body)


_OTHER_NAMES = {"order_id": "id", "service": "service_id", "country": "country_id"}


def _left_out(body: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    return [
        key
        for key in known
        if body.get(key) is None and body.get(_OTHER_NAMES.get(key, key)) is None
    ]


def _complete(offer: Offer, *, service: str | None = None, country: str | None = None) -> Offer:
    return offer.model_copy(
        update={"service": offer.service or service, "country": offer.country or country}
    )


def _cancellation(body: Any) -> Cancellation:
    """`{success, status, refund_amount}`; one of the first two is enough."""
    if isinstance(body, Mapping):
        if body.get("status") is None and body.get("success") is True:
            body = {**body, "status": OrderStatus.CANCELLED}
        elif body.get("success") is None:
            body = {**body, "success": body.get("status") == OrderStatus.CANCELLED}
    return read(Cancellation, body)


def labelled(call: Call[T], order: Order | None, more: Mapping[str, str]) -> Call[T]:
    """`call` with what `order` is for, where there is one, and with `more`."""
    known = {} if order is None else labels_for(service=order.service, country=order.country)
    return replace(call, labels={**more, **known, **call.labels})


def labels_for(**known: str | None) -> dict[str, str]:
    """As the ledger keeps them, without what is not known: an answer's words are a stranger's."""
    shown = {name: one_line(text or "", _LONGEST_LABEL) for name, text in known.items()}
    return {name: text for name, text in shown.items() if text}


def _paging(page: int, per_page: int) -> dict[str, str]:
    return {
        "page": str(at_least_one("page", page)),
        "per_page": str(at_least_one("per_page", per_page)),
    }


def _order_path(order_id: str, action: str = "") -> str:
    path = f"/orders/{encoded(_safe_id(order_id))}"
    return f"{path}/{action}" if action else path


def _safe_id(order_id: str) -> str:
    return one_part("an order id", order_id)


def _service(service: str) -> str:
    return one_part("a service", service)
