"""The ledger on a PostgreSQL server: one wallet and its budgets for a fleet of machines.

What writes for one payer on one network takes one lock, an advisory one that ends with the
transaction, and so goes one after the other as in SQLite's file: a budget is added up and counted
against while nobody else does either. Without it, two that add up at the same moment would both see
room for the last payment. Locking rows would not do: what is missing cannot be locked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from x402sms.errors import LedgerError
from x402sms.ledger.base import Payment
from x402sms.ledger.named_sql import statements
from x402sms.ledger.postgres_charges import PostgresCharges
from x402sms.ledger.postgres_connection import Connection
from x402sms.ledger.postgres_database import PostgresDatabase
from x402sms.ledger.postgres_leases import PostgresLeases
from x402sms.ledger.postgres_quotes import PostgresQuotes
from x402sms.ledger.postgres_schema import lock_of
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
from x402sms.ledger.spending import Spending, spending_of
from x402sms.limits import Budget
from x402sms.protocol.types import Attempt, OnChainSettled, Outcome, PaymentState

_SQL = statements("postgres/payments", NAMES) | statements("postgres/spending")


class PostgresLedger(PostgresDatabase):
    """See `Ledger`. No lock is held while anything is sent."""

    def __init__(self, url: str) -> None:
        self.charges = PostgresCharges(self._transaction)
        self.quotes = PostgresQuotes(self._transaction)
        self.leases = PostgresLeases(self._transaction, _Promises)
        super().__init__(url)

    def reserve(self, attempt: Attempt, budgets: Sequence[Budget], *, now: int) -> None:
        with self._transaction(_lock(signed_key(attempt)), durable=True) as connection:
            promise(_Promises(connection), attempt, budgets, now)

    def record(self, attempt: Attempt, outcome: Outcome, *, now: int) -> Payment:
        # Not durable: lost with the power, the row still says `reserved`, which counts as spent.
        key = signed_key(attempt)
        with self._transaction(_lock(key)) as connection:
            connection.execute(_SQL["record"], outcome_columns(attempt, outcome, now))
            return self._found(connection, key)

    def get(self, *, network: str, payer: str, nonce: str) -> Payment | None:
        with self._transaction() as connection:
            return _Promises(connection).find((network, payer, nonce))

    def settle_from_chain(self, payment: Payment, found: OnChainSettled, *, now: int) -> Payment:
        key = key_of(payment)
        settled = {
            "transaction": found.transaction,
            "pay_to": found.pay_to,
            "amount_atomic": found.amount_atomic,
            "now": now,
        }
        with self._transaction(_lock(key)) as connection:
            connection.execute(_SQL["settle"], settled | _named(key))
            return self._found(connection, key)

    def void(
        self, payment: Payment, reason: str, *, nonce_burnt: bool = False, now: int
    ) -> Payment:
        key = key_of(payment)
        proven = {
            "reason": reason,
            "burnt": nonce_burnt,
            "presentations": payment.presentations,
            "settleable_until": payment.settleable_until,
            "now": now,
        }
        with self._transaction(_lock(key)) as connection:
            connection.execute(_SQL["void"], proven | _named(key))
            return self._found(connection, key)

    def note_delivered(self, *, network: str, payer: str, nonce: str, what: str) -> bool:
        key = (network, payer, nonce)
        with self._transaction(_lock(key)) as connection:
            claim = connection.execute(_SQL["delivered"], {"what": what, **_named(key)})
            return claim.rowcount == 1

    def insert_settled(self, payment: Payment) -> bool:
        with self._transaction(_lock(key_of(payment))) as connection:
            return connection.execute(_SQL["insert"], columns_of(payment)).rowcount == 1

    def find(self, intent_or_nonce: str) -> list[Payment]:
        return self._read("search", {"intent": intent_or_nonce, "nonce": intent_or_nonce.lower()})

    def payments(self, *, since: int = 0, state: PaymentState | None = None) -> Iterator[Payment]:
        return iter(self._read("list", {"since": since, "state": state}))

    def spent_atomic(
        self, *, network: str, payer: str, since: int = 0, worker: str | None = None
    ) -> int:
        with self._transaction() as connection:
            window = Window(since - 1, worker=worker)
            return _Promises(connection).spent((network, payer, NO_NONCE), window)

    def spending(self, *, since: int = 0) -> Iterator[Spending]:
        with self._transaction() as connection:
            rows = connection.execute(_SQL["by_day"], {"since": since}).fetchall()
        return spending_of(rows)

    def _found(self, connection: Connection, key: Key) -> Payment:
        payment = _Promises(connection).find(key)
        if payment is None:
            raise LedgerError(
                f"the ledger on {self._server.shown} has lost a payment that was in it, {key[2]}: "
                "was the database changed by another program, or restored from a backup?"
            )
        return payment

    def _read(self, name: str, parameters: dict[str, object]) -> list[Payment]:
        with self._transaction() as connection:
            return [payment_of(row) for row in connection.execute(_SQL[name], parameters)]


class _Promises:
    """See `Promises`. The lock of their payer is held."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, key: Key) -> Payment | None:
        row = self._connection.execute(_SQL["find"], _named(key)).fetchone()
        return None if row is None else payment_of(row)

    def latest(self) -> int:
        [[latest]] = self._connection.execute(_SQL["latest"])
        return int(latest)

    def spent(self, key: Key, window: Window) -> int:
        name = "spent" if window.pay_to is None else "spent_at"
        [[spent]] = self._connection.execute(_SQL[name], spent_columns(key, window))
        return int(spent)

    def put(self, payment: Payment) -> None:
        self._connection.execute(_SQL["reserve"], columns_of(payment))


def _lock(key: Key) -> int:
    network, payer, _ = key
    return lock_of("payments", network, payer)


def _named(key: Key) -> dict[str, object]:
    return dict(zip(("network", "payer", "nonce"), key, strict=True))
