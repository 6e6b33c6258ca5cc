"""The rate limit: so many requests of one caller in 60 seconds of the sandbox's clock."""

from __future__ import annotations

import pytest
from eth_account import Account

from tests.sandbox.paying import Buyer, Wallet, encode
from tests.sandbox.reaching import WAYS, Way, reached
from x402sms.errors import ConfigError
from x402sms.sandbox import SandboxConfig

LIMIT = 4


def _asks(buyer: Buyer, times: int) -> list[int]:
    return [buyer.http.get("/services").status_code for _ in range(times)]


@pytest.mark.parametrize("way", WAYS)
def test_one_request_too_many_is_told_when_to_come_back(way: Way) -> None:
    with reached(way, rate_limit=LIMIT, virtual_time=True) as (sandbox, buyer):
        assert _asks(buyer, LIMIT) == [402] * LIMIT
        sandbox.advance(20)
        refused = buyer.http.get("/services")
        assert refused.status_code == 429
        assert refused.json()["type"] == "https://virtualsms.io/errors/rate-limited"
        assert refused.headers["Retry-After"] == "40"


def test_who_comes_back_when_told_is_served_and_a_refusal_does_not_count() -> None:
    with reached(rate_limit=LIMIT, virtual_time=True) as (sandbox, buyer):
        _asks(buyer, LIMIT)
        assert _asks(buyer, 10) == [429] * 10
        sandbox.advance(59)
        assert _asks(buyer, 1) == [429]
        sandbox.advance(1)
        assert _asks(buyer, LIMIT + 1) == [*[402] * LIMIT, 429]


def test_payers_count_each_for_themselves_and_apart_from_who_only_asks() -> None:
    with reached(rate_limit=LIMIT, virtual_time=True) as (sandbox, buyer):
        other = Wallet(Account.create().key.to_0x_hex(), sandbox.network, "v2")
        sandbox.fund(other.address, 1)
        challenge = buyer.ask("GET", "/me")  # one for the address

        def pays(wallet: Wallet) -> int:
            return buyer.send("GET", "/me", encode(wallet.document(challenge))).status_code

        assert [pays(buyer.wallet) for _ in range(LIMIT + 1)] == [*[200] * LIMIT, 429]
        assert pays(other) == 200
        assert _asks(buyer, LIMIT) == [*[402] * (LIMIT - 1), 429]


def test_a_paid_request_too_many_is_not_settled_and_its_payment_is_good_later() -> None:
    with reached(rate_limit=1, virtual_time=True) as (sandbox, buyer):
        challenge = buyer.ask("GET", "/me")
        first, second = (encode(buyer.wallet.document(challenge)) for _ in range(2))
        assert buyer.send("GET", "/me", first).status_code == 200
        assert buyer.send("GET", "/me", second).status_code == 429
        assert len(sandbox.payments()) == 1
        sandbox.advance(60)
        assert buyer.send("GET", "/me", second).status_code == 200
        assert len(sandbox.payments()) == 2


def test_a_long_poll_counts_once_however_long_it_takes() -> None:
    with reached(rate_limit=2, virtual_time=True) as (sandbox, buyer):
        order_id = buyer.order()["order_id"]
        for _ in range(3):  # each is longer than the window: the last one is out of it
            assert buyer.get(f"/orders/{order_id}/sms?timeout=61")["status"] == "waiting"
        assert len(sandbox.payments()) == 4


def test_a_header_that_names_no_payer_counts_for_the_address() -> None:
    with reached(rate_limit=LIMIT, virtual_time=True) as (_, buyer):
        asked = [buyer.send("GET", "/me", "nonsense").status_code for _ in range(LIMIT + 1)]
        assert asked == [*[402] * LIMIT, 429]


def test_the_control_routes_are_not_counted() -> None:
    with reached(rate_limit=1) as (sandbox, buyer):
        for _ in range(3):
            assert buyer.http.get(f"{sandbox.origin}/_sandbox/clock").status_code == 200


@pytest.mark.parametrize(
    "wrong", [{"rate_limit": 0}, {"price_drift": 0}, {"slow_seconds": -1}, {"vocabulary": "none"}]
)
def test_what_cannot_be_is_refused_at_once(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        SandboxConfig(**wrong)  # type: ignore[arg-type]
