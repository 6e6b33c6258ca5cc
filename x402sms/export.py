"""Payments for other programs: CSV for spreadsheets and books, JSON for the rest."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from x402sms.ledger.base import Payment
from x402sms.protocol.labels import labels_of, labels_text

COLUMNS: Final = (
    "created_at",
    "updated_at",
    "intent",
    "state",
    "amount",
    "amount_atomic",
    "network",
    "payer",
    "pay_to",
    "nonce",
    "valid_before",
    "transaction",
    "verified",
    "method",
    "url",
    "reason",
    "worker",
    "labels",
)

# What makes a spreadsheet take a text for a formula: also full-width, and after what it skips.
_FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n")


def write_csv(payments: Iterable[Payment], stream: TextIO) -> None:
    """Write a header and a line a payment. Open the file with `newline=""`.

    Amounts are USDC in plain decimals (`amount_atomic`: whole 10^-6 USDC), times ISO 8601 in UTC,
    `verified` is `true` or `false`, `labels` a JSON object, what is not known is empty.

    A text that begins with `=`, `+`, `-`, `@`, one of their full-width forms, a tab or a line end
    gets an apostrophe in front: a spreadsheet would run it as a formula, and an intent or a
    server's reason can be anything. JSON has the text as it is.
    """
    writer = csv.writer(stream, lineterminator="\r\n")  # RFC 4180
    writer.writerow(COLUMNS)
    for payment in payments:
        document = row(payment)
        writer.writerow([_cell(document[name]) for name in COLUMNS])


def to_json(payments: Iterable[Payment]) -> str:
    """A JSON array of objects with the columns of the CSV, in ASCII.

    Amounts are strings, so that no reader makes a float of them; `verified` is a boolean, what is
    not known is null.
    """
    return json.dumps([row(payment) for payment in payments], indent=2)


def row(payment: Payment) -> dict[str, Any]:
    """A payment under `COLUMNS`, as it is in JSON."""
    return {
        "created_at": _iso(payment.created_at),
        "updated_at": _iso(payment.updated_at),
        "intent": payment.intent,
        "state": str(payment.state),
        "amount": f"{payment.amount:f}",
        "amount_atomic": str(payment.amount_atomic),
        "network": payment.network,
        "payer": payment.payer,
        "pay_to": payment.pay_to,
        "nonce": payment.nonce,
        "valid_before": _iso(payment.valid_before),
        "transaction": payment.transaction,
        "verified": payment.verified,
        "method": payment.method,
        "url": payment.url,
        "reason": payment.reason,
        "worker": payment.worker or None,
        "labels": labels_of(payment.labels) or None,
    }


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return labels_text(value)  # JSON, which no spreadsheet takes for a formula
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
