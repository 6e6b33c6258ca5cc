"""Several payments in one commit: all of them or none."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from x402sms.conformance.parts import CAP_OF_FIVE, NOW, attempt
from x402sms.errors import LedgerError, SpendLimitExceeded
from x402sms.ledger import SQLiteLedger


@pytest.fixture
def ledger(tmp_path: Path) -> SQLiteLedger:
    return SQLiteLedger(tmp_path / "payments.db")


def intents(ledger: SQLiteLedger) -> list[str]:
    return sorted(payment.intent for payment in ledger.payments())


def reserve(ledger: SQLiteLedger, intent: str) -> None:
    ledger.reserve(attempt(intent), [CAP_OF_FIVE], now=NOW)


def test_nobody_else_sees_them_before_all_are_written(ledger: SQLiteLedger, tmp_path: Path) -> None:
    other = SQLiteLedger(tmp_path / "payments.db")
    with ledger.together():
        reserve(ledger, "a")
        reserve(ledger, "b")
        reader = sqlite3.connect(tmp_path / "payments.db")
        assert reader.execute("SELECT count(*) FROM payments").fetchone() == (0,)
        reader.close()
        assert intents(ledger) == ["a", "b"]
    assert intents(other) == ["a", "b"]


def test_one_that_is_refused_is_taken_back_alone(ledger: SQLiteLedger) -> None:
    with ledger.together():
        for number in range(5):
            reserve(ledger, f"intent {number}")
        with pytest.raises(SpendLimitExceeded):
            reserve(ledger, "one too many")
    assert len(intents(ledger)) == 5


def test_where_the_block_fails_nothing_is_written(ledger: SQLiteLedger) -> None:
    def block() -> None:
        reserve(ledger, "a")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), ledger.together():
        block()
    assert intents(ledger) == []
    reserve(ledger, "b")
    assert intents(ledger) == ["b"]


def test_where_the_store_fails_within_it_nothing_is_written(
    ledger: SQLiteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    def block() -> None:
        reserve(ledger, "a")
        with monkeypatch.context() as patched:
            patched.setattr("x402sms.ledger.promising.Payment.reserved", full)
            with pytest.raises(LedgerError, match="disk is full"):
                reserve(ledger, "b")
        with pytest.raises(LedgerError):  # what comes after it would be lost with it
            reserve(ledger, "c")

    with pytest.raises(LedgerError), ledger.together():
        block()
    assert intents(ledger) == []
    reserve(ledger, "d")
    assert intents(ledger) == ["d"]


def test_another_thread_waits_for_its_own_transaction(ledger: SQLiteLedger) -> None:
    def waiting() -> None:
        begun.set()
        reserve(ledger, "other thread")

    def block() -> None:
        reserve(ledger, "a")
        thread.start()
        assert begun.wait(30)
        raise ZeroDivisionError

    begun = threading.Event()
    thread = threading.Thread(target=waiting)
    with pytest.raises(ZeroDivisionError), ledger.together():
        block()
    thread.join(30)
    assert intents(ledger) == ["other thread"]


def test_a_child_forked_within_it_does_not_write_into_it(ledger: SQLiteLedger) -> None:
    with ledger.together():
        reserve(ledger, "a")
        child = os.fork()
        if child == 0:
            os._exit(0 if is_refused(ledger) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert intents(ledger) == ["a"]


def is_refused(ledger: SQLiteLedger) -> bool:
    try:
        reserve(ledger, "child")
    except LedgerError as error:
        return "forked while" in str(error)
    return False
