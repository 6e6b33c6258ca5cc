"""The file: whose it is, who shares it, and what happens when it is not what it was."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from tests.ledger.processes import open_at_once, reserve_many
from x402sms.conformance.parts import CAP_OF_FIVE, NOW, PAYER, attempt
from x402sms.errors import LedgerError
from x402sms.ledger import SQLiteLedger, database, promising, sqlite_file
from x402sms.protocol.networks import BASE
from x402sms.protocol.types import Outcome, PaymentState

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "er" / "payments.db"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def contents(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}


# --- whose it is


def test_the_file_and_its_companions_are_for_their_owner_only(path: Path) -> None:
    old = os.umask(0)
    try:
        with SQLiteLedger(path) as ledger:
            ledger.reserve(attempt(), [], now=NOW)
            files = sorted(path.parent.iterdir())
            assert [each.name for each in files] == [
                "payments.db",
                "payments.db-shm",
                "payments.db-wal",
            ]
            assert {mode(each) for each in files} == {0o600}
            assert mode(path.parent) == 0o700
    finally:
        os.umask(old)


def test_a_ledger_that_others_could_read_is_closed_to_them(path: Path) -> None:
    SQLiteLedger(path).close()
    path.chmod(0o644)
    with SQLiteLedger(path) as ledger:
        ledger.reserve(attempt(), [], now=NOW)
        assert {mode(each) for each in path.parent.iterdir()} == {0o600}


def test_a_reservation_is_on_disk_for_another_reader_at_once(path: Path) -> None:
    with SQLiteLedger(path) as ledger:
        ledger.reserve(attempt(), [], now=NOW)
        with contextlib.closing(sqlite3.connect(path)) as other:
            assert other.execute("SELECT state FROM payments").fetchall() == [("reserved",)]


def test_a_reservation_is_synced_before_it_returns(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    connect = sqlite3.connect

    def traced(*arguments: object, **named: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **named)  # type: ignore[call-overload]
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    with SQLiteLedger(path) as ledger:
        statements.clear()
        ledger.reserve(attempt(), [], now=NOW)
    assert statements[:2] == ["PRAGMA synchronous = FULL", "BEGIN IMMEDIATE"]
    assert "COMMIT" in statements


# --- who shares it


def test_four_processes_against_a_cap_of_five_take_exactly_five(path: Path) -> None:
    SQLiteLedger(path).close()
    context = multiprocessing.get_context("spawn")
    shares = [[f"{process}-{number}" for number in range(5)] for process in range(4)]
    with ProcessPoolExecutor(4, mp_context=context) as pool:
        taken = pool.map(reserve_many, [path] * 4, shares)
        assert sum(taken) == 5
    with SQLiteLedger(path) as ledger:
        assert ledger.spent_atomic(network=BASE.caip2, payer=PAYER) == 50


def test_processes_that_create_the_ledger_at_once_all_open_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(4, mp_context=context) as pool:
        for attempt_number in range(25):
            start = manager.Barrier(4)
            paths = [tmp_path / f"{attempt_number}.db"] * 4
            opened = list(pool.map(open_at_once, paths, [start] * 4))
            assert opened == ["opened"] * 4


def test_two_ledgers_in_one_process_share_a_file(path: Path) -> None:
    with SQLiteLedger(path) as first, SQLiteLedger(path) as second:
        first.reserve(attempt(), [], now=NOW)
        assert second.find("a") == first.find("a")


def test_a_second_ledger_in_this_process_costs_the_first_nothing(path: Path) -> None:
    # Closing any descriptor of a file drops all POSIX locks that the process holds on it; another
    # process then takes itself for the last one, and unlinks the -wal that is still written to.
    visit = "import sys; from x402sms.ledger import SQLiteLedger; SQLiteLedger(sys.argv[1]).close()"
    with SQLiteLedger(path) as first, SQLiteLedger(path):
        run(visit, str(path))
        first.reserve(attempt(), [], now=NOW)
        seen = (
            "import sys; from x402sms.ledger import SQLiteLedger\n"
            "print(*[each.intent for each in SQLiteLedger(sys.argv[1]).payments()])"
        )
        assert run(seen, str(path)).split() == ["a"]


def run(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_fork_opens_the_file_anew_and_leaves_the_parent_its_own(path: Path) -> None:
    program = """
import os, sys
from x402sms.conformance.parts import NOW, attempt
from x402sms.ledger import SQLiteLedger
ledger = SQLiteLedger(sys.argv[1])
ledger.reserve(attempt("before"), [], now=NOW)
child = os.fork()
if child == 0:
    ledger.reserve(attempt("child"), [], now=NOW)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
