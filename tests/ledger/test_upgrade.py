"""A ledger of the schema before: every row survives, and can still be presented."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import multiprocessing
import sqlite3
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from tests.ledger.processes import open_at_once
from tests.protocol.lawful import wire
from tests.protocol.parts import example_message, v1_entry, v2_entry
from x402sms.conformance.parts import NOW, PAYER, RECIPIENT
from x402sms.errors import LedgerError, SpendLimitExceeded
from x402sms.ledger import Payment, SQLiteLedger, sqlite_file
from x402sms.limits import Budget
from x402sms.protocol.eip3009 import intent_nonce
from x402sms.protocol.networks import BASE, BASE_SEPOLIA, Network
from x402sms.protocol.types import Dialect, PaymentState
from x402sms.protocol.wire import PAYMENT_HEADERS, encode_payment

ROOT = Path(__file__).parents[2]
HASH = "0x" + "ab" * 32
SIGNATURE = bytes(range(65))
NETWORKS = [BASE, BASE_SEPOLIA]
ROWS = list(itertools.product(sorted(PaymentState), sorted(Dialect), NETWORKS))
STRANGE = {"deep": [1, 2.5, None, "\u00fc \U0001f600 \ud800"], "n": 2**70, "e": 1e-07, "": -0.0}


def accepted(dialect: Dialect, network: Network) -> dict[str, Any]:
    """The entry that was accepted, as the schema before kept it."""
    if dialect is Dialect.V2:
        return v2_entry(network=network.caip2, asset=network.usdc, **STRANGE)
    if dialect is Dialect.V1:
        return v1_entry(network=network.name, asset=network.usdc)
    return example_message(chain=network.name)


def old_row(state: PaymentState, dialect: Dialect, network: Network) -> dict[str, Any]:
    number = ROWS.index((state, dialect, network))
    intent = f"{state} {dialect} {network.name}"
    return {
        "intent": intent,
        "fingerprint": f"{number:064x}",
        "method": "POST",
        "url": "https://seller.example/sms",
        "network": network.caip2,
        "asset": network.usdc,
        "payer": PAYER,
        "pay_to": RECIPIENT,
        "amount_atomic": 10 + number,
        "valid_after": NOW - 600,
        "valid_before": NOW + 60 + number,
        "nonce": "0x" + intent_nonce(network, PAYER, intent).hex(),
        "dialect": dialect,
        "requirements": json.dumps(accepted(dialect, network)),
        "state": state,
        "reason": f"was {state}" if state is not PaymentState.SETTLED else None,
        "transaction": HASH if state is PaymentState.SETTLED else None,
        "verified": int(state is PaymentState.SETTLED and dialect is Dialect.V1),
        "created_at": NOW + number,
        "updated_at": NOW + number + 1,
    }


OLD_ROWS = {row["intent"]: row for row in (old_row(*each) for each in ROWS)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "payments.db"
    make_old(path)
    return path


def make_old(path: Path) -> None:
    """A ledger as the first schema left it."""
    schema = resources.files("x402sms.ledger") / "migrations" / "sqlite_0001.sql"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(schema.read_text(encoding="utf-8"))
        connection.execute(f"PRAGMA application_id = {sqlite_file.APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        connection.execute("PRAGMA journal_mode = WAL")
        for row in OLD_ROWS.values():
            names = ", ".join(f'"{name}"' for name in row)
            marks = ", ".join(f":{name}" for name in row)
            connection.execute(f"INSERT INTO payments ({names}) VALUES ({marks})", row)  # noqa: S608  our own names
        connection.commit()


def schema_of(path: Path) -> tuple[int, set[str], int]:
    """Its version, its columns, and how many rows it has."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        columns = {row[1] for row in connection.execute("PRAGMA table_info(payments)")}
        rows = connection.execute("SELECT count(*) FROM payments").fetchone()[0]
    return version, columns, rows


def assert_upgraded(path: Path) -> None:
    with SQLiteLedger(path) as ledger:
        payments = {payment.intent: payment for payment in ledger.payments()}
    assert payments.keys() == OLD_ROWS.keys()
    for intent, payment in payments.items():
        assert_survived(payment, OLD_ROWS[intent])


def assert_survived(payment: Payment, row: dict[str, Any]) -> None:
    for name in row.keys() - {"requirements"}:
        assert getattr(payment, name) == row[name], name
    assert payment.reserved_atomic == row["amount_atomic"]
    assert payment.first_at == row["created_at"]
    assert payment.settleable_until == row["valid_before"]
    assert (payment.presentations, payment.nonce_burnt, payment.delivered) == (1, False, None)


