"""Whole calls on a real ledger: what is signed when the file is not what it should be, and what
counts after whatever a server and a network do."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.ledger.parts import buy
from tests.protocol.parts import (
    RECIPIENT,
    STRANGER,
    TRANSACTION,
    WALLET,
    Played,
    refused,
    settled,
    v2,
    v2_entry,
    v2_message,
)
from x402sms.conformance.parts import NOW, attempt
from x402sms.errors import (
    AlreadyPaid,
    IntentConflict,
    LedgerError,
    PaymentRefused,
    PaymentUnknown,
    SpendLimitExceeded,
)
from x402sms.ledger import Ledger, Payment, SQLiteLedger
from x402sms.limits import SpendLimits
from x402sms.protocol.effects import NeverSent, Sign
from x402sms.protocol.networks import BASE
from x402sms.protocol.types import (
    OnChainCancelled,
    OnChainSettled,
    OnChainUnused,
    PaymentState,
)

ROOT = Path(__file__).parents[2]
DEARER = v2(v2_message(v2_entry(amount="20000")))
SHORTER = v2(v2_message(v2_entry(amount="20000", maxTimeoutSeconds=30)))
UNEXPLAINED = v2()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "payments.db"


@pytest.fixture
def book(path: Path) -> Iterator[SQLiteLedger]:
    with SQLiteLedger(path) as opened:
        yield opened


def row(ledger: Ledger, intent: str = "invoice-7") -> Payment:
    (payment,) = ledger.find(intent)
    return payment


def spent(ledger: Ledger) -> int:
    return ledger.spent_atomic(network=BASE.caip2, payer=WALLET.address)


# --- nothing is signed without a ledger that can be written


def full(path: Path, ledger: SQLiteLedger, others: ExitStack) -> None:
    connection = ledger._open()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LedgerError, match="full"):
        fill(ledger)


def fill(ledger: SQLiteLedger) -> None:
    for number in range(500):
        ledger.reserve(attempt(str(number), template={"x": "x" * 500}), [], now=NOW)


def corrupt(path: Path, ledger: SQLiteLedger, others: ExitStack) -> None:
    for number in range(50):
        ledger.reserve(attempt(str(number)), [], now=NOW)
    ledger._open().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    ledger._open().execute("PRAGMA shrink_memory")  # or it answers from what it has read


def deleted(path: Path, ledger: SQLiteLedger, others: ExitStack) -> None:
    shutil.rmtree(path.parent)


def replaced(path: Path, ledger: SQLiteLedger, others: ExitStack) -> None:
    other = path.with_name("other.db")
    SQLiteLedger(other).close()
    other.rename(path)


def closed(path: Path, ledger: SQLiteLedger, others: ExitStack) -> None:
    ledger.close()


def locked(path: Path, ledger: SQLiteLedger, others: ExitStack) -> None:
    ledger._open().execute("PRAGMA busy_timeout = 0")
    other = others.enter_context(contextlib.closing(sqlite3.connect(path)))
    other.execute("BEGIN IMMEDIATE")


def read_only(path: Path, ledger: SQLiteLedger, others: ExitStack) -> None:
    ledger._open().execute("PRAGMA query_only = ON")


@pytest.mark.parametrize(
    "ruined",
    [closed, corrupt, deleted, full, locked, read_only, replaced],
    ids=lambda how: str(how.__name__),
)
def test_nothing_is_signed_when_the_ledger_is_ruined_in_use(
    path: Path,
    book: SQLiteLedger,
    ruined: Callable[[Path, SQLiteLedger, ExitStack], None],
) -> None:
    with ExitStack() as others:
        ruined(path, book, others)
        played = buy(book, [v2(), settled()])
    assert isinstance(played.error, LedgerError)
    assert not played.driver.all_of(Sign)
    assert_says_what_to_do(played.error, path)


def assert_says_what_to_do(error: Exception, path: Path) -> None:
    message = str(error)
    assert str(path) in message
    assert "nothing more is" in message
    for way_out in ("free some space", "set the permissions", "upgrade x402sms", "X402SMS_LEDGER"):
        assert way_out in message


def test_a_full_ledger_pays_again_once_there_is_space(path: Path, book: SQLiteLedger) -> None:
    full(path, book, ExitStack())
    assert isinstance(buy(book, [v2(), settled()]).error, LedgerError)
    book._open().execute("PRAGMA max_page_count = 100000")
    assert buy(book, [v2(), settled()]).error is None


def test_a_file_that_may_not_grow_is_a_full_disk(path: Path) -> None:
    """With the operating system's own refusal, in a process of its own."""
    program = """
import resource, sys
from pathlib import Path
from tests.ledger.parts import buy
from tests.protocol.parts import settled, v2
from x402sms.errors import LedgerError
from x402sms.ledger import SQLiteLedger
from x402sms.protocol.effects import Sign
path = Path(sys.argv[1])
ledger = SQLiteLedger(path)
wal = path.with_name(path.name + "-wal")
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size, before[1]))
played = buy(ledger, [v2(), settled()])
assert isinstance(played.error, LedgerError), played.error
assert not played.driver.all_of(Sign)
assert list(ledger.payments()) == []
print(played.error)
resource.setrlimit(resource.RLIMIT_FSIZE, before)
assert buy(ledger, [v2(), settled()]).error is None
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert str(path) in done.stdout
    assert "free some space" in done.stdout


def test_a_disk_that_fills_up_before_the_ledger_exists_leaves_one_that_can_be_made_later(
    path: Path,
) -> None:
    program = """
