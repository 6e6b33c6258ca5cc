"""The ledger in one SQLite file: readable by its owner only, shared by threads and processes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

from x402sms.errors import LedgerError
from x402sms.ledger.base import Payment, refuse_reuse
from x402sms.ledger.charges import SQLiteCharges
from x402sms.ledger.database import Database
from x402sms.ledger.quotes import SQLiteQuotes
from x402sms.ledger.sqlite_file import LEDGER, number
from x402sms.limits import Budget
from x402sms.protocol.types import Attempt, OnChainSettled, Outcome, PaymentState

_NAMES = [field.name for field in fields(Payment)]
_COLUMNS = ", ".join(f'"{name}"' for name in _NAMES)
# REPLACE: the row of a nonce takes the authorization that was signed last.
_VALUES = f"INTO payments ({_COLUMNS}) VALUES ({', '.join(f':{name}' for name in _NAMES)})"
_RESERVE = f"INSERT OR REPLACE {_VALUES}"
_INSERT = f"INSERT OR IGNORE {_VALUES}"
_SELECT = f"SELECT {_COLUMNS} FROM payments"  # noqa: S608  as above
_FIND = f"{_SELECT} WHERE network = ? AND payer = ? AND nonce = ?"
_SPENT = """
    SELECT coalesce(sum(reserved_atomic), 0) FROM payments
    WHERE network = ? AND payer = ? AND created_at > ? AND state != 'void' AND nonce != ?
"""
_RECORD = """
    UPDATE payments
    SET state = :state, reason = :reason, "transaction" = :transaction, nonce_burnt = :burnt,
        updated_at = :now
    WHERE network = :network AND payer = :payer AND nonce = :nonce
        AND state NOT IN ('settled', 'void')
        AND (NOT :never_sent OR (presentations = 1 AND valid_before = :valid_before))
        AND (:chain_time IS NULL OR settleable_until < :chain_time)
