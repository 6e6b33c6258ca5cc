"""Eight processes with slices of one budget, one of them killed: exact, at every instant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.ledger.leasing import (
    BUDGET,
    KILLED_AFTER,
    PAYMENTS,
    Fleet,
    intents,
    made,
    spent,
    states,
)
from tests.parts.postgres import Postgres
from x402sms.conformance.parts import NOW, attempt
from x402sms.errors import SpendLimitExceeded
from x402sms.ledger.postgres import PostgresLedger

ROOT = Path(__file__).parents[2]
WORKERS = 8
ALLOWED = PAYMENTS * 10


def test_eight_processes_and_a_killed_one_pay_exactly_what_the_budget_allows(
    postgres: Postgres, tmp_path: Path
) -> None:
    url = made(postgres)
    command = [sys.executable, "-m", "tests.ledger.leasing", url, str(tmp_path), str(WORKERS)]
    with (
        PostgresLedger(url) as shared,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running,
    ):
        assert running.stdout is not None
        said = []
        for line in running.stdout:
            said.append(line.split())
            if len(said) % 10 == 0:
                assert spent(shared) <= ALLOWED
        assert running.wait(60) == 1  # the one that is killed

        assert {word for word, _ in said} == {"reserved"}
        reserved = {intent for _, intent in said}
        assert len(reserved) == len(said)
        mine = {f"0-{turn}" for turn in range(KILLED_AFTER)}
        # The slice of the dead counts; what the others reserved is there, each payment once.
        assert intents(shared) == reserved - {"0-3", "0-4"}
        assert states(shared)["open"] == 1
        assert spent(shared) == (len(reserved) - 2) * 10 + 30 <= ALLOWED

        Fleet(url, tmp_path).open("worker-0").close()
        assert intents(shared) == reserved >= mine
        assert "open" not in states(shared)
        for rest in range(PAYMENTS - len(reserved)):
            shared.reserve(attempt(f"rest-{rest}"), BUDGET, now=NOW)
        with pytest.raises(SpendLimitExceeded):
            shared.reserve(attempt("one too many"), BUDGET, now=NOW)
        assert (len(list(shared.payments())), spent(shared)) == (PAYMENTS, ALLOWED)
