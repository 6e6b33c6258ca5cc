"""Payments as CSV and JSON: exact amounts, one meaning of time, nothing a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest

from x402sms.export import COLUMNS, to_json, write_csv
from x402sms.ledger.base import Payment
from x402sms.protocol.networks import BASE
from x402sms.protocol.types import PaymentState

PAYMENT = Payment(
    intent="invoice-7",
    fingerprint="f" * 64,
    method="POST",
    url="https://seller.example/sms",
    network=BASE.caip2,
    asset=BASE.usdc,
    payer="0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    pay_to="0x90F79bf6EB2c4f870365E785982E1f101E93b906",
    amount_atomic=50_000,
    valid_after=1_799_999_400,
    valid_before=1_800_000_300,
    nonce="0x" + "0f" * 32,
    dialect="v2",
    template='{"secret": "of no use in a book"}',
    state=PaymentState.SETTLED,
    reason=None,
    transaction="0x" + "ab" * 32,
    verified=True,
    reserved_atomic=60_000,
    first_at=1_800_000_000,
    settleable_until=1_800_000_300,
    created_at=1_800_000_000,
    updated_at=1_800_000_001,
)
UNCLEAR = replace(
    PAYMENT,
    worker="w-3",
    labels='{"campaign":"spring","country":"GB"}',
    intent="invoice-8",
    amount_atomic=9_007_199_254_740_993,  # a float would lose its end
    state=PaymentState.UNKNOWN,
    reason='time-out, "it said"\nnothing',
    transaction=None,
    verified=False,
)


def as_csv(*payments: Payment) -> str:
    stream = io.StringIO(newline="")
    write_csv(payments, stream)
    return stream.getvalue()


def read_csv(*payments: Payment) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_csv(*payments), newline="")))


def test_json_has_all_that_a_book_needs() -> None:
    documents: list[dict[str, Any]] = json.loads(to_json([PAYMENT, UNCLEAR]))
    assert documents[0] == {
        "created_at": "2027-01-15T08:00:00Z",
        "updated_at": "2027-01-15T08:00:01Z",
        "intent": "invoice-7",
        "state": "settled",
        "amount": "0.050000",
        "amount_atomic": "50000",
        "network": "eip155:8453",
        "payer": PAYMENT.payer,
        "pay_to": PAYMENT.pay_to,
        "nonce": PAYMENT.nonce,
        "valid_before": "2027-01-15T08:05:00Z",
        "transaction": PAYMENT.transaction,
        "verified": True,
        "method": "POST",
        "url": "https://seller.example/sms",
        "reason": None,
        "worker": None,
        "labels": None,
    }
    assert documents[1]["worker"] == "w-3"
    assert documents[1]["labels"] == {"campaign": "spring", "country": "GB"}
    assert documents[1]["amount"] == "9007199254.740993"
    assert documents[1]["amount_atomic"] == "9007199254740993"
    assert (documents[1]["transaction"], documents[1]["verified"]) == (None, False)


def test_csv_says_the_same_as_json() -> None:
    documents = json.loads(to_json([PAYMENT, UNCLEAR]))
    for row, document in zip(read_csv(PAYMENT, UNCLEAR), documents, strict=True):
        assert json.loads(row["labels"] or "null") == document.pop("labels")
        words = {True: "true", False: "false", None: ""}
        assert {name: row[name] for name in document} == {
            name: words.get(value, value) for name, value in document.items()
        }


def test_csv_has_a_header_even_without_payments() -> None:
    assert as_csv() == ",".join(COLUMNS) + "\r\n"
    assert tuple(json.loads(to_json([PAYMENT]))[0]) == COLUMNS
    assert json.loads(to_json([])) == []


@pytest.mark.parametrize("amount_atomic", [0, 1, 10**6, 2**63 - 1])
def test_amounts_are_plain_decimals(amount_atomic: int) -> None:
    (row,) = read_csv(replace(PAYMENT, amount_atomic=amount_atomic))
    whole, _, fraction = row["amount"].partition(".")
    assert (len(fraction), int(whole + fraction)) == (6, amount_atomic)


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\uff1d1",
        "\uff0b1",
        "\uff0d1",
        "\uff201",
        "\t=1",
        "\r=1",
        "\n=1",
    ],
)
@pytest.mark.parametrize("column", ["intent", "reason", "url", "method", "transaction", "worker"])
def test_a_formula_is_a_text_in_a_spreadsheet(text: str, column: str) -> None:
    changes: dict[str, Any] = {column: text}
    payment = replace(PAYMENT, **changes)
    assert read_csv(payment)[0][column] == f"'{text}"
    assert json.loads(to_json([payment]))[0][column] == text


@pytest.mark.parametrize("text", ["a=1", "1+1", " -", 'say "no", twice', "two\nlines", "Zürich"])
def test_any_other_text_is_as_it_was(text: str) -> None:
    payment = replace(PAYMENT, intent=text)
    assert read_csv(payment)[0]["intent"] == text
    assert json.loads(to_json([payment]))[0]["intent"] == text