ledger.reserve(attempt("parent"), [], now=NOW)
print(*[payment.intent for payment in ledger.payments()])
"""
    assert run(program, str(path)).split() == ["parent", "child", "before"]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_what_a_fork_writes_is_there_though_its_parent_closes_the_file_first(path: Path) -> None:
    # SQLite's own memory of the locks, taken into the child, would have it write into a log that
    # the parent has removed, as the last one that holds a lock on the file.
    program = """
import os, sys
from x402sms.conformance.parts import NOW, attempt
from x402sms.ledger import SQLiteLedger
ledger = SQLiteLedger(sys.argv[1])
ledger.reserve(attempt("before"), [], now=NOW)
(opened, opens), (closed, closes) = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    ledger.reserve(attempt("child"), [], now=NOW)
    os.write(opens, b"x")
    os.read(closed, 1)
    ledger.reserve(attempt("later"), [], now=NOW)
    os._exit(0)
os.read(opened, 1)
ledger.close()
os.write(closes, b"x")
assert os.waitpid(child, 0)[1] == 0
print(*[payment.intent for payment in SQLiteLedger(sys.argv[1]).payments()])
"""
    assert run(program, str(path)).split() == ["later", "child", "before"]


def test_a_file_that_was_let_go_of_is_opened_anew_in_the_child(path: Path) -> None:
    with SQLiteLedger(path) as ledger:
        ledger.let_go()
        ledger.leave_parent_alone()
        ledger.reserve(attempt(), [], now=NOW)
        assert len(ledger.find("a")) == 1


def test_a_file_that_was_in_use_at_the_fork_is_not_opened_in_the_child(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_PARENTS", [])
    with SQLiteLedger(path) as ledger:
        parents = ledger._connection
        assert parents is not None
        ledger.leave_parent_alone()
        with pytest.raises(LedgerError, match="forked while the file was in use"):
            ledger.reserve(attempt(), [], now=NOW)
        with pytest.raises(LedgerError, match="forked while the file was in use"):
            SQLiteLedger(path)
    assert parents.execute("SELECT count(*) FROM payments").fetchone() == (0,)
    parents.close()


def test_a_ledger_in_memory_is_not_the_childs_to_write_into(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database, "_PARENTS", [])
    with SQLiteLedger(":memory:") as ledger:
        parents = ledger._connection
        assert parents is not None
        ledger.leave_parent_alone()
        with pytest.raises(LedgerError, match="it was closed"):
            ledger.reserve(attempt(), [], now=NOW)
    SQLiteLedger(":memory:").close()
    parents.close()


def test_a_file_deleted_at_a_fork_is_not_made_anew(path: Path) -> None:
    with SQLiteLedger(path) as ledger:
        ledger.let_go()
        delete(path)
        ledger.go_on()
        with pytest.raises(LedgerError, match="deleted or replaced"):
            ledger.reserve(attempt(), [], now=NOW)
    assert not path.exists()


class Busy:
    """A connection that is told some times that the database is locked."""

    def __init__(self, times: int) -> None:
        self.times = times

    def execute(self, statement: str) -> None:
        assert statement == "PRAGMA journal_mode = WAL"
        self.times -= 1
        if self.times >= 0:
            raise sqlite3.OperationalError("database is locked")


def test_the_write_ahead_log_is_asked_for_until_the_others_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    sqlite_file.use_write_ahead_log(cast(sqlite3.Connection, Busy(3)))
    assert len(pauses) == 3
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", -1)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        sqlite_file.use_write_ahead_log(cast(sqlite3.Connection, Busy(3)))


@pytest.mark.parametrize(
    ("seconds", "says"), [(30, "reserved"), (0, "forked while")], ids=["waits", "waits no longer"]
)
def test_a_fork_waits_for_the_threads_that_are_in_the_ledger(
    path: Path, seconds: int, says: str
) -> None:
    program = """
import os, signal, sys, threading
from x402sms.conformance.parts import NOW, attempt
from x402sms.errors import LedgerError
from x402sms.ledger import SQLiteLedger, database
database.FORK_SECONDS = int(sys.argv[2])
ledger = SQLiteLedger(sys.argv[1])
inside, forked = threading.Event(), threading.Event()
def hold():
    with ledger._lock:
        inside.set()
        forked.wait(0.1 if database.FORK_SECONDS else 30)
thread = threading.Thread(target=hold)
thread.start()
inside.wait(30)
child = os.fork()
if child == 0:
    signal.alarm(5)
    try:
        ledger.reserve(attempt("child"), [], now=NOW)
        print("reserved", flush=True)
    except LedgerError as error:
        print(error, flush=True)
    ledger.close()
    os._exit(0)
