"""From a wallet to a key: paid once, kept, and never lost with an answer."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.buyer import COLOURS, Colour
from tests.facade import facade
from x402sms import Client, PaymentState, SpendLimits, Wallet, paying, topping_up
from x402sms.api_keys import ApiKey, keys_path, load_key, store_key
from x402sms.config import load_settings
from x402sms.errors import (
    AlreadyPaid,
    ConfigError,
    IntentConflict,
    PaymentUnknown,
    SpendLimitExceeded,
    Unauthorized,
)
from x402sms.sandbox import Fault, InProcessSandbox, SandboxConfig, asgi_sandbox
from x402sms.sandbox.config import DialectName
from x402sms.virtualsms import calls

USD = 10**6
TOPUP = "POST /api/v1/x402/topup"


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> Colour:
    colour: Colour = request.param
    return colour


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two presentations of a payment: they are real time."""
    monkeypatch.setattr(paying, "RETRY_PAUSES", (0, 0, 0))


@dataclass
class Scene:
    sms: Any
    sandbox: InProcessSandbox
    wallet: Wallet
    ledger: Path

    @property
    def paid(self) -> int:
        return self.sandbox.books(self.wallet.address)[0]

    def rest(self, key: str) -> Client:
        """A client that buys from the balance."""
        return Client(
            api_key=key,
            base_url=self.sandbox.url,
            ledger=":memory:",
            transport=self.sandbox.sync_transport,
        )


@contextmanager
def scene(
    colour: Colour, tmp_path: Path, *, per_call: str = "50", **config: Any
) -> Iterator[Scene]:
    with asgi_sandbox(SandboxConfig(virtual_time=True, **config)) as sandbox:
        wallet = Wallet.from_key(sandbox.funded_key or "")
        ledger = tmp_path / "payments.db"
        with facade(
            colour,
            wallet=wallet,
            network="base-sepolia",
            base_url=sandbox.url,
            ledger=ledger,
            limits=SpendLimits(per_call=per_call, per_day="60"),
            transport=sandbox.transport if colour == "async" else sandbox.sync_transport,
        ) as sms:
            yield Scene(sms, sandbox, wallet, ledger)


@pytest.mark.parametrize("dialect", ["v1", "v2", "header"])
def test_a_top_up_brings_a_key_that_buys(
    colour: Colour, dialect: DialectName, tmp_path: Path
) -> None:
    with scene(colour, tmp_path, dialect=dialect) as at:
        brought = at.sms.topup(5)

        assert (brought.amount, brought.balance) == (5, 5)
        assert at.paid == 5 * USD
        assert load_key(at.sandbox.url) == ApiKey(brought.api_key)
        assert brought.kept_in == str(keys_path())
        assert stat.S_IMODE(keys_path().stat().st_mode) == 0o600
        receipt = at.sms.last_receipt
        assert (receipt.amount, receipt.state) == (5, PaymentState.SETTLED)
        assert brought.api_key not in repr(brought)
        assert brought.warning is None


def test_the_key_buys_from_the_balance(tmp_path: Path) -> None:
    with scene("sync", tmp_path) as at, at.rest(at.sms.topup(5).api_key) as sms:
        order = sms.orders.create("telegram", "GB")

        assert order.price is not None
        assert sms.account.balance().balance == 5 - order.price


def test_the_stored_key_is_what_a_client_without_a_wallet_runs_with(tmp_path: Path) -> None:
    with scene("sync", tmp_path) as at:
        at.sms.topup("5.00")
        with Client(
            base_url=at.sandbox.url, ledger=":memory:", transport=at.sandbox.sync_transport
        ) as sms:
            assert sms.account.balance().balance == 5


