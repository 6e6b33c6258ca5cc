"""What every ledger must do, whatever keeps it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ledger.conftest import Reopen
from tests.ledger.parts import CAP_OF_FIVE, NOW, OTHER, PAYER, RECIPIENT, attempt
from x402sms.errors import (
    AlreadyPaid,
    ConfigError,
    IntentConflict,
    LedgerError,
    SpendLimitExceeded,
)
from x402sms.ledger import Ledger, default_ledger_path, open_ledger
from x402sms.limits import Budget, SpendLimits
from x402sms.protocol.networks import BASE, BASE_SEPOLIA
from x402sms.protocol.types import Outcome, PaymentState

HASH = "0x" + "ab" * 32
HOUR, DAY = 3600, 86_400


def spent(ledger: Ledger, since: int = 0) -> int:
    return ledger.spent_atomic(network=BASE.caip2, payer=PAYER, since=since)


def refused_over(ledger: Ledger, budget: Budget, amount: int, now: int) -> SpendLimitExceeded:
    before = list(ledger.payments())
    with pytest.raises(SpendLimitExceeded) as caught:
        ledger.reserve(attempt("one too many", amount), [budget], now=now)
    assert list(ledger.payments()) == before
    return caught.value


def test_a_reserved_payment_is_found_with_all_that_is_known_of_it(ledger: Ledger) -> None:
    given = attempt(template={"a": [1, "\u00fc"]}, amount_atomic=250_000)
    ledger.reserve(given, [], now=NOW)

    (payment,) = ledger.find("a")

    assert (payment.intent, payment.fingerprint) == ("a", "f" * 64)
    assert (payment.method, payment.url) == ("POST", "https://seller.example/sms")
    assert (payment.network, payment.asset) == ("eip155:8453", BASE.usdc)
    assert (payment.payer, payment.pay_to) == (PAYER, RECIPIENT)
    assert (payment.amount_atomic, payment.amount) == (250_000, Decimal("0.25"))
    assert (payment.valid_after, payment.valid_before) == (NOW - 600, NOW + 300)
    assert payment.nonce == given.authorization.nonce_hex
    assert (payment.dialect, json.loads(payment.template)) == ("v2", {"a": [1, "\u00fc"]})
    assert (payment.reserved_atomic, payment.presentations) == (250_000, 1)
    assert payment.nonce_burnt is False
    assert payment.attempt() == given
    assert ledger.get(network=BASE.caip2, payer=PAYER, nonce=payment.nonce) == payment
    assert ledger.get(network=BASE.caip2, payer=OTHER, nonce=payment.nonce) is None
    assert ledger.get(network=BASE_SEPOLIA.caip2, payer=PAYER, nonce=payment.nonce) is None
    assert payment.state is PaymentState.RESERVED
    assert (payment.reason, payment.transaction, payment.verified) == (None, None, False)
    assert (payment.created_at, payment.updated_at) == (NOW, NOW)
    assert ledger.find(payment.nonce) == ledger.find(payment.nonce.upper()) == [payment]
    assert ledger.find("another") == []


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(PaymentState.SETTLED, None, HASH),
        Outcome(PaymentState.REFUSED, "insufficient_funds"),
        Outcome(PaymentState.UNKNOWN, "no answer"),
        Outcome(PaymentState.VOID, "never sent"),
    ],
)
def test_what_became_of_a_payment_is_recorded(ledger: Ledger, outcome: Outcome) -> None:
    ledger.reserve(attempt(), [], now=NOW)

    payment = ledger.record(attempt(), outcome, now=NOW + 5)

    assert (payment.state, payment.reason) == (outcome.state, outcome.reason)
    assert payment.transaction == outcome.transaction
    assert (payment.created_at, payment.updated_at) == (NOW, NOW + 5)
    assert ledger.find("a") == [payment]
    receipt = payment.receipt()
    assert (receipt.intent, receipt.amount, receipt.network) == ("a", Decimal("0.00001"), "base")
    assert (receipt.state, receipt.transaction) == (outcome.state, outcome.transaction)
    assert (receipt.nonce, receipt.valid_before) == (payment.nonce, NOW + 300)
    assert (receipt.method, receipt.url) == (payment.method, payment.url)


@pytest.mark.parametrize("final", [PaymentState.SETTLED, PaymentState.VOID])
@pytest.mark.parametrize("later", PaymentState)
def test_a_final_state_stays(ledger: Ledger, final: PaymentState, later: PaymentState) -> None:
    ledger.reserve(attempt(), [], now=NOW)
    first = ledger.record(attempt(), Outcome(final, "first"), now=NOW)
    assert ledger.record(attempt(), Outcome(later, "later"), now=NOW + 9) == first


@pytest.mark.parametrize("earlier", [PaymentState.REFUSED, PaymentState.UNKNOWN])
@pytest.mark.parametrize("later", PaymentState)
def test_an_open_state_may_change(
    ledger: Ledger, earlier: PaymentState, later: PaymentState
) -> None:
    ledger.reserve(attempt(), [], now=NOW)
    ledger.record(attempt(), Outcome(earlier), now=NOW)
    assert ledger.record(attempt(), Outcome(later, "now known"), now=NOW).state is later


def test_only_settled_and_void_are_final() -> None:
    assert {state for state in PaymentState if state.is_final} == {
        PaymentState.SETTLED,
        PaymentState.VOID,
    }


def test_recording_what_was_never_reserved_is_an_error(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="has lost a payment that was in it") as caught:
        ledger.record(attempt(), Outcome(PaymentState.SETTLED), now=NOW)
    assert attempt().authorization.nonce_hex in str(caught.value)


def test_payments_are_listed_newest_first(ledger: Ledger) -> None:
    for second, intent in enumerate("abcd"):
        ledger.reserve(attempt(intent), [], now=NOW + second)
    ledger.record(attempt("b"), Outcome(PaymentState.SETTLED, None, HASH), now=NOW + 9)

    assert [payment.intent for payment in ledger.payments()] == list("dcba")
    assert [payment.intent for payment in ledger.payments(since=NOW + 2)] == list("dc")
    settled = ledger.payments(state=PaymentState.SETTLED)
    assert [payment.intent for payment in settled] == ["b"]
    assert not list(ledger.payments(since=NOW + 2, state=PaymentState.SETTLED))


def test_one_intent_of_two_wallets_is_two_payments(ledger: Ledger) -> None:
    ledger.reserve(attempt(payer=PAYER), [], now=NOW)
    ledger.reserve(attempt(payer=OTHER), [], now=NOW)
    ledger.reserve(attempt(network=BASE_SEPOLIA), [], now=NOW)
    assert [(each.network, each.payer) for each in ledger.find("a")] == [
        ("eip155:84532", PAYER),
        ("eip155:8453", OTHER),
        ("eip155:8453", PAYER),
    ]


# --- an intent pays once


def test_an_intent_that_is_settled_is_not_paid_again(ledger: Ledger) -> None:
    ledger.reserve(attempt(), [], now=NOW)
    ledger.record(attempt(), Outcome(PaymentState.SETTLED, None, HASH), now=NOW)
    before = ledger.find("a")

    with pytest.raises(AlreadyPaid, match="nothing signed") as caught:
        ledger.reserve(attempt(amount_atomic=99, pay_to=OTHER), [], now=NOW + 9)

    raised = caught.value
    assert HASH in str(raised)
    assert "POST https://seller.example/sms" in str(raised)
    assert (raised.intent, raised.amount) == ("a", Decimal("0.00001"))
    assert (raised.nonce, raised.valid_before) == (before[0].nonce, NOW + 300)
    assert raised.receipt == before[0].receipt()
    assert ledger.find("a") == before


@pytest.mark.parametrize(
    "state",
    [
        PaymentState.RESERVED,
        PaymentState.SETTLED,
        PaymentState.UNKNOWN,
        PaymentState.REFUSED,
    ],
)
def test_an_intent_that_bought_something_else_is_a_conflict(
    ledger: Ledger, state: PaymentState
) -> None:
    ledger.reserve(attempt(), [], now=NOW)
    ledger.record(attempt(), Outcome(state), now=NOW)
    other = attempt(method="DELETE", url="https://seller.example/else", fingerprint="e" * 64)

    with pytest.raises(IntentConflict) as caught:
        ledger.reserve(other, [], now=NOW)

    assert "POST https://seller.example/sms already" in str(caught.value)
    assert "DELETE https://seller.example/else is something else" in str(caught.value)
    assert (caught.value.intent, caught.value.nonce) == ("a", other.authorization.nonce_hex)
    assert (caught.value.amount, caught.value.valid_before) == (Decimal("0.00001"), NOW + 300)


def test_a_void_payment_may_be_made_again_and_on_other_terms(ledger: Ledger) -> None:
    ledger.reserve(attempt(), [], now=NOW)
    ledger.record(attempt(), Outcome(PaymentState.VOID, "never sent"), now=NOW)
    again = attempt(amount_atomic=25, pay_to=OTHER)

    ledger.reserve(again, [], now=NOW + 10)

    (payment,) = ledger.find("a")
    assert (payment.state, payment.amount_atomic) == (PaymentState.RESERVED, 25)
    assert (payment.pay_to, payment.reason, payment.created_at) == (OTHER, None, NOW + 10)
    assert spent(ledger) == 25


# --- the budgets


@pytest.mark.parametrize("name", ["per_hour", "per_day", "total"])
def test_a_budget_is_exact_at_its_boundary(ledger: Ledger, name: str) -> None:
    given: dict[str, Any] = {"per_day": None, name: "0.000030"}
    (budget,) = SpendLimits(**given).budgets
    for intent in ("a", "b"):
        ledger.reserve(attempt(intent, 10), [budget], now=NOW)

    error = refused_over(ledger, budget, 11, NOW)
    assert (error.limit, error.allowed, error.spent) == (name, Decimal("0.00003"), Decimal("2e-5"))
    assert (error.intent, error.amount) == ("one too many", Decimal("0.000011"))
    assert "0.000001 over the limit" in str(error)
    ledger.reserve(attempt("c", 10), [budget], now=NOW)
    ledger.reserve(attempt("for nothing", 0), [budget], now=NOW)
    refused_over(ledger, budget, 1, NOW)


def test_the_budget_of_one_recipient_is_exact_and_its_own(ledger: Ledger) -> None:
    budgets = SpendLimits(per_day=None, pay_to={RECIPIENT: "0.000020", OTHER: None}).budgets
    ledger.reserve(attempt("elsewhere", 1000, pay_to=OTHER), budgets, now=NOW)
    ledger.reserve(attempt("a", 20), budgets, now=NOW)

    error = refused_over(ledger, budgets[0], 1, NOW + 10**8)

    assert error.limit == "pay_to"
    ledger.reserve(attempt("more", 1000, pay_to=OTHER), budgets, now=NOW)


@pytest.mark.parametrize(("name", "seconds"), [("per_hour", HOUR), ("per_day", DAY)])
def test_a_window_rolls(ledger: Ledger, name: str, seconds: int) -> None:
    budget = Budget(name, 20, seconds)
    ledger.reserve(attempt("a"), [budget], now=NOW)
    ledger.reserve(attempt("b"), [budget], now=NOW + 100)

    refused_over(ledger, budget, 10, NOW + seconds - 1)
    ledger.reserve(attempt("c"), [budget], now=NOW + seconds)
    refused_over(ledger, budget, 10, NOW + seconds + 99)
    ledger.reserve(attempt("d"), [budget], now=NOW + seconds + 100)


def test_a_total_never_rolls(ledger: Ledger) -> None:
    budget = Budget("total", 10)
    ledger.reserve(attempt("a"), [budget], now=0)
    refused_over(ledger, budget, 1, NOW)


def test_a_clock_set_back_does_not_reopen_a_window(ledger: Ledger) -> None:
    budget = Budget("per_hour", 10, HOUR)
    ledger.reserve(attempt("a"), [budget], now=NOW)

    for now in (NOW - 1, NOW - HOUR, NOW - DAY, 0):
        refused_over(ledger, budget, 1, now)
    ledger.reserve(attempt("b"), [], now=NOW - DAY)
    assert ledger.find("b")[0].created_at == NOW
    ledger.reserve(attempt("c"), [budget], now=NOW + HOUR)


def test_void_gives_the_budget_back_and_nothing_else_does(ledger: Ledger) -> None:
    budget = Budget("total", 50)
    states = list(PaymentState)
    for state in states:
        ledger.reserve(attempt(state), [budget], now=NOW)
        ledger.record(attempt(state), Outcome(state), now=NOW)

    assert spent(ledger) == 40
    refused_over(ledger, budget, 11, NOW)
    ledger.reserve(attempt("in its place"), [budget], now=NOW)


def test_the_strictest_of_several_budgets_is_the_one_that_is_named(ledger: Ledger) -> None:
    budgets = [Budget("per_hour", 100, HOUR), Budget("per_day", 15, DAY), Budget("total", 5)]
    with pytest.raises(SpendLimitExceeded, match="per_day"):
        ledger.reserve(attempt(amount_atomic=16), budgets, now=NOW)


def test_budgets_are_of_one_wallet_on_one_network(ledger: Ledger) -> None:
    budget = Budget("total", 10)
    ledger.reserve(attempt("a", payer=OTHER), [budget], now=NOW)
    ledger.reserve(attempt("a", network=BASE_SEPOLIA), [budget], now=NOW)
    ledger.reserve(attempt("a"), [budget], now=NOW)
    assert spent(ledger) == 10
    assert ledger.spent_atomic(network=BASE_SEPOLIA.caip2, payer=PAYER) == 10
    assert ledger.spent_atomic(network=BASE.caip2, payer=RECIPIENT) == 0


def test_what_was_spent_is_counted_from_the_second_that_is_named(ledger: Ledger) -> None:
    ledger.reserve(attempt("a"), [], now=NOW)
    ledger.reserve(attempt("b"), [], now=NOW + 1)
    assert [spent(ledger, since) for since in (0, NOW, NOW + 1, NOW + 2)] == [20, 20, 10, 0]


@settings(max_examples=60, deadline=None)
@given(
    payments=st.lists(
        st.tuples(
            st.integers(0, 30), st.integers(-50, 200), st.sampled_from([None, *PaymentState])
        ),
        max_size=12,
    )
)
def test_a_budget_is_never_overspent_whatever_the_order_and_the_clock(
    payments: list[tuple[int, int, PaymentState | None]],
) -> None:
    ledger = open_ledger(":memory:")
    budget = Budget("per_hour", 60, 100)
    counted: list[tuple[int, int]] = []
    latest = 0
    for number, (amount, offset, state) in enumerate(payments):
        given_attempt = attempt(str(number), amount)
        latest_if_taken = max(latest, 1000 + offset)
        within = sum(each for when, each in counted if when > latest_if_taken - 100)
        try:
            ledger.reserve(given_attempt, [budget], now=1000 + offset)
        except SpendLimitExceeded:
            assert within + amount > 60
            continue
        assert within + amount <= 60
        latest = latest_if_taken
        if state is not None:
            ledger.record(given_attempt, Outcome(state), now=1000)
        if state is not PaymentState.VOID:
            counted.append((latest, amount))
    assert spent(ledger) == sum(amount for _, amount in counted)
    ledger.close()


def test_twenty_threads_against_a_cap_of_five_take_exactly_five(ledger: Ledger) -> None:
    def reserve(number: int) -> bool:
        try:
            ledger.reserve(attempt(str(number)), [CAP_OF_FIVE], now=NOW)
        except SpendLimitExceeded:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(reserve, range(20))) == 5
    assert spent(ledger) == 50


def test_twenty_threads_with_one_intent_promise_it_once(ledger: Ledger) -> None:
    def reserve(_: int) -> None:
        ledger.reserve(attempt(), [Budget("total", 10)], now=NOW)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(reserve, range(20)))
    (payment,) = ledger.payments()
    assert payment.presentations == 20
    assert spent(ledger) == 10


# --- where a ledger is


@pytest.mark.parametrize(
    "location",
    [
        lambda folder: folder / "x.db",
        lambda folder: str(folder / "x.db"),
        lambda folder: f"sqlite:///{folder}/x.db",
    ],
    ids=["path", "text", "url"],
)
def test_a_ledger_is_opened_at_a_path_or_a_url(
    location: Callable[[Path], str | Path], tmp_path: Path
) -> None:
    open_ledger(location(tmp_path)).close()
    assert (tmp_path / "x.db").is_file()


def test_the_users_own_ledger_is_in_the_data_folder(tmp_path: Path) -> None:
    assert default_ledger_path().is_relative_to(tmp_path)
    open_ledger().close()
    assert default_ledger_path().is_file()
    assert default_ledger_path().parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("url", ["mysql://host/db", "redis://x", "http://host/ledger"])
def test_a_ledger_of_another_kind_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError, match="no ledger of the kind"):
        open_ledger(url)
    assert os.listdir() == []


@pytest.mark.parametrize("location", ["", "sqlite:///", "a\0b"], ids=["empty", "url", "NUL"])
def test_a_path_that_is_none_is_a_config_error(location: str) -> None:
    with pytest.raises(ConfigError, match="no path of a ledger"):
        open_ledger(location)
    assert os.listdir() == []


def test_a_ledger_that_is_reopened_knows_what_it_knew(reopen: Reopen) -> None:
    first = reopen()
    first.reserve(attempt(), [], now=NOW)
    first.close()
    first.close()
    second = reopen()
    assert second.find("a")[0].state is PaymentState.RESERVED
    second.reserve(attempt(), [], now=NOW + 5)
    (payment,) = second.find("a")
    assert (payment.presentations, payment.created_at, payment.updated_at) == (2, NOW, NOW + 5)


def test_a_reservation_is_quick_enough_to_stand_before_every_payment(ledger: Ledger) -> None:
    started = time.monotonic()
    for number in range(20):
        ledger.reserve(attempt(str(number)), SpendLimits(total="1").budgets, now=NOW)
    assert time.monotonic() - started < 10
