"""Topping up: a payment over x402 v1, whatever else is spoken, becomes an account's balance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.sandbox.conftest import DIALECTS
from tests.sandbox.paying import Buyer, Wallet, asked_atomic, encode, settlement_of
from tests.sandbox.reaching import WAYS, AnySandbox, Way, reached
from x402sms.sandbox import Fault
from x402sms.sandbox.config import DialectName

PATH = "/api/v1/x402/topup"
PROBLEM = "https://virtualsms.io/errors/"


@contextmanager
def topping_up(way: Way = "in process", **config: Any) -> Iterator[tuple[AnySandbox, Buyer]]:
    """The buyer pays over v1, at the sandbox's origin."""
    with reached(way, **config) as (sandbox, buyer):
        buyer.http.base_url = httpx.URL(sandbox.origin)
        yield sandbox, Buyer(buyer.http, Wallet(buyer.wallet.key, sandbox.network, "v1"))


def _balance(buyer: Buyer, api_key: str) -> str:
    headers = {"Authorization": f"Bearer {api_key}"}
    answer = buyer.http.get("/api/v2/me/balance", headers=headers)
    assert answer.status_code == 200, answer.text
    balance: str = answer.json()["balance"]
    return balance


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("way", WAYS)
def test_a_wallet_buys_a_key_over_v1(way: Way, dialect: DialectName) -> None:
    with topping_up(way, dialect=dialect) as (sandbox, buyer):
        challenge = buyer.ask("POST", PATH, json={"amount_usd": 5})
        (offer,) = challenge["accepts"]
        assert (challenge["x402Version"], offer["network"]) == (1, "base-sepolia")
        assert offer["maxAmountRequired"] == "5000000"
        header = encode(buyer.wallet.document(challenge))
        answer = buyer.send("POST", PATH, header, json={"amount_usd": 5})
        assert settlement_of(answer, "v1")["payer"] == buyer.address
        got = answer.json()
        assert got.keys() == {"api_key", "balance_usd", "user_id", "endpoints"}
        assert got["api_key"].startswith("sk_test_")
        assert got["balance_usd"] == _balance(buyer, got["api_key"]) == "5.00"
        assert got["endpoints"]["orders"] == f"{sandbox.url}/orders"
        assert got["user_id"] != sandbox.account
        assert sandbox.books(buyer.address) == (5_000_000, 0)
        assert sandbox.payments()[0]["path"] == PATH
        assert sandbox.balance(got["user_id"]) == 5_000_000


@pytest.mark.parametrize(
    ("written", "atomic"),
    [
        ("2", 2_000_000),
        ("2.00", 2_000_000),
        ("5.25", 5_250_000),
        ("5.1", 5_100_000),
        ("1e3", 1_000_000_000),
        ("10000", 10_000_000_000),
        ("9999.99", 9_999_990_000),
    ],
)
def test_an_amount_is_asked_exactly(written: str, atomic: int) -> None:
    with topping_up() as (_, buyer):
        body = f'{{"amount_usd": {written}}}'.encode()
        headers = {"Content-Type": "application/json"}
        assert asked_atomic(buyer.ask("POST", PATH, content=body, headers=headers)) == atomic


WRONG = [
    '{"amount_usd": 1.99}',
    '{"amount_usd": 10000.01}',
    '{"amount_usd": 5.001}',
    '{"amount_usd": 5.10000000000000000000001}',
    '{"amount_usd": -5}',
    '{"amount_usd": "5"}',
    '{"amount_usd": true}',
    '{"amount_usd": null}',
    '{"amount_usd": NaN}',
    '{"amount_usd": Infinity}',
    '{"amount_usd": 1e999999999}',
    '{"amount_usd": ' + "9" * 5000 + "}",
    '{"amount_usd": 5, "metadata": 1}',
    '{"amount_usd": 5, "metadata": ' + "[" * 30_000 + "]" * 30_000 + "}",
    '{"amount_usd": 5, "currency": "EUR"}',
    '{"amount_usd": 5, "api_key": 1}',
    "{}",
    "[]",
    "{",
    "",
    "\xff",
]


@pytest.mark.parametrize("body", WRONG, ids=lambda body: body[:40])
def test_what_is_no_amount_is_refused_before_anything_is_asked(body: str) -> None:
    with topping_up() as (_, buyer):
        headers = {"Content-Type": "application/json"}
        refused = buyer.http.post(PATH, content=body.encode("latin-1"), headers=headers)
        assert refused.status_code == 400
        assert refused.json()["type"] == PROBLEM + "validation"


