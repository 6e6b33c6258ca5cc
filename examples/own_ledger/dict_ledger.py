"""A ledger of one's own: what a store has to do, and what it may leave to x402sms.

This one keeps payments in dicts, for the threads of one process. It shows the shape and passes the
conformance suite (test_dict_ledger.py); with the process it is gone, so pay nothing real from it:
put your database where `Store` is, and commit durably where a transaction ends.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from x402sms.errors import LedgerError
from x402sms.ledger import Charge, Payment, Spending
from x402sms.ledger.charges import ask_once
from x402sms.ledger.promising import Key, Window, key_of, promise, signed_key
from x402sms.limits import Budget
from x402sms.protocol.types import Attempt, OnChainSettled, Outcome, PaymentState

DAY = 86_400  # seconds


@dataclass
class Tables:
    """Rows in the order in which they were put, the newest last."""

    payments: dict[Key, Payment] = field(default_factory=dict)
    charges: dict[tuple[str, str], Charge] = field(default_factory=dict)
    quotes: dict[str, str] = field(default_factory=dict)


class Store:
    """What is opened several times. One transaction at a time, of which all is kept or nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables = Tables()

    @contextmanager
    def transaction(self) -> Iterator[Tables]:
        with self._lock:
            kept = self._tables
            work = Tables(dict(kept.payments), dict(kept.charges), dict(kept.quotes))
            yield work
            self._tables = work  # the commit; an exception above leaves what was


