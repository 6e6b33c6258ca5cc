"""What an answer to a purchase from a balance says, and what is written down of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.buyer import COLOURS, Colour
from tests.facade import facade
from x402sms import PaymentState
from x402sms.account_books import IDEMPOTENCY_KEY, MOST_CHARGED, charged_atomic, idempotency_key
from x402sms.errors import HostNotReachable, PaymentUnknown, SpendLimitExceeded, X402SMSError
from x402sms.ledger import Charge, open_ledger
from x402sms.looking import ARRIVED_BY_NOW

BASE = "https://api.example/api/v2"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OFFERS = [{"country": "US", "price": "0.10", "stock": 5}]
GOOD = {"order_id": "ord_1", "phone_number": "+15550001111", "price": "0.10", "status": "waiting"}

Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> Colour:
    colour: Colour = request.param
    return colour


class Service:
    """A service whose answers a test writes: to a purchase, and to whoever asks for the list."""

    def __init__(self, bought: Answer, listed: Answer | None = None) -> None:
        self.bought = bought
        self.listed = listed or (lambda request: httpx.Response(200, json=[]))
        self.asked: list[httpx.Request] = []
        self.at = NOW.timestamp()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if request.url.path.endswith("/availability"):
            return httpx.Response(200, json=OFFERS)
        if request.method == "POST":
            return self.bought(request)
        return self.listed(request)

    @property
    def posts(self) -> list[httpx.Request]:
        return [request for request in self.asked if request.method == "POST"]

    def now(self) -> float:
        return self.at

    time = now

    def sleep(self, seconds: float) -> None:
        self.at += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


@contextmanager
def buying(colour: Colour, service: Service, **settings: Any) -> Iterator[Any]:
    with facade(
        colour,
        api_key="sk_live_0123456789",
        base_url=BASE,
        ledger=":memory:",
        transport=httpx.MockTransport(service),
        clock=service,
        **settings,
    ) as sms:
        yield sms


def create(sms: Any, intent: str = "a") -> Any:
    try:
        return sms.orders.create("telegram", "US", intent=intent)
    except X402SMSError as error:
        return error


def state_of(sms: Any, intent: str = "a") -> PaymentState:
    [charge] = [each for each in sms.ledger.charges.list() if each.intent == intent]
    state: PaymentState = charge.state
    return state


def says(status: int, kind: str | None = None, **headers: str) -> Answer:
    body = {"type": f"https://api.example/errors/{kind}", "status": status}
    html = {"content": b"<html><body>Bad Gateway</body></html>"}
    given: dict[str, Any] = html if kind is None else {"json": body}
    return lambda request: httpx.Response(status, headers=headers, **given)


def fails(error: type[httpx.TransportError]) -> Answer:
    def failed(request: httpx.Request) -> httpx.Response:
        raise error("gone")

    return failed


# --- a no, or a doubt

NO: dict[str, Answer] = {
    "400": says(400, "validation"),
    "401": says(401, "unauthorized"),
    "402": says(402, "insufficient-balance"),
    "403": says(403),
    "404": says(404, "service-not-found"),
    "404 of another program": says(404),
    "410": says(410, "order-expired"),
    "413": says(413),
    "425": says(425, "cooldown"),
    "429": says(429, "rate-limited", **{"Retry-After": "7"}),
    "503 no stock": says(503, "no-stock"),
    "not reached": fails(httpx.ConnectError),
    "no place in the pool": fails(httpx.PoolTimeout),
}
IN_DOUBT: dict[str, Answer] = {
    "408": says(408, "timeout"),
    "409, in progress": says(409, "request-in-progress"),
    "422, the name was used": says(422, "idempotency-key-reused"),
    "301": says(301, Location="https://other.example/"),
    "307": says(307, Location="/api/v2/orders"),
    "500": says(500, "internal"),
    "500 that calls itself a 402": says(500, "insufficient-balance"),
    "502": says(502),
    "503 of a proxy": says(503),
    "504": says(504),
    "520": says(520),
    "200, and HTML": says(200),
    "200, and nothing": lambda request: httpx.Response(200),
    "200, and no order": lambda request: httpx.Response(200, json={"ok": True}),
    "200, and no success": lambda request: httpx.Response(200, json={**GOOD, "success": False}),
    "200, and a negative price": lambda request: httpx.Response(200, json={**GOOD, "price": "-1"}),
    "202, and a list": lambda request: httpx.Response(202, json=[GOOD]),
    "read time-out": fails(httpx.ReadTimeout),
    "write time-out": fails(httpx.WriteTimeout),
    "closed": fails(httpx.RemoteProtocolError),
}


@pytest.mark.parametrize("answer", NO.values(), ids=NO)
def test_after_a_clear_no_the_intent_may_be_asked_for_again(answer: Answer, colour: Colour) -> None:
    service = Service(answer)
    with buying(colour, service) as sms, sms.meter() as meter:
        error = create(sms)
        assert isinstance(error, X402SMSError)
        assert not isinstance(error, PaymentUnknown)
        assert (state_of(sms), meter.receipts) == (PaymentState.VOID, [])
        service.bought = lambda request: httpx.Response(200, json=GOOD)
        assert create(sms).order_id == "ord_1"
        assert state_of(sms) is PaymentState.SETTLED


@pytest.mark.parametrize("answer", IN_DOUBT.values(), ids=IN_DOUBT)
def test_any_other_answer_leaves_a_doubt_that_counts_and_nothing_is_asked_again(
    answer: Answer, colour: Colour
) -> None:
    service = Service(answer)
    with buying(colour, service) as sms, sms.meter() as meter:
        for _ in range(2):
            error = create(sms)
            assert isinstance(error, PaymentUnknown), error
            assert error.intent == "a"
            assert error.amount == Decimal("0.10")
            assert "'a'" in str(error)
        assert len(service.posts) == 1
        assert state_of(sms) is PaymentState.UNKNOWN
        assert (meter.total, len(meter.receipts)) == (Decimal("0.10"), 1)
        assert sms.last_receipt.state is PaymentState.UNKNOWN
        service.at += ARRIVED_BY_NOW
        service.bought = says(402, "insufficient-balance")
        create(sms)
        assert len(service.posts) == 2
        assert (state_of(sms), meter.total) == (PaymentState.VOID, 0)


def test_a_host_that_is_not_reached_has_sold_nothing(colour: Colour) -> None:
    with buying(colour, Service(fails(httpx.ConnectError))) as sms:
        assert isinstance(create(sms), HostNotReachable)


# --- the name of a purchase


def test_what_buys_is_named_by_its_intent_and_nothing_else_is(colour: Colour) -> None:
    ours = itertools.count(1)

    def good(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={**GOOD, "order_id": f"ord_{next(ours)}"})

    service = Service(good, good)
    with buying(colour, service) as sms:
        for intent in ("a", "b"):
            create(sms, intent)
        sms.orders.swap("ord_1")
        sms.orders.extend("ord_1", 4, intent="c")
    named = {(each.url.path, each.headers.get(IDEMPOTENCY_KEY)) for each in service.asked}
    assert {name for _, name in named} == {None, *map(idempotency_key, "abc")}
    assert ("/api/v2/orders/ord_1/swap", None) in named
    assert ("/api/v2/orders/ord_1/extend", idempotency_key("c")) in named


def test_a_name_does_not_tell_the_intent_and_is_always_the_same() -> None:
    name = idempotency_key("invoice-7")
    assert "invoice" not in name
    assert len(name) == 64
    assert idempotency_key("invoice-7") == name != idempotency_key("invoice-8")


# --- what a list must show before it is believed


def _pages(count: int, each: timedelta) -> Answer:
    """So many pages of other people's orders, each a little older than the one before."""

    def listed(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params["page"])
        rows = [
            {
                "order_id": f"ord_{page}_{row}",
                "status": "cancelled",
                "service": "signal",
                "country": "DE",
                "created_at": (NOW + timedelta(hours=1) - each * (20 * page + row)).isoformat(),
            }
            for row in range(20)
        ]
        if count == 1:
            return httpx.Response(200, json=rows)
        return httpx.Response(200, json={"data": rows, "page": page, "has_more": page < count})

    return listed


