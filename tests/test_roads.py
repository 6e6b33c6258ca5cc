"""One facade, two roads: paid per call from a wallet, or with an API key from a balance.

The same table of calls over {x402, REST} x {sync, async}, each against a fresh sandbox of the same
seed: what a call returns is the same on every road, but for what is the road's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import httpx
import pytest

from tests.buyer import COLOURS, Colour
from tests.facade import facade
from x402sms import Client, SpendLimits, Wallet
from x402sms.errors import (
    APIError,
    CountryNotFound,
    NoCodeReceived,
    NoStock,
    OrderAlreadyConfirmed,
    OrderNotFound,
    ServiceNotFound,
    SpendLimitExceeded,
    ValidationFailed,
    X402SMSError,
)
from x402sms.sandbox import InProcessSandbox, SandboxConfig, asgi_sandbox
from x402sms.testing import VirtualClock
from x402sms.virtualsms.effects import Bought, Cancelled, Confirmed, Received

Road = Literal["x402", "rest"]
ROADS: tuple[Road, ...] = get_args(Road)


@dataclass
class Scene:
    """A client on a road, the sandbox it calls, and what happened in it."""

    sms: Any
    sandbox: InProcessSandbox
    payer: str

    def buy(self, **options: Any) -> Any:
        return self.sms.orders.create("telegram", "GB", **options)

    def sells_nothing(self) -> bool:
        self.sandbox.set_stock("telegram", "GB", 0)
        return self.sandbox.orders_of(self.payer) == []

    def with_sms(self) -> Any:
        order = self.buy()
        self.sandbox.deliver_sms(order.order_id, "Your code is 482913", sender="Telegram")
        return order


@contextmanager
def scene(road: Road, colour: Colour, **config: Any) -> Iterator[Scene]:
    with asgi_sandbox(SandboxConfig(virtual_time=True, **config)) as sandbox:
        given: dict[str, Any] = {"api_key": sandbox.api_key}
        payer = sandbox.account
        if road == "x402":
            wallet = Wallet.from_key(sandbox.funded_key or "")
            given, payer = {"wallet": wallet, "network": "base-sepolia"}, wallet.address
        transport: Any = sandbox.transport if colour == "async" else sandbox.sync_transport
        with facade(
            colour,
            base_url=sandbox.url,
            ledger=":memory:",
            limits=SpendLimits(per_call="5"),
            transport=transport,
            clock=VirtualClock(sandbox),
            **given,
        ) as sms:
            yield Scene(sms, sandbox, payer)


def _refused(act: Callable[[], Any], error: type[X402SMSError]) -> str:
    with pytest.raises(error) as caught:
        act()
    return type(caught.value).__name__


def _in_one_call(at: Scene) -> object:
    events: list[Any] = []

    def watch(event: Any) -> None:
        events.append(event)

    at.sandbox.set_price("telegram", "HR", "0.04")
    code = at.sms.receive_code("telegram", max_price="0.30", country="HR", on_event=watch)
    kinds = [type(event) for event in events if isinstance(event, Bought | Received | Confirmed)]
    return code.price, code.order.status, kinds


def _no_code(at: Scene) -> object:
    events: list[Any] = []

    def give_up() -> None:
        at.sms.receive_code(
            "telegram", max_price="2", country="GB", timeout=60, on_event=events.append
        )

    _refused(give_up, NoCodeReceived)
    (end,) = (event for event in events if isinstance(event, Cancelled))
    return end.refund, at.sandbox.orders_of(at.payer)


# name -> what is done, in a sandbox where each number gets its SMS after so many seconds (or never)
CASES: dict[str, tuple[float | None, Callable[[Scene], object]]] = {
    "services": (None, lambda at: at.sms.services.list()),
    "search": (None, lambda at: at.sms.services.search("gram")),
    "cheapest": (None, lambda at: at.sms.services.cheapest("telegram")),
    "availability": (None, lambda at: at.sms.services.availability("telegram")),
    "countries": (None, lambda at: at.sms.countries.list()),
    "pricing": (None, lambda at: at.sms.countries.pricing("GB")),
    "no such service": (
        None,
        lambda at: _refused(lambda: at.sms.services.cheapest("nosuch"), ServiceNotFound),
    ),
    "no such country": (
        None,
        lambda at: _refused(lambda: at.sms.countries.pricing("XX"), CountryNotFound),
    ),
    "profile": (None, lambda at: type(at.sms.account.profile())),
    "balance": (None, lambda at: at.sms.account.balance().balance > 99),
    "stats": (None, lambda at: (at.buy(), at.sms.account.stats().lifetime_orders)[1:]),
    "transactions": (
        None,
        lambda at: (
            at.buy().price
            in [row.amount for row in at.sms.account.transactions() if row.order_id is not None]
        ),
    ),
    "create": (None, lambda at: _shown(at.buy(max_price="1"))),
    "create the same again": (
        None,
        lambda at: [at.buy(intent="signup-7").order_id for _ in range(2)],
    ),
    "create under an intent of something else": (
        None,
        lambda at: (
            at.buy(intent="a").order_id,
            _refused(lambda: at.sms.orders.create("signal", "GB", intent="a"), X402SMSError),
        ),
    ),
    "create above its ceiling": (
        None,
        lambda at: (
            _refused(lambda: at.buy(max_price="0.01"), SpendLimitExceeded),
            at.sandbox.orders_of(at.payer),
        ),
    ),
    "create without stock": (
        None,
        lambda at: (at.sells_nothing(), _refused(at.buy, NoStock)),
    ),
    "create what cannot be": (
        None,
        lambda at: _refused(
            lambda: at.sms.orders.create("any", "GB", rental_hours=5), ValidationFailed
        ),
    ),
    "list": (None, lambda at: (at.buy(), [o.order_id for o in at.sms.orders.list()])[1]),
    "get": (None, lambda at: _shown(at.sms.orders.get(at.buy().order_id))),
    "get what is not there": (
        None,
        lambda at: _refused(lambda: at.sms.orders.get("ord_no"), OrderNotFound),
    ),
    "wait for an SMS": (None, lambda at: _sms(at.sms.orders.wait_for_sms(at.with_sms().order_id))),
    "wait in vain": (
        None,
        lambda at: at.sms.orders.wait_for_sms(at.buy().order_id, timeout=30).has_sms,
    ),
    "swap": (None, lambda at: _numbers(at.sms.orders.swap(at.buy().order_id))),
    "cancel": (None, lambda at: at.sms.orders.cancel(at.buy().order_id)),
    "cancel what is confirmed": (
        None,
        lambda at: (
            at.sms.orders.confirm((order := at.with_sms()).order_id).status,
            _refused(lambda: at.sms.orders.cancel(order.order_id), OrderAlreadyConfirmed),
        ),
    ),
    "rent and extend": (
        None,
        lambda at: (
            at.sms.orders.extend(
                at.sms.orders.create("any", "GB", rental_hours=4, intent="r").order_id, 4
            ).price
        ),
    ),
    "release": (
        None,
        lambda at: (
            at.sms.orders.release(at.sms.orders.create("any", "GB", rental_hours=4).order_id).status
        ),
    ),
    "messages": (
        None,
        lambda at: [sms.content for sms in at.sms.orders.messages(at.with_sms().order_id, 10)],
    ),
    "a code in one call": (3, _in_one_call),
    "no code in time": (None, _no_code),
}


def _shown(order: Any) -> object:
    """An order, but for its moments: each sandbox began at another time."""
    return order.order_id, order.phone_number, order.price, order.service, order.country


def _sms(result: Any) -> object:
    return result.status, result.code, result.text


def _numbers(order: Any) -> object:
    return order.order_id, order.phone_number, order.previous_number


@pytest.mark.parametrize("case", CASES)
def test_a_call_returns_the_same_on_every_road(case: str) -> None:
    sms_after, act = CASES[case]
    results = {}
    for road in ROADS:
        for colour in COLOURS:
            with scene(road, colour, sms_after=sms_after) as at:
                results[road, colour] = act(at)

    first = results["x402", "sync"]
    assert first is not None
    assert results == dict.fromkeys(results, first)


@pytest.mark.parametrize(
    "challenge",
    [
        httpx.Response(402, headers={"PAYMENT-REQUIRED": "e30="}),
        httpx.Response(402, headers={"X-Payment-Required": "{}"}),
        httpx.Response(402, json={"x402Version": 1, "accepts": []}),
    ],
    ids=["v2", "header", "v1"],
)
def test_a_key_at_the_per_call_host_is_told_so(challenge: httpx.Response) -> None:
    transport = httpx.MockTransport(lambda request: challenge)
    with (
        Client(api_key="sk_live_0123", ledger=":memory:", transport=transport) as sms,
        pytest.raises(APIError, match="takes no API key"),
    ):
        sms.account.balance()


@pytest.mark.parametrize("road", ROADS)
def test_the_ledgers_view_counts_what_was_bought_on_either_road(road: Road) -> None:
    with scene(road, "sync") as at:
        price = at.buy().price

        assert at.sms.payments.spent() == price