def test_a_key_is_added_to_and_keeps_its_account() -> None:
    with topping_up() as (sandbox, buyer):
        body = {"amount_usd": 7.5, "metadata": {"for": "tests"}, "api_key": sandbox.api_key}
        got = buyer.post(PATH, json=body)
        assert (got["api_key"], got["user_id"]) == (sandbox.api_key, sandbox.account)
        assert got["balance_usd"] == _balance(buyer, sandbox.api_key) == "107.50"
        headers = {"Authorization": f"Bearer {sandbox.api_key}"}
        rows = buyer.http.get("/api/v2/me/transactions", headers=headers).json()["data"]
        assert [(row["type"], row["amount"]) for row in rows] == [
            ("deposit", "7.50"),
            ("deposit", "100.00"),
        ]


@pytest.mark.parametrize("paid", [False, True], ids=["asked", "paid"])
def test_a_key_that_is_not_known_is_unauthorized_and_costs_nothing(paid: bool) -> None:
    with topping_up() as (sandbox, buyer):
        challenge = buyer.ask("POST", PATH, json={"amount_usd": 5})
        body = {"amount_usd": 5, "api_key": "sk_test_of_nobody"}
        header = encode(buyer.wallet.document(challenge))
        refused = (
            buyer.send("POST", PATH, header, json=body)
            if paid
            else buyer.http.post(PATH, json=body)
        )
        assert refused.status_code == 401
        assert refused.json()["type"] == PROBLEM + "unauthorized"
        assert sandbox.payments() == []


def test_the_same_payment_again_gets_the_same_key_and_nothing_more() -> None:
    with topping_up() as (sandbox, buyer):
        challenge = buyer.ask("POST", PATH, json={"amount_usd": 5})
        header = encode(buyer.wallet.document(challenge))
        sandbox.set_faults([Fault("drop-after-settle", route=f"POST {PATH}", times=1)])
        with pytest.raises(httpx.RemoteProtocolError):
            buyer.send("POST", PATH, header, json={"amount_usd": 5})
        answers = [buyer.send("POST", PATH, header, json={"amount_usd": 5}) for _ in range(2)]
        assert answers[0].content == answers[1].content
        assert _balance(buyer, answers[0].json()["api_key"]) == "5.00"
        assert sandbox.books(buyer.address) == (5_000_000, 0)


def test_a_payment_for_one_amount_does_not_buy_another() -> None:
    with topping_up() as (sandbox, buyer):
        challenge = buyer.ask("POST", PATH, json={"amount_usd": 2})
        header = encode(buyer.wallet.document(challenge))
        assert buyer.send("POST", PATH, header, json={"amount_usd": 9000}).status_code == 402
        assert sandbox.payments() == []


def test_what_does_not_settle_is_no_balance_and_no_event() -> None:
    with topping_up() as (sandbox, buyer):
        body = {"amount_usd": 500, "api_key": sandbox.api_key}  # the wallet has 100
        refused = buyer.pay("POST", PATH, json=body)
        assert (refused.status_code, refused.json()["error"]) == (402, "insufficient_funds")
        assert sandbox.balance(sandbox.account) == 100_000_000
        assert sandbox.webhooks() == []


def test_a_payment_that_bought_a_number_buys_no_balance() -> None:
    """Two gates, one token: what settled at the one is used up at the other."""
    with reached(dialect="header") as (sandbox, buyer):
        sandbox.set_price("telegram", "US", 2)
        order = {"service": "telegram", "country": "US"}
        header = encode(buyer.wallet.document(buyer.ask("POST", "/orders", json=order)))
        assert buyer.send("POST", "/orders", header, json=order).status_code == 200
        refused = buyer.send("POST", sandbox.origin + PATH, header, json={"amount_usd": 2})
        assert refused.status_code == 402
        assert refused.json()["error"] == "invalid_exact_evm_nonce_already_used"
        assert sandbox.books(buyer.address) == (2_000_000, 0)


def test_a_bearer_token_does_not_pay_for_a_top_up() -> None:
    with topping_up() as (sandbox, buyer):
        headers = {"Authorization": f"Bearer {sandbox.api_key}"}
        asked = buyer.http.post(PATH, json={"amount_usd": 5}, headers=headers)
        assert asked.status_code == 402
        assert asked.json()["x402Version"] == 1


def test_in_the_live_vocabulary_it_is_the_same() -> None:
    with topping_up(vocabulary="live") as (_, buyer):
        assert buyer.post(PATH, json={"amount_usd": 5})["balance_usd"] == "5.00"


def test_a_deposit_is_an_event() -> None:
    with topping_up() as (sandbox, buyer):
        got = buyer.post(PATH, json={"amount_usd": 5})
        (webhook,) = sandbox.webhooks()
        event = json.loads(webhook.body)
        assert (event["type"], event["account_id"]) == ("balance.deposited", got["user_id"])
        assert event["data"] == {"amount": "5.00", "balance": "5.00", "currency": "USD"}
