"""No budget is overspent: not at its boundary, not in its window, not by a clock set back."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from x402sms.conformance.cases import Cases
from x402sms.conformance.parts import (
    DAY,
    HOUR,
    NOW,
    OTHER,
    PAYER,
    RECIPIENT,
    attempt,
    spent,
)
from x402sms.errors import SpendLimitExceeded
from x402sms.ledger import Ledger
from x402sms.limits import Budget, SpendLimits
from x402sms.protocol.networks import BASE, BASE_SEPOLIA
from x402sms.protocol.types import Outcome, PaymentState


def refused_over(ledger: Ledger, budget: Budget, amount: int, now: int) -> SpendLimitExceeded:
    before = list(ledger.payments())
    with pytest.raises(SpendLimitExceeded) as caught:
        ledger.reserve(attempt("one too many", amount), [budget], now=now)
    assert list(ledger.payments()) == before
    return caught.value


class Interrupted(list[Budget]):
    """Budgets of which the first is checked; then comes Ctrl-C."""

    def __iter__(self) -> Iterator[Budget]:
        yield from super().__iter__()
        raise KeyboardInterrupt


class BudgetCases(Cases):
    """No budget is overspent: not at its boundary, not in its window, not by a clock set back."""

    @pytest.mark.parametrize("name", ["per_hour", "per_day", "total"])
    def test_a_budget_is_exact_at_its_boundary(self, ledger: Ledger, name: str) -> None:
        given: dict[str, Any] = {"per_day": None, name: "0.000030"}
        (budget,) = SpendLimits(**given).budgets
        for intent in ("a", "b"):
            ledger.reserve(attempt(intent, 10), [budget], now=NOW)

        error = refused_over(ledger, budget, 11, NOW)
        assert (error.limit, error.allowed) == (name, Decimal("0.00003"))
        assert error.spent == Decimal("0.00002")
        assert (error.intent, error.amount) == ("one too many", Decimal("0.000011"))
        ledger.reserve(attempt("c", 10), [budget], now=NOW)
        ledger.reserve(attempt("for nothing", 0), [budget], now=NOW)
        refused_over(ledger, budget, 1, NOW)

    def test_the_budget_of_one_recipient_is_exact_and_its_own(self, ledger: Ledger) -> None:
        budgets = SpendLimits(per_day=None, pay_to={RECIPIENT: "0.000020", OTHER: None}).budgets
        ledger.reserve(attempt("elsewhere", 1000, pay_to=OTHER), budgets, now=NOW)
        ledger.reserve(attempt("a", 20), budgets, now=NOW)

        error = refused_over(ledger, budgets[0], 1, NOW + 10**8)

        assert error.limit == "pay_to"
        ledger.reserve(attempt("more", 1000, pay_to=OTHER), budgets, now=NOW)

    @pytest.mark.parametrize(("name", "seconds"), [("per_hour", HOUR), ("per_day", DAY)])
    def test_a_window_rolls(self, ledger: Ledger, name: str, seconds: int) -> None:
        budget = Budget(name, 20, seconds)
        ledger.reserve(attempt("a"), [budget], now=NOW)
        ledger.reserve(attempt("b"), [budget], now=NOW + 100)

        refused_over(ledger, budget, 10, NOW + seconds - 1)
        ledger.reserve(attempt("c"), [budget], now=NOW + seconds)
        refused_over(ledger, budget, 10, NOW + seconds + 99)
        ledger.reserve(attempt("d"), [budget], now=NOW + seconds + 100)

    def test_a_total_never_rolls(self, ledger: Ledger) -> None:
        budget = Budget("total", 10)
        ledger.reserve(attempt("a"), [budget], now=0)
        refused_over(ledger, budget, 1, NOW)

    def test_a_clock_set_back_does_not_reopen_a_window(self, ledger: Ledger) -> None:
        budget = Budget("per_hour", 10, HOUR)
        ledger.reserve(attempt("a"), [budget], now=NOW)

        for now in (NOW - 1, NOW - HOUR, NOW - DAY, 0):
            refused_over(ledger, budget, 1, now)
        ledger.reserve(attempt("b"), [], now=NOW - DAY)
        assert ledger.find("b")[0].created_at == NOW
        ledger.reserve(attempt("c"), [budget], now=NOW + HOUR)

    def test_void_gives_the_budget_back_and_nothing_else_does(self, ledger: Ledger) -> None:
        budget = Budget("total", 50)
        states = list(PaymentState)
        for state in states:
            ledger.reserve(attempt(state), [budget], now=NOW)
            ledger.record(attempt(state), Outcome(state), now=NOW)

        assert spent(ledger) == 40
        refused_over(ledger, budget, 11, NOW)
        ledger.reserve(attempt("in its place"), [budget], now=NOW)

    def test_the_strictest_of_several_budgets_is_the_one_that_is_named(
        self, ledger: Ledger
    ) -> None:
        budgets = [Budget("per_hour", 100, HOUR), Budget("per_day", 15, DAY), Budget("total", 5)]
        with pytest.raises(SpendLimitExceeded, match="per_day"):
            ledger.reserve(attempt(amount_atomic=16), budgets, now=NOW)

    def test_budgets_are_of_one_wallet_on_one_network(self, ledger: Ledger) -> None:
        budget = Budget("total", 10)
        ledger.reserve(attempt("a", payer=OTHER), [budget], now=NOW)
        ledger.reserve(attempt("a", network=BASE_SEPOLIA), [budget], now=NOW)
        ledger.reserve(attempt("a"), [budget], now=NOW)
        assert spent(ledger) == 10
        assert ledger.spent_atomic(network=BASE_SEPOLIA.caip2, payer=PAYER) == 10
        assert ledger.spent_atomic(network=BASE.caip2, payer=RECIPIENT) == 0

    @pytest.mark.parametrize("seconds", [None, HOUR], ids=["ever", "an hour"])
    def test_the_budget_of_a_worker_is_its_own(self, ledger: Ledger, seconds: int | None) -> None:
        budget = Budget("total", 10, seconds, of_worker=True)
        for worker in ("one", "two", ""):
            ledger.reserve(attempt(f"of {worker}", worker=worker), [budget], now=NOW)
        for worker in ("one", "two", ""):
            with pytest.raises(SpendLimitExceeded):
                ledger.reserve(attempt("b", 1, worker=worker), [budget], now=NOW + 1)
        ledger.reserve(attempt("b", 1, worker="three"), [budget], now=NOW + 1)
        assert spent(ledger) == 31

    def test_what_was_spent_is_counted_from_the_second_that_is_named(self, ledger: Ledger) -> None:
        ledger.reserve(attempt("a"), [], now=NOW)
        ledger.reserve(attempt("b"), [], now=NOW + 1)
        assert [spent(ledger, since) for since in (0, NOW, NOW + 1, NOW + 2)] == [20, 20, 10, 0]

    def test_all_of_several_budgets_hold_or_nothing_is_written(self, ledger: Ledger) -> None:
        budgets = [Budget("per_hour", 100, HOUR), Budget("total", 10)]
        ledger.reserve(attempt("a"), budgets, now=NOW)

        for again in (attempt("b"), attempt("a", 11), attempt("a", pay_to=OTHER, amount_atomic=12)):
            before = list(ledger.payments())
            with pytest.raises(SpendLimitExceeded, match="total"):
                ledger.reserve(again, budgets, now=NOW + 1)
            assert list(ledger.payments()) == before
        assert spent(ledger) == 10

    @pytest.mark.parametrize("intent", ["a", "b"], ids=["again", "new"])
    def test_what_is_interrupted_leaves_no_row_and_no_lock(
        self, ledger: Ledger, intent: str
    ) -> None:
        ledger.reserve(attempt("a"), [], now=NOW)
        before = list(ledger.payments())
        with pytest.raises(KeyboardInterrupt):
            ledger.reserve(attempt(intent, 20), Interrupted([Budget("total", 50)]), now=NOW)
        assert list(ledger.payments()) == before
        ledger.reserve(attempt(intent, 20), [Budget("total", 50)], now=NOW)
