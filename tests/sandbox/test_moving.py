"""What moves under a buyer's feet: prices, stock, numbers; and the books that stay right."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tests.sandbox.paying import asked_atomic, challenge_of, encode
from tests.sandbox.reaching import WAYS, Way, reached
from x402sms.sandbox.problems import Problem

ORDER = {"service": "telegram", "country": "US"}


def _price(offers: list[dict[str, Any]]) -> str:
    return next(str(offer["price"]) for offer in offers if offer["country"] == "US")


# --- prices


@pytest.mark.parametrize("way", WAYS)
def test_a_price_that_is_set_is_asked_everywhere(way: Way) -> None:
    with reached(way) as (sandbox, buyer):
        sandbox.set_price("telegram", "us", "0.01")
        assert _price(buyer.get("/services/telegram/availability")) == "0.01"
        assert buyer.get("/services/telegram/cheapest")["country"] == "US"
        assert asked_atomic(buyer.ask("POST", "/orders", json=ORDER)) == 10_000
        assert buyer.order()["price"] == "0.01"


def test_a_price_that_rises_between_challenge_and_payment_is_asked_again() -> None:
    with reached() as (sandbox, buyer):
        header = encode(buyer.wallet.document(buyer.ask("POST", "/orders", json=ORDER)))
        sandbox.set_price("telegram", "US", 2)
        refused = buyer.send("POST", "/orders", header, json=ORDER)
        assert refused.status_code == 402
        assert asked_atomic(buyer.ask("POST", "/orders", json=ORDER)) == 2_000_000
        assert sandbox.payments() == []


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_price_that_drifts_moves_after_every_so_many_challenges(every: int) -> None:
    with reached(price_drift=every) as (_, buyer):
        asked = [asked_atomic(buyer.ask("POST", "/orders", json=ORDER)) for _ in range(12)]
        moved = [before != after for before, after in pairwise(asked)]
        assert moved == [(count + 1) % every == 0 for count in range(11)]
        assert all(abs(price - asked[0]) <= asked[0] // 10 + 100 for price in asked)
        assert all(price % 100 == 0 for price in asked)


def test_a_drifting_price_is_paid_as_the_refusal_asks() -> None:
    with reached(price_drift=1) as (sandbox, buyer):
        asked = buyer.ask("POST", "/orders", json=ORDER)
        header = encode(buyer.wallet.document(asked))
        refused = buyer.send("POST", "/orders", header, json=ORDER)
        asked_again = challenge_of(refused, "v2")
        header = encode(buyer.wallet.document(asked_again))
        assert buyer.send("POST", "/orders", header, json=ORDER).status_code == 200
        assert asked_atomic(asked) != asked_atomic(asked_again) == sandbox.books(buyer.address)[0]


def test_prices_stay_without_a_drift() -> None:
    with reached() as (_, buyer):
        asked = {asked_atomic(buyer.ask("POST", "/orders", json=ORDER)) for _ in range(5)}
        assert len(asked) == 1


# --- stock


def test_the_last_number_goes_to_who_pays_first() -> None:
    with reached() as (sandbox, buyer):
        sandbox.set_stock("telegram", "US", 1)
        challenge = buyer.ask("POST", "/orders", json=ORDER)
        first, second = (encode(buyer.wallet.document(challenge)) for _ in range(2))
        assert buyer.send("POST", "/orders", first, json=ORDER).status_code == 200
        assert buyer.send("POST", "/orders", second, json=ORDER).status_code == 503
        assert len(sandbox.payments()) == 1


# --- messages


def test_a_late_sms_for_the_swapped_out_number_says_to_which_it_came() -> None:
    with reached() as (sandbox, buyer):
        bought = buyer.order()
        order_id = bought["order_id"]
        swapped = buyer.post(f"/orders/{order_id}/swap")
        sandbox.deliver_sms(order_id, "code 1111", to_previous=True)
        sandbox.deliver_sms(order_id, "code 2222")
        messages = buyer.get(f"/orders/{order_id}")["messages"]
        assert [(sms["content"], sms["phone_number"]) for sms in messages] == [
            ("code 1111", bought["phone_number"]),
            ("code 2222", swapped["phone_number"]),
        ]
        assert buyer.get(f"/orders/{order_id}/sms")["code"] == "2222"


def test_a_late_sms_makes_the_order_received_like_any_other() -> None:
    with reached() as (sandbox, buyer):
        order_id = buyer.order()["order_id"]
        buyer.post(f"/orders/{order_id}/swap")
        url = f"{sandbox.origin}/_sandbox/orders/{order_id}/sms"
        delivered = buyer.http.post(url, json={"text": "code 1111", "to_previous": True})
        assert delivered.json()["status"] == "received"
        assert buyer.pay("POST", f"/orders/{order_id}/cancel").status_code == 400


def test_an_order_that_was_never_swapped_has_no_previous_number() -> None:
    with reached() as (sandbox, buyer):
        order_id = buyer.order()["order_id"]
        with pytest.raises(Problem, match="never swapped"):
            sandbox.deliver_sms(order_id, "code 1111", to_previous=True)


@pytest.mark.parametrize(
    ("path", "method"), [("/sms", "GET"), ("/cancel", "POST"), ("/swap", "POST")]
)
def test_an_order_whose_window_has_passed_is_gone(path: str, method: str) -> None:
    with reached(virtual_time=True) as (sandbox, buyer):
        order_id = buyer.order()["order_id"]
        sandbox.advance(1200)
        refused = buyer.pay(method, f"/orders/{order_id}{path}")
        assert (refused.status_code, refused.json()["title"]) == (410, "Order expired")
        assert len(sandbox.payments()) == 1


# --- the books


@pytest.mark.parametrize("way", WAYS)
def test_the_books_say_what_was_paid_and_what_came_back(way: Way) -> None:
    with reached(way) as (sandbox, buyer):
        kept, ended = buyer.order(), buyer.order()
        buyer.post(f"/orders/{ended['order_id']}/cancel")
        paid, refunded = sandbox.books(buyer.address.lower())
        assert (paid, refunded) == (2 * 210_500 + 1000, 210_500)
        assert sandbox.balance(buyer.address) == 100_000_000 - paid + refunded
        assert sandbox.orders_of(buyer.address) == [
            (kept["order_id"], "waiting"),
            (ended["order_id"], "cancelled"),
        ]
        answer = buyer.http.get(f"{sandbox.origin}/_sandbox/books/{buyer.address}")
        assert answer.json() == {"paid_atomic": str(paid), "refunded_atomic": str(refunded)}


# --- the same over HTTP


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/stock", {**ORDER, "stock": 3}, 200),
        ("/stock", {**ORDER, "stock": -1}, 400),
        ("/stock", {**ORDER, "service": "nothing", "stock": 3}, 404),
        ("/price", {**ORDER, "price": "0.07"}, 200),
        ("/price", {**ORDER, "price": "seven"}, 400),
        ("/price", {**ORDER, "country": "XX", "price": "0.07"}, 404),
        ("/clock/advance", {"seconds": 5}, 200),
    ],
    ids=str,
)
def test_the_catalogue_is_moved_over_http(path: str, body: dict[str, Any], status: int) -> None:
    with reached() as (sandbox, buyer):
        send = buyer.http.post if "clock" in path else buyer.http.put
        assert send(f"{sandbox.origin}/_sandbox{path}", json=body).status_code == status
        if status == 200 and "clock" not in path:
            offer = buyer.get("/services/telegram/availability")[0]
            name = path.removeprefix("/")
            assert offer[name] == body[name]


def test_the_clock_is_not_advanced_beyond_its_end() -> None:
    with reached() as (sandbox, buyer):
        url = f"{sandbox.origin}/_sandbox/clock/advance"
        answers = [buyer.http.post(url, json={"seconds": 10**10}) for _ in range(30)]
        assert {answer.status_code for answer in answers} == {200, 400}
        assert answers[-1].status_code == 400
