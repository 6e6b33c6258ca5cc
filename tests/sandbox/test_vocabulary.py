"""The two vocabularies on the wire, and the client reading both alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from tests.buyer import COLOURS, Colour
from tests.facade import facade
from tests.sandbox.conftest import DIALECTS
from tests.sandbox.paying import challenge_of
from tests.sandbox.reaching import reached
from x402sms import Wallet
from x402sms.errors import (
    APIError,
    CooldownActive,
    CountryNotFound,
    NoStock,
    OrderAlreadyConfirmed,
    OrderExpired,
    OrderNotFound,
    RateLimited,
    ServerError,
    ServiceNotFound,
    ValidationFailed,
)
from x402sms.sandbox import InProcessSandbox, SandboxConfig, asgi_sandbox
from x402sms.sandbox.config import DialectName, VocabularyName
from x402sms.sandbox.vocabulary import band

VOCABULARIES: tuple[VocabularyName, ...] = ("reference", "live")
COOLDOWN = 120


# --- on the wire


def test_live_orders_have_other_statuses_and_numbers_without_their_plus() -> None:
    with reached(vocabulary="live") as (sandbox, buyer):
        bought = buyer.order()
        assert (bought["status"], bought["phone_number"][:4]) == ("pending", "1555")
        order_id = bought["order_id"]
        swapped = buyer.post(f"/orders/{order_id}/swap")
        assert swapped["previous_number"] == bought["phone_number"]
        assert "status" not in swapped
        sandbox.deliver_sms(order_id, "code 1234")
        order = buyer.get(f"/orders/{order_id}")
        assert (order["status"], order["messages"][0]["phone_number"]) == (
            "sms_received",
            swapped["phone_number"],
        )
        poll = {"status": "received", "code": "1234", "full_text": "code 1234"}
        assert buyer.get(f"/orders/{order_id}/sms") == poll
        assert buyer.post(f"/orders/{order_id}/confirm")["status"] == "completed"
        (row,) = buyer.get("/orders")["data"]
        assert {"id", "service_id", "country_id", "price_charged"} < row.keys()
        assert (row["status"], row["phone_number"]) == ("completed", swapped["phone_number"])


def test_a_live_cancel_answers_in_three_words() -> None:
    with reached(vocabulary="live") as (_, buyer):
        bought = buyer.order()
        ended = buyer.post(f"/orders/{bought['order_id']}/cancel")
        refund = bought["price"]
        assert ended == {"success": True, "status": "cancelled", "refund_amount": refund}


def test_live_stock_is_a_band_a_yes_or_no_or_a_count() -> None:
    with reached(vocabulary="live") as (sandbox, buyer):
        sandbox.set_stock("telegram", "US", 3)
        sandbox.set_stock("telegram", "GB", 0)
        offers = buyer.get("/services/telegram/availability")
        assert [offer["stock"] for offer in offers[:2]] == ["low_stock", False]
        assert type(offers[2]["stock"]) is int
        assert {type(offer["stock"]) for offer in offers} == {str, bool, int}
        assert buyer.get("/services/telegram/cheapest")["stock"] == "in_stock"


@pytest.mark.parametrize(
    ("stock", "name"),
    [(0, "out_of_stock"), (1, "low_stock"), (9, "low_stock"), (10, "in_stock")],
)
def test_a_band_of_stock(stock: int, name: str) -> None:
    assert band(stock) == name


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/orders/ord_0", 404, "Order not found"),
        ("GET", "/services/nothing/cheapest", 404, {"error": "Service not found"}),
        ("GET", "/countries/XX/pricing", 404, {"error": "Country not found"}),
        ("POST", "/orders", 400, {"error": "The body must be sent as application/json"}),
    ],
)
def test_a_live_refusal_is_a_line_of_text_or_an_error(
    method: str, path: str, status: int, body: Any
) -> None:
    with reached(vocabulary="live", free=True) as (_, buyer):
        refused = buyer.http.request(method, path)
        is_text = refused.headers["content-type"].startswith("text/plain")
        assert (refused.status_code, refused.text if is_text else refused.json()) == (status, body)


def test_live_cooldowns_say_how_long_in_their_sentence_or_in_a_field() -> None:
    with reached(vocabulary="live", virtual_time=True, cooldown=COOLDOWN) as (sandbox, buyer):
        order_id = buyer.order()["order_id"]
        sandbox.advance(2)
        cancel = buyer.pay("POST", f"/orders/{order_id}/cancel")
        said = "Cannot cancel within 120 seconds of purchase. Please wait 118 seconds."
        assert (cancel.status_code, cancel.json()) == (425, {"error": said})
        swap = buyer.pay("POST", f"/orders/{order_id}/swap")
        assert swap.json()["seconds_remaining"] == 118
        assert "retry-after" not in {**cancel.headers, **swap.headers}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_challenge_is_in_the_same_words_in_both(dialect: DialectName) -> None:
    with reached(vocabulary="live", dialect=dialect) as (_, live), reached(dialect=dialect) as pair:
        asked = [buyer.http.get("/services") for buyer in (live, pair[1])]
        assert challenge_of(asked[0], dialect) == challenge_of(asked[1], dialect)


# --- read by the client


@dataclass
class Shop:
    """A sandbox and a client of its own."""

    sandbox: InProcessSandbox
    sms: Any

    def buy(self, **wanted: Any) -> str:
        order_id: str = self.sms.orders.create("telegram", "US", **wanted).order_id
        return order_id

    def received(self) -> str:
        order_id = self.buy()
        self.sandbox.deliver_sms(order_id, "G-1234 is your code")
        return order_id


@pytest.fixture(params=VOCABULARIES)
def vocabulary(request: pytest.FixtureRequest) -> VocabularyName:
    vocabulary: VocabularyName = request.param
    return vocabulary


@pytest.fixture(params=COLOURS)
def shop(request: pytest.FixtureRequest, vocabulary: VocabularyName) -> Iterator[Shop]:
    colour: Colour = request.param
    config = SandboxConfig(vocabulary=vocabulary, virtual_time=True, cooldown=COOLDOWN)
    with asgi_sandbox(config) as sandbox:
        assert sandbox.funded_key is not None
        settings = {
            "wallet": Wallet.from_key(sandbox.funded_key),
            "network": "base-sepolia",
            "base_url": sandbox.url,
            "ledger": ":memory:",
            "transport": sandbox.sync_transport if colour == "sync" else sandbox.transport,
        }
        with facade(colour, **settings) as sms:
            yield Shop(sandbox, sms)


def test_an_order_is_read_alike_from_purchase_to_confirmation(shop: Shop) -> None:
    order = shop.sms.orders.create("telegram", "us")
    assert (order.country, order.price, order.has_sms) == ("US", Decimal("0.2105"), False)
    assert order.phone_number.startswith("+1555")
    shop.sandbox.advance(COOLDOWN)
    swapped = shop.sms.orders.swap(order.order_id)
    assert (swapped.order_id, swapped.previous_number) == (order.order_id, order.phone_number)
    assert not swapped.is_final
    assert not shop.sms.orders.wait_for_sms(order.order_id, timeout=10).has_sms
    shop.sandbox.deliver_sms(order.order_id, "G-1234 is your code")
    poll = shop.sms.orders.wait_for_sms(order.order_id, timeout=10)
    assert (poll.has_sms, poll.code, poll.text) == (True, "1234", "G-1234 is your code")
    found = shop.sms.orders.get(order.order_id)
    assert (found.has_sms, found.is_final, len(found.messages)) == (True, False, 1)
    assert found.phone_number == swapped.phone_number
    assert shop.sms.orders.confirm(order.order_id).is_final
    (row,) = shop.sms.orders.list()
    assert (row.order_id, row.service, row.country, row.price) == (
        order.order_id,
        "telegram",
        "US",
        order.price,
    )
    assert (row.is_final, row.has_sms, row.phone_number) == (True, True, swapped.phone_number)


def test_a_refund_is_read_alike(shop: Shop) -> None:
    order_id = shop.buy()
    shop.sandbox.advance(COOLDOWN)
    ended = shop.sms.orders.cancel(order_id)
    assert (ended.success, ended.status, ended.refund_amount) == (
        True,
        "cancelled",
        Decimal("0.2105"),
    )


def test_a_rental_is_read_alike(shop: Shop) -> None:
    order_id = shop.buy(rental_hours=4)
    assert shop.sms.orders.extend(order_id, 2).rental_until is not None
    assert shop.sms.orders.release(order_id).is_final


def test_stock_is_read_alike(shop: Shop) -> None:
    empty = [country.iso2 for country in shop.sms.countries.list()[:9:2]]
    for country in empty:
        shop.sandbox.set_stock("telegram", country, 0)
    offers = shop.sms.services.availability("telegram")
    assert [offer.country for offer in offers[:10] if not offer.in_stock] == empty
    assert shop.sms.services.cheapest("telegram").in_stock
    there = shop.sms.countries.pricing("DE")
    assert any(offer.in_stock for offer in there)
    assert not all(offer.in_stock for offer in there)


def test_the_account_is_read_alike(shop: Shop) -> None:
    shop.buy()
    assert shop.sms.account.profile().plan == "x402"
    assert shop.sms.account.stats().lifetime_orders == 1
    assert len(list(shop.sms.account.transactions())) == 3


def _early(shop: Shop) -> str:
    order_id = shop.buy()
    shop.sandbox.advance(2)
    return order_id


def _cancelled(shop: Shop) -> str:
    order_id = shop.buy()
    shop.sandbox.advance(COOLDOWN)
    shop.sms.orders.cancel(order_id)
    return order_id


def _confirmed(shop: Shop) -> str:
    order_id = shop.received()
    shop.sms.orders.confirm(order_id)
    return order_id


def _expired(shop: Shop) -> str:
    order_id = shop.buy()
    shop.sandbox.advance(1200)
    return order_id


def _without_replacement(shop: Shop) -> str:
    order_id = shop.buy()
    shop.sandbox.advance(COOLDOWN)
    shop.sandbox.set_stock("telegram", "US", 0)
    return order_id


def _limited(shop: Shop) -> str:
    order_id = shop.buy()
    shop.sandbox.set_faults({"rate-limit": 1})
    return order_id


def _confirm_fails(shop: Shop) -> str:
    shop.sandbox.set_faults({"confirm-fails": 1})
    return shop.received()


def _behind_a_broken_proxy(shop: Shop) -> str:
    order_id = shop.buy()
    shop.sandbox.set_faults({"html-502-before": 1})
    return order_id


def _nowhere(shop: Shop) -> str:
    return "ord_0"


Refused = tuple[str, Callable[[Shop], str], str, type[APIError], int | None]
REFUSALS: list[Refused] = [
    ("a cancel in the cooldown", _early, "cancel", CooldownActive, 118),
    ("a swap in the cooldown", _early, "swap", CooldownActive, 118),
    ("a cancel after an SMS", Shop.received, "cancel", ValidationFailed, None),
    ("a second cancel", _cancelled, "cancel", ValidationFailed, None),
    ("a cancel of a confirmed order", _confirmed, "cancel", OrderAlreadyConfirmed, None),
    ("a swap of a confirmed order", _confirmed, "swap", OrderAlreadyConfirmed, None),
    ("a poll of an expired order", _expired, "wait_for_sms", OrderExpired, None),
    ("a cancel of an expired order", _expired, "cancel", OrderExpired, None),
    ("a swap of an expired order", _expired, "swap", OrderExpired, None),
    ("a swap without replacement", _without_replacement, "swap", NoStock, None),
    ("an order that is not there", _nowhere, "get", OrderNotFound, None),
    ("a call too many", _limited, "get", RateLimited, 1),
    ("a confirm that fails", _confirm_fails, "confirm", ServerError, None),
    ("a proxy that fails", _behind_a_broken_proxy, "get", ServerError, None),
]


@pytest.mark.parametrize(
    ("prepare", "action", "error", "wait"),
    [case[1:] for case in REFUSALS],
    ids=[case[0] for case in REFUSALS],
)
def test_a_refusal_is_read_alike(
    shop: Shop,
    prepare: Callable[[Shop], str],
    action: str,
    error: type[APIError],
    wait: int | None,
) -> None:
    order_id = prepare(shop)
    with pytest.raises(error) as refused:
        getattr(shop.sms.orders, action)(order_id)
    assert refused.value.retry_after == wait


def test_unknown_names_are_read_alike(shop: Shop) -> None:
    with pytest.raises(ServiceNotFound):
        shop.sms.services.cheapest("nothing-of-the-kind")
    with pytest.raises(CountryNotFound):
        shop.sms.countries.pricing("ZZ")


def test_a_word_that_nobody_has_heard_of_survives(shop: Shop) -> None:
    order_id = shop.buy()
    shop.sandbox.set_faults({"unknown-status": 1})
    assert shop.sms.orders.get(order_id).status == "in_review"
