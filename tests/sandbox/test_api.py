"""Every documented route, the catalogue, the control routes, problem documents."""

from __future__ import annotations

from typing import Any, NamedTuple

import httpx
import pytest

from tests.sandbox.conftest import MakeBuyer
from tests.sandbox.paying import Buyer, asked_atomic
from x402sms.sandbox import RunningSandbox, SandboxConfig, running_sandbox
from x402sms.sandbox.catalogue import Catalogue


class Route(NamedTuple):
    """`price` is in atomic units; None is the number's own."""

    method: str
    path: str
    body: Any
    price: int | None


ROUTES = [
    Route("GET", "/services", None, 1000),
    Route("GET", "/countries", None, 1000),
    Route("GET", "/services/telegram/cheapest", None, 1000),
    Route("GET", "/countries/us/pricing", None, 1000),
    Route("GET", "/services/telegram/availability", None, 1000),
    Route("GET", "/me", None, 1000),
    Route("GET", "/me/balance", None, 1000),
    Route("GET", "/me/stats", None, 1000),
    Route("GET", "/me/transactions", None, 1000),
    Route("POST", "/orders", {"service": "telegram", "country": "US"}, None),
    Route("GET", "/orders", None, 1000),
    Route("GET", "/orders/{rental}", None, 1000),
    Route("GET", "/orders/{rental}/sms", None, 2000),
    Route("POST", "/orders/{rental}/swap", None, 1000),
    Route("POST", "/orders/{rental}/cancel", None, 1000),
    Route("POST", "/orders/{received}/confirm", None, 1000),
    Route("POST", "/orders/{rental}/extend", {"hours": 24}, 120_000),
    Route("POST", "/orders/{rental}/release", None, 1000),
]


@pytest.mark.parametrize("route", ROUTES)
def test_every_documented_route_has_its_price_and_answers_once_paid(
    sandbox: RunningSandbox, buyer: Buyer, route: Route
) -> None:
    rental = received = ""
    if "{rental}" in route.path:
        rental = buyer.order(rental_hours=4)["order_id"]
    if "{received}" in route.path:
        received = buyer.order()["order_id"]
        sandbox.deliver_sms(received, "123456")
    path = route.path.format(rental=rental, received=received)
    if route.price is not None:
        assert asked_atomic(buyer.ask(route.method, path, json=route.body)) == route.price
    assert buyer.pay(route.method, path, json=route.body).status_code == 200
    assert sandbox.payments()[-1]["path"] == f"/api/v2{path}"


def test_the_schema_knows_every_documented_route_and_its_402(sandbox: RunningSandbox) -> None:
    schema = httpx.get(f"{sandbox.origin}/openapi.json", trust_env=False).json()
    paid = {
        (method.upper(), path)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
        if "402" in operation["responses"]
    }
    names = {"telegram": "{service_id}", "us": "{iso2}", "{rental}": "{order_id}"}
    documented = {("POST", "/api/v1/x402/topup")}
    for route in ROUTES:
        parts = route.path.replace("{received}", "{rental}").split("/")
        documented.add(
            (route.method, "/api/v2" + "/".join(names.get(part, part) for part in parts))
        )
    assert paid == documented
    for path in schema["paths"].values():
        assert all("422" not in operation["responses"] for operation in path.values())


def test_the_catalogue_has_the_published_size(buyer: Buyer) -> None:
    services, countries = buyer.get("/services"), buyer.get("/countries")
    assert len(services) == len({service["id"] for service in services}) == 2500
    assert len(countries) == len({country["iso2"] for country in countries}) == 145
    assert services[0] == {"id": "telegram", "name": "Telegram", "category": "messaging"}
    assert countries[0] == {"iso2": "US", "name": "United States", "in_stock": True}


def test_cheapest_is_the_lowest_price_that_is_in_stock(buyer: Buyer) -> None:
    offers = buyer.get("/services/netflix/availability")
    assert len(offers) == 145
    assert any(offer["stock"] == 0 for offer in offers)
    best = buyer.get("/services/netflix/cheapest")
    lowest = min(_price(offer) for offer in offers if offer["stock"])
    assert _price(best) == lowest
    assert best in offers


def _price(offer: dict[str, Any]) -> int:
    whole, _, fraction = offer["price"].partition(".")
    return int(whole + fraction.ljust(4, "0"))


