"""examples/fleet: run.py and its worker.py, one killed and all stopped, against the books."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import IO

import pytest

from tests.funded import named_in_environment
from tests.parts.postgres import Postgres
from x402sms import PaymentState, Wallet
from x402sms.ledger import Payment, open_ledger
from x402sms.money import parse_usdc
from x402sms.sandbox import RunningSandbox, SandboxConfig, running_sandbox

RUN = Path(__file__).parents[1] / "examples" / "fleet" / "run.py"
LONGEST = 90  # seconds; it takes a few


@dataclass
class Fleet:
    """A running one; its lines, as they come and when it has ended."""

    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    pids: dict[str, int] = field(default_factory=dict)

    def ended(self) -> int:
        self._take(self.process.stdout, None)
        return self.process.wait(LONGEST)

    def until_said(self, beginning: str) -> None:
        self._take(self.process.stdout, beginning)

    def until_told(self, beginning: str) -> None:
        """On stderr, where the numbers are."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.told.append(line)
            if line.startswith(beginning):
                return
        raise AssertionError(self.told)

    def _take(self, stream: IO[str] | None, beginning: str | None) -> None:
        assert stream is not None
        for line in stream:
            self.said.append(line.rstrip("\n"))
            name, _, rest = line.partition(" started as process ")
            if rest:
                self.pids[name] = int(rest)
            if beginning is not None and line.startswith(beginning):
                return
        assert beginning is None, self.said

    def spend(self) -> list[dict[str, tuple[int, int]]]:
        """The tables: by name, what is settled and open, in atomic units."""
        tables: list[dict[str, tuple[int, int]]] = [{}]
        for row in (line.split("\t") for line in self.said if "\t" in line):
            tables[-1][row[0]] = parse_usdc(Decimal(row[2])), parse_usdc(Decimal(row[3]))
            if row[0] == "total":
                tables.append({})
        return tables[:-1]


@contextmanager
def started(ledger: str, *options: str) -> Iterator[Fleet]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(RUN), "--ledger", ledger, *options],
        env=os.environ | {"PYTHONPATH": str(RUN.parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    fleet = Fleet(process)
    try:
        yield fleet
    finally:
        if process.poll() is None:
            process.kill()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        process.wait(LONGEST)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[RunningSandbox]:
    with running_sandbox(SandboxConfig(sms_after=0.4)) as running:
        yield running


@pytest.fixture
def wallet(sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> Wallet:
    return named_in_environment(sandbox, monkeypatch)


def in_ledger(ledger: str) -> list[Payment]:
    with closing(open_ledger(ledger)) as opened:
        return list(opened.payments())


def in_books(sandbox: RunningSandbox, wallet: Wallet) -> dict[str, int]:
    """What was settled, by nonce; each once."""
    own = [entry for entry in sandbox.payments() if entry["payer"] == wallet.address]
    books = {entry["nonce"]: int(entry["amount_atomic"]) for entry in own}
    assert len(books) == len(own)
    return books


def test_a_worker_is_killed_and_each_purchase_is_made_once(
    sandbox: RunningSandbox, wallet: Wallet, postgres: Postgres
) -> None:
    ledger = postgres.new_database("fleet_example")
    options = ("--workers", "3", "--jobs", "6", "--budget", "3", "--worker-budget", "1.5")
    with started(ledger, *options, "--campaign", "autumn") as fleet:
        fleet.until_said("w-2 started")
        fleet.until_told("w-2 ")  # it has a number, and waits for its code
        os.kill(fleet.pids["w-2"], signal.SIGKILL)
        assert fleet.ended() == 0, fleet.said

    assert [line for line in fleet.said if line.startswith("w-2 ended in autumn ")]
    assert "autumn: 6 jobs done, 0 not" in fleet.said
    orders = sandbox.orders_of(wallet.address)
    assert [status for _, status in orders] == ["confirmed"] * 6
    payments = {payment.nonce: payment for payment in in_ledger(ledger)}
    bought = [each for each in payments.values() if each.intent.startswith("autumn ")]
    assert {each.intent for each in bought} == {f"autumn {number}" for number in range(1, 7)}
    assert sorted(each.delivered or "" for each in bought) == sorted(each for each, _ in orders)

    books = in_books(sandbox, wallet)
    assert books.keys() <= payments.keys()
    assert all(payments[nonce].amount_atomic == atomic for nonce, atomic in books.items())
    # What it died over is open, and counts: a poll, say, whose answer nobody read.
    opened = [each for each in payments.values() if each.state is not PaymentState.SETTLED]
    assert {each.worker for each in opened} <= {"w-2"}
    unread = sum(books.get(each.nonce, 0) for each in opened)
    by_worker, by_service = fleet.spend()
    settled, still_open = by_worker.pop("total")
    assert by_service.pop("total") == (settled, still_open)
    assert settled + unread == sum(books.values()) == sandbox.books(wallet.address)[0]
    assert still_open == sum(each.reserved_atomic for each in opened)
    assert by_worker.keys() == {"w-1", "w-2", "w-3"}
    assert by_service.keys() == {"telegram", "whatsapp"}
    for table in (by_worker, by_service):
        assert tuple(map(sum, zip(*table.values(), strict=True))) == (settled, still_open)
    assert all(sum(spent) <= 1_500_000 for spent in by_worker.values())
    assert settled + still_open <= 3_000_000


def test_stopped_it_ends_what_it_began_and_begins_nothing(
    sandbox: RunningSandbox, wallet: Wallet, tmp_path: Path
) -> None:
    ledger = str(tmp_path / "payments.db")
    with started(ledger, "--workers", "2", "--jobs", "50", "--campaign", "winter") as fleet:
        fleet.until_told("w-")
        fleet.process.send_signal(signal.SIGTERM)
        assert fleet.ended() == 1, fleet.said

    done = [line for line in fleet.said if " code: " in line]
    assert 1 <= len(done) <= 4
    assert f"winter: {len(done)} jobs done, {50 - len(done)} not" in fleet.said
    statuses = [status for _, status in sandbox.orders_of(wallet.address)]
    assert statuses == ["confirmed"] * len(done)
    assert {each.state for each in in_ledger(ledger)} == {PaymentState.SETTLED}
    [[settled, still_open], _] = [table["total"] for table in fleet.spend()]
    assert (settled, still_open) == (sum(in_books(sandbox, wallet).values()), 0)


def test_without_a_wallet_it_has_a_sandbox_and_each_worker_keeps_its_budget(
    tmp_path: Path,
) -> None:
    options = ("--workers", "2", "--jobs", "3", "--worker-budget", "0.1")
    with started(str(tmp_path / "fleet.db"), *options) as fleet:
        assert fleet.ended() == 1, fleet.said

    by_worker, _ = fleet.spend()
    assert [line for line in fleet.said if line.endswith("its budget (worker_per_day)")]
    assert sum(by_worker["total"]) > 0
    assert all(sum(spent) <= 100_000 for name, spent in by_worker.items() if name != "total")


@pytest.mark.usefixtures("wallet")
def test_a_worker_that_cannot_work_says_why_and_is_not_started_again(tmp_path: Path) -> None:
    with started(str(tmp_path), "--workers", "1", "--jobs", "2") as fleet:  # a folder
        assert fleet.ended() == 1
        assert fleet.process.stderr is not None
        told = fleet.process.stderr.read()
    assert len(fleet.pids) == 1
    assert "is a directory" in told
    assert "Traceback" not in told
