"""What workers took from the budgets on the PostgreSQL server, to spend it by themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice

from x402sms.ledger.base import Payment
from x402sms.ledger.lease import LEASE_NAMES, SLACK_SECONDS, Lease, LeaseState, lease_of
from x402sms.ledger.named_sql import statements
from x402sms.ledger.postgres_charges import Transaction
from x402sms.ledger.postgres_connection import Connection
from x402sms.ledger.postgres_schema import lock_of
from x402sms.ledger.promising import NAMES, Promises, columns_of, payment_of
from x402sms.ledger.sharing import grant, merged
from x402sms.limits import Budget

_SQL = statements("postgres/leases", LEASE_NAMES)
_PAYMENTS = statements("postgres/returning", NAMES)
MOST_ROWS = 1_000  # in one statement


class PostgresLeases:
    """See `Leases`. What is done for one payer goes one after the other, as its payments do."""

    def __init__(
        self, transaction: Transaction, promises: Callable[[Connection], Promises]
    ) -> None:
        self._transaction = transaction
        self._promises = promises

    def take(
        self,
        asked: Lease,
        budgets: Sequence[Budget],
        *,
        needed_atomic: int,
        seconds: int,
        intent: str,
        now: int,
    ) -> Lease:
        with self._transaction(_lock(asked), durable=True) as connection:
            taken = grant(
                self._promises(connection),
                asked,
                budgets,
                needed_atomic=needed_atomic,
                seconds=seconds,
                intent=intent,
                now=now,
            )
            connection.execute(_SQL["take"], asdict(taken))
        return taken

    def give_back(self, lease: Lease, payments: Sequence[Payment]) -> None:
        with self._transaction(_lock(lease), durable=True) as connection:
            [[state]] = connection.execute(_SQL["give_back"], asdict(lease))
            _take_over(connection, payments, proven=state == LeaseState.PROVEN)

    def take_over(self, payments: Sequence[Payment]) -> None:
        for lock in {_lock(payment) for payment in payments}:
            with self._transaction(lock, durable=True) as connection:
                _take_over(connection, [each for each in payments if _lock(each) == lock])

    def return_proven(
        self, *, network: str, payer: str, covered_from: int, chain_time: int
    ) -> list[Lease]:
        covered = {
            "network": network,
            "payer": payer,
            "covered_from": covered_from,
            "chain_time": chain_time,
            "slack": SLACK_SECONDS,
        }
        with self._transaction(lock_of("payments", network, payer)) as connection:
            return [lease_of(row) for row in connection.execute(_SQL["return_proven"], covered)]

    def list(self, *, unreturned: bool = False) -> list[Lease]:
        with self._transaction() as connection:
            rows = connection.execute(_SQL["list"], {"unreturned": unreturned})
            return [lease_of(row) for row in rows]


def _take_over(
    connection: Connection, payments: Sequence[Payment], *, proven: bool = False
) -> None:
    """All are of one payer on one network, whose lock is held."""
    rest = iter(payments)
    while part := list(islice(rest, MOST_ROWS)):
        there = {payment.nonce: payment for payment in _there(connection, part)}
        rows = [merged(there.get(each.nonce), each, proven=proven) for each in part]
        changed = [_storable(row) for row in rows if row != there.get(row.nonce)]
        connection.execute(_PAYMENTS["put"], {"rows": json.dumps(changed)})


def _storable(payment: Payment) -> dict[str, object]:
    """Text of PostgreSQL has no NUL; SQLite's may, and what it is in must not stay away for it."""
    return {
        name: value.replace("\0", "\ufffd") if isinstance(value, str) else value
        for name, value in columns_of(payment).items()
    }


def _there(connection: Connection, payments: Sequence[Payment]) -> Iterator[Payment]:
    wanted = {
        "network": payments[0].network,
        "payer": payments[0].payer,
        "nonces": [payment.nonce for payment in payments],
    }
    return map(payment_of, connection.execute(_PAYMENTS["there"], wanted))


def _lock(of: Lease | Payment) -> int:
    return lock_of("payments", of.network, of.payer)