@pytest.mark.parametrize(
    ("pages", "each", "posts"),
    [
        (1000, timedelta(seconds=1), 1),
        (1, timedelta(seconds=1), 1),
        (1000, timedelta(seconds=20), 2),
    ],
    ids=["more pages than are read", "one page of no known end", "it goes back beyond it"],
)
def test_a_list_that_does_not_go_back_so_far_shows_nothing(
    pages: int, each: timedelta, posts: int, colour: Colour
) -> None:
    service = Service(says(500, "internal"), _pages(pages, each))
    with buying(colour, service, requests_per_minute=None) as sms:
        assert isinstance(create(sms), PaymentUnknown)
        service.at += 2 * ARRIVED_BY_NOW
        assert isinstance(create(sms), PaymentUnknown)
        assert len(service.posts) == posts


# --- limits that the listed price breaks


@pytest.mark.parametrize("listed", ["0.1000001", "9" * 40, "1.01"])
def test_a_listed_price_above_the_ceiling_is_not_asked_for(listed: str, colour: Colour) -> None:
    service = Service(lambda request: httpx.Response(200, json=GOOD))
    offers = [{**OFFERS[0], "price": listed}]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/availability"):
            return httpx.Response(200, json=offers)
        return service(request)

    with facade(
        colour,
        api_key="sk_live_0123456789",
        base_url=BASE,
        ledger=":memory:",
        transport=httpx.MockTransport(answer),
    ) as sms:
        with pytest.raises(SpendLimitExceeded, match="nothing bought"):
            sms.orders.create("telegram", "US", max_price="0.10")
        assert service.posts == []
        assert sms.ledger.charges.list() == []


