"""What the ledger takes: payments and reservations a second, on SQLite."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from benchmarks.report import table
from benchmarks.shop import OFFER
from x402sms import SpendLimits, open_ledger
from x402sms.ledger import Ledger
from x402sms.protocol.eip3009 import Authorization, intent_nonce
from x402sms.protocol.networks import BASE
from x402sms.protocol.types import Attempt, Dialect, Outcome, PaymentState

PAYER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
BUDGETS = SpendLimits(per_day="1000000").budgets
SETTLED = Outcome(PaymentState.SETTLED, None, "0x" + "ab" * 32)
THREADS = 8
_numbers = count()


def rates(operations: int) -> str:
    """How many a second, with an empty ledger, a day's worth in it, and from several threads."""
    rows = []
    for name, location, filled in (
        ("on disk", "payments.db", 0),
        ("on disk, 2,000 payments in the window", "payments.db", 2000),
        ("in memory", None, 0),
    ):
        with _ledger(location, filled) as ledger:
            reserving = _per_second(lambda: reserve(ledger), operations)
            paying = _per_second(lambda: _pay(ledger), operations)
        with _ledger(location, filled) as ledger:
            threaded = _per_second(lambda: reserve(ledger), operations, threads=THREADS)
        rows.append((name, f"{reserving:.0f}", f"{paying:.0f}", f"{threaded:.0f}"))
    columns = ("ledger", "reservations/s", "payments/s", f"reservations/s from {THREADS} threads")
    return table("The ledger alone, on SQLite", columns, rows)


@contextmanager
def _ledger(name: str | None, filled: int) -> Iterator[Ledger]:
    with tempfile.TemporaryDirectory() as folder:
        ledger = open_ledger(":memory:" if name is None else Path(folder) / name)
        try:
            for _ in range(filled):
                reserve(ledger)
            yield ledger
        finally:
            ledger.close()


def _per_second(operation: Callable[[], object], operations: int, *, threads: int = 1) -> float:
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        for done in [pool.submit(operation) for _ in range(operations)]:
            done.result()
        return operations / (time.perf_counter() - started)


def _pay(ledger: Ledger) -> None:
    """The two commits of a call: durable before the signature, ordinary after the answer."""
    ledger.record(reserve(ledger), SETTLED, now=int(time.time()))


def reserve(ledger: Ledger, payer: str = PAYER) -> Attempt:
    """One more promise, as a paid call makes it."""
    intent, now = f"purchase {os.getpid()} {next(_numbers)}", int(time.time())
    nonce = intent_nonce(BASE, payer, intent)
    authorization = Authorization(
        BASE, payer, str(OFFER["payTo"]), 1000, now - 600, now + 60, nonce
    )
    template = {"x402Version": 2, "accepted": OFFER}
    attempt = Attempt(
        intent, authorization, "GET", "https://shop.example/x", "f" * 64, Dialect.V2, template
    )
    ledger.reserve(attempt, BUDGETS, now=now)
    return attempt
