"""What one PostgreSQL takes of a fleet: reservations a second, each of them a durable commit."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path

from benchmarks.ledgers import PAYER, reserve
from benchmarks.report import table
from tests.parts.postgres import start_postgres
from x402sms import open_ledger
from x402sms.ledger import LeasedLedger, Ledger, SQLiteLedger
from x402sms.ledger.postgres import PostgresLedger

WORKERS = 4
SLICE = "0.1"  # USDC
PAYERS = tuple(PAYER[:-1] + digit for digit in "0123")
_PATIENCE = 120  # seconds

# How a worker, by its number, opens what it reserves in.
Opening = Callable[[str, int], Ledger]


def fleets(operations: int) -> str:
    """`operations` of each worker: alone, as many on one wallet, and with a wallet each."""
    one, each = PAYERS[:1], PAYERS
    rows: list[tuple[str, str]] = []
    with start_postgres(durable=True) as server, tempfile.TemporaryDirectory() as folder:

        def leased(url: str, number: int) -> Ledger:
            own = SQLiteLedger(Path(folder) / f"{len(rows)}-{number}.db")
            name = f"w-{number}"
            return LeasedLedger(own, PostgresLedger(url), worker=name, slice_of=SLICE)

        for name, workers, payers, opening in (
            ("one worker", 1, one, _direct),
            (f"{WORKERS} workers, one wallet", WORKERS, one, _direct),
            (f"{WORKERS} workers, a wallet each", WORKERS, each, _direct),
            ("one worker, leases", 1, one, leased),
            (f"{WORKERS} workers, one wallet, leases", WORKERS, one, leased),
        ):
            url = server.new_database(f"fleet_{len(rows)}")
            rate = _rate(url, opening, workers, payers, operations)
            rows.append((name, f"{rate:.0f}"))
    said = f"A lease is of {SLICE} USDC, 100 of these payments.\n"
    return table("A fleet on one PostgreSQL", ("who", "reservations/s"), rows) + f"\n{said}"


def _direct(url: str, _: int) -> Ledger:
    return open_ledger(url)


def _rate(url: str, opened: Opening, workers: int, payers: tuple[str, ...], each: int) -> float:
    """All together, from when they start at once until the last has done its part."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(workers + 1)

    def work(number: int) -> None:
        with closing(opened(url, number)) as ledger:
            payer = payers[number % len(payers)]
            reserve(ledger, payer)  # connected, and the schema is there
            with _at_once(barrier):
                for _ in range(each):
                    reserve(ledger, payer)

    processes = [context.Process(target=work, args=(number,)) for number in range(workers)]
    for process in processes:
        process.start()
    barrier.wait(_PATIENCE)
    started = time.perf_counter()
    barrier.wait(_PATIENCE)
    seconds = time.perf_counter() - started
    for process in processes:
        process.join(_PATIENCE)
    return workers * each / seconds


@contextmanager
def _at_once(barrier: Barrier) -> Iterator[None]:
    barrier.wait(_PATIENCE)
    yield
    barrier.wait(_PATIENCE)