@pytest.mark.parametrize("which", ["stored", "given", "the client's own", "in the environment"])
def test_the_next_one_adds_to_the_same_account(
    colour: Colour, which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scene(colour, tmp_path) as at:
        first = at.sms.topup(5, store=which == "stored")
        options = {}
        if which == "given":
            options = {"api_key": first.api_key}
        if which == "the client's own":
            at.sms._target.api_key = ApiKey(first.api_key)
        if which == "in the environment":
            monkeypatch.setenv("X402SMS_API_KEY", first.api_key)
        second = at.sms.topup(3, **options)

        assert (second.api_key, second.balance) == (first.api_key, 8)
        assert second.user_id == first.user_id
        assert at.paid == 8 * USD


def test_a_new_account_leaves_the_old_key_where_it_is(tmp_path: Path) -> None:
    with scene("sync", tmp_path) as at:
        first, second = at.sms.topup(5), at.sms.topup(3, new_account=True)

        assert (second.balance, second.api_key != first.api_key) == (3, True)
        assert first.api_key in keys_path().read_text()
        assert load_key(at.sandbox.url) == ApiKey(second.api_key)


def test_an_unknown_key_costs_nothing(colour: Colour, tmp_path: Path) -> None:
    with scene(colour, tmp_path) as at:
        with pytest.raises(Unauthorized):
            at.sms.topup(5, api_key="sk_test_of_nobody")

        assert at.paid == 0
        assert not keys_path().exists()


@pytest.mark.parametrize(
    "fault",
    ["drop-after-settle", "html-502", "plain-error", "truncate", "duplicate", "html-502-before"],
)
def test_a_lost_answer_is_fetched_again_and_not_paid_again(
    colour: Colour, fault: str, tmp_path: Path
) -> None:
    with scene(colour, tmp_path) as at:
        at.sandbox.set_faults([Fault(fault, times=1, paid=True)])

        brought = at.sms.topup(5)

        assert at.paid == 5 * USD
        assert load_key(at.sandbox.url) == ApiKey(brought.api_key)


def test_what_stays_lost_is_fetched_by_its_intent(colour: Colour, tmp_path: Path) -> None:
    with scene(colour, tmp_path) as at:
        at.sandbox.set_faults([Fault("drop-after-settle", paid=True)])
        with pytest.raises((PaymentUnknown, AlreadyPaid)) as caught:
            at.sms.topup(5)
        at.sandbox.set_faults({})
        assert (at.paid, keys_path().exists()) == (5 * USD, False)

        brought = at.sms.topup(5, intent=caught.value.intent)

        assert at.paid == 5 * USD
        assert load_key(at.sandbox.url) == ApiKey(brought.api_key)


def test_the_same_intent_again_is_the_same_top_up(colour: Colour, tmp_path: Path) -> None:
    with scene(colour, tmp_path) as at:
        first = at.sms.topup(5, intent="november")
        again = at.sms.topup(5, intent="november")
        december = at.sms.topup(5, intent="december")

        assert (again.api_key, again.balance, again.kept_in) == (
            first.api_key,
            first.balance,
            first.kept_in,
        )
        assert (december.api_key, december.balance) == (first.api_key, 10)
        assert at.paid == 10 * USD
        # It added to the first one's account: under its intent it does so again.
        assert at.sms.topup(5, intent="december").balance == 10
        assert at.paid == 10 * USD


def test_an_intent_is_of_one_amount(tmp_path: Path) -> None:
    with scene("sync", tmp_path) as at:
        at.sms.topup(5, intent="november", store=False)
        with pytest.raises(IntentConflict):
            at.sms.topup(6, intent="november")

        assert at.paid == 5 * USD


@pytest.mark.parametrize(
    ("per_call", "amount", "limit"), [("1.00", 5, "per_call"), ("100", 61, "per_day")]
)
def test_your_limits_hold(
    colour: Colour, per_call: str, amount: int, limit: str, tmp_path: Path
) -> None:
    with scene(colour, tmp_path, per_call=per_call) as at:
        with pytest.raises(SpendLimitExceeded) as caught:
            at.sms.topup(amount)

        assert (caught.value.limit, at.paid) == (limit, 0)


def test_a_service_that_asks_for_more_than_was_said_gets_nothing(tmp_path: Path) -> None:
    with scene("sync", tmp_path) as at:
        at.sandbox.set_faults([Fault("wrong-price")])
        with pytest.raises(SpendLimitExceeded) as caught:
            at.sms.topup(5)

        assert (caught.value.limit, at.paid) == ("max_amount", 0)


@pytest.mark.parametrize("amount", [0, 1, 10_001, "2.50", "-5", "five", True, Decimal("NaN")])
def test_an_amount_that_cannot_be_is_refused_unsent(amount: Any, tmp_path: Path) -> None:
    with scene("sync", tmp_path) as at:
        with pytest.raises((ValueError, TypeError)):
            at.sms.topup(amount)

        assert at.sandbox.state.requests == 0


def test_a_client_with_a_key_alone_has_nothing_to_pay_with(tmp_path: Path) -> None:
    with (
        scene("sync", tmp_path) as at,
        at.rest(at.sandbox.api_key) as sms,
        pytest.raises(ConfigError, match="no wallet"),
    ):
        sms.topup(5)


# What an answer that is paid for may hold.
ANSWERS: dict[str, tuple[Any, str, str | None]] = {
    "all of it": ({"api_key": "sk_live_0123", "balance_usd": 5}, "sk_live_0123", None),
    "no balance": ({"api_key": "sk_live_0123"}, "sk_live_0123", None),
    "odd things beside it": (
        {"api_key": "sk_live_0123", "balance_usd": "$5", "user_id": {}, "endpoints": ["/me"]},
        "sk_live_0123",
        None,
    ),
    "null": (
        {"api_key": "sk_live_0123", "balance_usd": None, "user_id": None, "endpoints": None},
        "sk_live_0123",
        None,
    ),
    "no key": ({"balance_usd": 5}, "", "gave no key"),
    "a key that no header can carry": ({"api_key": "sk live\n"}, "sk live\n", "not stored"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_whatever_was_answered_the_key_is_not_lost(case: str) -> None:
    body, key, warning = ANSWERS[case]
    settings = load_settings({})
    asked = topping_up.ask(settings, 5, None, {"for": "tests"})
    assert asked.call.json == {"amount_usd": 5, "metadata": {"for": "tests"}}

    brought = topping_up.keep(settings, asked, asked.call.parse(body), store=True)

    assert brought.api_key == key
    assert (brought.warning is None) == (warning is None)
    assert warning is None or warning in (brought.warning or "")
    assert (brought.kept_in is None) == (warning is not None)


def test_a_store_that_fails_in_its_own_way_does_not_cost_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(url: str, key: ApiKey) -> str:
        raise LookupError(key.reveal())

    monkeypatch.setattr(topping_up, "store_key", fails)
    settings = load_settings({})
    asked = topping_up.ask(settings, 5, None, None)

    brought = topping_up.keep(
        settings, asked, asked.call.parse({"api_key": "sk_live_0123"}), store=True
    )

    assert (brought.api_key, brought.kept_in) == ("sk_live_0123", None)
    assert brought.warning == "the key is not stored: LookupError"


def test_another_key_than_the_one_that_was_topped_up_is_kept_and_told() -> None:
    settings = load_settings({})
    store_key(settings.rest_url, ApiKey("sk_live_mine"))
    asked = topping_up.ask(settings, 5, ApiKey("sk_live_mine"), None)
    assert (asked.call.json or {})["api_key"] == "sk_live_mine"

    deposit = asked.call.parse({"api_key": "sk_live_other", "balance_usd": "5.00"})
    brought = topping_up.keep(settings, asked, deposit, store=True)

    assert "another key" in (brought.warning or "")
    assert {"sk_live_mine", "sk_live_other"} <= set(keys_path().read_text().split())


@pytest.mark.parametrize(
    ("environment", "topup_url", "rest_url"),
    [
        ({}, "https://virtualsms.io/api/v1/x402/topup", "https://virtualsms.io/api/v2"),
        (
            {"X402SMS_BASE_URL": "https://x402.virtualsms.io/api/v2"},
            "https://virtualsms.io/api/v1/x402/topup",
            "https://virtualsms.io/api/v2",
        ),
        (
            {"X402SMS_BASE_URL": "http://127.0.0.1:8402/api/v2"},
            "http://127.0.0.1:8402/api/v1/x402/topup",
            "http://127.0.0.1:8402/api/v2",
        ),
        (
            {"X402SMS_TOPUP_URL": "https://pay.example/topup"},
            "https://pay.example/topup",
            "https://virtualsms.io/api/v2",
        ),
    ],
    ids=["the vendor's", "the per-call host written out", "a sandbox", "its own address"],
)
def test_where_the_deposit_goes(environment: dict[str, str], topup_url: str, rest_url: str) -> None:
    settings = load_settings(environment)

    assert (settings.topup_url, settings.rest_url) == (topup_url, rest_url)


def test_neither_ledger_nor_errors_hold_the_key(colour: Colour, tmp_path: Path) -> None:
    with scene(colour, tmp_path) as at:
        key = at.sms.topup(5).api_key
        at.sandbox.set_faults([Fault("drop-after-settle", paid=True)])
        with pytest.raises((PaymentUnknown, AlreadyPaid)) as caught:
            at.sms.topup(5)
        said = f"{caught.value!r} {caught.value} {vars(caught.value)}"

        assert key not in said
        for file in at.ledger.parent.glob("payments.db*"):
            assert key.encode() not in file.read_bytes()


def test_the_call_says_what_is_paid_for() -> None:
    call = calls.topup("https://virtualsms.io/api/v1/x402/topup", 5, "sk_live_0123")

    request = httpx.Client().build_request(call.method, call.path, json=dict(call.json or {}))
    assert str(request.url) == "https://virtualsms.io/api/v1/x402/topup"
    assert "sk_live_0123" not in repr(call)  # a traceback may show locals
    assert json.loads(request.content) == {"amount_usd": 5, "api_key": "sk_live_0123"}