def test_the_catalogue_follows_from_its_seed() -> None:
    one, same, other = Catalogue(1), Catalogue(1), Catalogue(2)
    us = one.countries[0]
    assert one.services == same.services
    prices = [[seen.price_atomic(seen.services[i], us) for i in range(200)] for seen in (one, same)]
    assert prices[0] == prices[1]
    assert [other.price_atomic(other.services[i], us) for i in range(200)] != prices[0]
    assert all(50_000 <= price <= 2_500_000 and price % 100 == 0 for price in prices[0])


def test_buying_takes_from_stock_and_cancelling_gives_back(
    own_sandbox: RunningSandbox, own_buyer: Buyer
) -> None:
    own_sandbox.set_stock("uber", "DE", 1)
    order_id = own_buyer.order(service="uber", country="DE")["order_id"]
    wanted = {"service": "uber", "country": "DE"}
    refused = own_buyer.http.post("/orders", json=wanted)
    assert refused.status_code == 503
    assert refused.json()["type"] == "https://virtualsms.io/errors/no-stock"
    own_buyer.post(f"/orders/{order_id}/cancel")
    assert own_buyer.order(**wanted)["country"] == "DE"


def test_a_service_that_is_sold_out_everywhere_has_no_cheapest(
    own_sandbox: RunningSandbox, own_buyer: Buyer
) -> None:
    for country in own_sandbox.state.catalogue.countries:
        own_sandbox.set_stock("bolt", country.iso2, 0)
    refused = own_buyer.pay("GET", "/services/bolt/cheapest")
    assert refused.status_code == 503
    assert own_sandbox.payments() == []


def test_the_account_of_a_wallet_is_what_it_holds(sandbox: RunningSandbox, buyer: Buyer) -> None:
    profile = buyer.get("/me")
    assert profile == {
        "email": None,
        "balance": "9.999",
        "plan": "x402",
        "wallet": buyer.address,
    }
    assert buyer.get("/me/balance") == {"balance": "9.998", "currency": "USDC"}
    assert sandbox.balance(buyer.address) == 9_998_000


def test_stats_and_transactions_tell_payments_and_refunds(buyer: Buyer) -> None:
    order = buyer.order()
    buyer.order(service="whatsapp")
    buyer.post(f"/orders/{order['order_id']}/cancel")
    stats = buyer.get("/me/stats")
    assert (stats["lifetime_orders"], stats["active_orders"]) == (2, 1)
    assert stats["lifetime_refunds"] == order["price"]
    ledger = buyer.get("/me/transactions")
    assert [row["type"] for row in ledger["data"]] == [
        "payment",  # stats
        "payment",  # cancel
        "payment",  # the second order
        "refund",
        "payment",
    ]
    assert ledger["data"][3]["amount"] == order["price"]
    assert ledger["data"][4]["order_id"] == order["order_id"]


def test_lists_are_paged(buyer: Buyer) -> None:
    bought = [buyer.order()["order_id"] for _ in range(5)]
    pages = [buyer.get(f"/orders?page={page}&per_page=2") for page in (1, 2, 3, 4)]
    assert [len(page["data"]) for page in pages] == [2, 2, 1, 0]
    assert {(page["per_page"], page["total"]) for page in pages} == {(2, 5)}
    assert [row["id"] for page in pages for row in page["data"]] == bought[::-1]


@pytest.mark.parametrize("query", ["page=0", "per_page=101", "per_page=x", "page=-1"])
def test_a_page_that_cannot_be_is_a_problem(buyer: Buyer, query: str) -> None:
    refused = buyer.pay("GET", f"/orders?{query}")
    assert refused.status_code == 400
    assert refused.json()["type"] == "https://virtualsms.io/errors/validation"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/services/", 404),
        ("DELETE", "/orders", 405),
        ("POST", "/services", 405),
    ],
)
def test_what_does_not_exist_is_a_problem_and_free(
    buyer: Buyer, method: str, path: str, status: int
) -> None:
    response = buyer.http.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["instance"] == f"/api/v2{path}"


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"{", "application/json"),
        (b"", "application/json"),
        (b"\xff", "application/json"),
        (b'{"service":"telegram","country":"US"}', "text/plain"),
        (b"[" * 20_000, "application/json"),
    ],
)
def test_a_body_that_is_no_json_is_a_problem(buyer: Buyer, content: bytes, media_type: str) -> None:
    headers = {"content-type": media_type}
    response = buyer.http.post("/orders", content=content, headers=headers)
    assert response.status_code == 400
    assert response.json()["type"] == "https://virtualsms.io/errors/validation"


