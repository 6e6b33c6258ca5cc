"""What one PostgreSQL takes of a fleet: reservations a second, each of them a durable commit."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.synchronize import Barrier

from benchmarks.ledgers import PAYER, reserve
from benchmarks.report import table
from tests.parts.postgres import start_postgres
from x402sms import open_ledger
from x402sms.ledger import Ledger

WORKERS = 4
PAYERS = tuple(PAYER[:-1] + digit for digit in "0123")
_PATIENCE = 120  # seconds

# How a worker, by its number, opens what it reserves in.
Opening = Callable[[str, int], Ledger]


def fleets(operations: int) -> str:
    """`operations` of each worker: alone, as many on one wallet, and with a wallet each."""
    rows = []
    with start_postgres(durable=True) as server:
        for name, workers, payers in (
            ("one worker", 1, PAYERS[:1]),
            (f"{WORKERS} workers, one wallet", WORKERS, PAYERS[:1]),
            (f"{WORKERS} workers, a wallet each", WORKERS, PAYERS),
        ):
            url = server.new_database("fleet")
            rate = _rate(url, lambda url, _: open_ledger(url), workers, payers, operations)
            rows.append((name, f"{rate:.0f}"))
    return table("A fleet on one PostgreSQL", ("who", "reservations/s"), rows)


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
