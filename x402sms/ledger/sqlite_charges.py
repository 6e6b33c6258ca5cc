"""What was bought with an API key, in the ledger's SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from x402sms.ledger.charges import NAMES, Charge, ask_once, charge_of, columns_of
from x402sms.ledger.sqlite_file import number
from x402sms.limits import Budget
from x402sms.protocol.types import PaymentState

_SELECT = f"SELECT {', '.join(NAMES)} FROM charges"  # noqa: S608  names of ours, no input
_FIND = f"{_SELECT} WHERE account = ? AND intent = ?"
_ASK = f"""
    INSERT OR REPLACE INTO charges ({", ".join(NAMES)})
    VALUES ({", ".join(f":{name}" for name in NAMES)})
"""  # noqa: S608  as above
_SPENT = """
    SELECT coalesce(sum(amount_atomic), 0) FROM charges
    WHERE account = ? AND asked_at > ? AND state != 'void' AND coalesce(? = worker, TRUE)
"""
_END = """
    UPDATE OR IGNORE charges
    SET state = ?, order_id = coalesce(?, order_id), amount_atomic = coalesce(?, amount_atomic),
        updated_at = ?
    WHERE account = ? AND intent = ?
        AND (state != 'settled' OR (? = 'settled' AND order_id IS ?))
        AND (? != 'void' OR ? IN (0, asked_at))
"""

Transaction = Callable[[str], AbstractContextManager[sqlite3.Connection]]


class SQLiteCharges:
    """See `Charges`. `transaction` is the ledger's own: one file, one lock."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def ask(self, charge: Charge, budgets: Sequence[Budget], *, now: int) -> Charge | None:
        # FULL: on disk before the request leaves, power cut included.
        with self._transaction("FULL") as connection:
            return ask_once(_Asked(connection), charge, budgets, now)

    def end(
        self,
        charge: Charge,
        state: PaymentState,
        *,
        order_id: str | None = None,
        amount_atomic: int | None = None,
        now: int,
    ) -> bool:
        with self._transaction("NORMAL") as connection:
            changes = (state, order_id, amount_atomic, now)
            only_if = (charge.account, charge.intent, state, order_id, state, charge.asked_at)
            return connection.execute(_END, (*changes, *only_if)).rowcount == 1

    def get(self, account: str, intent: str) -> Charge | None:
        with self._transaction("NORMAL") as connection:
            return _first(connection.execute(_FIND, (account, intent)))

    def list(self, *, since: int = 0) -> list[Charge]:
        statement = f"{_SELECT} WHERE asked_at >= ? ORDER BY asked_at DESC, rowid DESC"
        with self._transaction("NORMAL") as connection:
            return [charge_of(row) for row in connection.execute(statement, (since,))]

    def charged_atomic(self, account: str, *, since: int = 0, worker: str | None = None) -> int:
        with self._transaction("NORMAL") as connection:
            return _Asked(connection).spent(account, since - 1, worker)


class _Asked:
    """See `Asked`. Nobody else writes meanwhile: the transaction is immediate."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def find(self, account: str, intent: str) -> Charge | None:
        return _first(self._connection.execute(_FIND, (account, intent)))

    def latest(self) -> int:
        return number(self._connection, "SELECT coalesce(max(asked_at), 0) FROM charges")

    def spent(self, account: str, after: int, worker: str | None) -> int:
        return number(self._connection, _SPENT, (account, after, worker))

    def put(self, charge: Charge) -> None:
        self._connection.execute(_ASK, columns_of(charge))


def _first(rows: Iterator[sqlite3.Row]) -> Charge | None:
    row = next(rows, None)
    return None if row is None else charge_of(row)