import resource, sys
from x402sms.errors import LedgerError
from x402sms.ledger import SQLiteLedger
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
try:
    SQLiteLedger(sys.argv[1])
except LedgerError as error:
    print(error)
"""
    said = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=ROOT,
    ).stdout
    assert "free some space" in said
    with SQLiteLedger(path) as ledger:
        assert buy(ledger, [v2(), settled()]).error is None


@pytest.mark.parametrize("kind", ["corrupt", "foreign", "newer"])
def test_a_ledger_that_cannot_be_opened_says_what_to_do(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "payments.db"
    if kind == "corrupt":
        path.write_bytes(b"not a database, but long enough to be one" * 200)
    else:
        SQLiteLedger(path).close()
        pragma = "application_id = 7" if kind == "foreign" else "user_version = 99"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA {pragma}")
    with pytest.raises(LedgerError) as caught:
        SQLiteLedger(path)
    assert_says_what_to_do(caught.value, path)


# --- whole purchases


def test_a_purchase_is_reserved_then_signed_then_settled(ledger: Ledger) -> None:
    played = buy(ledger, [v2(), settled()])
    assert played.receipt is not None
    assert played.receipt == row(ledger).receipt()
    assert (row(ledger).state, row(ledger).transaction) == (PaymentState.SETTLED, TRANSACTION)


def test_a_purchase_that_a_crash_left_is_resumed_with_the_same_authorization(
    ledger: Ledger,
) -> None:
    first = buy(ledger, [v2(), KeyboardInterrupt()])
    second = buy(ledger, [settled()], now=NOW + 20)
    assert first.authorization == second.authorization
    assert (row(ledger).state, row(ledger).presentations) == (PaymentState.SETTLED, 2)


def test_a_purchase_that_is_paid_is_not_paid_again(ledger: Ledger) -> None:
    buy(ledger, [v2(), settled()])
    replayed = buy(ledger, [settled()])
    assert replayed.receipt == row(ledger).receipt()
    gone = buy(ledger, [refused("invalid_exact_evm_nonce_already_used")])
    assert isinstance(gone.error, AlreadyPaid)
    assert spent(ledger) == 10_000


def test_a_purchase_that_was_cancelled_on_the_chain_needs_another_intent(
    ledger: Ledger,
) -> None:
    cancelled = buy(ledger, [v2(), OSError()], chain=[OnChainCancelled(TRANSACTION)])
    assert isinstance(cancelled.error, PaymentRefused)
    assert isinstance(buy(ledger, [v2(), settled()]).error, IntentConflict)
    assert buy(ledger, [v2(), settled()], intent="invoice-8").error is None


def test_a_row_rebuilt_from_the_chain_is_already_paid(ledger: Ledger) -> None:
    """Of such a row nothing is known but the money: neither the request nor how to present it."""
    with SQLiteLedger(":memory:") as lost:
        buy(lost, [v2(), settled()])
        known = row(lost)
    rebuilt = {
        name: getattr(known, name) for name in ("network", "asset", "payer", "pay_to", "nonce")
    }
    ledger.insert_settled(
        Payment(
            **rebuilt,
            intent=f"rebuilt:{known.nonce}",
            fingerprint="?",
            method="?",
            url="?",
            amount_atomic=known.amount_atomic,
            reserved_atomic=known.amount_atomic,
            valid_after=NOW,
            valid_before=NOW,
            dialect="?",
            template="{}",
            state=PaymentState.SETTLED,
            reason="rebuilt from the chain",
            transaction=TRANSACTION,
            verified=True,
            first_at=NOW,
            settleable_until=NOW,
            created_at=NOW,
            updated_at=NOW,
        )
    )
    played = buy(ledger, [v2(), settled()])
    assert isinstance(played.error, AlreadyPaid)
    assert not played.driver.all_of(Sign)


# --- what counts


def test_what_a_server_refused_counts_though_the_next_connection_fails(
    ledger: Ledger,
) -> None:
    """It has the authorization and can settle it until its window is over."""
    played = buy(ledger, [v2(), UNEXPLAINED, NeverSent()], pauses=(1.0,))
    assert row(ledger).state is not PaymentState.VOID
    assert spent(ledger) == 10_000
    assert isinstance(played.error, PaymentRefused | PaymentUnknown)


def test_what_never_left_gives_the_budget_back(ledger: Ledger) -> None:
    assert isinstance(buy(ledger, [v2(), NeverSent()]).error, NeverSent)
    assert spent(ledger) == 0


def test_what_was_tried_before_and_never_left_now_still_counts(ledger: Ledger) -> None:
    buy(ledger, [v2(), OSError()])
    again = buy(ledger, [NeverSent()], now=NOW + 5)
    assert isinstance(again.error, PaymentUnknown)
    assert spent(ledger) == 10_000


def test_a_new_price_beyond_a_budget_is_not_signed(ledger: Ledger) -> None:
    played = buy(ledger, [v2(), DEARER], limits=SpendLimits(per_day="0.015"))
    assert [sign.authorization.amount_atomic for sign in played.driver.all_of(Sign)] == [10_000]
    assert spent(ledger) == 10_000
    assert isinstance(played.error, PaymentRefused)
    assert "per_day" in str(played.error)


@pytest.mark.parametrize("late", [0, 1])
def test_a_new_price_beyond_a_budget_is_not_signed_in_another_call(
    ledger: Ledger, late: int
) -> None:
    limits = SpendLimits(per_day="0.015")
    buy(ledger, [v2(), OSError()], limits=limits)
    played = buy(ledger, [DEARER], limits=limits, now=NOW + late)
    assert [sign.authorization.amount_atomic for sign in played.driver.all_of(Sign)] == [10_000]
    assert spent(ledger) == 10_000
    assert isinstance(played.error, PaymentUnknown)


def test_a_new_price_reserves_the_larger_amount(ledger: Ledger) -> None:
    buy(ledger, [v2(), DEARER, OSError()])
    assert (row(ledger).amount_atomic, spent(ledger)) == (20_000, 20_000)
    cheaper = v2(v2_message(v2_entry(amount="5000")))
    buy(ledger, [cheaper, OSError()], now=NOW + 5)
    assert (row(ledger).amount_atomic, spent(ledger)) == (5_000, 20_000)


def test_what_settles_counts_with_the_amount_that_settled(ledger: Ledger) -> None:
    settled_on_chain = OnChainSettled(TRANSACTION, RECIPIENT, 10_000)
    buy(ledger, [v2(), DEARER, settled()], chain=[settled_on_chain])
    assert (row(ledger).amount_atomic, spent(ledger)) == (10_000, 10_000)


def test_the_end_of_a_shorter_window_voids_nothing_that_a_longer_one_allows(
    ledger: Ledger,
) -> None:
    """First promised for 60 seconds, then at another price for 30."""
    buy(ledger, [v2(), SHORTER, OSError()])
    for moment, counts in ((45, True), (60, True), (61, False)):
        buy(ledger, [refused()], chain=[OnChainUnused(NOW + moment)], now=NOW + moment)
        assert (spent(ledger) > 0) == counts


def test_budgets_of_recipients_hold_whichever_promise_settles(ledger: Ledger) -> None:
    limits = SpendLimits(pay_to={RECIPIENT: "0.01", STRANGER: "0.01"})
    to_another = v2(v2_message(v2_entry(payTo=STRANGER)))
    buy(ledger, [v2(), to_another, OSError()], limits=limits)
    for said in (v2(), to_another):
        second = buy(ledger, [said, settled()], intent="invoice-8", limits=limits)
        assert isinstance(second.error, SpendLimitExceeded), said


def signed(played: Played) -> set[bytes]:
    return {sign.authorization.nonce for sign in played.driver.all_of(Sign)}


def test_however_often_it_is_tried_one_purchase_has_one_nonce(ledger: Ledger) -> None:
    nonces: set[bytes] = set()
    for second in range(0, 600, 25):
        answer = OSError() if second % 50 else refused("unexpected_error")
        nonces |= signed(buy(ledger, [v2(), DEARER, answer], now=NOW + second, pauses=(1.0,)))
    assert len(nonces) == 1
    assert spent(ledger) == 20_000