forked.set()
thread.join()
assert os.waitpid(child, 0)[1] == 0
ledger.reserve(attempt("parent"), [], now=NOW)
"""
    assert says in run(program, str(path), str(seconds))


def test_a_ledger_that_stays_locked_is_an_error_and_nothing_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SQLiteLedger(path).close()
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0)
    with SQLiteLedger(path) as ledger, contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="locked"):
            ledger.reserve(attempt(), [], now=NOW)
        other.execute("ROLLBACK")
        assert ledger.find("a") == []
        ledger.reserve(attempt(), [], now=NOW)


# --- what cannot be used


def assert_unusable(path: Path, says: str | None = None) -> None:
    with pytest.raises(LedgerError, match=says) as caught:
        SQLiteLedger(path)
    message = str(caught.value)
    assert str(path) in message
    assert "X402SMS_LEDGER" in message or "upgrade x402sms" in message
    assert "othing" in message
    assert "signed" in message


def test_a_folder_is_no_ledger(tmp_path: Path) -> None:
    assert_unusable(tmp_path, "directory")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert_unusable(tmp_path / "file" / "payments.db", "File exists|Not a directory")


def test_a_path_no_file_can_have_is_an_error(tmp_path: Path) -> None:
    assert_unusable(tmp_path / ("x" * 300), "too long")


def test_a_device_is_no_ledger() -> None:
    assert_unusable(Path("/dev/null/x.db"))


@pytest.mark.parametrize("content", [b"not a database, but long enough to be one" * 200, b"x" * 99])
def test_a_corrupt_file_is_an_error_and_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "payments.db"
    path.write_bytes(content)
    assert_unusable(path, "not a database")
    assert contents(tmp_path) == {"payments.db": content}


def test_a_damaged_ledger_is_an_error(path: Path) -> None:
    with SQLiteLedger(path) as ledger:
        for number in range(200):
            ledger.reserve(attempt(str(number)), [], now=NOW)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with pytest.raises(LedgerError, match=r"malformed|corrupt"), SQLiteLedger(path) as ledger:
        ledger.reserve(attempt("new"), [], now=NOW)


def foreign_database(path: Path, application_id: int = 0) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
        connection.execute(f"PRAGMA application_id = {application_id}")
        connection.commit()


@pytest.mark.parametrize("application_id", [0, 0x0F055111], ids=["unmarked", "marked"])
def test_a_database_of_another_program_is_refused(tmp_path: Path, application_id: int) -> None:
    path = tmp_path / "places.db"
    foreign_database(path, application_id)
    with pytest.raises(LedgerError, match="another program"):
        SQLiteLedger(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_schema").fetchall()
    assert names == [("bookmarks",)]


def test_the_refusal_of_another_programs_database_says_which_and_what_to_do(
    tmp_path: Path,
) -> None:
    foreign_database(tmp_path / "places.db")
    assert_unusable(tmp_path / "places.db", "another program")


def test_a_database_of_another_program_stays_byte_for_byte_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "places.db"
    foreign_database(path)
    path.chmod(0o644)
    before = contents(tmp_path)
    with pytest.raises(LedgerError):
        SQLiteLedger(path)
    assert contents(tmp_path) == before
    assert mode(path) == 0o644


def newer_ledger(path: Path) -> None:
    SQLiteLedger(path).close()
    call_newer(path)


def call_newer(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {sqlite_file.SCHEMA_VERSION + 1}")


def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    newer_ledger(path)
    before = contents(path.parent)
    with pytest.raises(LedgerError, match=r"newer x402sms.*nothing more is.*upgrade x402sms"):
        SQLiteLedger(path)
    assert contents(path.parent) == before


def test_a_newer_schema_that_comes_while_it_is_opened_is_not_taken_for_ours(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Called by the older number, it would be upgraded once more, and that cannot be done twice."""
    SQLiteLedger(path).close()

    def upgraded_meanwhile(
        connection: sqlite3.Connection, schema: sqlite_file.Schema
    ) -> str | None:
        call_newer(path)
        return sqlite_file.migrate(connection, schema)

    with monkeypatch.context() as patched:
        patched.setattr("x402sms.ledger.database.migrate", upgraded_meanwhile)
        with pytest.raises(LedgerError, match=r"newer x402sms"):
            SQLiteLedger(path)
    assert_unusable(path, "newer")


def test_the_refusal_of_a_newer_schema_says_which_file(path: Path) -> None:
    newer_ledger(path)
    assert_unusable(path, "newer")


