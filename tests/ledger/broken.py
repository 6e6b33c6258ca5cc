"""Ledgers with one fault each, of the kinds that lose money: what the suite is there to find."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import replace

from x402sms.conformance.parts import PATIENCE_SECONDS
from x402sms.errors import SpendLimitExceeded
from x402sms.ledger import Charge, Payment, SQLiteLedger
from x402sms.ledger.promising import promise, signed_key
from x402sms.ledger.sqlite import _Promises
from x402sms.ledger.sqlite_charges import SQLiteCharges
from x402sms.limits import Budget
from x402sms.protocol.types import Attempt, Outcome, PaymentState

_SET = "UPDATE payments SET {} WHERE network = ? AND payer = ? AND nonce = ?"


class _Checking(SQLiteLedger):
    """Adds up outside of the transaction that writes."""

    def check(self, attempt: Attempt, budgets: Sequence[Budget]) -> None:
        network, payer, _ = signed_key(attempt)
        amount = attempt.authorization.amount_atomic
        spent = self.spent_atomic(network=network, payer=payer)
        for budget in budgets:
            if spent + amount > budget.cap_atomic:
                raise budget.exceeded(amount, spent, attempt.intent)


class ReadsTheBudgetBefore(_Checking):
    """Whoever reads the sum before any of the others has written stays within the budget."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._all_have_read = threading.Barrier(20)

    def reserve(self, attempt: Attempt, budgets: Sequence[Budget], *, now: int) -> None:
        self.check(attempt, budgets)
        self._all_have_read.wait(PATIENCE_SECONDS)  # else by bad luck only
        super().reserve(attempt, [], now=now)


class CountsAPromiseTwice(_Checking):
    """The same authorization, presented again, is held against the budgets again."""

    def reserve(self, attempt: Attempt, budgets: Sequence[Budget], *, now: int) -> None:
        self.check(attempt, budgets)
        super().reserve(attempt, budgets, now=now)


class WritesWhatItRefuses(SQLiteLedger):
    """The row is there although the budget was exceeded."""

    def reserve(self, attempt: Attempt, budgets: Sequence[Budget], *, now: int) -> None:
        try:
            super().reserve(attempt, budgets, now=now)
        except SpendLimitExceeded:
            super().reserve(attempt, [], now=now)
            raise


class TakesANoForProof(SQLiteLedger):
    """What a server says it refused no longer counts, and may settle yet."""

    def record(self, attempt: Attempt, outcome: Outcome, *, now: int) -> Payment:
        if outcome.state is PaymentState.REFUSED:
            outcome = replace(outcome, state=PaymentState.VOID)
        return super().record(attempt, outcome, now=now)


class LetsTheLastWordWin(SQLiteLedger):
    """What comes to be known late takes the place of what is final."""

    def record(self, attempt: Attempt, outcome: Outcome, *, now: int) -> Payment:
        with self._transaction() as connection:
            connection.execute(_SET.format("state = 'unknown'"), signed_key(attempt))
        return super().record(attempt, outcome, now=now)


class CountsWhatIsVoid(SQLiteLedger):
    """A budget that is used up for ever by what was never paid."""

    def spent_atomic(
        self, *, network: str, payer: str, since: int = 0, worker: str | None = None
    ) -> int:
        found = self.payments(since=since)
        return sum(each.reserved_atomic for each in found if each.payer == payer)


class VoidsWhatWasPromisedAnew(SQLiteLedger):
    """The proof is of the promise that was read; the row is one of a later promise."""

    def void(
        self, payment: Payment, reason: str, *, nonce_burnt: bool = False, now: int
    ) -> Payment:
        (payment,) = self.find(payment.nonce)
        return super().void(payment, reason, nonce_burnt=nonce_burnt, now=now)


class DeliversTwice(SQLiteLedger):
    """One order passes for what two payments bought."""

    def note_delivered(self, *, network: str, payer: str, nonce: str, what: str) -> bool:
        with self._transaction() as connection:
            connection.execute(_SET.format("delivered = ?"), (what, network, payer, nonce))
        return True


class AsksTwice(SQLiteLedger):
    """What was asked for with an API key is asked for again."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self.charges = _AskingAgain(self._transaction)


class _AskingAgain(SQLiteCharges):
    def ask(self, charge: Charge, budgets: Sequence[Budget], *, now: int) -> None:
        super().ask(charge, budgets, now=now)


class ForgetsWhenItIsClosed(SQLiteLedger):
    def __init__(self, path: str | os.PathLike[str]) -> None:
        del path
        super().__init__(":memory:")


class _Promising(SQLiteLedger):
    promises: type[_Promises]

    def reserve(self, attempt: Attempt, budgets: Sequence[Budget], *, now: int) -> None:
        with self._transaction() as connection:
            promise(self.promises(connection), attempt, budgets, now)


class BelievesTheClock(_Promising):
    """A clock that is set back lets yesterday's spending out of today's window."""

    class promises(_Promises):  # noqa: N801  the name that _Promising looks for
        def latest(self) -> int:
            return 0


class ForgetsTheFirstRecipient(_Promising):
    """Of two promises under one nonce, the first is out of its recipient's budget."""

    class promises(_Promises):  # noqa: N801  as above
        def put(self, payment: Payment) -> None:
            super().put(replace(payment, other_recipients=""))


class CountsTheLastPrice(_Promising):
    """Of two promises under one nonce, the dearer may settle."""

    class promises(_Promises):  # noqa: N801  as above
        def put(self, payment: Payment) -> None:
            super().put(replace(payment, reserved_atomic=payment.amount_atomic))


class CountsInFloats(_Promising):
    class promises(_Promises):  # noqa: N801  as above
        def put(self, payment: Payment) -> None:
            super().put(replace(payment, amount_atomic=int(float(payment.amount_atomic))))


class WritesWhatWasInterrupted(SQLiteLedger):
    """Ctrl-C comes in the middle, and half of it stays."""

    def reserve(self, attempt: Attempt, budgets: Sequence[Budget], *, now: int) -> None:
        try:
            super().reserve(attempt, budgets, now=now)
        except KeyboardInterrupt:
            super().reserve(attempt, [], now=now)
            raise
