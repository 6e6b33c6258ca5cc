"""A private SQLite file that threads, processes and forks share: what ledger and events have."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import ClassVar, Self

from x402sms.errors import X402SMSError
from x402sms.ledger.sqlite_file import (
    MEMORY,
    PRIVATE,
    Schema,
    complaint_about,
    connect,
    make_private,
    migrate,
    roll_back,
    use_write_ahead_log,
)

_SPOILT = "what was to be written with it failed"
_INHERITED = (
    "this process was forked while the file was in use, and SQLite would write past its locks "
    "here: fork when no call is under way"
)
FORK_SECONDS = 15  # for the calls that are under way to end, before this process is forked


class Database(ABC):
    """One connection and short transactions."""

    schema: ClassVar[Schema]

    def __init__(self, path: str | os.PathLike[str]) -> None:
        location = os.fspath(path)
        # Absolute, so that a change of folder does not lead to another file.
        self._path = location if location == MEMORY else os.path.abspath(location)
        self._lock = threading.Lock()
        self._forking: int | None = None  # the thread that forks this process just now
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._closed = False
        self._synchronous: str | None = None  # as the connection has it
        self._together: int | None = None  # the thread whose work shares one commit
        self._spoilt = False
        _ALL[id(self)] = self
        with self._transaction():
            pass  # one that cannot be used is told of at once, not when it is needed

    @abstractmethod
    def _failure(self, why: str) -> X402SMSError:
        """The error of whoever derives: what is kept there, and what to do."""
        ...

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_together(self) -> bool:
        """Whether what this thread writes now is committed with more."""
        return self._together == threading.get_ident()

    @contextmanager
    def together(self) -> Iterator[None]:
        """See `SharesCommits` in `ledger/base.py`."""
        with self._transaction("FULL"):
            self._together, self._spoilt = threading.get_ident(), False
            try:
                yield
                if self._spoilt:
                    raise self._failure(_SPOILT)
            finally:
                self._together = None

    @contextmanager
    def _transaction(
        self, synchronous: str = "NORMAL", *, begin: str = "BEGIN IMMEDIATE"
    ) -> Iterator[sqlite3.Connection]:
        """The one place where the driver's errors become ours."""
        if self.is_together:
            yield from self._part()
            return
        with self._lock:
            try:
                connection = self._open()
                if self._synchronous != synchronous:
                    connection.execute(f"PRAGMA synchronous = {synchronous}")
                    self._synchronous = synchronous
            except (sqlite3.Error, OSError) as error:
                raise self._failure(str(error)) from error
            try:
                connection.execute(begin)  # Ctrl-C while it waits is raised once it has begun
                yield connection
                connection.execute("COMMIT")
            except (sqlite3.Error, OSError) as error:
                roll_back(connection)
                raise self._failure(str(error)) from error
            except BaseException:
                roll_back(connection)
                raise

    def _part(self) -> Iterator[sqlite3.Connection]:
        """A transaction within that of `together`."""
        if self._spoilt:
            raise self._failure(_SPOILT)
        self._spoilt = True  # until the contrary is known: SQLite may roll back more than this part
        try:
            connection = self._open()
            connection.execute("SAVEPOINT part")
            try:
                yield connection
            except (sqlite3.Error, OSError):
                raise
            except BaseException:
                connection.execute("ROLLBACK TO part")
                connection.execute("RELEASE part")
                self._spoilt = False
                raise
            connection.execute("RELEASE part")
            self._spoilt = False
        except (sqlite3.Error, OSError) as error:
            raise self._failure(str(error)) from error

    def _open(self) -> sqlite3.Connection:
        if self._closed:
            raise self._failure("it was closed")
        if self._file is not None and self._file != self._identity():
            raise self._failure("its file was deleted or replaced while it was in use")
        if self._connection is None:
            if any(inherited == self._identity() for inherited, _ in _PARENTS):
                raise self._failure(_INHERITED)
            if self._path != MEMORY:
                make_private(Path(self._path))
            connection, self._synchronous = self._connect(), None
            self._file = self._identity()
            self._connection = connection
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        connection = connect(self._path)
        try:
            if (complaint := complaint_about(connection, self.schema)) is not None:
                raise self._failure(complaint)
            if self._path != MEMORY and os.stat(self._path).st_mode & 0o077:
                # Again: the files beside a database are made with the mode that it has.
                connection.close()
                os.chmod(self._path, PRIVATE)
                connection = connect(self._path)
            if (complaint := migrate(connection, self.schema)) is not None:
                raise self._failure(complaint)
            use_write_ahead_log(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _identity(self) -> tuple[int, int] | None:
        if self._path == MEMORY:
            return None
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def let_go(self) -> None:
        """Before a fork: SQLite takes what it remembers of a file's locks into the child, which has
        none of them. Others then remove the log that the child goes on to write into."""
        if self.is_together or not self._lock.acquire(timeout=FORK_SECONDS):
            return
        self._forking = threading.get_ident()
        if self._path != MEMORY:
            with suppress(sqlite3.Error):
                self._disconnect()

    def go_on(self) -> None:
        """After a fork, in the parent."""
        if self._forking == threading.get_ident():
            self._forking = None
            self._lock.release()

    def leave_parent_alone(self) -> None:
        """After a fork, in the child: a connection that is still the parent's is neither used nor
        closed, and its lock, which another of its threads may hold, is not waited for."""
        self._lock, self._forking, self._together = threading.Lock(), None, None
        if self._connection is not None:
            _PARENTS.append((self._file or (0, 0), self._connection))
            self._connection = None
        if self._path == MEMORY:
            self._closed = True  # it was the parent's memory


# Kept so that they are not collected: SQLite must not close them here.
_PARENTS: list[tuple[tuple[int, int], sqlite3.Connection]] = []
_ALL: weakref.WeakValueDictionary[int, Database] = weakref.WeakValueDictionary()


def _of_all(do: Callable[[Database], None]) -> None:
    references = _ALL.valuerefs()  # a copy, made at once: other threads may open more
    for database in filter(None, (reference() for reference in references)):
        do(database)


os.register_at_fork(
    before=partial(_of_all, Database.let_go),
    after_in_parent=partial(_of_all, Database.go_on),
    after_in_child=partial(_of_all, Database.leave_parent_alone),
)