@pytest.mark.parametrize("path", ["/api/v2/orders", "/_sandbox/fund"])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_of_more_than_64_kib_is_refused(
    sandbox: RunningSandbox, buyer: Buyer, path: str, chunked: bool
) -> None:
    parts = [b" " * 1024] * 65
    content = iter(parts) if chunked else b"".join(parts)
    headers = {"content-type": "application/json"}
    response = buyer.http.post(sandbox.origin + path, content=content, headers=headers)
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"


def test_a_failure_inside_is_a_problem_without_a_trace(
    own_sandbox: RunningSandbox, own_buyer: Buyer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> object:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(own_sandbox.state.orders, "of", broken)
    response = own_buyer.pay("GET", "/orders")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text
    assert own_sandbox.payments() == []


# --- control


def test_control_shows_and_moves_money(own_sandbox: RunningSandbox, own_buyer: Buyer) -> None:
    control = f"{own_sandbox.origin}/_sandbox"
    address = own_buyer.address
    funded = own_buyer.http.post(
        f"{control}/fund", json={"address": address.lower(), "amount": "2.5"}
    )
    assert funded.json() == {"amount_atomic": "12500000"}
    own_buyer.get("/me")
    balance = own_buyer.http.get(f"{control}/balances/{address}").json()
    assert balance == {"amount_atomic": "12499000"}
    assert own_buyer.http.get(f"{control}/payments").json() == own_sandbox.payments()
    received = own_buyer.http.get(f"{control}/balances/{own_sandbox.pay_to}").json()
    assert received == {"amount_atomic": "1000"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/fund", {"address": "0x12", "amount": "1"}),
        ("/fund", {"address": "0x" + "12" * 20, "amount": "1e3"}),
        ("/fund", {"address": "0x" + "12" * 20, "amount": 1.5}),
        ("/clock/advance", {"seconds": -1}),
        ("/clock/advance", {}),
    ],
)
def test_control_refuses_nonsense_with_a_problem(
    sandbox: RunningSandbox, buyer: Buyer, path: str, body: Any
) -> None:
    response = buyer.http.post(f"{sandbox.origin}/_sandbox{path}", json=body)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"


def test_control_delivers_sms_and_lists_orders(
    own_sandbox: RunningSandbox, own_buyer: Buyer
) -> None:
    control = f"{own_sandbox.origin}/_sandbox"
    order_id = own_buyer.order()["order_id"]
    sms = {"text": "Your Telegram code is AB12CD", "sender": "Telegram", "code": "AB12CD"}
    delivered = own_buyer.http.post(f"{control}/orders/{order_id}/sms", json=sms).json()
    assert delivered["status"] == "received"
    assert delivered["messages"][0]["sender"] == "Telegram"
    (listed,) = own_buyer.http.get(f"{control}/orders").json()
    assert (listed["order_id"], listed["owner"]) == (order_id, own_buyer.address)
    assert own_buyer.get(f"/orders/{order_id}/sms")["code"] == "AB12CD"


def test_control_moves_the_clock_of_orders_and_if_told_of_payments(
    own_sandbox: RunningSandbox, own_buyer: Buyer
) -> None:
    control = f"{own_sandbox.origin}/_sandbox"
    before = own_buyer.http.get(f"{control}/clock").json()
    own_buyer.http.post(f"{control}/clock/advance", json={"seconds": 5000})
    after = own_buyer.http.get(f"{control}/clock").json()
    assert after["now"] - before["now"] >= 5000
    assert after["chain_now"] - before["chain_now"] < 60
    assert own_buyer.pay("GET", "/me").status_code == 200  # signatures are still in time
    moved = {"seconds": 5000, "chain": True}
    own_buyer.http.post(f"{control}/clock/advance", json=moved)
    assert own_buyer.pay("GET", "/me").status_code == 402


def test_base_is_a_network_too(make_buyer: MakeBuyer) -> None:
    with running_sandbox(SandboxConfig(network="base", seed=3)) as running:
        buyer = make_buyer(running)
        assert buyer.ask("GET", "/me")["accepts"][0]["network"] == "eip155:8453"
        assert buyer.pay("GET", "/me").status_code == 200
