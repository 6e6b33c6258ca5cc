"""One intent more than once: presented again, and priced anew."""

from __future__ import annotations

from decimal import Decimal

import pytest

from x402sms.conformance.cases import Cases
from x402sms.conformance.parts import (
    HOUR,
    NOW,
    OPEN,
    OTHER,
    RECIPIENT,
    STATES,
    attempt,
    put,
    row,
    spent,
)
from x402sms.errors import IntentConflict, SpendLimitExceeded
from x402sms.ledger import Ledger
from x402sms.limits import Budget
from x402sms.protocol.types import Outcome, PaymentState

NEVER_SENT = Outcome(PaymentState.VOID, "no connection", never_sent=True)


class AgainCases(Cases):
    """One intent more than once: presented again, and priced anew."""

    @pytest.mark.parametrize("state", OPEN)
    def test_the_same_authorization_costs_nothing_more_however_late(
        self, ledger: Ledger, state: PaymentState
    ) -> None:
        put(ledger, state)
        full = [Budget("per_hour", 10, HOUR), Budget("total", 0)]

        ledger.reserve(attempt(), full, now=NOW + 50)

        again = row(ledger)
        assert (again.state, again.reason) == (PaymentState.RESERVED, None)
        assert (again.created_at, again.updated_at) == (NOW, NOW + 50)
        assert (again.reserved_atomic, again.presentations) == (10, 2)
        assert spent(ledger) == 10

    @pytest.mark.parametrize("late", [0, 50])
    @pytest.mark.parametrize("state", OPEN)
    def test_a_new_authorization_is_counted_now_with_the_larger_amount(
        self, ledger: Ledger, state: PaymentState, late: int
    ) -> None:
        put(ledger, state)

        ledger.reserve(attempt(amount_atomic=25), [Budget("total", 25)], now=NOW + late)
        dearer = row(ledger)
        ledger.reserve(attempt(amount_atomic=5), [Budget("total", 25)], now=NOW + late + 1)
        cheaper = row(ledger)

        assert (dearer.amount_atomic, dearer.reserved_atomic) == (25, 25)
        assert (cheaper.amount_atomic, cheaper.reserved_atomic) == (5, 25)
        assert (dearer.created_at, cheaper.created_at) == (NOW + late, NOW + late + 1)
        assert cheaper.presentations == 3
        assert spent(ledger) == 25

    @pytest.mark.parametrize("late", [0, 1])
    @pytest.mark.parametrize("state", OPEN)
    def test_a_new_authorization_is_held_against_the_budgets(
        self, ledger: Ledger, state: PaymentState, late: int
    ) -> None:
        before = put(ledger, state)
        ledger.reserve(attempt("b"), [], now=NOW)

        with pytest.raises(SpendLimitExceeded) as caught:
            ledger.reserve(attempt(amount_atomic=41), [Budget("total", 50)], now=NOW + late)

        assert (caught.value.spent, caught.value.amount) == (Decimal("1e-5"), Decimal("4.1e-5"))
        assert row(ledger) == before
        ledger.reserve(attempt(amount_atomic=40), [Budget("total", 50)], now=NOW + late)
        assert spent(ledger) == 50

    def test_a_void_intent_that_is_paid_in_the_same_second_is_held_against_the_budgets(
        self,
        ledger: Ledger,
    ) -> None:
        put(ledger, PaymentState.VOID)
        ledger.reserve(attempt("b"), [Budget("total", 10)], now=NOW)
        with pytest.raises(SpendLimitExceeded):
            ledger.reserve(attempt(), [Budget("total", 10)], now=NOW)
        assert spent(ledger) == 10

    def test_a_promise_to_a_second_recipient_leaves_the_one_to_the_first(
        self, ledger: Ledger
    ) -> None:
        """Either of the two may settle: neither may be forgotten in its recipient's budget."""
        budgets = [Budget("pay_to", 10, pay_to=RECIPIENT), Budget("pay_to", 10, pay_to=OTHER)]
        ledger.reserve(attempt(), budgets, now=NOW)
        ledger.reserve(attempt(pay_to=OTHER), budgets, now=NOW + 1)
        for recipient in (RECIPIENT, OTHER):
            with pytest.raises(SpendLimitExceeded):
                ledger.reserve(attempt("b", pay_to=recipient), budgets, now=NOW + 2)

    @pytest.mark.parametrize("state", STATES)
    def test_only_a_void_intent_may_buy_something_else(
        self, ledger: Ledger, state: PaymentState
    ) -> None:
        put(ledger, state)
        other = attempt(fingerprint="e" * 64)
        if state is PaymentState.VOID:
            ledger.reserve(other, [], now=NOW + 1)
            assert (row(ledger).fingerprint, row(ledger).presentations) == ("e" * 64, 1)
            return
        with pytest.raises(IntentConflict):
            ledger.reserve(other, [], now=NOW + 1)

    def test_what_only_this_process_could_have_sent_is_void(self, ledger: Ledger) -> None:
        put(ledger, PaymentState.RESERVED)
        assert ledger.record(attempt(), NEVER_SENT, now=NOW).state is PaymentState.VOID
        assert spent(ledger) == 0

    @pytest.mark.parametrize("amount", [10, 25], ids=["the same", "another"])
    def test_what_another_may_have_sent_is_not_void_because_we_could_not_connect(
        self, ledger: Ledger, amount: int
    ) -> None:
        put(ledger, PaymentState.UNKNOWN)
        again = attempt(amount_atomic=amount)
        ledger.reserve(again, [], now=NOW + 5)

        kept = ledger.record(again, NEVER_SENT, now=NOW + 6)

        assert kept.state is PaymentState.RESERVED
        assert spent(ledger) == amount
        proof = Outcome(PaymentState.VOID, "expired")
        assert ledger.record(again, proof, now=NOW + 999).state is PaymentState.VOID

    def test_what_never_left_is_not_the_promise_that_took_its_place(self, ledger: Ledger) -> None:
        """A connection that hung until others had proven the intent void and promised it anew."""
        ledger.void(put(ledger, PaymentState.RESERVED), "expired", now=NOW + 301)
        ledger.reserve(attempt(valid_before=NOW + 900), [], now=NOW + 310)
        assert ledger.record(attempt(), NEVER_SENT, now=NOW + 311).state is PaymentState.RESERVED
        assert spent(ledger) == 10

    @pytest.mark.parametrize(("until", "void"), [(300, False), (301, True)])
    def test_the_last_second_of_a_window_is_within_it(
        self, ledger: Ledger, until: int, void: bool
    ) -> None:
        put(ledger, PaymentState.UNKNOWN)
        expired = Outcome(PaymentState.VOID, "expired", chain_time=NOW + until)
        kept = ledger.record(attempt(), expired, now=NOW + until)
        assert (kept.state is PaymentState.VOID) == void

    @pytest.mark.parametrize("state", OPEN)
    def test_a_shorter_promise_does_not_end_a_longer_one_under_the_same_nonce(
        self, ledger: Ledger, state: PaymentState
    ) -> None:
        put(ledger, state)
        shorter = attempt(amount_atomic=5, valid_before=NOW + 30)
        ledger.reserve(shorter, [], now=NOW)

        assert (row(ledger).valid_before, row(ledger).settleable_until) == (NOW + 30, NOW + 300)
        too_early = Outcome(PaymentState.VOID, "expired", chain_time=NOW + 200)
        assert ledger.record(shorter, too_early, now=NOW + 200).state is PaymentState.RESERVED
        late = Outcome(PaymentState.VOID, "expired", chain_time=NOW + 301)
        assert ledger.record(shorter, late, now=NOW + 301).state is PaymentState.VOID

    def test_the_chain_is_searched_from_the_first_promise_on(self, ledger: Ledger) -> None:
        put(ledger, PaymentState.UNKNOWN)
        ledger.reserve(attempt(valid_before=NOW + 900), [], now=NOW + 400)
        assert (row(ledger).first_at, row(ledger).created_at) == (NOW, NOW + 400)
