"""What was bought with an API key, beside the payments on the PostgreSQL server."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from x402sms.ledger.charges import NAMES, Charge, ask_once, charge_of, columns_of
from x402sms.ledger.named_sql import statements
from x402sms.ledger.postgres_connection import Connection
from x402sms.ledger.postgres_schema import lock_of
from x402sms.limits import Budget
from x402sms.protocol.types import PaymentState

_SQL = statements("postgres/charges", NAMES)


class Transaction(Protocol):
    def __call__(
        self, lock: int | None = None, *, durable: bool = False
    ) -> AbstractContextManager[Connection]: ...


class PostgresCharges:
    """See `Charges`. What writes for one account goes one after the other, as a payer's does."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def ask(self, charge: Charge, budgets: Sequence[Budget], *, now: int) -> Charge | None:
        with self._transaction(_lock(charge.account), durable=True) as connection:
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
        ended = {
            "account": charge.account,
            "intent": charge.intent,
            "asked_at": charge.asked_at,
            "state": state,
            "order_id": order_id,
            "amount_atomic": amount_atomic,
            "now": now,
        }
        with self._transaction(_lock(charge.account)) as connection:
            return connection.execute(_SQL["end"], ended).rowcount == 1

    def get(self, account: str, intent: str) -> Charge | None:
        with self._transaction() as connection:
            return _Asked(connection).find(account, intent)

    def list(self, *, since: int = 0) -> list[Charge]:
        with self._transaction() as connection:
            rows = connection.execute(_SQL["list"], {"since": since})
            return [charge_of(row) for row in rows]

    def charged_atomic(self, account: str, *, since: int = 0, worker: str | None = None) -> int:
        with self._transaction() as connection:
            return _Asked(connection).spent(account, since - 1, worker)


class _Asked:
    """See `Asked`. The lock of their account is held."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, account: str, intent: str) -> Charge | None:
        wanted = {"account": account, "intent": intent}
        row = self._connection.execute(_SQL["find"], wanted).fetchone()
        return None if row is None else charge_of(row)

    def latest(self) -> int:
        [[latest]] = self._connection.execute(_SQL["latest"])
        return int(latest)

    def spent(self, account: str, after: int, worker: str | None) -> int:
        wanted = {"account": account, "after": after, "worker": worker}
        [[spent]] = self._connection.execute(_SQL["spent"], wanted)
        return int(spent)

    def put(self, charge: Charge) -> None:
        self._connection.execute(_SQL["ask"], columns_of(charge))


def _lock(account: str) -> int:
    return lock_of("charges", account)
