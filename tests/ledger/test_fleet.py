"""A fleet on one PostgreSQL: one wallet, one budget, and it is exact whatever happens to whom."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.ledger.fleet import NEVER_SENT, PRICE_ATOMIC
from tests.parts.postgres import Postgres
from x402sms.ledger import open_ledger
from x402sms.money import format_usdc
from x402sms.protocol.types import PaymentState

ROOT = Path(__file__).parents[2]
WORKERS, EACH, ALLOWED = 16, 125, 500
DATABASE = "fleet"
LOOK_SECONDS = 0.004  # between two looks at the books, to leave the workers some of the machine
# Of everyone, and not only of the wallet there is: nothing may hide from it.
COUNTED = "SELECT count(*), coalesce(sum(reserved_atomic), 0) FROM x402sms.payments"
COUNTED += " WHERE state != 'void'"
# One that is in the middle of something, if there is one right now.
CUT = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'x402sms'
    ORDER BY state = 'active' DESC LIMIT 1
"""


class Fleet:
    """Workers that were started and wait; their lines are read when all is over."""

    def __init__(self, process: subprocess.Popen[str], pids: list[int]) -> None:
        self.process = process
        self.pids = pids

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@contextmanager
def started(url: str, workers: int, each: int = EACH) -> Iterator[Fleet]:
    allowed = format_usdc(ALLOWED * PRICE_ATOMIC)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.ledger.fleet", url, str(workers), str(each), allowed],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline().split() for _ in range(workers)]
        assert {line[0] for line in lines} == {"worker"}, lines
        yield Fleet(process, [int(line[1]) for line in lines])
    finally:
        process.communicate(timeout=60)


def watch(fleet: Fleet, url: str, accidents: dict[int, Callable[[], object]]) -> Counter[str]:
    """Let them buy, and look on: what came of the purchases.

    An accident happens once so many payments count. At no instant do more than are allowed.
    """
    assert fleet.process.stdout is not None
    fleet.go()
    with psycopg.connect(url, autocommit=True) as connection:
        running = True
        while running:
            running = fleet.process.poll() is None  # and a last look when they are done
            [[counted, atomic]] = connection.execute(COUNTED)
            assert atomic <= ALLOWED * PRICE_ATOMIC
            assert counted <= ALLOWED
            for due in [after for after in accidents if after <= counted]:
                accidents.pop(due)()
            time.sleep(LOOK_SECONDS)
    assert not accidents
    said = Counter(line.strip() for line in fleet.process.stdout)
    assert not [line for line in said if line.startswith("unexpected")]
    return said


@pytest.fixture
def empty(postgres: Postgres) -> str:
    """A database of the fleet's own, in which there is not even a schema."""
    return postgres.new_database(DATABASE)


def counted(postgres: Postgres) -> tuple[int, int]:
    [(count, atomic)] = postgres.execute(COUNTED, database=DATABASE)
    return count, atomic


def test_sixteen_processes_pay_exactly_what_one_budget_allows(
    postgres: Postgres, empty: str
) -> None:
    with started(empty, WORKERS) as fleet:
        said = watch(fleet, empty, {})

    assert fleet.process.wait() == 0
    assert said["paid"] == ALLOWED
    assert sum(said.values()) == WORKERS * EACH
    assert said.keys() <= {"paid", "over budget", "never sent"}
    assert said["never sent"] <= WORKERS * NEVER_SENT
    assert counted(postgres) == (ALLOWED, ALLOWED * PRICE_ATOMIC)
    with closing(open_ledger(empty)) as ledger:
        assert len(list(ledger.payments(state=PaymentState.SETTLED))) == ALLOWED


def test_the_budget_is_exact_when_workers_are_killed_and_a_connection_is_cut(
    postgres: Postgres, empty: str
) -> None:
    with started(empty, WORKERS) as fleet:
        cut: list[tuple[bool, ...]] = []
        kills = [lambda pid=pid: os.kill(pid, signal.SIGKILL) for pid in fleet.pids[:3]]
        accidents: dict[int, Callable[[], object]] = dict(zip((80, 160, 240), kills, strict=True))
        accidents[300] = lambda: cut.extend(postgres.execute(CUT, database=DATABASE))
        said = watch(fleet, empty, accidents)

    assert (fleet.process.wait(), cut) == (3, [(True,)])
    assert counted(postgres) == (ALLOWED, ALLOWED * PRICE_ATOMIC)
    # What each of the dead, and who lost the connection, was about is reserved and counts.
    assert ALLOWED - 4 <= said["paid"] <= ALLOWED
    assert said["no ledger"] + said["no ledger, signed"] <= 1


def test_twenty_workers_start_at_once_on_an_empty_database(postgres: Postgres, empty: str) -> None:
    with started(empty, 20, each=1) as fleet:
        fleet.go()
    assert fleet.process.wait() == 0
    versions = postgres.execute("SELECT version FROM x402sms.schema_version", database=DATABASE)
    assert versions == [(1,)]