def test_every_row_of_the_schema_before_survives(path: Path) -> None:
    assert_upgraded(path)
    version, columns, rows = schema_of(path)
    assert (version, rows) == (sqlite_file.SCHEMA_VERSION, len(ROWS))
    assert "requirements" not in columns
    assert_upgraded(path)  # and once more, when there is nothing left to do


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
@pytest.mark.parametrize("dialect", sorted(Dialect))
def test_a_payment_of_the_schema_before_can_be_presented_again(
    path: Path, dialect: Dialect, network: Network
) -> None:
    with SQLiteLedger(path) as ledger:
        (payment,) = ledger.find(f"unknown {dialect} {network.name}")

    name, value = encode_payment(payment.attempt(), SIGNATURE)

    message = json.loads(base64.b64decode(value))
    payload = message.pop("payload")
    assert name == PAYMENT_HEADERS[dialect]
    assert payload["signature"] == "0x" + SIGNATURE.hex()
    assert payload["authorization"] == wire(payment.attempt().authorization)
    if dialect is Dialect.V2:
        assert message == {"x402Version": 2, "accepted": accepted(dialect, network)}
    else:
        assert message == {"x402Version": 1, "scheme": "exact", "network": network.name}


def test_what_counted_before_counts_after(path: Path) -> None:
    counted = {
        network: sum(
            row["amount_atomic"]
            for row in OLD_ROWS.values()
            if row["network"] == network.caip2 and row["state"] is not PaymentState.VOID
        )
        for network in NETWORKS
    }
    with SQLiteLedger(path) as ledger:
        for network, atomic in counted.items():
            assert ledger.spent_atomic(network=network.caip2, payer=PAYER) == atomic
        (payment,) = ledger.find("void v2 base")
        cap = Budget("total", counted[BASE] + payment.amount_atomic - 1)
        with pytest.raises(SpendLimitExceeded):
            ledger.reserve(payment.attempt(), [cap], now=NOW)


def test_an_open_row_of_the_schema_before_is_resumed(path: Path) -> None:
    with SQLiteLedger(path) as ledger:
        (payment,) = ledger.find("unknown v2 base")
        ledger.reserve(payment.attempt(), [Budget("total", 0)], now=NOW + 9)
        (again,) = ledger.find("unknown v2 base")
    assert (again.presentations, again.created_at) == (2, payment.created_at)


def test_an_upgrade_that_fails_leaves_the_schema_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = schema_of(path)
    real = sqlite_file._migration

    def broken(number: int) -> list[str]:
        return [*real(number), "SELECT no_such_function()"]

    with monkeypatch.context() as patched:
        patched.setattr(sqlite_file, "_migration", broken)
        with pytest.raises(LedgerError, match="no such function"):
            SQLiteLedger(path)
    assert schema_of(path) == before
    assert_upgraded(path)


def test_a_process_that_dies_in_an_upgrade_leaves_the_schema_before(path: Path) -> None:
    program = """
import os, sys
from x402sms.ledger import SQLiteLedger, sqlite_file
real = sqlite_file._migration
def dies(number):
    yield from real(number)
    os._exit(9)
sqlite_file._migration = dies
SQLiteLedger(sys.argv[1])
"""
    before = schema_of(path)
    died = subprocess.run(
        [sys.executable, "-c", program, str(path)], timeout=60, check=False, cwd=ROOT
    )
    assert died.returncode == 9
    assert schema_of(path) == before
    assert_upgraded(path)


def test_a_row_that_cannot_be_upgraded_is_an_error_and_nothing_is_lost(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE payments SET requirements = '{' WHERE intent = 'void v2 base'")
        connection.commit()
    before = schema_of(path)
    with pytest.raises(LedgerError, match=r"malformed JSON.*nothing more is"):
        SQLiteLedger(path)
    assert schema_of(path) == before


def test_processes_that_upgrade_at_once_all_open_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(4, mp_context=context) as pool:
        for number in range(5):
            path = tmp_path / f"{number}.db"
            make_old(path)
            start = manager.Barrier(4)
            opened = list(pool.map(open_at_once, [path] * 4, [start] * 4))
            assert opened == ["opened"] * 4
            assert_upgraded(path)


def test_a_process_of_the_version_before_cannot_write_into_an_upgraded_ledger(path: Path) -> None:
    """It has the file open and does not look again: its rows would be without a template."""
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.execute("SELECT requirements FROM payments").fetchall()
        assert_upgraded(path)
        row = old_row(*ROWS[0]) | {"nonce": "0x" + "00" * 32}
        names = ", ".join(f'"{name}"' for name in row)
        marks = ", ".join(f":{name}" for name in row)
        with pytest.raises(sqlite3.OperationalError, match="requirements"):
            old.execute(f"INSERT INTO payments ({names}) VALUES ({marks})", row)  # noqa: S608  our own names
