"""Workers with a lease on one shared ledger: in this process, and each in one of its own:
`python -m tests.ledger.leasing URL FOLDER WORKERS`.

There, each buys until the budget is used up; the first is killed in the middle of its slice. A line
of stdout is what a worker has reserved: `reserved <intent>`.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack, closing
from pathlib import Path

from tests.parts.postgres import Postgres
from x402sms.conformance.parts import NOW, PAYER, attempt
from x402sms.errors import SpendLimitExceeded
from x402sms.ledger import LeasedLedger, Ledger, Payment, SQLiteLedger
from x402sms.ledger.lease import LeaseState
from x402sms.ledger.postgres import PostgresLedger
from x402sms.limits import Budget
from x402sms.protocol.networks import BASE

DATABASE = "leases"
TABLES = "payments", "promised", "leases", "charges"
SLICE = "0.00003"  # of a payment's 10 atomic units
PAYMENTS = 200  # of all the processes
BUDGET = [Budget("total", PAYMENTS * 10)]
KILLED_AFTER = 5  # two short of the second slice's end


def made(postgres: Postgres) -> str:
    """The URL of a database whose schema is made."""
    url = postgres.new_database(DATABASE)
    PostgresLedger(url).close()
    return url


def empty(postgres: Postgres) -> None:
    tables = ", ".join(f"x402sms.{table}" for table in TABLES)
    postgres.execute(f"TRUNCATE {tables}", database=DATABASE)


class Fleet:
    """Opens workers, each with a file of its own; closes what is left of them."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.parts: dict[str, tuple[SQLiteLedger, PostgresLedger]] = {}  # the last of each name
        self.opened = ExitStack()

    def open(self, name: str, slice_of: str = SLICE, seconds: int = 600) -> LeasedLedger:
        local, shared = SQLiteLedger(self.path(name)), PostgresLedger(self.url)
        self.opened.enter_context(closing(local))
        self.opened.enter_context(closing(shared))
        self.parts[name] = local, shared
        return LeasedLedger(local, shared, worker=name, slice_of=slice_of, seconds=seconds)

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.db"

    def crash(self, name: str) -> None:
        """Nothing is said to anyone."""
        for part in self.parts.pop(name):
            part.close()

    def rows(self, name: str) -> list[Payment]:
        with closing(SQLiteLedger(self.path(name))) as local:
            return list(local.payments())


def spent(ledger: Ledger, since: int = 0) -> int:
    return ledger.spent_atomic(network=BASE.caip2, payer=PAYER, since=since)


def states(shared: PostgresLedger) -> dict[str, int]:
    """How many leases there are of each state."""
    found = [lease.state for lease in shared.leases.list()]
    return {str(state): found.count(state) for state in LeaseState if state in found}


def intents(ledger: Ledger) -> set[str]:
    return {payment.intent for payment in ledger.payments()}


def work(url: str, folder: Path, number: int, go: int) -> None:
    fleet = Fleet(url, folder)
    ledger = fleet.open(f"worker-{number}")
    os.read(go, 1)  # ends when the parent lets go
    for turn in range(PAYMENTS):
        if number == 0 and turn == KILLED_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)
        intent = f"{number}-{turn}"
        try:
            ledger.reserve(attempt(intent), BUDGET, now=NOW + turn)
        except SpendLimitExceeded:
            break
        os.write(1, f"reserved {intent}\n".encode())  # short enough to be written in one piece
    ledger.close()


def main(url: str, folder: str, workers: str) -> int:
    go_reading, go_writing = os.pipe()
    children = []
    for number in range(int(workers)):
        if not (child := os.fork()):
            os.close(go_writing)
            try:
                work(url, Path(folder), number, go_reading)
            except BaseException as error:  # noqa: BLE001  told to the test
                os.write(1, f"unexpected {error!r}\n".encode())
                os._exit(1)
            os._exit(0)
        children.append(child)
    os.close(go_writing)
    return sum(1 for child in children if os.waitpid(child, 0)[1] != 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
