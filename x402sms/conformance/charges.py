"""What is bought with an API key: written down first, asked for once, counted."""

from __future__ import annotations

import pytest

from x402sms.conformance.cases import Cases
from x402sms.conformance.parts import HOUR, NOW, RECIPIENT, ask, charge
from x402sms.errors import IntentConflict, SpendLimitExceeded
from x402sms.ledger import Ledger
from x402sms.limits import Budget, SpendLimits
from x402sms.protocol.types import PaymentState


class ChargeCases(Cases):
    """What is bought with an API key: written down first, asked for once, counted."""

    def test_what_is_asked_for_is_written_down_in_doubt(self, ledger: Ledger) -> None:
        assert ask(ledger, charge()) is None

        assert ledger.charges.get("key:1", "a") == charge(asked_at=NOW, updated_at=NOW)
        assert ledger.charges.get("key:2", "a") is None

    @pytest.mark.parametrize("state", [PaymentState.UNKNOWN, PaymentState.SETTLED])
    def test_an_intent_is_asked_for_once(self, ledger: Ledger, state: PaymentState) -> None:
        ask(ledger, charge())
        ledger.charges.end(charge(), state, order_id="ord_1", now=NOW + 1)

        again = ask(ledger, charge(amount_atomic=99), now=NOW + 2)

        assert again == charge(state=state, order_id="ord_1", asked_at=NOW, updated_at=NOW + 1)
        assert ledger.charges.list() == [again]

    def test_an_intent_that_is_charged_for_buys_nothing_else(self, ledger: Ledger) -> None:
        ask(ledger, charge())

        with pytest.raises(IntentConflict, match="telegram"):
            ask(ledger, charge(what="a number for signal in DE"))

        assert ask(ledger, charge(account="key:2", what="a number for signal in DE")) is None

    def test_a_no_frees_the_intent(self, ledger: Ledger) -> None:
        ask(ledger, charge())
        ledger.charges.end(charge(), PaymentState.VOID, now=NOW)

        assert ask(ledger, charge(what="a number for signal in DE"), now=NOW + 5) is None
        (row,) = ledger.charges.list()
        assert (row.state, row.asked_at) == (PaymentState.UNKNOWN, NOW + 5)

    def test_who_asked_and_what_for_is_kept(self, ledger: Ledger) -> None:
        asked = charge(worker="one", labels='{"service":"telegram"}')
        ask(ledger, asked)
        (found,) = ledger.charges.list()
        assert (found.worker, found.labels) == (asked.worker, asked.labels)

    def test_an_order_is_of_one_purchase(self, ledger: Ledger) -> None:
        for intent in ("a", "b"):
            ask(ledger, charge(intent))

        assert ledger.charges.end(charge("a"), PaymentState.SETTLED, order_id="ord_1", now=NOW)
        assert not ledger.charges.end(charge("b"), PaymentState.SETTLED, order_id="ord_1", now=NOW)

        second = ledger.charges.get("key:1", "b")
        assert second is not None
        assert (second.state, second.order_id) == (PaymentState.UNKNOWN, None)

    def test_the_price_that_was_charged_takes_the_place_of_the_expected_one(
        self, ledger: Ledger
    ) -> None:
        ask(ledger, charge(amount_atomic=40))
        ledger.charges.end(charge(), PaymentState.SETTLED, amount_atomic=25, now=NOW)

        assert ledger.charges.charged_atomic("key:1") == 25

    @pytest.mark.parametrize(
        ("budget", "counts"),
        [
            (Budget("total", 25), True),
            (Budget("per_hour", 25, HOUR), True),
            (Budget("pay_to", 5, pay_to=RECIPIENT), False),
        ],
        ids=["total", "per_hour", "pay_to"],
    )
    def test_a_budget_counts_what_was_asked_for(
        self, ledger: Ledger, budget: Budget, counts: bool
    ) -> None:
        ask(ledger, charge("a"), budget)
        ask(ledger, charge("b"), budget)

        if not counts:
            assert ask(ledger, charge("c"), budget) is None
            return
        with pytest.raises(SpendLimitExceeded) as caught:
            ask(ledger, charge("c"), budget)

        assert caught.value.limit == budget.name
        assert ledger.charges.get("key:1", "c") is None
        assert ask(ledger, charge("c", account="key:2"), budget) is None

    def test_the_budget_of_a_worker_is_its_own_here_too(self, ledger: Ledger) -> None:
        budget = Budget("total", 10, of_worker=True)
        for worker in ("one", "two"):
            assert ask(ledger, charge(f"of {worker}", worker=worker), budget) is None
            with pytest.raises(SpendLimitExceeded):
                ask(ledger, charge("b", 1, worker=worker), budget)
        assert ledger.charges.charged_atomic("key:1") == 20
        assert ledger.charges.charged_atomic("key:1", worker="one") == 10

    def test_a_window_moves_on_and_never_back(self, ledger: Ledger) -> None:
        budget = Budget("per_hour", 10, HOUR)
        ask(ledger, charge("a"), budget)

        with pytest.raises(SpendLimitExceeded):
            ask(ledger, charge("b"), budget, now=NOW - 10 * HOUR)
        assert ask(ledger, charge("b"), budget, now=NOW + HOUR) is None

    def test_what_is_void_does_not_count(self, ledger: Ledger) -> None:
        ask(ledger, charge("a"))
        ask(ledger, charge("b"), now=NOW + 1)
        ledger.charges.end(charge("a"), PaymentState.VOID, now=NOW + 2)

        assert ledger.charges.charged_atomic("key:1") == 10
        assert ledger.charges.charged_atomic("key:1", since=NOW + 2) == 0
        assert [each.intent for each in ledger.charges.list()] == ["b", "a"]
        assert [each.intent for each in ledger.charges.list(since=NOW + 1)] == ["b"]

    def test_the_limits_of_a_wallet_are_not_spent_by_an_account(self, ledger: Ledger) -> None:
        limits = SpendLimits(per_day="0.000015")
        ask(ledger, charge("a"), *limits.budgets)

        assert ledger.spent_atomic(network="eip155:8453", payer="key:1") == 0
