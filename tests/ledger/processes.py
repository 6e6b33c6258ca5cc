"""What other processes do with a ledger: in a module of its own, so that they can load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from x402sms.conformance.parts import CAP_OF_FIVE, NOW, attempt
from x402sms.errors import SpendLimitExceeded
from x402sms.ledger import SQLiteLedger


def reserve_many(path: Path, intents: list[str]) -> int:
    """How many of these fit under the cap, as another process sees it."""
    taken = 0
    with SQLiteLedger(path) as ledger:
        for intent in intents:
            try:
                ledger.reserve(attempt(intent), [CAP_OF_FIVE], now=NOW)
            except SpendLimitExceeded:
                continue
            taken += 1
    return taken


def open_at_once(path: Path, start: Any) -> str:
    """Open a new ledger when all are ready; what came of it."""
    start.wait(30)
    try:
        SQLiteLedger(path).close()
    except Exception as error:  # noqa: BLE001  told to the parent
        return str(error)
    return "opened"
