"""With an API key: the same routes from an account's balance, and never a challenge."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.sandbox.reaching import WAYS, AnySandbox, Way, let_in, reached
from x402sms.sandbox import Fault, SandboxConfig, asgi_sandbox

ORDER = {"service": "telegram", "country": "US"}
PROBLEM = "https://virtualsms.io/errors/"
PRICE = 210_500  # of that order, in atomic units
FULL = 100_000_000

FREE_CALLS = [
    "/services",
    "/countries",
    "/services/telegram/cheapest",
    "/services/telegram/availability",
    "/countries/US/pricing",
    "/me",
    "/me/balance",
    "/me/stats",
    "/me/transactions",
    "/orders",
]


def _ordered(http: httpx.Client, **wanted: Any) -> dict[str, Any]:
    answer = http.post("/orders", json={**ORDER, **wanted})
    assert answer.status_code == 200, answer.text
    order: dict[str, Any] = answer.json()
    return order


@pytest.fixture(scope="module")
def one_for_all() -> Any:
    with let_in() as reached_once:
        yield reached_once


@pytest.mark.parametrize("path", FREE_CALLS)
def test_looking_costs_nothing(path: str, one_for_all: tuple[AnySandbox, httpx.Client]) -> None:
    sandbox, http = one_for_all
    assert http.get(path).status_code == 200
    assert sandbox.balance(sandbox.account) == FULL
    assert sandbox.payments() == []


@pytest.mark.parametrize("way", WAYS)
def test_a_number_costs_its_price_and_waiting_for_its_sms_nothing(way: Way) -> None:
    with let_in(way, sms_after=0) as (sandbox, http):
        order = _ordered(http)
        assert (order["price"], order["service"], order["country"]) == ("0.2105", "telegram", "US")
        sms = http.get(f"/orders/{order['order_id']}/sms?timeout=5").json()
        assert (sms["status"], len(sms["code"])) == ("received", 6)
        assert http.post(f"/orders/{order['order_id']}/confirm").json()["status"] == "confirmed"
        assert sandbox.balance(sandbox.account) == FULL - PRICE
        assert sandbox.books(sandbox.account) == (PRICE, 0)
        assert sandbox.orders_of(sandbox.account) == [(order["order_id"], "confirmed")]
        assert sandbox.payments() == []  # nothing went over x402


def test_an_account_and_a_wallet_are_sold_the_same_at_the_same_price() -> None:
    with let_in() as (_, http), reached() as (_, buyer):
        for path in ("/services/telegram/availability", "/countries/GB/pricing"):
            assert http.get(path).json() == buyer.get(path)
        mine, theirs = _ordered(http), buyer.order()
        for name in ("order_id", "phone_number", "price", "service", "country", "status"):
            assert mine[name] == theirs[name]


def test_a_cancelled_order_is_refunded_to_the_balance() -> None:
    with let_in() as (sandbox, http):
        order_id = _ordered(http)["order_id"]
        ended = http.post(f"/orders/{order_id}/cancel").json()
        assert (ended["status"], ended["refund_amount"]) == ("cancelled", "0.2105")
        assert sandbox.balance(sandbox.account) == FULL
        assert sandbox.books(sandbox.account) == (PRICE, PRICE)
        assert http.post(f"/orders/{order_id}/cancel").status_code == 400
        assert sandbox.books(sandbox.account) == (PRICE, PRICE)


def test_a_rental_that_is_extended_costs_the_hours_and_is_refunded_with_them() -> None:
    with let_in() as (sandbox, http):
        order = _ordered(http, service="any", rental_hours=4)
        before = sandbox.books(sandbox.account)[0]
        extended = http.post(f"/orders/{order['order_id']}/extend", json={"hours": 10}).json()
        paid = sandbox.books(sandbox.account)[0]
        assert paid - before == 50_000
        assert Decimal(extended["price"]) * 10**6 == paid
        http.post(f"/orders/{order['order_id']}/cancel")
        assert sandbox.books(sandbox.account) == (paid, paid)


def test_the_account_shows_itself() -> None:
    with let_in() as (sandbox, http):
        order_id = _ordered(http)["order_id"]
        http.post(f"/orders/{order_id}/cancel")
        assert http.get("/me").json() == {
            "email": f"{sandbox.account}@sandbox.invalid",
            "balance": "100.00",
            "plan": "prepaid",
            "wallet": None,
        }
        assert http.get("/me/balance").json() == {"balance": "100.00", "currency": "USD"}
        assert http.get("/me/stats").json() == {
            "lifetime_orders": 1,
            "lifetime_spend": "0.2105",
            "lifetime_refunds": "0.2105",
            "active_orders": 0,
            "sms_received": 0,
        }
        page = http.get("/me/transactions?per_page=2").json()
        rows = page["data"] + http.get("/me/transactions?per_page=2&page=2").json()["data"]
        assert page["total"] == 3
        assert [(row["type"], row["amount"], row["order_id"]) for row in rows] == [
            ("refund", "0.2105", order_id),
            ("purchase", "0.2105", order_id),
            ("deposit", "100.00", None),
        ]
        assert len({row["id"] for row in rows}) == 3


@pytest.mark.parametrize("way", WAYS)
def test_too_little_balance_is_said_and_nothing_is_done(way: Way) -> None:
    with let_in(way, account_balance=Decimal("0.05")) as (sandbox, http):
        refused = http.post("/orders", json=ORDER)
        assert refused.status_code == 402
        assert refused.json() == {
            "type": PROBLEM + "insufficient-balance",
            "title": "Insufficient balance",
            "status": 402,
            "detail": "Balance $0.05 < required $0.2105",
            "instance": "/api/v2/orders",
        }
        headers = {name.lower() for name in refused.headers}
        assert not headers & {"payment-required", "x-payment-required"}
        assert sandbox.orders_of(sandbox.account) == []
        assert sandbox.balance(sandbox.account) == 50_000
        sandbox.fund(sandbox.account, 1)
        assert sandbox.balance(sandbox.account) == 1_050_000
        assert http.post("/orders", json=ORDER).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "bearer sk_test_of_nobody",
        "Bearer sk_live_0123456789",
        "Bearer {key}x",
        "Bearer {key} more",
        "BEARER nonsense",
    ],
)
def test_a_key_that_is_none_is_unauthorized(
    header: str, one_for_all: tuple[AnySandbox, httpx.Client]
) -> None:
    sandbox, http = one_for_all
    given = header.format(key=sandbox.api_key)
    refused = http.get("/me", headers={"Authorization": given})
    assert refused.status_code == 401
    assert refused.json()["type"] == PROBLEM + "unauthorized"
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert sandbox.api_key not in refused.text


def test_two_keys_are_none(one_for_all: tuple[AnySandbox, httpx.Client]) -> None:
    sandbox, http = one_for_all
    twice = [("Authorization", f"Bearer {sandbox.api_key}")] * 2
    request = httpx.Request("GET", f"{sandbox.url}/me", headers=twice)
    assert http.send(request).status_code == 401


@pytest.mark.parametrize("header", [None, "Basic c2tfOnRlc3Q=", "Bearers sk_test_1"], ids=str)
def test_without_a_bearer_token_the_handshake_is_met(
    header: str | None, one_for_all: tuple[AnySandbox, httpx.Client]
) -> None:
    sandbox, http = one_for_all
    headers = {} if header is None else {"Authorization": header}
    request = httpx.Request("GET", f"{sandbox.url}/me", headers=headers)
    assert "PAYMENT-REQUIRED" in http.send(request).headers


def test_a_key_of_ones_own_is_taken() -> None:
    with let_in(api_key="sk_live_mine") as (sandbox, http):
        assert sandbox.api_key == "sk_live_mine"
        assert http.get("/me").status_code == 200


def test_requests_count_for_the_key() -> None:
    with let_in(rate_limit=3, virtual_time=True) as (sandbox, http):
        assert [http.get("/me").status_code for _ in range(4)] == [200, 200, 200, 429]
        unkeyed = httpx.Request("GET", f"{sandbox.url}/me")
        assert http.send(unkeyed).status_code == 402  # a caller of its own
        sandbox.advance(20)
        refused = http.post("/orders", json=ORDER)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "40")
        assert sandbox.orders_of(sandbox.account) == []
        sandbox.advance(40)
        assert http.post("/orders", json=ORDER).status_code == 200


def test_one_account_does_not_see_the_orders_of_another() -> None:
    with let_in() as (sandbox, http):
        other = sandbox.state.accounts.new()
        sandbox.state.accounts.admit(other, "sk_test_other")
        order_id = _ordered(http)["order_id"]
        answer = http.get(f"/orders/{order_id}", headers={"Authorization": "Bearer sk_test_other"})
        assert answer.json()["type"] == PROBLEM + "order-not-found"


def test_the_live_vocabulary_is_spoken_here_too() -> None:
    with let_in(vocabulary="live", account_balance=Decimal("0.3")) as (_, http):
        order = _ordered(http)
        assert (order["status"], order["phone_number"][0]) == ("pending", "1")
        assert http.get("/orders/nothing").text == "Order not found"
        refused = http.post("/orders", json=ORDER)
        assert refused.json()["detail"] == "Balance $0.0895 < required $0.2105"


def test_the_books_of_the_account_are_there_over_http_too() -> None:
    with let_in() as (sandbox, http):
        _ordered(http)
        control = f"{sandbox.origin}/_sandbox"
        books = http.get(f"{control}/books/{sandbox.account}").json()
        assert books == {"paid_atomic": str(PRICE), "refunded_atomic": "0"}
        given = http.post(f"{control}/fund", json={"address": sandbox.account, "amount": "1.5"})
        assert given.json() == {"amount_atomic": str(FULL - PRICE + 1_500_000)}
        held = http.get(f"{control}/balances/{sandbox.account}").json()
        assert held == given.json()
        assert http.get(f"{control}/orders").json()[0]["owner"] == sandbox.account
        assert http.get(f"{control}/books/acct_nobody").status_code == 400


# --- faults: a request with a key counts as a paid one

BEFORE = {"rate-limit": 429, "error-500": 500, "html-502-before": 502}
INSTEAD = {"no-stock": 503, "stock-ends": 503}
AFTER = {"html-502": 502, "plain-error": 500, "slow": 200}


@pytest.mark.parametrize("name", [*BEFORE, *INSTEAD, *AFTER])
def test_a_purchase_meets(name: str) -> None:
    with let_in(slow_seconds=0) as (sandbox, http):
        sandbox.set_faults([Fault(name, paid=True)])
        answer = http.post("/orders", json=ORDER)
        assert answer.status_code == {**BEFORE, **INSTEAD, **AFTER}[name]
        assert sandbox.faults_struck() == {name: 1}
        bought = int(name in AFTER)
        assert len(sandbox.orders_of(sandbox.account)) == bought
        assert sandbox.balance(sandbox.account) == FULL - bought * PRICE


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["drop-after-settle", "truncate"])
def test_a_purchase_whose_answer_is_lost_is_there_all_the_same(name: str, way: Way) -> None:
    with let_in(way) as (sandbox, http):
        sandbox.set_faults([Fault(name, route="POST /orders", times=1)])
        with pytest.raises(httpx.RemoteProtocolError):
            http.post("/orders", json=ORDER)
        assert len(http.get("/orders").json()["data"]) == 1


@pytest.mark.parametrize(("headers", "bought"), [({}, 2), ({"Idempotency-Key": "a"}, 1)], ids=str)
def test_a_request_that_is_processed_twice_buys(headers: dict[str, str], bought: int) -> None:
    with let_in(faults={"duplicate": 1}) as (sandbox, http):
        assert http.post("/orders", json=ORDER, headers=headers).status_code == 200
        assert sandbox.books(sandbox.account) == (bought * PRICE, 0)


def test_no_price_is_asked_and_so_none_is_wrong() -> None:
    with let_in(faults={"wrong-price": 1}) as (sandbox, http):
        assert _ordered(http)["price"] == "0.2105"
        assert sandbox.faults_struck() == {}


@pytest.mark.parametrize(
    ("fault", "action", "status"), [("swap-none", "swap", 404), ("confirm-fails", "confirm", 500)]
)
def test_an_action_that_fails_changes_nothing(fault: str, action: str, status: int) -> None:
    with let_in() as (sandbox, http):
        order_id = _ordered(http)["order_id"]
        if action == "confirm":
            sandbox.deliver_sms(order_id, "code 1234")
        before = http.get(f"/orders/{order_id}").json()
        sandbox.set_faults({fault: 1})
        assert http.post(f"/orders/{order_id}/{action}").status_code == status
        assert http.get(f"/orders/{order_id}").json() == before
        assert sandbox.balance(sandbox.account) == FULL - PRICE


def test_work_that_fails_gives_the_reserved_money_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with let_in() as (sandbox, http):

        def fails(*given: object) -> None:
            raise RuntimeError("out of order")

        monkeypatch.setattr(sandbox.state.orders, "create", fails)
        assert http.post("/orders", json=ORDER).status_code == 500
        assert sandbox.balance(sandbox.account) == FULL


def test_a_price_drifts_as_numbers_are_bought() -> None:
    with let_in(price_drift=1) as (_, http):
        assert _ordered(http)["price"] != _ordered(http)["price"]


@pytest.mark.parametrize("free", [False, True])
def test_where_all_else_is_free_a_key_is_still_charged(free: bool) -> None:
    with let_in(free=free) as (sandbox, http):
        _ordered(http)
        assert sandbox.books(sandbox.account) == (PRICE, 0)


def test_what_a_sandbox_is_started_with_says_the_key() -> None:
    with asgi_sandbox(SandboxConfig(api_key="sk_test_mine")) as sandbox:
        assert '"api_key": "sk_test_mine"' in sandbox.ready_line()
