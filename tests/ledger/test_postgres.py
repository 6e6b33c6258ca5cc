"""The server: whose schema it is, what a lost connection costs, and what is never shown."""

from __future__ import annotations

import pickle
import re
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from tests.ledger.parts import buy
from tests.ledger.proxy import Fault, Network, running_network
from tests.parts.anvil import PartMissing
from tests.parts.postgres import Postgres, start_postgres
from tests.protocol.parts import settled, v2
from x402sms.config import load_settings
from x402sms.conformance.parts import CAP_OF_FIVE, NOW, OTHER, attempt
from x402sms.errors import ConfigError, LedgerError
from x402sms.ledger import (
    LeasedLedger,
    SQLiteLedger,
    open_ledger,
    postgres_connection,
    postgres_database,
    postgres_schema,
)
from x402sms.ledger.postgres import PostgresLedger
from x402sms.ledger.postgres_connection import Connection, Server
from x402sms.ledger.postgres_schema import COMMIT_AND_FLUSH
from x402sms.ledger.promising import Key, signed_key
from x402sms.protocol.effects import Sign

ROOT = Path(__file__).parents[2]
DATABASE = "conformance"
A_MOMENT = Decimal("0.05")  # seconds, in the place of limits of many


@pytest.fixture
def ledger(empty_postgres: str) -> Iterator[PostgresLedger]:
    with PostgresLedger(empty_postgres) as opened:
        yield opened


@pytest.fixture
def network(postgres: Postgres, empty_postgres: str) -> Iterator[Network]:
    with running_network(postgres.socket) as running:
        yield running


def intents(ledger: PostgresLedger) -> list[str]:
    return [payment.intent for payment in ledger.payments()]


def cut_all(postgres: Postgres) -> None:
    """As a restart of the server does."""
    postgres.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
        "WHERE application_name = 'x402sms'"
    )


def assert_unusable(url: str, says: str) -> None:
    with pytest.raises(LedgerError, match=says) as caught:
        PostgresLedger(url)
    assert "nothing more is" in str(caught.value)
    assert "X402SMS_LEDGER" in str(caught.value)


# --- whose it is


FOREIGN = {
    "tables of theirs": ("CREATE SCHEMA x402sms", "CREATE TABLE x402sms.notes (note text)"),
    "a table of our name": (
        "CREATE SCHEMA x402sms",
        "CREATE TABLE x402sms.schema_version (application text, version int)",
        "INSERT INTO x402sms.schema_version VALUES ('something else', 1)",
    ),
}


@pytest.mark.parametrize("made", FOREIGN)
def test_a_schema_of_another_program_is_refused_and_left_alone(
    postgres: Postgres, made: str
) -> None:
    url = postgres.new_database("foreign_one")
    postgres.execute(*FOREIGN[made], database="foreign_one")

    assert_unusable(url, "of another program")

    tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'x402sms'::regnamespace"
    assert postgres.execute(tables, database="foreign_one") == [(1,)]


def test_a_newer_schema_is_refused_until_x402sms_is_upgraded(postgres: Postgres) -> None:
    url = postgres.new_database("newer")
    PostgresLedger(url).close()
    postgres.execute("UPDATE x402sms.schema_version SET version = version + 1", database="newer")

    assert_unusable(url, "newer x402sms.*upgrade x402sms")


def test_a_database_that_cannot_hold_every_text_is_refused(postgres: Postgres) -> None:
    assert_unusable(postgres.new_database("latin", encoding="LATIN1"), "ENCODING 'UTF8'")


def test_a_schema_that_is_there_and_empty_is_taken(postgres: Postgres) -> None:
    url = postgres.new_database("prepared")
    postgres.execute("CREATE SCHEMA x402sms", database="prepared")

    with PostgresLedger(url) as ledger:
        ledger.reserve(attempt(), [], now=NOW)
        assert intents(ledger) == ["a"]


