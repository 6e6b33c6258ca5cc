"""Whatever goes wrong, the sandbox's own books balance: it is what clients are judged by."""

from __future__ import annotations

from random import Random
from typing import Any

import httpx
import pytest

from tests.sandbox.conftest import DIALECTS
from tests.sandbox.paying import Buyer, challenge_of, encode
from tests.sandbox.reaching import let_in, reached
from x402sms.sandbox import FAULTS, WEBHOOK_FAULTS
from x402sms.sandbox.config import DialectName

FUNDED = 100_000_000
CALLS = 150
COUNTRIES = ("US", "GB", "CA", "DE", "FR", "NL", "ES", "IT", "PL", "SE")


def _try(buyer: Buyer, chance: Random, order_ids: list[str]) -> str | None:
    """One call that may go wrong anywhere, its payment perhaps presented twice; the nonce."""
    method, path = "POST", "/orders"
    body = {"service": "telegram", "country": chance.choice(COUNTRIES)}
    if order_ids and chance.random() < 0.6:
        order_id = chance.choice(order_ids)
        method, action = chance.choice(
            [("POST", "cancel"), ("POST", "swap"), ("POST", "confirm"), ("GET", "sms?timeout=100")]
        )
        path = f"/orders/{order_id}/{action}"
    request: dict[str, Any] = {"json": body} if path == "/orders" else {}
    try:
        asked = buyer.http.request(method, path, **request)
        if asked.status_code != 402:
            return None
        document = buyer.wallet.document(challenge_of(asked, buyer.dialect))
    except httpx.RemoteProtocolError:
        return None
    for _ in range(chance.choice([1, 2])):
        try:
            buyer.send(method, path, encode(document), **request)
        except httpx.RemoteProtocolError:
            pass
    nonce: str = document["payload"]["authorization"]["nonce"]
    return nonce


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("seed", range(3))
def test_the_books_balance_whatever_goes_wrong(seed: int, dialect: DialectName) -> None:
    config: dict[str, Any] = {"sms_after": 150, "price_drift": 3, "seed": seed}
    faults = dict.fromkeys(FAULTS, 0.06)
    with reached(virtual_time=True, dialect=dialect, faults=faults, **config) as (sandbox, buyer):
        chance = Random(seed)  # noqa: S311
        nonces: set[str] = set()
        for _ in range(CALLS):
            order_ids = [order_id for order_id, _ in sandbox.orders_of(buyer.address)]
            nonces.update(filter(None, [_try(buyer, chance, order_ids)]))
        settled = sandbox.payments()
        paid, refunded = sandbox.books(buyer.address)
        # Every unit is somewhere, and each payment was settled once, as it was signed.
        assert sandbox.balance(buyer.address) == FUNDED - paid + refunded
        assert sandbox.balance(sandbox.pay_to) == paid - refunded
        assert len({payment["nonce"] for payment in settled}) == len(settled)
        assert {payment["nonce"] for payment in settled} <= nonces
        # Every settled purchase is an order, and what is cancelled is refunded, nothing else.
        bought = {payment["order_id"] for payment in settled if payment["path"].endswith("/orders")}
        orders = dict(sandbox.orders_of(buyer.address))
        assert bought == orders.keys()
        cancelled = {order_id for order_id, status in orders.items() if status == "cancelled"}
        assert {p["order_id"] for p in settled if p["refunded_atomic"] != "0"} == cancelled
        assert len(sandbox.faults_struck()) > len(FAULTS) // 2
        assert len(orders) > 5
        assert cancelled


def _retried(http: httpx.Client, path: str, name: str, body: object) -> bool:
    """Whether it was done; asked again under its name for as long as that is not known."""
    for _ in range(20):
        try:
            answer = http.post(path, json=body, headers={"Idempotency-Key": name})
        except httpx.RemoteProtocolError:
            continue
        if answer.status_code == 200:
            return True
        if answer.headers["Content-Type"] == "application/problem+json":
            if answer.json()["type"].endswith(("/internal", "/rate-limited", "/no-stock")):
                continue
            return False
    return False


@pytest.mark.parametrize("seed", range(3))
def test_an_accounts_books_balance_too_and_a_name_buys_once(seed: int) -> None:
    faults = dict.fromkeys(FAULTS | WEBHOOK_FAULTS, 0.06)
    config: dict[str, Any] = {"sms_after": 150, "price_drift": 3, "seed": seed}
    with let_in(virtual_time=True, faults=faults, **config) as (sandbox, http):
        chance = Random(seed)  # noqa: S311
        bought = 0
        for number in range(CALLS // 3):
            body = {"service": "telegram", "country": chance.choice(COUNTRIES)}
            bought += _retried(http, "/orders", f"buy-{number}", body)
            order_id, _ = chance.choice(sandbox.orders_of(sandbox.account) or [("none", "")])
            action = chance.choice(["cancel", "swap", "confirm"])
            _retried(http, f"/orders/{order_id}/{action}", f"act-{number}", None)
            sandbox.advance(chance.choice([0, 100]))
        paid, refunded = sandbox.books(sandbox.account)
        assert sandbox.balance(sandbox.account) == FUNDED - paid + refunded
        orders = dict(sandbox.orders_of(sandbox.account))
        entries = sandbox.state.account.entries
        charged = [entry.order_id for entry in entries if entry.kind == "purchase"]
        assert (len(charged), set(charged)) == (len(orders), set(orders))
        assert bought == len(orders) > 5
        back = [entry.order_id for entry in entries if entry.kind == "refund"]
        cancelled = {order_id for order_id, status in orders.items() if status == "cancelled"}
        assert (len(back), set(back)) == (len(cancelled), cancelled)
        told = {event.event_id for event in sandbox.state.webhooks.events}
        assert len(told) == len(sandbox.state.webhooks.events)
        assert WEBHOOK_FAULTS.keys() & sandbox.faults_struck().keys()
