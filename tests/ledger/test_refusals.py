"""What the user is told, by whichever store: what happened to the money, and what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from x402sms.conformance.parts import HASH, NOW, ask, attempt, charge, put
from x402sms.errors import IntentConflict, LedgerError, PaymentError
from x402sms.ledger import Ledger, Payment
from x402sms.limits import Budget
from x402sms.protocol.types import Attempt, Outcome, PaymentState


def refusal(ledger: Ledger, again: Attempt, *budgets: Budget) -> str:
    with pytest.raises(PaymentError) as caught:
        ledger.reserve(again, budgets, now=NOW)
    assert str(caught.value).startswith("nothing signed: ")
    return str(caught.value)


def test_what_is_paid_already_is_named_with_its_transaction(ledger: Ledger) -> None:
    put(ledger, PaymentState.SETTLED)
    said = refusal(ledger, attempt())
    assert f"0.00001 USDC for POST https://seller.example/sms in transaction {HASH}" in said


def test_an_intent_that_is_used_twice_is_told_what_for(ledger: Ledger) -> None:
    put(ledger, PaymentState.UNKNOWN)
    other = attempt(method="DELETE", url="https://seller.example/else", fingerprint="e" * 64)
    said = refusal(ledger, other)
    assert "POST https://seller.example/sms already" in said
    assert "DELETE https://seller.example/else is something else" in said


def test_an_intent_whose_payment_was_cancelled_needs_a_new_one(ledger: Ledger) -> None:
    ledger.void(put(ledger, PaymentState.UNKNOWN), "cancelled", nonce_burnt=True, now=NOW)
    said = refusal(ledger, attempt())
    assert "cancelled on the chain" in said
    assert "new intent" in said


def test_by_how_much_a_budget_is_too_small(ledger: Ledger) -> None:
    ledger.reserve(attempt("a", 20), [], now=NOW)
    said = refusal(ledger, attempt("b", 11), Budget("total", 30))
    assert "0.000001 over the limit total" in said


def test_what_an_intent_bought_from_a_balance_is_named(ledger: Ledger) -> None:
    ask(ledger, charge())
    with pytest.raises(IntentConflict, match="bought a number for telegram in GB already"):
        ask(ledger, charge(what="a number for signal in DE"))


def test_a_payment_that_is_gone_is_told_of(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="has lost a payment that was in it"):
        ledger.record(attempt(), Outcome(PaymentState.SETTLED), now=NOW)


def test_a_row_of_a_network_that_is_not_known_any_more_is_shown_and_never_presented() -> None:
    strange = replace(Payment.reserved(attempt(), NOW), network="eip155:1")
    assert strange.receipt().network == "eip155:1"
    with pytest.raises(ValueError, match="eip155:1 is not a network x402sms pays on"):
        strange.attempt()


def test_only_settled_and_void_are_final() -> None:
    assert {state for state in PaymentState if state.is_final} == {
        PaymentState.SETTLED,
        PaymentState.VOID,
    }
