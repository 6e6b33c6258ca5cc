"""A ledger in many hands: threads of one process, and one store that was opened several times."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from x402sms.conformance.cases import Cases, OpenLedger
from x402sms.conformance.parts import (
    CAP_OF_FIVE,
    ELSEWHERE,
    HOUR,
    NOW,
    OTHER,
    PAYER,
    STATES,
    ask,
    at_once,
    attempt,
    charge,
    deliver,
    put,
    row,
    spent,
)
from x402sms.errors import IntentConflict, LedgerError, SpendLimitExceeded
from x402sms.ledger import Ledger, Payment
from x402sms.limits import Budget
from x402sms.protocol.networks import BASE
from x402sms.protocol.types import OnChainSettled, Outcome, PaymentState


def fits(ledger: Ledger, number: int) -> bool:
    """Whether one of many could still be promised under the cap."""
    try:
        ledger.reserve(attempt(str(number)), [CAP_OF_FIVE], now=NOW)
    except SpendLimitExceeded:
        return False
    return True


def contents(ledger: Ledger) -> list[object]:
    """All that it answers to whoever reads it."""
    return [
        list(ledger.payments()),
        [list(ledger.payments(state=state)) for state in STATES],
        [spent(ledger), spent(ledger, NOW + 1)],
        ledger.charges.list(),
        ledger.charges.charged_atomic("key:1"),
        ledger.quotes.get("GET /a"),
    ]


class ThreadCases(Cases):
    """Safe to call from several threads."""

    def test_twenty_threads_against_a_cap_of_five_take_exactly_five(self, ledger: Ledger) -> None:
        assert sum(at_once(20, lambda number: fits(ledger, number))) == 5
        assert spent(ledger) == 50

    def test_twenty_threads_with_one_intent_promise_it_once(self, ledger: Ledger) -> None:
        budget = Budget("total", 10)
        at_once(20, lambda _: ledger.reserve(attempt(), [budget], now=NOW))
        assert row(ledger).presentations == 20
        assert spent(ledger) == 10

    def test_of_twenty_threads_with_things_to_buy_for_one_intent_one_is_let_through(
        self, ledger: Ledger
    ) -> None:
        def one(number: int) -> bool:
            try:
                ledger.reserve(attempt(fingerprint=f"{number:064x}"), [], now=NOW)
            except IntentConflict:
                return False
            return True

        assert sum(at_once(20, one)) == 1
        assert row(ledger).presentations == 1

    def test_of_ten_payments_that_brought_one_order_one_has_it(self, ledger: Ledger) -> None:
        payments = [put(ledger, PaymentState.SETTLED, str(number)) for number in range(10)]
        had = at_once(10, lambda number: deliver(ledger, payments[number], "order-1"))
        assert sum(had) == 1
        delivered = [payment.delivered for payment in ledger.payments()]
        assert sorted(filter(None, delivered)) == ["order-1"]

    def test_of_twenty_threads_that_end_a_payment_each_reads_the_same_end(
        self, ledger: Ledger
    ) -> None:
        put(ledger, PaymentState.UNKNOWN)
        ends = (PaymentState.SETTLED, PaymentState.VOID)

        def end(number: int) -> Payment:
            return ledger.record(attempt(), Outcome(ends[number % 2], str(number)), now=NOW)

        assert set(at_once(20, end)) == {row(ledger)}

    def test_twenty_threads_of_an_account_take_exactly_five(self, ledger: Ledger) -> None:
        def one(number: int) -> bool:
            try:
                return ask(ledger, charge(str(number)), CAP_OF_FIVE) is None
            except SpendLimitExceeded:
                return False

        assert sum(at_once(20, one)) == 5
        assert ledger.charges.charged_atomic("key:1") == 50


class ClosingCases(Cases):
    """A ledger that was closed signs nothing."""

    def test_a_ledger_that_is_closed_promises_nothing(self, ledger: Ledger) -> None:
        ledger.close()
        ledger.close()
        with pytest.raises(LedgerError):
            ledger.reserve(attempt(), [], now=NOW)
        with pytest.raises(LedgerError):
            ledger.find("a")
        with pytest.raises(LedgerError):
            ledger.quotes.get("GET /a")

    def test_a_ledger_that_is_closed_sells_nothing(self, ledger: Ledger) -> None:
        ledger.close()
        with pytest.raises(LedgerError):
            ask(ledger, charge())


class SharedCases(Cases):
    """What is opened several times is one ledger, and is kept when all have closed it."""

    @pytest.fixture
    def opened(self, open_ledger: OpenLedger) -> Iterator[OpenLedger]:
        """Opens it as often as it is called; all are closed at the end."""
        with ExitStack() as stack:
            yield lambda: stack.enter_context(closing(open_ledger()))

    def test_twenty_threads_with_four_ledgers_take_exactly_five(self, opened: OpenLedger) -> None:
        ledgers = [opened() for _ in range(4)]
        assert sum(at_once(20, lambda number: fits(ledgers[number % 4], number))) == 5
        assert [spent(ledger) for ledger in ledgers] == [50] * 4

    def test_twenty_threads_with_four_ledgers_promise_an_intent_once(
        self, opened: OpenLedger
    ) -> None:
        ledgers = [opened() for _ in range(4)]
        budget = Budget("total", 10)
        at_once(20, lambda number: ledgers[number % 4].reserve(attempt(), [budget], now=NOW))
        assert [row(ledger).presentations for ledger in ledgers] == [20] * 4
        assert spent(ledgers[0]) == 10

    def test_of_many_that_open_it_and_ask_at_once_one_is_let_through(
        self, open_ledger: OpenLedger
    ) -> None:
        def one(number: int) -> bool:
            with closing(open_ledger()) as ledger:
                return ask(ledger, charge(url=str(number))) is None

        assert sum(at_once(8, one)) == 1

    def test_a_ledger_that_is_reopened_knows_what_it_knew(self, opened: OpenLedger) -> None:
        first = opened()
        for state in STATES:
            put(first, state, intent=state)
        deliver(first, row(first, "settled"), "order-1")
        first.reserve(attempt("refused", 25, pay_to=OTHER), [], now=NOW + 5)
        first.settle_from_chain(
            row(first, "unknown"), OnChainSettled(ELSEWHERE, OTHER, 7), now=NOW + 6
        )
        first.void(row(first, "reserved"), "cancelled", nonce_burnt=True, now=NOW + 7)
        ask(first, charge())
        first.charges.end(charge(), PaymentState.SETTLED, order_id="order-2", now=NOW + 8)
        first.quotes.put("GET /a", "last", now=NOW)
        knew = contents(first)

        while_it_is_open = contents(opened())
        first.close()

        assert while_it_is_open == knew
        assert contents(opened()) == knew

    def test_what_was_promised_before_is_promised_again_not_anew(self, opened: OpenLedger) -> None:
        first = opened()
        first.reserve(attempt(), [], now=NOW)
        first.close()
        second = opened()
        second.reserve(attempt(), [Budget("total", 0)], now=NOW + 5)
        payment = row(second)
        assert (payment.presentations, payment.created_at, payment.updated_at) == (2, NOW, NOW + 5)

    def test_the_clock_of_whoever_is_behind_does_not_reopen_a_window(
        self, opened: OpenLedger
    ) -> None:
        ahead, behind = opened(), opened()
        budget = Budget("per_hour", 10, HOUR)
        ahead.reserve(attempt("a"), [budget], now=NOW)
        with pytest.raises(SpendLimitExceeded):
            behind.reserve(attempt("b"), [budget], now=NOW - 10 * HOUR)
        assert behind.spent_atomic(network=BASE.caip2, payer=PAYER, since=NOW) == 10

    def test_a_proof_is_of_the_promise_that_was_read(self, opened: OpenLedger) -> None:
        reads, pays = opened(), opened()
        read = put(reads, PaymentState.UNKNOWN)
        pays.reserve(attempt(valid_before=NOW + 900), [], now=NOW + 400)
        assert reads.void(read, "expired", now=NOW + 401).state is PaymentState.RESERVED
        assert spent(pays) == 10
