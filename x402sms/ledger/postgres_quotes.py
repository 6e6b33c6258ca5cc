"""What routes were last paid by, beside the payments on the PostgreSQL server."""

from __future__ import annotations

from x402sms.ledger.named_sql import statements
from x402sms.ledger.postgres_charges import Transaction
from x402sms.ledger.quotes import MOST_ROUTES

_SQL = statements("postgres/quotes")


class PostgresQuotes:
    """See `Quotes`."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def get(self, route: str) -> str | None:
        with self._transaction() as connection:
            row = connection.execute(_SQL["get"], {"route": route}).fetchone()
        return None if row is None else str(row[0])

    def put(self, route: str, quote: str | None, *, now: int) -> None:
        with self._transaction() as connection:
            if quote is None:
                connection.execute(_SQL["forget"], {"route": route})
                return
            connection.execute(_SQL["put"], {"route": route, "quote": quote, "now": now})
            connection.execute(_SQL["bound"], {"most": MOST_ROUTES})