def test_a_role_that_may_only_read_add_and_change_rows_is_enough(
    postgres: Postgres, empty_postgres: str
) -> None:
    postgres.execute(
        "CREATE ROLE worker LOGIN",
        "GRANT USAGE ON SCHEMA x402sms TO worker",
        "GRANT SELECT ON ALL TABLES IN SCHEMA x402sms TO worker",
        "GRANT INSERT, UPDATE ON x402sms.payments, x402sms.charges, x402sms.leases TO worker",
        "GRANT INSERT, UPDATE, DELETE ON x402sms.quotes TO worker",
        database=DATABASE,
    )

    with PostgresLedger(postgres.url(DATABASE, user="worker")) as ledger:
        assert buy(ledger, [v2(), settled()]).error is None
        for quote in ("what it cost", None):
            ledger.quotes.put("route", quote, now=NOW)
        shared = PostgresLedger(postgres.url(DATABASE, user="worker"))
        with LeasedLedger(SQLiteLedger(":memory:"), shared, worker="w-1") as leased:
            leased.reserve(attempt(), [CAP_OF_FIVE], now=NOW)

    states = postgres.execute("SELECT state FROM x402sms.payments ORDER BY id", database=DATABASE)
    assert states == [("settled",), ("reserved",)]


def test_a_role_that_may_do_nothing_is_told_of(postgres: Postgres, empty_postgres: str) -> None:
    postgres.execute("CREATE ROLE stranger LOGIN")
    assert_unusable(postgres.url(DATABASE, user="stranger"), "permission denied")


def test_a_role_that_may_not_wait_for_the_disk_is_told_of_before_anything_counts(
    postgres: Postgres,
) -> None:
    url = postgres.new_database("guarded")
    PostgresLedger(url).close()
    postgres.execute(
        "CREATE ROLE guarded LOGIN",
        "GRANT USAGE ON SCHEMA x402sms TO guarded",
        "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA x402sms TO guarded",
        # Of whatever arguments: each version of the server has others.
        "DO $$ DECLARE each regprocedure; BEGIN FOR each IN SELECT oid FROM pg_proc "
        "WHERE proname = 'pg_logical_emit_message' "
        "LOOP EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', each); END LOOP; END $$",
        database="guarded",
    )

    assert_unusable(postgres.url("guarded", user="guarded"), "denied for.*emit_message")


# --- each transaction, whatever the server is set to


@pytest.mark.parametrize(
    ("setting", "given", "is_"),
    [
        ("synchronous_commit", "on", "off"),
        ("transaction_isolation", "serializable", "read committed"),
        ("transaction_read_only", "on", "off"),
        ("statement_timeout", "7s", "0"),
        ("lock_timeout", "0", "15s"),
        ("idle_in_transaction_session_timeout", "0", "10s"),
        ("search_path", "public", "pg_catalog"),
    ],
)
def test_a_setting_of_the_server_makes_no_difference(
    ledger: PostgresLedger, setting: str, given: str, is_: str
) -> None:
    default = f"default_{setting}" if setting.startswith("transaction") else setting
    with ledger._transaction() as connection:
        connection.execute(f"SET SESSION {default} = '{given}'".encode())

    with ledger._transaction() as connection:
        [[found]] = connection.execute(f"SHOW {setting}".encode())

    assert found == is_


@pytest.mark.parametrize(
    ("given", "is_"),
    [("off", "on"), ("local", "on"), ("on", "on"), ("remote_apply", "remote_apply")],
)
def test_what_is_durable_waits_for_the_disk_whatever_the_server_is_set_to(
    ledger: PostgresLedger, given: str, is_: str
) -> None:
    beginning, _, _ = COMMIT_AND_FLUSH.partition("SELECT pg_logical_emit_message")
    with ledger._server.connect() as connection:
        connection.execute(f"SET SESSION synchronous_commit = '{given}'".encode())
        connection.execute(beginning)
        [[found]] = connection.execute("SHOW synchronous_commit")
        connection.execute("ROLLBACK")
    assert found == is_


