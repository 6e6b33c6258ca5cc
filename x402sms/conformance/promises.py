"""A payment is promised, found, and what became of it is recorded."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from x402sms.conformance.cases import Cases
from x402sms.conformance.parts import (
    HASH,
    NOW,
    OPEN,
    OTHER,
    PAYER,
    RECIPIENT,
    STATES,
    attempt,
    put,
    row,
    spent,
)
from x402sms.errors import AlreadyPaid, IntentConflict, LedgerError
from x402sms.ledger import Ledger
from x402sms.protocol.networks import BASE, BASE_SEPOLIA
from x402sms.protocol.types import Outcome, PaymentState


class PromiseCases(Cases):
    """A payment is promised, found, and what became of it is recorded."""

    def test_a_reserved_payment_is_found_with_all_that_is_known_of_it(self, ledger: Ledger) -> None:
        given = attempt(
            template={"a": [1, "\u00fc"]},
            amount_atomic=250_000,
            worker="one",
            labels={"service": "telegram", "a": "\u00fc"},
        )
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
        assert payment.worker == "one"
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
        ids=lambda outcome: str(outcome.state),
    )
    def test_what_became_of_a_payment_is_recorded(self, ledger: Ledger, outcome: Outcome) -> None:
        ledger.reserve(attempt(), [], now=NOW)

        payment = ledger.record(attempt(), outcome, now=NOW + 5)

        assert (payment.state, payment.reason) == (outcome.state, outcome.reason)
        assert payment.transaction == outcome.transaction
        assert (payment.created_at, payment.updated_at) == (NOW, NOW + 5)
        assert ledger.find("a") == [payment]
        receipt = payment.receipt()
        assert (receipt.intent, receipt.amount) == ("a", Decimal("0.00001"))
        assert receipt.network == "base"
        assert (receipt.state, receipt.transaction) == (outcome.state, outcome.transaction)
        assert (receipt.nonce, receipt.valid_before) == (payment.nonce, NOW + 300)
        assert (receipt.method, receipt.url) == (payment.method, payment.url)

    @pytest.mark.parametrize("final", [PaymentState.SETTLED, PaymentState.VOID])
    @pytest.mark.parametrize("later", STATES)
    def test_a_final_state_stays(
        self, ledger: Ledger, final: PaymentState, later: PaymentState
    ) -> None:
        ledger.reserve(attempt(), [], now=NOW)
        first = ledger.record(attempt(), Outcome(final, "first"), now=NOW)
        assert ledger.record(attempt(), Outcome(later, "later"), now=NOW + 9) == first

    @pytest.mark.parametrize("earlier", [PaymentState.REFUSED, PaymentState.UNKNOWN])
    @pytest.mark.parametrize("later", STATES)
    def test_an_open_state_may_change(
        self, ledger: Ledger, earlier: PaymentState, later: PaymentState
    ) -> None:
        ledger.reserve(attempt(), [], now=NOW)
        ledger.record(attempt(), Outcome(earlier), now=NOW)
        assert ledger.record(attempt(), Outcome(later, "now known"), now=NOW).state is later

    def test_recording_what_was_never_reserved_is_an_error(self, ledger: Ledger) -> None:
        with pytest.raises(LedgerError) as caught:
            ledger.record(attempt(), Outcome(PaymentState.SETTLED), now=NOW)
        assert attempt().authorization.nonce_hex in str(caught.value)
        assert list(ledger.payments()) == []

    def test_payments_are_listed_newest_first(self, ledger: Ledger) -> None:
        for second, intent in enumerate("abcd"):
            ledger.reserve(attempt(intent), [], now=NOW + second)
        ledger.record(attempt("b"), Outcome(PaymentState.SETTLED, None, HASH), now=NOW + 9)

        assert [payment.intent for payment in ledger.payments()] == list("dcba")
        assert [payment.intent for payment in ledger.payments(since=NOW + 2)] == list("dc")
        settled = ledger.payments(state=PaymentState.SETTLED)
        assert [payment.intent for payment in settled] == ["b"]
        assert not list(ledger.payments(since=NOW + 2, state=PaymentState.SETTLED))

    def test_one_intent_of_two_wallets_is_two_payments(self, ledger: Ledger) -> None:
        ledger.reserve(attempt(payer=PAYER), [], now=NOW)
        ledger.reserve(attempt(payer=OTHER), [], now=NOW)
        ledger.reserve(attempt(network=BASE_SEPOLIA), [], now=NOW)
        assert [(each.network, each.payer) for each in ledger.find("a")] == [
            ("eip155:84532", PAYER),
            ("eip155:8453", OTHER),
            ("eip155:8453", PAYER),
        ]

    def test_an_intent_that_is_settled_is_not_paid_again(self, ledger: Ledger) -> None:
        before = put(ledger, PaymentState.SETTLED)

        with pytest.raises(AlreadyPaid) as caught:
            ledger.reserve(attempt(amount_atomic=99, pay_to=OTHER), [], now=NOW + 9)

        raised = caught.value
        assert HASH in str(raised)
        assert (raised.intent, raised.amount) == ("a", Decimal("0.00001"))
        assert (raised.nonce, raised.valid_before) == (before.nonce, NOW + 300)
        assert raised.receipt == before.receipt()
        assert row(ledger) == before

    @pytest.mark.parametrize("state", [*OPEN, PaymentState.SETTLED])
    def test_an_intent_that_bought_something_else_is_a_conflict(
        self, ledger: Ledger, state: PaymentState
    ) -> None:
        before = put(ledger, state)
        other = attempt(method="DELETE", url="https://seller.example/else", fingerprint="e" * 64)

        with pytest.raises(IntentConflict) as caught:
            ledger.reserve(other, [], now=NOW)

        raised = caught.value
        assert (raised.intent, raised.nonce) == ("a", before.nonce)
        assert (raised.amount, raised.valid_before) == (Decimal("0.00001"), NOW + 300)
        assert row(ledger) == before

    def test_a_void_payment_may_be_made_again_and_on_other_terms(self, ledger: Ledger) -> None:
        ledger.reserve(attempt(), [], now=NOW)
        ledger.record(attempt(), Outcome(PaymentState.VOID, "never sent"), now=NOW)
        again = attempt(amount_atomic=25, pay_to=OTHER)

        ledger.reserve(again, [], now=NOW + 10)

        (payment,) = ledger.find("a")
        assert (payment.state, payment.amount_atomic) == (PaymentState.RESERVED, 25)
        assert (payment.pay_to, payment.reason, payment.created_at) == (OTHER, None, NOW + 10)
        assert spent(ledger) == 25