class DictLedger:
    """See `x402sms.ledger.Ledger`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._closed = False
        self.charges = DictCharges(self)
        self.quotes = DictQuotes(self)

    @contextmanager
    def transaction(self) -> Iterator[Tables]:
        if self._closed:
            raise LedgerError("the ledger was closed: nothing is signed. Open it again")
        with self._store.transaction() as tables:
            yield tables

    def close(self) -> None:
        self._closed = True

    def reserve(self, attempt: Attempt, budgets: Sequence[Budget], *, now: int) -> None:
        with self.transaction() as tables:
            promise(Promises(tables), attempt, budgets, now)

    def record(self, attempt: Attempt, outcome: Outcome, *, now: int) -> Payment:
        with self.transaction() as tables:
            row = found(tables, signed_key(attempt))
            if not row.state.is_final and ends_it(outcome, attempt, row):
                row = replace(
                    row,
                    state=outcome.state,
                    reason=outcome.reason,
                    transaction=outcome.transaction,
                    nonce_burnt=outcome.nonce_burnt,
                    updated_at=now,
                )
                tables.payments[key_of(row)] = row
            return row

    def get(self, *, network: str, payer: str, nonce: str) -> Payment | None:
        with self.transaction() as tables:
            return tables.payments.get((network, payer, nonce))

    def settle_from_chain(self, payment: Payment, proof: OnChainSettled, *, now: int) -> Payment:
        with self.transaction() as tables:
            row = found(tables, key_of(payment))
            if not row.verified:
                row = replace(
                    row,
                    state=PaymentState.SETTLED,
                    verified=True,
                    nonce_burnt=False,
                    reason=None,
                    transaction=proof.transaction,
                    pay_to=proof.pay_to,
                    other_recipients="",
                    amount_atomic=proof.amount_atomic,
                    reserved_atomic=proof.amount_atomic,
                    updated_at=now,
                )
                tables.payments[key_of(row)] = row
            return row

    def void(
        self, payment: Payment, reason: str, *, nonce_burnt: bool = False, now: int
    ) -> Payment:
        with self.transaction() as tables:
            row = found(tables, key_of(payment))
            as_read = row.presentations, row.settleable_until
            same = as_read == (payment.presentations, payment.settleable_until)
            if not row.verified and (nonce_burnt or same):
                row = replace(
                    row,
                    state=PaymentState.VOID,
                    reason=reason,
                    nonce_burnt=row.nonce_burnt or nonce_burnt,
                    updated_at=now,
                )
                tables.payments[key_of(row)] = row
            return row

    def note_delivered(self, *, network: str, payer: str, nonce: str, what: str) -> bool:
        with self.transaction() as tables:
            row = tables.payments.get((network, payer, nonce))
            others = (
                each.delivered
                for (its_network, its_payer, its_nonce), each in tables.payments.items()
                if (its_network, its_payer) == (network, payer) and its_nonce != nonce
            )
            if row is None or row.delivered not in (None, what) or what in others:
                return False
            tables.payments[key_of(row)] = replace(row, delivered=what)
            return True

    def insert_settled(self, payment: Payment) -> bool:
        with self.transaction() as tables:
            if key_of(payment) in tables.payments:
                return False
            tables.payments[key_of(payment)] = payment
            return True

    def find(self, intent_or_nonce: str) -> list[Payment]:
        nonce = intent_or_nonce.lower()
        return [
            each
            for each in self.payments()
            if intent_or_nonce == each.intent or nonce == each.nonce
        ]

    def payments(self, *, since: int = 0, state: PaymentState | None = None) -> Iterator[Payment]:
        with self.transaction() as tables:
            rows = list(tables.payments.values())
        return (
            each
            for each in reversed(rows)
            if each.created_at >= since and state in (None, each.state)
        )

    def spent_atomic(
        self, *, network: str, payer: str, since: int = 0, worker: str | None = None
    ) -> int:
        with self.transaction() as tables:
            window = Window(since - 1, worker=worker)
            return Promises(tables).spent((network, payer, ""), window)

    def spending(self, *, since: int = 0) -> Iterator[Spending]:
        """Sums of one payment each: `x402sms spend` adds them up. A database does better."""
        for each in self.payments(since=since):
            settled = each.state is PaymentState.SETTLED
            atomic = each.amount_atomic if settled else each.reserved_atomic
            who = each.network, each.payer, each.created_at // DAY, each.worker, each.labels
            yield Spending("x402", *who, each.state, 1, atomic)
        for asked in self.charges.list(since=since):
            who = "", asked.account, asked.asked_at // DAY, asked.worker, asked.labels
            yield Spending("rest", *who, asked.state, 1, asked.amount_atomic)


def found(tables: Tables, key: Key) -> Payment:
    row = tables.payments.get(key)
    if row is None:
        raise LedgerError(f"the ledger has lost a payment that was in it, {key[2]}")
    return row


def ends_it(outcome: Outcome, attempt: Attempt, row: Payment) -> bool:
    """Whether that is true of every promise under the nonce, not of this attempt alone."""
    if outcome.never_sent:  # by this process; another may have, if it was promised again
        return row.presentations == 1 and row.valid_before == attempt.authorization.valid_before
    return outcome.chain_time is None or row.settleable_until < outcome.chain_time


class Promises:
    """What `promise` asks of a store, in one transaction: it then decides by itself."""

    def __init__(self, tables: Tables) -> None:
        self._payments = tables.payments

    def find(self, key: Key) -> Payment | None:
        return self._payments.get(key)

    def latest(self) -> int:
        return max((each.created_at for each in self._payments.values()), default=0)

    def spent(self, key: Key, window: Window) -> int:
        network, payer, nonce = key
        return sum(
            each.reserved_atomic
            for each in self._payments.values()
            if (each.network, each.payer) == (network, payer)
            and each.nonce != nonce
            and each.created_at > window.after
            and each.state is not PaymentState.VOID
            and window.pay_to in (None, each.pay_to, *each.other_recipients.split())
            and window.worker in (None, each.worker)
        )

    def put(self, payment: Payment) -> None:
        self._payments.pop(key_of(payment), None)  # so that it is the newest
        self._payments[key_of(payment)] = payment


class DictCharges:
    """See `x402sms.ledger.Charges`."""

    def __init__(self, ledger: DictLedger) -> None:
        self._ledger = ledger

    def ask(self, charge: Charge, budgets: Sequence[Budget], *, now: int) -> Charge | None:
        with self._ledger.transaction() as tables:
            return ask_once(Asked(tables), charge, budgets, now)

    def end(
        self,
        charge: Charge,
        state: PaymentState,
        *,
        order_id: str | None = None,
        amount_atomic: int | None = None,
        now: int,
    ) -> bool:
        with self._ledger.transaction() as tables:
            row = tables.charges.get((charge.account, charge.intent))
            if row is None or not may_end(row, charge, state, order_id):
                return False
            ended = replace(
                row,
                state=state,
                order_id=row.order_id if order_id is None else order_id,
                amount_atomic=row.amount_atomic if amount_atomic is None else amount_atomic,
                updated_at=now,
            )
            if has_anothers_order(ended, tables):
                return False
            tables.charges[row.account, row.intent] = ended
            return True

    def get(self, account: str, intent: str) -> Charge | None:
        with self._ledger.transaction() as tables:
            return tables.charges.get((account, intent))

    def list(self, *, since: int = 0) -> list[Charge]:
        with self._ledger.transaction() as tables:
            rows = [each for each in tables.charges.values() if each.asked_at >= since]
        rows.sort(key=lambda each: each.asked_at)
        return rows[::-1]

    def charged_atomic(self, account: str, *, since: int = 0, worker: str | None = None) -> int:
        with self._ledger.transaction() as tables:
            return Asked(tables).spent(account, since - 1, worker)


def may_end(row: Charge, read: Charge, state: PaymentState, order_id: str | None) -> bool:
    """A charge that has its order keeps it, and is void only as it was read."""
    if row.state is PaymentState.SETTLED:
        return state is PaymentState.SETTLED and row.order_id == order_id
    return state is not PaymentState.VOID or read.asked_at in (0, row.asked_at)


def has_anothers_order(ended: Charge, tables: Tables) -> bool:
    return ended.order_id is not None and any(
        (each.account, each.order_id) == (ended.account, ended.order_id)
        and each.state is ended.state is PaymentState.SETTLED
        and each.intent != ended.intent
        for each in tables.charges.values()
    )


class Asked:
    """What `ask_once` asks of a store, in one transaction."""

    def __init__(self, tables: Tables) -> None:
        self._charges = tables.charges

    def find(self, account: str, intent: str) -> Charge | None:
        return self._charges.get((account, intent))

    def latest(self) -> int:
        return max((each.asked_at for each in self._charges.values()), default=0)

    def spent(self, account: str, after: int, worker: str | None) -> int:
        return sum(
            each.amount_atomic
            for each in self._charges.values()
            if each.account == account
            and each.asked_at > after
            and worker in (None, each.worker)
            and each.state is not PaymentState.VOID
        )

    def put(self, charge: Charge) -> None:
        self._charges.pop((charge.account, charge.intent), None)
        self._charges[charge.account, charge.intent] = charge


class DictQuotes:
    """See `x402sms.ledger.Quotes`."""

    def __init__(self, ledger: DictLedger) -> None:
        self._ledger = ledger

    def get(self, route: str) -> str | None:
        with self._ledger.transaction() as tables:
            return tables.quotes.get(route)

    def put(self, route: str, quote: str | None, *, now: int) -> None:
        del now  # a store that outlives its process forgets the oldest by it
        with self._ledger.transaction() as tables:
            tables.quotes.pop(route, None)
            if quote is not None:
                tables.quotes[route] = quote
