"""The sums by the minute that the budgets are checked against: kept by triggers, in both stores."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ledger.test_upgrade import make_old
from tests.parts.postgres import Postgres
from x402sms.conformance.parts import NOW, PAYER, attempt
from x402sms.errors import PaymentError, SpendLimitExceeded
from x402sms.ledger import Ledger, SQLiteLedger, open_ledger
from x402sms.limits import Budget
from x402sms.protocol.networks import BASE
from x402sms.protocol.types import Attempt, OnChainSettled, Outcome, PaymentState

KEPT = "SELECT network, payer, minute, worker, atomic FROM {}promised WHERE atomic != 0"
ADDED_UP = """
    SELECT network, payer, created_at / 60, worker, sum(reserved_atomic) FROM {}payments
    WHERE state != 'void' GROUP BY 1, 2, 3, 4 HAVING sum(reserved_atomic) != 0
"""
Query = Callable[[str], list[Any]]

steps = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "settle", "void", "from the chain", "insert"]),
        st.integers(0, 3),  # which intent
        st.sampled_from(["", "one", "two"]),  # which worker
        st.integers(0, 9),  # for how much
        st.integers(0, 150),  # how many seconds later
    ),
    max_size=25,
)


@given(steps=steps)
@settings(max_examples=60, deadline=None)
def test_they_are_those_of_the_payments_whatever_happens(steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "payments.db"
        with SQLiteLedger(path) as ledger:
            assert_kept(ledger, steps, lambda query: on_sqlite(path, query))


@given(steps=steps)
@settings(max_examples=15, deadline=None)
def test_they_are_on_postgresql(postgres: Postgres, postgres_url: str, steps: list[Any]) -> None:
    postgres.execute("TRUNCATE x402sms.payments, x402sms.promised", database="conformance")

    def query(statement: str) -> list[Any]:
        with psycopg.connect(postgres_url) as connection:
            return connection.execute(statement.encode()).fetchall()

    with closing(open_ledger(postgres_url)) as ledger:
        assert_kept(ledger, steps, query, schema="x402sms.")


def test_a_ledger_of_before_has_the_sums_of_its_payments(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    make_old(path)
    SQLiteLedger(path).close()
    kept = on_sqlite(path, KEPT.format(""))
    assert sorted(kept) == sorted(on_sqlite(path, ADDED_UP.format(""))) != []


def test_a_budget_of_a_worker_counts_what_that_worker_promised(ledger: Ledger) -> None:
    budgets = [Budget("per_hour", 20, 86_400, of_worker=True), Budget("per_day", 30, 86_400)]

    def limit(intent: str, worker: str, *, hours: int) -> str | None:
        """What keeps the worker from it, so many hours later."""
        try:
            ledger.reserve(attempt(intent, worker=worker), budgets, now=NOW + 3600 * hours)
        except SpendLimitExceeded as refused:
            return refused.limit
        return None

    assert [limit("a", "one", hours=0), limit("b", "one", hours=0)] == [None, None]
    assert limit("c", "one", hours=23) == "per_hour"
    assert limit("c", "two", hours=23) is None
    assert limit("d", "two", hours=23) == "per_day"
    assert limit("d", "one", hours=24) is None


def test_a_budget_of_a_worker_for_one_recipient_counts_both(ledger: Ledger) -> None:
    pay_to = attempt().authorization.pay_to
    budgets = [Budget("pay_to", 10, pay_to=pay_to, of_worker=True)]
    ledger.reserve(attempt("a", worker="one"), budgets, now=NOW)
    ledger.reserve(attempt("b", worker="two"), budgets, now=NOW)
    with pytest.raises(SpendLimitExceeded):
        ledger.reserve(attempt("c", worker="two"), budgets, now=NOW)


def on_sqlite(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def assert_kept(ledger: Ledger, steps: list[Any], query: Query, schema: str = "") -> None:
    now = NOW
    for step, intent, worker, amount, later in steps:
        now += later
        promised = attempt(str(intent), amount, valid_before=NOW + amount, worker=worker)
        take(ledger, step, promised, now)
    assert sorted(query(KEPT.format(schema))) == sorted(query(ADDED_UP.format(schema)))
    for since in range(NOW - 1, now + 60, 37):
        assert ledger.spent_atomic(network=BASE.caip2, payer=PAYER, since=since) == sum(
            payment.reserved_atomic
            for payment in ledger.payments(since=since)
            if payment.state is not PaymentState.VOID
        )


def take(ledger: Ledger, step: str, promised: Attempt, now: int) -> None:
    if step == "reserve":
        try:
            ledger.reserve(promised, [], now=now)
        except PaymentError:
            pass
        return
    payment = next(iter(ledger.find(promised.intent)), None)
    if payment is None:
        return
    if step == "settle":
        ledger.record(promised, Outcome(PaymentState.SETTLED), now=now)
    elif step == "void":
        ledger.void(payment, "it expired", now=now)
    elif step == "insert":
        ledger.insert_settled(payment)
    else:
        amount = promised.authorization.amount_atomic
        found = OnChainSettled("0x" + "ab" * 32, payment.pay_to, amount)
        ledger.settle_from_chain(payment, found, now=now)
