"""`Idempotency-Key`: the same request by the same account is done once, and answered again."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import httpx
import pytest

from tests.sandbox.conftest import NO_TLS
from tests.sandbox.reaching import WAYS, Way, let_in
from x402sms.sandbox import Fault, SandboxConfig, asgi_sandbox
from x402sms.sandbox.config import VocabularyName

ORDER = {"service": "telegram", "country": "US"}
KEY = {"Idempotency-Key": "3f2a"}


@pytest.mark.parametrize("vocabulary", ["reference", "live"])
@pytest.mark.parametrize("way", WAYS)
def test_the_same_request_gets_the_same_bytes(way: Way, vocabulary: VocabularyName) -> None:
    with let_in(way, vocabulary=vocabulary) as (sandbox, http):
        first = http.post("/orders", json=ORDER, headers=KEY)
        again = http.post("/orders", json=ORDER, headers=KEY)
        assert (first.status_code, again.status_code) == (200, 200)
        assert again.content == first.content
        assert "Idempotency-Replayed" not in first.headers
        assert again.headers["Idempotency-Replayed"] == "true"
        assert len(sandbox.orders_of(sandbox.account)) == 1
        assert sandbox.books(sandbox.account) == (210_500, 0)


def test_the_answer_that_was_lost_is_there_for_who_asks_again() -> None:
    with let_in() as (sandbox, http):
        sandbox.set_faults([Fault("drop-after-settle", times=1)])
        with pytest.raises(httpx.RemoteProtocolError):
            http.post("/orders", json=ORDER, headers=KEY)
        ((order_id, _),) = sandbox.orders_of(sandbox.account)
        assert http.post("/orders", json=ORDER, headers=KEY).json()["order_id"] == order_id


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/orders", {**ORDER, "country": "GB"}),
        ("/orders?again=1", ORDER),
        ("/orders/ord_1/cancel", None),
    ],
    ids=["body", "query", "path"],
)
def test_the_same_key_for_something_else_is_refused(path: str, body: dict[str, str] | None) -> None:
    with let_in() as (sandbox, http):
        http.post("/orders", json=ORDER, headers=KEY)
        refused = http.post(path, json=body, headers=KEY)
        assert refused.status_code == 422
        assert refused.json()["type"] == "https://virtualsms.io/errors/idempotency-key-reused"
        assert len(sandbox.orders_of(sandbox.account)) == 1


@pytest.mark.parametrize("other", [{}, {"Idempotency-Key": "3F2A"}], ids=["none", "another"])
def test_without_the_same_key_it_is_another_purchase(other: dict[str, str]) -> None:
    with let_in() as (sandbox, http):
        for headers in (KEY, other):
            assert http.post("/orders", json=ORDER, headers=headers).status_code == 200
        assert len(sandbox.orders_of(sandbox.account)) == 2


def test_a_request_that_failed_leaves_its_key_free() -> None:
    with let_in(account_balance=Decimal(0)) as (sandbox, http):
        assert http.post("/orders", json=ORDER, headers=KEY).status_code == 402
        sandbox.fund(sandbox.account, 1)
        sandbox.set_faults([Fault("no-stock", times=1)])
        assert http.post("/orders", json=ORDER, headers=KEY).status_code == 503
        other = http.post("/orders", json={**ORDER, "country": "GB"}, headers=KEY)
        assert (other.status_code, other.json()["country"]) == (200, "GB")


def test_each_account_has_keys_of_its_own() -> None:
    with let_in() as (sandbox, http):
        accounts = sandbox.state.accounts
        other = accounts.new()
        accounts.admit(other, "sk_test_other")
        sandbox.fund(other.account_id, 1)
        first = http.post("/orders", json=ORDER, headers=KEY)
        second = http.post(
            "/orders", json=ORDER, headers={**KEY, "Authorization": "Bearer sk_test_other"}
        )
        assert first.json()["order_id"] != second.json()["order_id"]


def test_a_get_is_never_answered_from_memory() -> None:
    with let_in() as (sandbox, http):
        http.get("/me/balance", headers=KEY)
        sandbox.fund(sandbox.account, 1)
        assert http.get("/me/balance", headers=KEY).json()["balance"] == "101.00"


def test_a_cancel_is_answered_again_too_and_refunds_once() -> None:
    with let_in() as (sandbox, http):
        order_id = http.post("/orders", json=ORDER).json()["order_id"]
        ended = [http.post(f"/orders/{order_id}/cancel", headers=KEY) for _ in range(2)]
        assert [answer.status_code for answer in ended] == [200, 200]
        assert sandbox.books(sandbox.account) == (210_500, 210_500)


@pytest.mark.parametrize("key", ["", "x" * 256], ids=["empty", "long"])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    with let_in() as (sandbox, http):
        refused = http.post("/orders", json=ORDER, headers={"Idempotency-Key": key})
        assert refused.json()["type"] == "https://virtualsms.io/errors/validation"
        assert sandbox.orders_of(sandbox.account) == []


@pytest.mark.anyio
async def test_who_comes_while_the_first_is_in_progress_waits_for_its_answer() -> None:
    with asgi_sandbox(SandboxConfig()) as sandbox:
        http = httpx.AsyncClient(base_url=sandbox.url, transport=sandbox.transport, verify=NO_TLS)
        http.headers["Authorization"] = f"Bearer {sandbox.api_key}"
        async with http:
            buys = (http.post("/orders", json=ORDER, headers=KEY) for _ in range(10))
            answers = await asyncio.gather(*buys)
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 9
        assert sandbox.books(sandbox.account) == (210_500, 0)


@pytest.mark.anyio
async def test_two_purchases_at_once_do_not_share_one_balance() -> None:
    with asgi_sandbox(SandboxConfig(account_balance=Decimal("0.30"))) as sandbox:
        http = httpx.AsyncClient(base_url=sandbox.url, transport=sandbox.transport, verify=NO_TLS)
        http.headers["Authorization"] = f"Bearer {sandbox.api_key}"
        async with http:
            answers = await asyncio.gather(*(http.post("/orders", json=ORDER) for _ in range(5)))
        assert sorted(answer.status_code for answer in answers) == [200, 402, 402, 402, 402]
        assert sandbox.balance(sandbox.account) == 89_500