def test_what_is_durable_is_on_disk_though_the_lock_was_let_go(
    ledger: PostgresLedger, postgres: Postgres
) -> None:
    ledger.reserve(attempt(), [], now=NOW)
    for _ in range(20):  # the server writes by itself now and then
        with ledger._transaction(durable=True) as connection:
            connection.execute("UPDATE x402sms.payments SET updated_at = updated_at + 1")
            [[written]] = connection.execute("SELECT pg_current_wal_insert_lsn()")
        [[flushed]] = postgres.execute(f"SELECT pg_current_wal_flush_lsn() >= '{written}'")
        assert flushed


# --- who shares it


def test_a_fork_connects_anew_and_leaves_the_parent_its_own(empty_postgres: str) -> None:
    program = """
import os, signal, sys, threading
from x402sms.conformance.parts import NOW, attempt
from x402sms.ledger import open_ledger
ledger = open_ledger(sys.argv[1])
ledger.reserve(attempt("before"), [], now=NOW)
inside, forked = threading.Event(), threading.Event()
def hold():
    with ledger._transaction():
        inside.set()
        forked.wait(30)
threads = [threading.Thread(target=hold) for _ in range(4)]  # all the connections that it has
for thread in threads:
    thread.start()
inside.wait(30)
child = os.fork()
if child == 0:
    signal.alarm(20)
    ledger.reserve(attempt("child"), [], now=NOW)
    ledger.close()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
forked.set()
for thread in threads:
    thread.join()
ledger.reserve(attempt("parent"), [], now=NOW)
print(*[payment.intent for payment in ledger.payments()])
ledger.close()
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, empty_postgres],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["parent", "child", "before"]


def test_another_process_id_means_another_connection(
    ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    [first] = ledger._idle
    with monkeypatch.context() as patched:
        patched.setattr("os.getpid", lambda: 1)
        assert intents(ledger) == []
        assert first not in ledger._idle
        ledger.close()
    assert not first.closed
    first.close()


def test_many_threads_share_few_connections(ledger: PostgresLedger, postgres: Postgres) -> None:
    def reserve(number: int) -> None:
        ledger.reserve(attempt(str(number)), [], now=NOW)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(reserve, range(40)))

    assert len(intents(ledger)) == 40
    assert 1 <= len(ledger._idle) <= postgres_database.MOST_CONNECTIONS


def test_whoever_gets_no_connection_signs_nothing(
    ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_database, "TURN_SECONDS", 0)
    ledger._turns = threading.BoundedSemaphore(1)
    with ledger._transaction():
        played = buy(ledger, [v2(), settled()])
    assert "in use and stay so" in str(played.error)
    assert not played.driver.all_of(Sign)
    assert buy(ledger, [v2(), settled()]).error is None


def lock_books(holder: PostgresLedger, key: Key) -> AbstractContextManager[object]:
    """As a worker does that is in the middle of a reservation for the same payer."""
    network, payer, _ = key
    return holder._transaction(postgres_schema.lock_of("payments", network, payer))


def test_a_payer_whose_books_stay_locked_pays_nothing(
    ledger: PostgresLedger, empty_postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PostgresLedger(empty_postgres) as holder, lock_books(holder, signed_key(attempt())):
        monkeypatch.setattr(postgres_schema, "LOCK_SECONDS", A_MOMENT)
        with pytest.raises(LedgerError, match="lock timeout"):
            ledger.reserve(attempt(), [], now=NOW)
        ledger.reserve(attempt(payer=OTHER), [], now=NOW)  # another's books are open
    assert [payment.payer for payment in ledger.payments()] == [OTHER]


def test_a_worker_that_stops_in_the_middle_does_not_stop_the_others(
    ledger: PostgresLedger, empty_postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PostgresLedger(empty_postgres) as holder, ExitStack() as stopped:
        with monkeypatch.context() as patched:  # for its transaction alone
            patched.setattr(postgres_schema, "IDLE_SECONDS", A_MOMENT)
            stopped.enter_context(lock_books(holder, signed_key(attempt())))
        ledger.reserve(attempt(), [], now=NOW)
        with pytest.raises(LedgerError, match="idle-in-transaction"):
            stopped.close()
    assert intents(ledger) == ["a"]


# --- a connection that is lost


def test_a_connection_that_was_cut_while_idle_is_replaced(
    ledger: PostgresLedger, postgres: Postgres
) -> None:
    cut_all(postgres)
    assert buy(ledger, [v2(), settled()]).error is None


def test_a_connection_that_is_cut_in_a_transaction_leaves_it_undone(
    ledger: PostgresLedger, postgres: Postgres
) -> None:
    def cut_short() -> None:
        with ledger._transaction() as connection:
            connection.execute("UPDATE x402sms.schema_version SET version = 7")
            cut_all(postgres)
            connection.execute("SELECT 1")

    with pytest.raises(LedgerError, match=r"terminat|closed"):
        cut_short()
    assert buy(ledger, [v2(), settled()]).error is None


@pytest.mark.parametrize(
    ("fault", "landed"),
    [("lose the question", False), ("lose the answer", True), ("never answer", True)],
)
def test_a_commit_whose_answer_is_lost_signs_nothing_and_counts_if_it_landed(
    ledger: PostgresLedger,
    network: Network,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    landed: bool,
) -> None:
    with PostgresLedger(network.url(DATABASE)) as far:
        network.fault = fault
        with monkeypatch.context() as patched:
            patched.setattr(postgres_connection, "SILENCE_SECONDS", 1)
            with pytest.raises(LedgerError, match="counts as spent if it arrived") as caught:
                far.reserve(attempt(), [CAP_OF_FIVE], now=NOW)
        network.fault = None

        assert intents(ledger) == (["a"] if landed else [])
        far.reserve(attempt(), [CAP_OF_FIVE], now=NOW)  # it connects anew, and goes on
        assert [each.presentations for each in far.find("a")] == [2 if landed else 1]
    assert "its-password" not in str(caught.value)


def test_a_server_that_takes_its_time_is_waited_for(ledger: PostgresLedger) -> None:
    with ledger._transaction() as connection:
        [[slept]] = connection.execute("SELECT pg_sleep(0.25) IS NOT NULL")
    assert slept


def test_what_is_committed_and_not_on_disk_signs_nothing_and_counts(
    ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush_fails = COMMIT_AND_FLUSH.replace("pg_logical_emit_message", "no_such_function")
    with monkeypatch.context() as patched:
        patched.setattr(postgres_database, "COMMIT_AND_FLUSH", flush_fails)
        played = buy(ledger, [v2(), settled()])
    assert "counts as spent if it arrived" in str(played.error)
    assert not played.driver.all_of(Sign)
    assert [each.state for each in ledger.payments()] == ["reserved"]


def test_no_other_session_can_come_between_a_commit_and_the_disk(
    ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pooler gives another one where a session is idle: on a server that crashed, perhaps, and
    has lost what was not on disk."""
    idle_after: list[str] = []
    execute = Connection.execute

    def watched(connection: Connection, query: Any, *parameters: Any) -> Any:
        cursor = execute(connection, query, *parameters)
        if connection.info.transaction_status is TransactionStatus.IDLE:
            idle_after.append(query)
        return cursor

    monkeypatch.setattr(Connection, "execute", watched)
    ledger.reserve(attempt(), [], now=NOW)

    [last] = idle_after
    assert "pg_logical_emit_message" in last


