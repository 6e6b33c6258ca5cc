"""The ledger in one SQLite file: readable by its owner only, shared by threads and processes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence

from x402sms.errors import LedgerError
from x402sms.ledger.base import Payment
from x402sms.ledger.database import Database
from x402sms.ledger.promising import (
    NAMES,
    NO_NONCE,
    Key,
    Window,
    columns_of,
    key_of,
    outcome_columns,
    payment_of,
    promise,
    signed_key,
    spent_columns,
)
from x402sms.ledger.quotes import SQLiteQuotes
from x402sms.ledger.spending import Spending, spending_of
from x402sms.ledger.sqlite_charges import SQLiteCharges
from x402sms.ledger.sqlite_file import LEDGER, number
from x402sms.ledger.sqlite_leases import SQLiteLeases, open_lease, refuse_file_of_worker
from x402sms.limits import Budget
from x402sms.protocol.types import Attempt, OnChainSettled, Outcome, PaymentState

_COLUMNS = ", ".join(f'"{name}"' for name in NAMES)
# REPLACE: the row of a nonce takes the authorization that was signed last.
_VALUES = f"INTO payments ({_COLUMNS}) VALUES ({', '.join(f':{name}' for name in NAMES)})"
_RESERVE = f"INSERT OR REPLACE {_VALUES}"
_INSERT = f"INSERT OR IGNORE {_VALUES}"
_SELECT = f"SELECT {_COLUMNS} FROM payments"  # noqa: S608  as above
_FIND = f"{_SELECT} WHERE network = ? AND payer = ? AND nonce = ?"
# Whole minutes from their sums (the triggers' work), the one that the window begins in by the row.
_SPENT = """
    SELECT (
        SELECT coalesce(sum(atomic), 0) FROM promised
        WHERE network = :network AND payer = :payer AND minute > :after / 60
            AND (:worker IS NULL OR worker = :worker)
    ) + (
        SELECT coalesce(sum(reserved_atomic), 0) FROM payments INDEXED BY payments_by_time
        WHERE network = :network AND payer = :payer AND state != 'void'
            AND created_at > :after AND created_at < (:after / 60 + 1) * 60
            AND (:worker IS NULL OR worker = :worker)
    ) - coalesce((
        SELECT reserved_atomic FROM payments
        WHERE network = :network AND payer = :payer AND nonce = :nonce AND state != 'void'
            AND created_at > :after AND (:worker IS NULL OR worker = :worker)
    ), 0)
"""
_SPENT_AT = """
    SELECT coalesce(sum(reserved_atomic), 0) FROM payments INDEXED BY payments_by_time
    WHERE network = :network AND payer = :payer AND created_at > :after AND state != 'void'
        AND nonce != :nonce AND (pay_to = :pay_to OR instr(other_recipients, :pay_to) > 0)
        AND (:worker IS NULL OR worker = :worker)
"""
_SPENT_OF_LEASE = """
    SELECT coalesce(sum(reserved_atomic), 0) FROM payments
    WHERE lease = :lease AND lease != '' AND state != 'void' AND nonce != :nonce
"""
_RECORD = f"""
    UPDATE payments
    SET state = :state, reason = :reason, "transaction" = :transaction, nonce_burnt = :burnt,
        updated_at = :now
    WHERE network = :network AND payer = :payer AND nonce = :nonce
        AND state NOT IN ('settled', 'void')
        AND (NOT :never_sent OR (presentations = 1 AND valid_before = :valid_before))
        AND (:chain_time IS NULL OR settleable_until < :chain_time)
    RETURNING {_COLUMNS}
"""  # noqa: S608  as above
_SETTLE = """
    UPDATE payments SET state = 'settled', verified = 1, nonce_burnt = 0, reason = NULL,
        "transaction" = ?, pay_to = ?, other_recipients = '', amount_atomic = ?,
        reserved_atomic = ?, updated_at = ?
    WHERE network = ? AND payer = ? AND nonce = ? AND verified = 0
"""
_DELIVERED = """
    UPDATE payments SET delivered = :what
    WHERE network = :network AND payer = :payer AND nonce = :nonce
        AND (delivered IS NULL OR delivered = :what)
        AND NOT EXISTS (
            SELECT 1 FROM payments WHERE network = :network AND payer = :payer
                AND delivered = :what AND nonce != :nonce
        )
"""
_VOID = """
    UPDATE payments
    SET state = 'void', reason = ?, nonce_burnt = max(nonce_burnt, ?), updated_at = ?
    WHERE network = ? AND payer = ? AND nonce = ? AND verified = 0
        AND (? OR (presentations = ? AND settleable_until = ?))
"""

# A day is one of UTC. What is settled cost its amount, what is open may cost what is reserved.
_SPENDING = """
    SELECT 'x402', network, payer, created_at / 86400, worker, labels, state, count(*),
        sum(CASE WHEN state = 'settled' THEN amount_atomic ELSE reserved_atomic END)
    FROM payments WHERE created_at >= :since
    GROUP BY network, payer, created_at / 86400, worker, labels, state
    UNION ALL
    SELECT 'rest', '', account, asked_at / 86400, worker, labels, state, count(*),
        sum(amount_atomic)
    FROM charges WHERE asked_at >= :since
    GROUP BY account, asked_at / 86400, worker, labels, state
