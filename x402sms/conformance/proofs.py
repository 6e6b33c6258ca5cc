"""What the chain proves stands above what anyone said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from x402sms.conformance.cases import Cases
from x402sms.conformance.parts import (
    ELSEWHERE,
    HASH,
    NOW,
    OTHER,
    PAYER,
    RECIPIENT,
    STATES,
    attempt,
    deliver,
    put,
    row,
    spent,
)
from x402sms.errors import AlreadyPaid, IntentConflict, LedgerError
from x402sms.ledger import Ledger, Payment
from x402sms.protocol.types import OnChainSettled, Outcome, PaymentState

FOUND = OnChainSettled(ELSEWHERE, OTHER, 7)


class ProofCases(Cases):
    """What the chain proves stands above what anyone said."""

    @pytest.mark.parametrize("state", STATES)
    def test_the_chain_settles_a_payment_of_any_state(
        self, ledger: Ledger, state: PaymentState
    ) -> None:
        before = put(ledger, state)

        settled = ledger.settle_from_chain(before, FOUND, now=NOW + 60)

        assert settled.state is PaymentState.SETTLED
        assert (settled.verified, settled.reason) == (True, None)
        assert (settled.transaction, settled.pay_to) == (ELSEWHERE, OTHER)
        assert (settled.amount_atomic, settled.reserved_atomic) == (7, 7)
        assert (settled.created_at, settled.updated_at) == (NOW, NOW + 60)
        assert settled == row(ledger)
        assert spent(ledger) == 7
        assert settled.receipt().verified

    def test_what_the_chain_settled_is_settled_once_and_stays(self, ledger: Ledger) -> None:
        settled = ledger.settle_from_chain(put(ledger, PaymentState.UNKNOWN), FOUND, now=NOW)
        later = OnChainSettled(HASH, RECIPIENT, 999)
        assert ledger.settle_from_chain(settled, later, now=NOW + 9) == settled
        assert ledger.void(settled, "expired", now=NOW + 9) == settled
        for state in STATES:
            assert ledger.record(attempt(), Outcome(state, "later"), now=NOW + 9) == settled
        with pytest.raises(AlreadyPaid, match=ELSEWHERE):
            ledger.reserve(attempt(), [], now=NOW + 9)

    def test_what_the_chain_settled_after_all_is_not_burnt(self, ledger: Ledger) -> None:
        before = ledger.void(
            put(ledger, PaymentState.UNKNOWN), "cancelled", nonce_burnt=True, now=NOW
        )
        settled = ledger.settle_from_chain(before, FOUND, now=NOW + 9)
        assert not settled.nonce_burnt
        with pytest.raises(AlreadyPaid):
            ledger.reserve(attempt(), [], now=NOW + 9)

    @pytest.mark.parametrize("burnt", [False, True])
    @pytest.mark.parametrize("state", STATES)
    def test_what_is_proven_void_no_longer_counts(
        self, ledger: Ledger, state: PaymentState, burnt: bool
    ) -> None:
        """What a server called settled too: the chain knows better."""
        before = put(ledger, state)

        after = ledger.void(before, "proven", nonce_burnt=burnt, now=NOW + 60)

        assert after.state is PaymentState.VOID
        assert (after.reason, after.nonce_burnt) == ("proven", burnt)
        assert (spent(ledger), after.updated_at) == (0, NOW + 60)

    def test_what_was_promised_anew_since_it_was_read_is_not_void(self, ledger: Ledger) -> None:
        read = put(ledger, PaymentState.UNKNOWN)
        ledger.reserve(attempt(valid_before=NOW + 900), [], now=NOW + 400)
        assert ledger.void(read, "expired", now=NOW + 401).state is PaymentState.RESERVED
        assert ledger.void(read, "cancelled", nonce_burnt=True, now=NOW + 402).nonce_burnt

    def test_what_was_void_and_promised_anew_since_it_was_read_is_not_void(
        self, ledger: Ledger
    ) -> None:
        """`reconcile` read the row; a call proved it void and promised it anew; then comes the
        proof of `reconcile`, which is one of the promise before."""
        read = put(ledger, PaymentState.UNKNOWN)
        ledger.record(
            attempt(), Outcome(PaymentState.VOID, "expired", chain_time=NOW + 301), now=NOW
        )
        ledger.reserve(attempt(valid_before=NOW + 900), [], now=NOW + 400)
        assert ledger.void(read, "expired", now=NOW + 401).state is PaymentState.RESERVED
        assert spent(ledger) == 10

    def test_what_a_payment_brought_is_noted_and_stays_with_it(self, ledger: Ledger) -> None:
        before = put(ledger, PaymentState.UNKNOWN)
        assert before.delivered is None
        assert deliver(ledger, before, "order-1")
        assert row(ledger) == replace(before, delivered="order-1")
        ledger.reserve(attempt(), [], now=NOW + 5)
        assert row(ledger).delivered == "order-1"

    def test_what_a_payment_brought_is_of_one_payment_and_stays(self, ledger: Ledger) -> None:
        """Or one order would pass for what two payments bought."""
        first, second = (put(ledger, PaymentState.SETTLED, intent) for intent in "ab")
        assert deliver(ledger, first, "order-1")

        assert deliver(ledger, first, "order-1")
        assert not deliver(ledger, first, "order-2")
        assert not deliver(ledger, second, "order-1")

        assert (row(ledger, "a").delivered, row(ledger, "b").delivered) == ("order-1", None)
        assert deliver(ledger, second, "order-2")

    def test_another_wallet_may_have_an_order_of_the_same_name(self, ledger: Ledger) -> None:
        for payer in (PAYER, OTHER):
            ledger.reserve(attempt(payer=payer), [], now=NOW)
        assert [deliver(ledger, each, "order-1") for each in ledger.find("a")] == [True, True]

    def test_a_nonce_that_is_burnt_stays_burnt(self, ledger: Ledger) -> None:
        burnt = ledger.void(
            put(ledger, PaymentState.UNKNOWN), "cancelled", nonce_burnt=True, now=NOW
        )
        assert ledger.void(burnt, "expired", now=NOW + 9).nonce_burnt

    @pytest.mark.parametrize("how", ["void", "record"])
    def test_an_intent_whose_nonce_is_burnt_is_refused_for_good(
        self, ledger: Ledger, how: str
    ) -> None:
        before = put(ledger, PaymentState.UNKNOWN)
        if how == "void":
            ledger.void(before, "cancelled", nonce_burnt=True, now=NOW)
        else:
            cancelled = Outcome(PaymentState.VOID, "cancelled", nonce_burnt=True)
            ledger.record(attempt(), cancelled, now=NOW)

        with pytest.raises(IntentConflict) as caught:
            ledger.reserve(attempt(), [], now=NOW + 9)

        assert (caught.value.intent, caught.value.nonce) == ("a", before.nonce)
        assert caught.value.valid_before == NOW + 300

    def test_a_payment_found_on_the_chain_is_added_once(self, ledger: Ledger) -> None:
        made = Payment.reserved(attempt(), NOW)
        found = replace(made, state=PaymentState.SETTLED, transaction=HASH, verified=True)

        assert ledger.insert_settled(found)
        assert not ledger.insert_settled(replace(found, transaction=ELSEWHERE))

        assert row(ledger) == found
        assert spent(ledger) == 10
        with pytest.raises(AlreadyPaid, match=HASH):
            ledger.reserve(attempt(), [], now=NOW)

    @pytest.mark.parametrize("state", STATES)
    def test_a_payment_found_on_the_chain_takes_no_rows_place(
        self, ledger: Ledger, state: PaymentState
    ) -> None:
        before = put(ledger, state)
        found = replace(before, state=PaymentState.SETTLED, transaction=ELSEWHERE)
        assert not ledger.insert_settled(found)
        assert row(ledger) == before

    @pytest.mark.parametrize("how", ["record", "settle", "void"])
    def test_a_row_that_is_not_there_is_told_of(self, ledger: Ledger, how: str) -> None:
        missing = Payment.reserved(attempt(), NOW)
        assert ledger.get(network=missing.network, payer=missing.payer, nonce=missing.nonce) is None
        ways: dict[str, Callable[[], object]] = {
            "settle": lambda: ledger.settle_from_chain(missing, FOUND, now=NOW),
            "void": lambda: ledger.void(missing, "expired", now=NOW),
            "record": lambda: ledger.record(attempt(), Outcome(PaymentState.SETTLED), now=NOW),
        }
        with pytest.raises(LedgerError, match=missing.nonce):
            ways[how]()