# --- what the ledger keeps


def _charge(**changes: Any) -> Charge:
    return replace(Charge("key:1", "a", "a number", f"{BASE}/orders", 10), **changes)


def test_what_was_asked_for_anew_is_not_voided_by_who_saw_it_before() -> None:
    with closing(open_ledger(":memory:")) as ledger:
        charges = ledger.charges
        charges.ask(_charge(), (), now=1000)
        seen = charges.get("key:1", "a")
        assert seen is not None
        assert charges.end(seen, PaymentState.VOID, now=1300)
        charges.ask(_charge(), (), now=1300)
        assert not charges.end(seen, PaymentState.VOID, now=1301)
        again = charges.get("key:1", "a")
        assert again is not None
        assert again.state is PaymentState.UNKNOWN
        assert charges.end(again, PaymentState.VOID, now=1302)


@pytest.mark.parametrize("state", [PaymentState.VOID, PaymentState.SETTLED, PaymentState.UNKNOWN])
def test_what_brought_an_order_keeps_it(state: PaymentState) -> None:
    with closing(open_ledger(":memory:")) as ledger:
        charges = ledger.charges
        charges.ask(_charge(), (), now=1000)
        assert charges.end(_charge(), PaymentState.SETTLED, order_id="ord_1", now=1001)
        assert not charges.end(_charge(), state, order_id="ord_2", now=1002)
        assert charges.end(_charge(), PaymentState.SETTLED, order_id="ord_1", now=1003)
        kept = charges.get("key:1", "a")
        assert kept is not None
        assert (kept.state, kept.order_id) == (PaymentState.SETTLED, "ord_1")


# --- amounts


@given(st.decimals(min_value=0, max_value=10**6, allow_nan=False, places=9))
def test_a_price_is_counted_to_the_unit_and_never_as_less(price: Decimal) -> None:
    exact = price * 10**6
    assert exact <= charged_atomic(price) < exact + 1


@pytest.mark.parametrize(
    ("price", "atomic"),
    [
        ("0", 0),
        ("0.10", 100_000),
        ("0.1000001", 100_001),
        ("1E-40", 1),
        ("9" * 40, MOST_CHARGED),
        ("9E+40", MOST_CHARGED),
    ],
)
def test_a_price_that_no_unit_measures_is_rounded_up_and_bounded(price: str, atomic: int) -> None:
    assert charged_atomic(Decimal(price)) == atomic