def test_every_migration_is_there_and_ends_at_the_schema_we_know(path: Path) -> None:
    SQLiteLedger(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()
        owner = connection.execute("PRAGMA application_id").fetchone()
        strict = connection.execute("SELECT strict FROM pragma_table_list('payments')").fetchone()
    assert (version, owner, strict) == (
        (sqlite_file.SCHEMA_VERSION,),
        (int.from_bytes(b"x402"),),
        (1,),
    )


def fill(ledger: SQLiteLedger) -> None:
    for number in range(500):
        ledger.reserve(attempt(str(number), template={"accepted": "x" * 500}), [], now=NOW)


def test_a_disk_that_is_full_is_an_error_and_leaves_no_half(path: Path) -> None:
    with SQLiteLedger(path) as ledger:
        connection = ledger._open()
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(LedgerError, match="full"):
            fill(ledger)
        known = len(list(ledger.payments()))
        connection.execute("PRAGMA max_page_count = 100000")
        ledger.reserve(attempt("after"), [], now=NOW)
        assert len(list(ledger.payments())) == known + 1


def test_a_transaction_that_ended_already_tells_the_first_error(path: Path) -> None:
    with SQLiteLedger(path) as ledger:
        ledger._open().execute(
            "CREATE TEMP TRIGGER ends BEFORE INSERT ON payments "
            "BEGIN SELECT raise(ROLLBACK, 'it ended'); END"
        )
        with pytest.raises(LedgerError, match="it ended"):
            ledger.reserve(attempt(), [], now=NOW)
        assert ledger.find("a") == []


def test_an_interrupt_in_a_transaction_leaves_it_undone_and_the_ledger_usable(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with SQLiteLedger(path) as ledger:
        with monkeypatch.context() as patched:
            patched.setattr(promising, "_check", interrupted)
            with pytest.raises(KeyboardInterrupt):
                ledger.reserve(attempt(), [CAP_OF_FIVE], now=NOW)
        assert ledger.find("a") == []
        ledger.reserve(attempt(), [CAP_OF_FIVE], now=NOW)


class Interrupted:
    """A connection, and Ctrl-C while it waits for the file: Python raises it once that is over."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str) -> sqlite3.Cursor:
        cursor = self._connection.execute(statement)
        if statement.startswith("BEGIN"):
            raise KeyboardInterrupt
        return cursor


def test_an_interrupt_while_the_file_is_waited_for_leaves_it_to_others_and_usable(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SQLiteLedger(path) as ledger, SQLiteLedger(path) as other:
        with monkeypatch.context() as patched:
            interrupted = Interrupted(ledger._open())
            patched.setattr(ledger, "_open", lambda: interrupted)
            with pytest.raises(KeyboardInterrupt):
                ledger.reserve(attempt(), [], now=NOW)
        other.reserve(attempt("another's"), [], now=NOW)
        ledger.reserve(attempt("after"), [], now=NOW)
        assert [payment.intent for payment in ledger.payments()] == ["after", "another's"]


# --- what is taken away meanwhile


def delete(path: Path) -> None:
    for each in path.parent.iterdir():
        each.unlink()


def test_nothing_is_reserved_in_a_file_that_was_deleted(path: Path) -> None:
    with SQLiteLedger(path) as ledger:
        delete(path)
        try:
            ledger.reserve(attempt(), [], now=NOW)
        except LedgerError:
            return
    with SQLiteLedger(path) as reopened:  # or the file is made anew, with the row in it
        assert reopened.find("a")


def test_nothing_is_reserved_in_a_file_that_was_replaced(path: Path) -> None:
    with SQLiteLedger(path) as ledger:
        backup = path.parent.parent / "backup.db"
        shutil.copy(path, backup)
        delete(path)
        backup.rename(path)
        try:
            ledger.reserve(attempt(), [], now=NOW)
        except LedgerError:
            return
    with SQLiteLedger(path) as reopened:
        assert reopened.find("a")


def test_a_row_that_is_gone_when_it_is_to_be_recorded_is_told_of(path: Path) -> None:
    with SQLiteLedger(path) as ledger:
        ledger.reserve(attempt(), [], now=NOW)
        ledger._open().execute("DELETE FROM payments")
        with pytest.raises(LedgerError, match="has lost a payment"):
            ledger.record(attempt(), Outcome(PaymentState.SETTLED), now=NOW)


def test_a_ledger_that_is_closed_twice_is_closed(path: Path) -> None:
    ledger = SQLiteLedger(path)
    ledger.close()
    ledger.close()


def test_no_connection_is_left_open_where_opening_fails(tmp_path: Path) -> None:
    # An open connection would be a ResourceWarning, which is an error here, and hold a lock.
    path = tmp_path / "places.db"
    foreign_database(path)
    for _ in range(3):
        with pytest.raises(LedgerError):
            SQLiteLedger(path)
    with contextlib.closing(sqlite3.connect(path, timeout=0)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
