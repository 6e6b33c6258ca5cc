"""A payment says who of a fleet made it and what for, and each worker has its own budget."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from tests.buyer import COLOURS, Buyer, Colour, receipt_of
from tests.facade import facade
from tests.shop import Shop
from x402sms import AsyncClient, Client, SpendLimits, Wallet, X402Transport
from x402sms.config import limits_from
from x402sms.errors import ConfigError, SpendLimitExceeded
from x402sms.ledger import open_ledger
from x402sms.protocol.labels import labels_of
from x402sms.sandbox import SandboxConfig, asgi_sandbox

CAMPAIGN = {"campaign": "signup-test"}


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> Colour:
    colour: Colour = request.param
    return colour


def test_a_payment_says_who_made_it_and_what_for(colour: Colour) -> None:
    buyer = Buyer(colour, Shop("v2"), worker="w-3")
    receipt = receipt_of(buyer.get(x402={"labels": CAMPAIGN}))
    [row] = buyer.payments
    assert (row.worker, labels_of(row.labels)) == ("w-3", CAMPAIGN)
    assert (receipt.worker, receipt.labels) == ("w-3", CAMPAIGN)
    assert row.receipt() == receipt
    assert len({receipt, row.receipt()}) == 1


def test_a_payment_that_goes_ahead_says_it_too(colour: Colour) -> None:
    buyer = Buyer(colour, Shop("v2"), worker="w-3", prepay="always")
    receipts = [receipt_of(buyer.get(x402={"labels": CAMPAIGN})) for _ in range(2)]
    assert [receipt.prepaid for receipt in receipts] == [None, True]
    assert {(row.worker, row.labels) for row in buyer.payments} == {
        ("w-3", '{"campaign":"signup-test"}')
    }


def test_a_purchase_is_the_same_whatever_its_labels_say(colour: Colour) -> None:
    buyer = Buyer(colour, Shop("v2"))
    for labels in (CAMPAIGN, {"campaign": "another"}, None):
        buyer.get(x402={"intent": "invoice-7", "labels": labels})
    [row] = buyer.payments
    assert labels_of(row.labels) == CAMPAIGN


@pytest.mark.parametrize("labels", [7, {"Campaign": "x"}, {"campaign": "\n"}], ids=repr)
def test_labels_that_cannot_be_are_refused_before_anything_is_sent(
    colour: Colour, labels: Any
) -> None:
    shop = Shop("v2")
    with pytest.raises(ConfigError, match="label"):
        Buyer(colour, shop).get(x402={"labels": labels})
    assert shop.seen == []


def test_each_worker_has_a_budget_and_all_have_one(colour: Colour) -> None:
    shop = Shop("v2")  # 0.01 a call
    limits = SpendLimits(worker_per_hour="0.02", total="0.03")
    first = Buyer(colour, shop, limits=limits, worker="w-1")
    second = Buyer(
        colour, shop, limits=limits, worker="w-2", wallet=first.wallet, ledger=first.ledger
    )

    def refused(buyer: Buyer) -> str | None:
        try:
            buyer.get()
        except SpendLimitExceeded as error:
            return error.limit
        return None

    assert [refused(first) for _ in range(3)] == [None, None, "worker_per_hour"]
    assert [refused(second) for _ in range(2)] == [None, "total"]
    assert len(shop.paid) == 3


WORKER_LIMITS = ("worker_per_hour", "worker_per_day", "worker_total")


@pytest.mark.parametrize("name", WORKER_LIMITS)
def test_a_limit_of_each_worker_needs_a_worker(name: str) -> None:
    given: dict[str, Any] = {name: "1"}
    limits = SpendLimits(**given)
    with pytest.raises(ConfigError, match=f"{name} .* X402SMS_WORKER"):
        X402Transport(Wallet.generate(), limits=limits)
    with pytest.raises(ConfigError, match=name):
        Client(Wallet.generate(), limits=limits, ledger=":memory:")
    with pytest.raises(ConfigError, match=name):
        Client(api_key="sk_live_0123456789", limits=limits, ledger=":memory:")


@pytest.mark.parametrize("name", WORKER_LIMITS)
def test_it_is_set_by_the_environment(name: str) -> None:
    limits = limits_from({f"X402SMS_MAX_{name.upper()}": "0.50"})
    [budget] = [budget for budget in limits.budgets if budget.of_worker]
    assert (budget.name, budget.cap_atomic) == (name, 500_000)
    refused = budget.exceeded(600_000, 0, "invoice-7")
    assert f"SpendLimits({name}=...) or X402SMS_MAX_{name.upper()}" in str(refused)


@pytest.mark.parametrize("road", ["x402", "rest"])
def test_a_client_says_what_it_buys(colour: Colour, road: str) -> None:
    with asgi_sandbox(SandboxConfig()) as sandbox:
        transport = sandbox.sync_transport if colour == "sync" else sandbox.transport
        paying: dict[str, Any] = {"api_key": sandbox.api_key}
        if road == "x402":
            paying = {"wallet": Wallet.from_key(sandbox.funded_key or "")}
        receipts: list[Any] = []
        with facade(
            colour,
            **paying,
            network="base-sepolia",
            base_url=sandbox.url,
            ledger=":memory:",
            transport=transport,
            on_payment=receipts.append,
            worker="w-3",
        ) as sms:
            sms.services.list()
            sms.services.cheapest("telegram")
            sms.countries.pricing("gb")
            order = sms.orders.create("telegram", "GB", labels=CAMPAIGN)
            sms.orders.get(order.order_id)
            with pytest.raises(ConfigError, match="the name of a label"):
                sms.orders.create("telegram", "GB", labels={"Campaign": "x"})
            spent = [sms.payments.spent(worker=worker) for worker in (None, "w-3", "w-4")]
            told_by = sms.payments.spend(by=("worker", "service"))
    bought = {"service": "telegram", "country": "GB"} | CAMPAIGN
    told = [receipt.labels for receipt in receipts]
    assert {receipt.worker for receipt in receipts} == {"w-3"}
    if road == "rest":
        assert told == [bought]
    else:
        assert told == [{}, {"service": "telegram"}, {"country": "GB"}, bought, {}]
    assert spent[0] == spent[1] > spent[2] == 0
    assert sum(row.total for row in told_by) == spent[0]
    assert {row.by["worker"] for row in told_by} == {"w-3"}
    assert {"telegram"} <= {row.by["service"] for row in told_by} <= {"telegram", None}


def test_a_charge_says_who_made_it_and_what_for_and_counts_for_its_worker(colour: Colour) -> None:
    with asgi_sandbox(SandboxConfig()) as sandbox, closing(open_ledger(":memory:")) as ledger:
        sandbox.set_price("telegram", "GB", "0.10")
        transport = sandbox.sync_transport if colour == "sync" else sandbox.transport
        settings: dict[str, Any] = {
            "api_key": sandbox.api_key,
            "network": "base-sepolia",
            "base_url": sandbox.url,
            "ledger": ledger,
            "limits": SpendLimits(worker_total="0.10"),
            "transport": transport,
        }
        for worker in ("w-1", "w-2"):
            with facade(colour, **settings, worker=worker) as sms:
                sms.orders.create("telegram", "GB")
                with pytest.raises(SpendLimitExceeded, match="worker_total"):
                    sms.orders.create("telegram", "GB")
        charges = ledger.charges.list()
    assert [charge.worker for charge in charges] == ["w-2", "w-1"]
    assert {charge.labels for charge in charges} == {'{"country":"GB","service":"telegram"}'}


@pytest.mark.parametrize("made", [Client, AsyncClient])
def test_the_environment_names_the_worker(
    made: type[Client] | type[AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X402SMS_WORKER", "w-3")
    monkeypatch.setenv("X402SMS_MAX_WORKER_TOTAL", "1")
    wallet = Wallet.generate()
    assert made(wallet, ledger=":memory:").settings.worker == "w-3"
    assert made(wallet, ledger=":memory:", worker="w-4").settings.worker == "w-4"
    with pytest.raises(ConfigError, match="the name of a worker"):
        made(wallet, ledger=":memory:", worker="\n")
