"""A file of ours: private, and of the schema that this code knows."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

SCHEMA_VERSION = 5
APPLICATION_ID = 0x78343032  # "x402": tells our files from other people's
BUSY_SECONDS = 15
MEMORY = ":memory:"
PRIVATE = 0o600
_MOMENT = 1 / 100  # seconds


@dataclass(frozen=True, slots=True)
class Schema:
    """What a file is for people, how it is told from others, and the statements of each version."""

    what: str
    application_id: int
    version: int
    statements: Callable[[int], Iterable[str]]


def connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA recursive_triggers = ON")  # a row that is replaced is deleted first
    return connection


def make_private(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        # Only ever a new file: closing any descriptor of a database that this process has open
        # would drop all the locks it holds on it (POSIX).
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE))
    except FileExistsError:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a directory") from None


def complaint_about(connection: sqlite3.Connection, schema: Schema) -> str | None:
    """What keeps this file from being ours, found out without changing it."""
    connection.execute("BEGIN")  # one moment: another process may be making the file right now
    complaint = _complaint(connection, schema)
    connection.execute("COMMIT")
    return complaint


def _complaint(connection: sqlite3.Connection, schema: Schema) -> str | None:
    tables = number(connection, "SELECT count(*) FROM sqlite_schema")
    owner = number(connection, "PRAGMA application_id")
    version = number(connection, "PRAGMA user_version")
    if owner not in (0, schema.application_id) or (owner == 0 and tables):
        return f"it is a database of another program, not {schema.what} of x402sms"
    if version > schema.version:
        return (
            f"it was written by a newer x402sms (schema {version}, this one knows {schema.version})"
        )
    return None


def migrate(connection: sqlite3.Connection, schema: Schema) -> str | None:
    """Bring the schema up to date. Whoever comes second finds it done; what it complains of, where
    a newer x402sms did it since the file was looked at."""
    connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
    connection.execute("BEGIN IMMEDIATE")
    if (complaint := _complaint(connection, schema)) is not None:
        return complaint
    version = number(connection, "PRAGMA user_version")
    for upgrade in range(version + 1, schema.version + 1):
        for statement in schema.statements(upgrade):
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {schema.application_id}")
    connection.execute(f"PRAGMA user_version = {schema.version}")
    connection.execute("COMMIT")
    return None


def use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Kept by the file once set. This pragma alone does not wait for the others by itself."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_MOMENT)
        else:
            return


def _migration(version: int) -> list[str]:
    return migration_in("x402sms.ledger", version)


LEDGER = Schema(
    "a ledger",
    APPLICATION_ID,
    SCHEMA_VERSION,
    lambda version: _migration(version),  # noqa: PLW0108  whichever is in its place by then
)


def migration_in(package: str, version: int) -> list[str]:
    """The statements of a migration; `executescript` would commit the transaction around it."""
    name = f"sqlite_{version:04d}.sql"
    text = (resources.files(package) / "migrations" / name).read_text(encoding="utf-8")
    statements, rest = [], ""
    for line in text.splitlines(keepends=True):
        rest += line
        if sqlite3.complete_statement(rest):
            statements.append(rest)
            rest = ""
    return statements


def number(
    connection: sqlite3.Connection,
    statement: str,
    parameters: tuple[object, ...] | dict[str, object] = (),
) -> int:
    return int(connection.execute(statement, parameters).fetchone()[0])


def roll_back(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("ROLLBACK")
    except sqlite3.Error:  # the transaction had ended already; the first error is the one to tell
        pass