@pytest.mark.parametrize("fault", ["lose the question", "lose the answer"])
def test_nothing_is_signed_when_the_reservation_may_be_lost(network: Network, fault: Fault) -> None:
    with closing(open_ledger(network.url(DATABASE))) as far:
        network.trigger, network.fault = b"INSERT INTO", fault
        played = buy(far, [v2(), settled()])
    assert isinstance(played.error, LedgerError)
    assert not played.driver.all_of(Sign)


def test_a_transaction_that_the_server_rolls_back_is_not_taken_for_committed(
    ledger: PostgresLedger,
) -> None:
    with (
        pytest.raises(LedgerError, match="rolled back"),
        ledger._transaction() as connection,
        pytest.raises(psycopg.Error),
    ):
        connection.execute("SELECT 1 / 0")


def test_an_interrupt_in_a_transaction_leaves_it_undone(ledger: PostgresLedger) -> None:
    def interrupted() -> None:
        with ledger._transaction() as connection:
            connection.execute("UPDATE x402sms.schema_version SET version = 7")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert buy(ledger, [v2(), settled()]).error is None


def test_a_text_that_the_server_cannot_hold_is_an_error(ledger: PostgresLedger) -> None:
    with pytest.raises(LedgerError, match="NUL"):
        ledger.reserve(attempt("a\0b"), [], now=NOW)
    assert intents(ledger) == []


