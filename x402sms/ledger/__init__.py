"""What was promised and paid, and the budgets: one protocol, in SQLite or PostgreSQL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from x402sms.errors import ConfigError
from x402sms.ledger.base import Ledger, Payment
from x402sms.ledger.charges import Charge, Charges
from x402sms.ledger.quotes import Quotes
from x402sms.ledger.spending import Spending, Spent
from x402sms.ledger.sqlite import SQLiteLedger

if TYPE_CHECKING:
    from x402sms.ledger.leased import LeasedLedger

__all__ = [
    "Charge",
    "Charges",
    "LeasedLedger",
    "Ledger",
    "Payment",
    "Quotes",
    "SQLiteLedger",
    "Spending",
    "Spent",
    "default_ledger_path",
    "open_ledger",
]


def __getattr__(name: str) -> object:
    if name != "LeasedLedger":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from x402sms.ledger.leased import LeasedLedger  # noqa: PLC0415  only a fleet needs it

    return LeasedLedger


def open_ledger(location: str | os.PathLike[str] | None = None) -> Ledger:
    """The ledger at a path, a `sqlite:///` URL or `":memory:"`; None is the user's own.

    At a `postgresql://` URL, libpq's, machines share it; that needs the extra `postgres`.

    Raises LedgerError where it cannot be used, ConfigError for a location of another kind.
    """
    if location is None:
        return SQLiteLedger(default_ledger_path())
    text = os.fspath(location)
    if text.startswith(("postgresql://", "postgres://")):
        return _postgres(text)
    if "://" in text and not text.startswith("sqlite:///"):
        scheme = text.partition("://")[0]
        raise ConfigError(
            f"no ledger of the kind {scheme}: give a file path, sqlite:///path, or "
            "postgresql://user@host/database"
        )
    path = text.removeprefix("sqlite:///")
    if "\0" in path or not path:
        raise ConfigError(f"{path!r} is no path of a ledger")
    return SQLiteLedger(os.path.expanduser(path))


def _postgres(url: str) -> Ledger:
    try:
        from x402sms.ledger.postgres import PostgresLedger  # noqa: PLC0415  only with the extra
    except ImportError as missing:
        if missing.name not in {None, "psycopg"}:  # None: psycopg finds no libpq
            raise
        raise ConfigError(
            "a ledger on PostgreSQL needs: pip install 'x402sms[postgres]'"
        ) from missing
    return PostgresLedger(url)


def default_ledger_path() -> Path:
    """`payments.db` in the user's data folder (on Linux `~/.local/share/x402sms/`)."""
    from platformdirs import user_data_path  # noqa: PLC0415  only needed without a path

    return user_data_path("x402sms") / "payments.db"
