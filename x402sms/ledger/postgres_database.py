"""Transactions on a PostgreSQL server that threads, processes, forks and machines share."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import psycopg

from x402sms.errors import LedgerError
from x402sms.ledger.postgres_connection import Connection, Server
from x402sms.ledger.postgres_schema import COMMIT, COMMIT_AND_FLUSH, begin, bring_up_to_date

# One payer's writes go one after the other, so more connections would wait at the server.
MOST_CONNECTIONS = 4
TURN_SECONDS = 60  # for one of these; whoever has it is bounded by the server's own limits


class PostgresDatabase:
    """A few connections, made when needed, and short transactions on them.

    Not psycopg_pool: that connects in threads of its own, which do not survive a fork, and tells
    whoever waits for a connection that there is none, not why.
    """

    def __init__(self, url: str) -> None:
        self._server = Server(url)
        self._closed = False
        self._start_afresh()
        try:
            with self._transaction(durable=True):
                pass  # one that cannot be used is told of at once, not when it is needed
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._closed = True
        self._close_idle()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _transaction(
        self, lock: int | None = None, *, durable: bool = False
    ) -> Iterator[Connection]:
        """The one place where the driver's errors become ours.

        `lock`: whoever else takes it waits until this is committed. `durable`: on disk when this
        returns. That is waited for after the lock is let go, so that those who come one after the
        other for the lock share the disk's time: what comes later in the log is not there without
        what was before it.
        """
        if self._process != os.getpid():
            _PARENTS.append(self._idle)
            self._start_afresh()
        if not self._turns.acquire(timeout=TURN_SECONDS):
            raise self._failure("all of its connections are in use and stay so")
        try:
            connection = self._begun(begin(lock))
            try:
                yield connection
                _commit(connection, COMMIT_AND_FLUSH if durable else COMMIT)
            except BaseException:
                _roll_back(connection)
                raise
            finally:
                self._give_back(connection)
        except (psycopg.Error, OSError) as error:
            raise self._failure(self._server.what_it_said(error)) from None
        finally:
            self._turns.release()

    def _begun(self, begin: str) -> Connection:
        if self._closed:
            raise self._failure("it was closed")
        idle = self._take_idle()
        if idle is not None:
            try:
                return _begun_on(idle, begin)
            except psycopg.errors.LockNotAvailable:
                raise
            except psycopg.OperationalError:
                pass  # cut while it lay idle: nothing was done on it, so another may do it
        return _begun_on(self._connected(), begin)

    def _connected(self) -> Connection:
        connection = self._server.connect()
        try:
            if (complaint := bring_up_to_date(connection)) is not None:
                raise self._failure(complaint)
        except BaseException:
            connection.close()
            raise
        return connection

    def _take_idle(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _give_back(self, connection: Connection) -> None:
        if not connection.closed:
            self._idle.append(connection)
        if self._closed:  # meanwhile
            self._close_idle()

    def _close_idle(self) -> None:
        while (connection := self._take_idle()) is not None:
            connection.close()

    def _start_afresh(self) -> None:
        """Also after a fork: the parent's connections are neither used nor closed, and what another
        of its threads may hold is not waited for."""
        self._process = os.getpid()
        self._idle: deque[Connection] = deque()
        self._turns = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def _failure(self, why: str) -> LedgerError:
        return LedgerError(
            f"the ledger on {self._server.shown} cannot be used: {why}. Payments are written down "
            "before they are signed, so without this ledger nothing more is (what was being "
            "written counts as spent if it arrived). See that the server can be reached and its "
            "role may write, upgrade x402sms, or name another ledger with X402SMS_LEDGER"
        )


# Kept so that they are not collected: closing them here would end the parent's sessions.
_PARENTS: list[deque[Connection]] = []


def _begun_on(connection: Connection, begin: str) -> Connection:
    try:
        connection.execute(begin)
    except BaseException:
        connection.close()
        raise
    return connection


def _commit(connection: Connection, how: str) -> None:
    if connection.execute(how).statusmessage != "COMMIT":  # of the first statement
        # What a transaction that has failed answers: it is undone, and that is no error to it.
        raise psycopg.OperationalError("the transaction was rolled back")


def _roll_back(connection: Connection) -> None:
    """Whatever state it is in: what cannot be rolled back is closed, and so undone."""
    try:
        connection.execute("ROLLBACK")
    except psycopg.Error:  # the first error is the one to tell
        connection.close()