def test_a_ledger_that_is_closed_is_closed(ledger: PostgresLedger) -> None:
    with ledger._transaction() as connection:
        ledger.close()
    assert connection.closed
    ledger.close()
    with pytest.raises(LedgerError, match="it was closed"):
        ledger.reserve(attempt(), [], now=NOW)


# --- what is never shown


@contextmanager
def hostile_server(message: bytes) -> Iterator[int]:
    """Asks whoever connects for the password, and answers with an error that says `message`."""

    def serve() -> None:
        client, _ = listening.accept()
        with client:
            client.recv(4096)
            client.sendall(b"R\0\0\0\x08\0\0\0\x03")  # AuthenticationCleartextPassword
            client.recv(4096)
            said = b"SFATAL\0VFATAL\0C28P01\0M" + message + b"\0\0"
            client.sendall(b"E" + (len(said) + 4).to_bytes(4, "big") + said)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(30)


def test_a_server_that_echoes_the_password_and_an_escape_gets_neither_shown() -> None:
    with hostile_server(b"no \x1b[31m entry\nfor s3cr3t-word") as port:
        url = f"postgresql://me:s3cr3t-word@127.0.0.1:{port}/db?sslmode=disable&gssencmode=disable"
        with pytest.raises(LedgerError, match=r"no \[31m entry") as caught:
            open_ledger(url)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert f"127.0.0.1:{port}/db" in str(caught.value)
    assert "s3cr3t-word" not in shown
    assert "\x1b" not in shown


UNREADABLE = {
    "not encoded": "postgresql://me:s3cr3t%zz@host/db",
    "a slash in it": "postgres://me:s3cr3t/more@host/db?x=s3cr3t",
    "an unknown parameter": "postgresql://me@host/db?s3cr3t=1",
}


@pytest.mark.parametrize("url", UNREADABLE.values(), ids=UNREADABLE)
def test_an_address_that_cannot_be_read_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        open_ledger(url)
    shown = "".join(traceback.format_exception(caught.value))
    assert "s3cr3t" not in re.sub(r".*open_ledger\(url\).*", "", shown)


def test_a_server_that_is_not_there_is_told_of_without_the_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(LedgerError, match="refused") as caught:
        open_ledger(f"postgresql://me:s3cr3t@127.0.0.1:{port}/db")
    assert "s3cr3t" not in str(caught.value)


def test_where_a_ledger_is_shows_no_password() -> None:
    url = "postgresql://me:s3cr3t@db.example:6432/books"
    server = Server(url)

    assert server.shown == "postgresql at db.example:6432/books"
    assert Server("postgresql://").shown == "postgresql at the default host/"
    for shown in (repr(server), str(server), repr(load_settings({}, ledger=url))):
        assert "s3cr3t" not in shown
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(server)


@pytest.mark.parametrize("name", ["psycopg", None], ids=["no psycopg", "no libpq"])
def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    class Missing(ModuleType):
        def __getattr__(self, _: str) -> NoReturn:
            raise ImportError("no pq wrapper available", name=name)

    monkeypatch.setitem(sys.modules, "x402sms.ledger.postgres", Missing("x402sms.ledger.postgres"))
    with pytest.raises(ConfigError, match=r"pip install 'x402sms\[postgres\]'"):
        open_ledger("postgresql://host/db")


def test_an_error_of_our_own_is_not_taken_for_a_missing_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "x402sms.ledger.postgres", None)
    with pytest.raises(ModuleNotFoundError, match=r"x402sms\.ledger\.postgres"):
        open_ledger("postgresql://host/db")


def test_the_server_of_the_tests_says_when_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PartMissing, match="make parts"), start_postgres(tmp_path):
        pass
