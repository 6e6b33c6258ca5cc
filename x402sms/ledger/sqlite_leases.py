"""What this worker has on lease, beside the payments that came from it, in its own file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict

from x402sms.errors import ConfigError
from x402sms.ledger.base import Payment
from x402sms.ledger.lease import LEASE_NAMES, NO_LEASE, Lease, lease_of
from x402sms.ledger.promising import NAMES, key_of, payment_of

_COLUMNS = ", ".join(LEASE_NAMES)
_VALUES = ", ".join(f":{name}" for name in LEASE_NAMES)
_ASK = f"INSERT INTO leases ({_COLUMNS}) VALUES ({_VALUES})"  # noqa: S608  made of the names of fields
_READ = f"SELECT {_COLUMNS} FROM leases"  # noqa: S608  as above
_OPENED = f"""
    UPDATE leases SET ({_COLUMNS}) = ({_VALUES}) WHERE id = :id AND state = 'asked'
"""  # noqa: S608  as above
_PAYMENTS = ", ".join(f'payments."{name}"' for name in NAMES)
_OF_LEASE = f"SELECT {_PAYMENTS} FROM payments WHERE lease = ?"  # noqa: S608  as above
_FIND = f"""
    SELECT {_PAYMENTS} FROM payments WHERE network = ? AND payer = ? AND nonce = ?
"""  # noqa: S608  as above
# Before the lease itself is given back, its payments go with that.
_UNPASSED = f"""
    SELECT {_PAYMENTS} FROM unpassed JOIN payments USING (nonce, payer, network)
    WHERE lease IN (SELECT id FROM leases WHERE state = 'returned')
"""  # noqa: S608  as above


class SQLiteLeases:
    """`transaction` is the ledger's own. Every method raises LedgerError when it fails."""

    def __init__(
        self, transaction: Callable[[str], AbstractContextManager[sqlite3.Connection]]
    ) -> None:
        self._transaction = transaction

    def ask(self, lease: Lease) -> None:
        """Durably, before it is taken: what is taken and not known of could not be returned."""
        with self._transaction("FULL") as connection:
            connection.execute(_ASK, asdict(lease))

    def forget(self, lease: Lease) -> None:
        """It was not taken."""
        with self._transaction("NORMAL") as connection:
            connection.execute("DELETE FROM leases WHERE id = ? AND state = 'asked'", (lease.id,))

    def opened(self, lease: Lease) -> bool:
        """It was taken. False where another process has closed it meanwhile."""
        with self._transaction("FULL") as connection:
            return connection.execute(_OPENED, asdict(lease)).rowcount == 1

    def close(self, lease_id: str | None = None) -> None:
        """Nothing more is promised from it, or from any. On disk before any of it is returned."""
        with self._transaction("FULL") as connection:
            connection.execute(
                "UPDATE leases SET state = 'closed' "
                "WHERE state IN ('asked', 'open') AND (? IS NULL OR id = ?)",
                (lease_id, lease_id),
            )

    def closed(self) -> list[Lease]:
        """Those that are to be returned."""
        with self._transaction("NORMAL") as connection:
            rows = connection.execute(f"{_READ} WHERE state = 'closed' ORDER BY rowid")
            return [lease_of(row) for row in rows]

    def payments(self, lease: Lease) -> list[Payment]:
        """All that were promised from it."""
        with self._transaction("NORMAL") as connection:
            return [payment_of(row) for row in connection.execute(_OF_LEASE, (lease.id,))]

    def returned(self, lease: Lease) -> None:
        with self._transaction("NORMAL") as connection:
            connection.execute("UPDATE leases SET state = 'returned' WHERE id = ?", (lease.id,))

    def unpassed(self) -> list[Payment]:
        """Payments of returned leases, of which the shared ledger does not know the news."""
        with self._transaction("NORMAL") as connection:
            return [payment_of(row) for row in connection.execute(_UNPASSED)]

    def passed(self, payments: Iterable[Payment]) -> None:
        """The shared ledger has them as they are here; what has changed again is still to pass."""
        with self._transaction("NORMAL") as connection:
            for payment in payments:
                key = key_of(payment)
                if payment_of(next(connection.execute(_FIND, key))) == payment:
                    connection.execute(
                        "DELETE FROM unpassed WHERE network = ? AND payer = ? AND nonce = ?", key
                    )


def refuse_file_of_worker(connection: sqlite3.Connection) -> None:
    """Raise ConfigError where a worker spends leases from this file: what was paid from it by
    itself would be past the budgets that the workers share."""
    [[is_of_worker]] = connection.execute("SELECT EXISTS (SELECT 1 FROM leases)")
    if is_of_worker:
        raise ConfigError(
            "nothing signed: this ledger is the file of a worker that spends leases of a shared "
            "budget; pay through its LeasedLedger, from the shared ledger, or from another file"
        )


def open_lease(connection: sqlite3.Connection, lease_id: str) -> Lease:
    """The lease while it is open, else one from which nothing can be spent."""
    found = connection.execute(f"{_READ} WHERE id = ? AND state = 'open'", (lease_id,)).fetchone()
    return NO_LEASE if found is None else lease_of(found)