"""


class SQLiteLedger(Database):
    """See `Ledger`. One connection, short transactions, no lock held while anything is sent."""

    schema = LEDGER

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.charges = SQLiteCharges(self._transaction)
        self.quotes = SQLiteQuotes(self._transaction)
        self.own_leases = SQLiteLeases(self._transaction)
        super().__init__(path)

    def reserve(self, attempt: Attempt, budgets: Sequence[Budget], *, now: int) -> None:
        # FULL: on disk before the signature leaves, power cut included.
        with self._transaction(synchronous="FULL") as connection:
            refuse_file_of_worker(connection)
            promise(_Promises(connection), attempt, budgets, now)

    def reserve_from(
        self, lease_id: str, attempt: Attempt, budgets: Sequence[Budget], *, now: int
    ) -> None:
        """As `reserve`, and from what is left of a lease. Raises LeaseSpent where it is too little,
        or the lease is not open."""
        with self._transaction(synchronous="FULL") as connection:
            lease = open_lease(connection, lease_id)
            promise(_Promises(connection), attempt, budgets, now, lease)

    def record(self, attempt: Attempt, outcome: Outcome, *, now: int) -> Payment:
        # NORMAL: lost with the power, the row still says `reserved`, which counts as spent.
        with self._transaction(synchronous="NORMAL") as connection:
            columns = outcome_columns(attempt, outcome, now)
            changed = connection.execute(_RECORD, columns).fetchall()
            if changed:
                return payment_of(changed[0])
            return self._found(connection, signed_key(attempt))

    def get(self, *, network: str, payer: str, nonce: str) -> Payment | None:
        with self._transaction() as connection:
            return _first(connection.execute(_FIND, (network, payer, nonce)))

    def settle_from_chain(self, payment: Payment, found: OnChainSettled, *, now: int) -> Payment:
        with self._transaction() as connection:
            amount = found.amount_atomic
            connection.execute(
                _SETTLE,
                (found.transaction, found.pay_to, amount, amount, now, *key_of(payment)),
            )
            return self._found(connection, key_of(payment))

    def void(
        self, payment: Payment, reason: str, *, nonce_burnt: bool = False, now: int
    ) -> Payment:
        with self._transaction() as connection:
            connection.execute(
                _VOID,
                (
                    reason,
                    nonce_burnt,
                    now,
                    *key_of(payment),
                    nonce_burnt,
                    payment.presentations,
                    payment.settleable_until,
                ),
            )
            return self._found(connection, key_of(payment))

    def note_delivered(self, *, network: str, payer: str, nonce: str, what: str) -> bool:
        claim = {"network": network, "payer": payer, "nonce": nonce, "what": what}
        with self._transaction() as connection:
            return connection.execute(_DELIVERED, claim).rowcount == 1

    def insert_settled(self, payment: Payment) -> bool:
        with self._transaction() as connection:
            return connection.execute(_INSERT, columns_of(payment)).rowcount == 1

    def find(self, intent_or_nonce: str) -> list[Payment]:
        return self._read(
            f"{_SELECT} WHERE intent = ? OR nonce = ? ORDER BY id DESC",
            (intent_or_nonce, intent_or_nonce.lower()),
        )

    def payments(self, *, since: int = 0, state: PaymentState | None = None) -> Iterator[Payment]:
        return iter(
            self._read(
                f"{_SELECT} WHERE created_at >= ? AND (? IS NULL OR state = ?) ORDER BY id DESC",
                (since, state, state),
            )
        )

    def spent_atomic(
        self, *, network: str, payer: str, since: int = 0, worker: str | None = None
    ) -> int:
        with self._transaction() as connection:
            window = Window(since - 1, worker=worker)
            return _Promises(connection).spent((network, payer, NO_NONCE), window)

    def spending(self, *, since: int = 0) -> Iterator[Spending]:
        with self._transaction(begin="BEGIN") as connection:  # nobody waits for one who only reads
            rows = connection.execute(_SPENDING, {"since": since}).fetchall()
        return spending_of(rows)

    def _found(self, connection: sqlite3.Connection, key: Key) -> Payment:
        payment = _first(connection.execute(_FIND, key))
        if payment is None:
            raise LedgerError(
                f"the ledger {self._path} has lost a payment that was in it, {key[2]}: was the "
                "file changed by another program?"
            )
        return payment

    def _read(self, statement: str, parameters: tuple[object, ...]) -> list[Payment]:
        with self._transaction() as connection:
            return [payment_of(row) for row in connection.execute(statement, parameters)]

    def _failure(self, why: str) -> LedgerError:
        return LedgerError(
            f"the ledger {self._path} cannot be used: {why}. Payments are written down before "
            "they are signed, so with this ledger nothing more is: free some space, set the "
            "permissions, upgrade x402sms, or name another file with X402SMS_LEDGER"
        )


class _Promises:
    """See `Promises`. Nobody else writes meanwhile: the transaction is immediate."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def find(self, key: Key) -> Payment | None:
        return _first(self._connection.execute(_FIND, key))

    def latest(self) -> int:
        return number(self._connection, "SELECT coalesce(max(created_at), 0) FROM payments")

    def spent(self, key: Key, window: Window) -> int:
        statement = _SPENT if window.pay_to is None else _SPENT_AT
        if window.lease is not None:
            statement = _SPENT_OF_LEASE
        return number(self._connection, statement, spent_columns(key, window))

    def put(self, payment: Payment) -> None:
        self._connection.execute(_RESERVE, columns_of(payment))


def _first(rows: Iterator[sqlite3.Row]) -> Payment | None:
    row = next(rows, None)
    return None if row is None else payment_of(row)