"""
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
_FOREVER = -1
_NO_NONCE = ""


class SQLiteLedger(Database):
    """See `Ledger`. One connection, short transactions, no lock held while anything is sent."""

    schema = LEDGER

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.charges = SQLiteCharges(self._transaction)
        self.quotes = SQLiteQuotes(self._transaction)
        super().__init__(path)

    def reserve(self, attempt: Attempt, budgets: Sequence[Budget], *, now: int) -> None:
        # FULL: on disk before the signature leaves, power cut included.
        with self._transaction(synchronous="FULL") as connection:
            payment = Payment.reserved(attempt, _never_backwards(connection, now))
            earlier = _first(connection.execute(_FIND, _key(payment)))
            if earlier is not None and (refusal := refuse_reuse(earlier, attempt)) is not None:
                raise refusal
            if earlier is None or earlier.state is PaymentState.VOID:
                self._promise(connection, payment, budgets)
            elif earlier.attempt().authorization == attempt.authorization:
                # The same promise: as old as it was, and counted already.
                again = replace(_promised_again(payment, earlier), created_at=earlier.created_at)
                self._promise(connection, again, ())
            else:
                self._promise(connection, _promised_again(payment, earlier), budgets)

    @staticmethod
    def _promise(
        connection: sqlite3.Connection, payment: Payment, budgets: Sequence[Budget]
    ) -> None:
        for budget in budgets:
            _check(connection, budget, payment)
        connection.execute(_RESERVE, _columns(payment))

    def record(self, attempt: Attempt, outcome: Outcome, *, now: int) -> Payment:
        # NORMAL: lost with the power, the row still says `reserved`, which counts as spent.
        with self._transaction(synchronous="NORMAL") as connection:
            authorization = attempt.authorization
            key = (authorization.network.caip2, authorization.payer, authorization.nonce_hex)
            connection.execute(
                _RECORD,
                {
                    "state": outcome.state,
                    "reason": outcome.reason,
                    "transaction": outcome.transaction,
                    "never_sent": outcome.never_sent,
                    "valid_before": authorization.valid_before,
                    "chain_time": outcome.chain_time,
                    "burnt": outcome.nonce_burnt,
                    "now": now,
                    "network": key[0],
                    "payer": key[1],
                    "nonce": key[2],
                },
            )
            return self._found(connection, key)

    def get(self, *, network: str, payer: str, nonce: str) -> Payment | None:
        with self._transaction() as connection:
            return _first(connection.execute(_FIND, (network, payer, nonce)))

    def settle_from_chain(self, payment: Payment, found: OnChainSettled, *, now: int) -> Payment:
        with self._transaction() as connection:
            amount = found.amount_atomic
            connection.execute(
                _SETTLE,
                (found.transaction, found.pay_to, amount, amount, now, *_key(payment)),
            )
            return self._found(connection, _key(payment))

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
                    *_key(payment),
                    nonce_burnt,
                    payment.presentations,
                    payment.settleable_until,
                ),
            )
            return self._found(connection, _key(payment))

    def note_delivered(self, *, network: str, payer: str, nonce: str, what: str) -> bool:
        claim = {"network": network, "payer": payer, "nonce": nonce, "what": what}
        with self._transaction() as connection:
            return connection.execute(_DELIVERED, claim).rowcount == 1

    def insert_settled(self, payment: Payment) -> bool:
        with self._transaction() as connection:
            return connection.execute(_INSERT, _columns(payment)).rowcount == 1

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

    def spent_atomic(self, *, network: str, payer: str, since: int = 0) -> int:
        with self._transaction() as connection:
            return _spent(connection, (network, payer, _NO_NONCE), since - 1)

    def _found(self, connection: sqlite3.Connection, key: tuple[str, str, str]) -> Payment:
        payment = _first(connection.execute(_FIND, key))
        if payment is None:
            raise LedgerError(
                f"the ledger {self._path} has lost a payment that was in it, {key[2]}: was the "
                "file changed by another program?"
            )
        return payment

    def _read(self, statement: str, parameters: tuple[object, ...]) -> list[Payment]:
        with self._transaction() as connection:
            return [_payment(row) for row in connection.execute(statement, parameters)]

    def _failure(self, why: str) -> LedgerError:
        return LedgerError(
            f"the ledger {self._path} cannot be used: {why}. Payments are written down before "
            "they are signed, so with this ledger nothing more is: free some space, set the "
            "permissions, upgrade x402sms, or name another file with X402SMS_LEDGER"
        )


def _promised_again(payment: Payment, earlier: Payment) -> Payment:
    """The row of a nonce under which other terms were signed before: any of them may settle."""
    others = {*earlier.other_recipients.split(), earlier.pay_to} - {payment.pay_to}
    return replace(
        payment,
        reserved_atomic=max(payment.reserved_atomic, earlier.reserved_atomic),
        first_at=earlier.first_at,
        settleable_until=max(payment.settleable_until, earlier.settleable_until),
        other_recipients=" ".join(sorted(others)),
        presentations=earlier.presentations + 1,
        delivered=earlier.delivered,
    )


def _check(connection: sqlite3.Connection, budget: Budget, payment: Payment) -> None:
    recipients = (payment.pay_to, *payment.other_recipients.split())
    if budget.pay_to is not None and budget.pay_to not in recipients:
        return
    after = _FOREVER if budget.seconds is None else payment.created_at - budget.seconds
    spent = _spent(connection, _key(payment), after, budget.pay_to)
    if spent + payment.reserved_atomic > budget.cap_atomic:
        raise budget.exceeded(payment.reserved_atomic, spent, payment.intent)


def _spent(
    connection: sqlite3.Connection,
    key: tuple[str, str, str],
    after: int,
    pay_to: str | None = None,
) -> int:
    """What counts since then, but for the payment with the key's own nonce."""
    network, payer, nonce = key
    if pay_to is None:
        return number(connection, _SPENT, (network, payer, after, nonce))
    return number(
        connection,
        f"{_SPENT} AND (pay_to = ? OR instr(other_recipients, ?) > 0)",
        (network, payer, after, nonce, pay_to, pay_to),
    )


def _never_backwards(connection: sqlite3.Connection, now: int) -> int:
    """A clock set back must not let yesterday's spending out of today's window."""
    return max(now, number(connection, "SELECT coalesce(max(created_at), 0) FROM payments"))


def _key(payment: Payment) -> tuple[str, str, str]:
    return payment.network, payment.payer, payment.nonce


def _columns(payment: Payment) -> dict[str, object]:
    return {name: getattr(payment, name) for name in _NAMES}


def _payment(row: sqlite3.Row) -> Payment:
    columns = dict(zip(_NAMES, row, strict=True))
    columns["state"] = PaymentState(columns["state"])
    columns["verified"] = bool(columns["verified"])
    columns["nonce_burnt"] = bool(columns["nonce_burnt"])
    return Payment(**columns)


def _first(rows: Iterator[sqlite3.Row]) -> Payment | None:
    row = next(rows, None)
    return None if row is None else _payment(row)
