"""What was promised and paid, and the budgets: one protocol, kept in SQLite."""

from __future__ import annotations

import os
from pathlib import Path

from x402sms.errors import ConfigError
from x402sms.ledger.base import Ledger, Payment
from x402sms.ledger.charges import Charge, Charges
from x402sms.ledger.quotes import Quotes
from x402sms.ledger.sqlite import SQLiteLedger

__all__ = [
    "Charge",
    "Charges",
    "Ledger",
    "Payment",
    "Quotes",
    "SQLiteLedger",
    "default_ledger_path",
    "open_ledger",
]


def open_ledger(location: str | os.PathLike[str] | None = None) -> Ledger:
    """The ledger at a path, a `sqlite:///` URL or `":memory:"`; None is the user's own.

    Raises LedgerError where it cannot be used, ConfigError for a location of another kind.
    """
    if location is None:
        return SQLiteLedger(default_ledger_path())
    text = os.fspath(location)
    if "://" in text and not text.startswith("sqlite:///"):
        scheme = text.partition("://")[0]
        raise ConfigError(f"no ledger of the kind {scheme}: give a file path or sqlite:///path")
    path = text.removeprefix("sqlite:///")
    if "\0" in path or not path:
        raise ConfigError(f"{path!r} is no path of a ledger")
    return SQLiteLedger(os.path.expanduser(path))


def default_ledger_path() -> Path:
    """`payments.db` in the user's data folder (on Linux `~/.local/share/x402sms/`)."""
    from platformdirs import user_data_path  # noqa: PLC0415  only needed without a path

    return user_data_path("x402sms") / "payments.db"
