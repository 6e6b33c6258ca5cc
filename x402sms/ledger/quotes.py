"""The last price that was paid on each route, for whoever pays there next. No money hangs on it:
what is remembered is checked like a fresh challenge, and a server that wants more says so."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

MOST_ROUTES = 1_000  # the rest is the oldest, and forgotten

# Later than all others whatever the clock says: one that was ahead must not push it out at once.
_PUT = """
    INSERT INTO quotes
    SELECT ?, ?, max(?, coalesce(max(seen_at) + 1, 0)) FROM quotes
"""
_BOUND = """
    DELETE FROM quotes WHERE route NOT IN (SELECT route FROM quotes ORDER BY seen_at DESC LIMIT ?)
"""


class Quotes(Protocol):
    """Every method raises LedgerError when the store fails."""

    def get(self, route: str) -> str | None: ...

    def put(self, route: str, quote: str | None, *, now: int) -> None:
        """None: forget it."""
        ...


class SQLiteQuotes:
    """See `Quotes`. `transaction` is the ledger's own."""

    def __init__(
        self, transaction: Callable[[str], AbstractContextManager[sqlite3.Connection]]
    ) -> None:
        self._transaction = transaction

    def get(self, route: str) -> str | None:
        with self._transaction("NORMAL") as connection:
            row = connection.execute(
                "SELECT quote FROM quotes WHERE route = ?", (route,)
            ).fetchone()
        return None if row is None else str(row[0])

    def put(self, route: str, quote: str | None, *, now: int) -> None:
        with self._transaction("NORMAL") as connection:
            connection.execute("DELETE FROM quotes WHERE route = ?", (route,))
            if quote is not None:
                connection.execute(_PUT, (route, quote, now))
                connection.execute(_BOUND, (MOST_ROUTES,))
