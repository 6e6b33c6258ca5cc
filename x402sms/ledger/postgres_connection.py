"""Connections to a PostgreSQL server: bounded in time, and its password shown to nobody."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, NoReturn

import psycopg
from psycopg.conninfo import conninfo_to_dict

from x402sms.errors import ConfigError
from x402sms.text import one_line

# Seconds: for a server to accept, and then to say anything at all to what it was asked.
CONNECT_SECONDS = 10
SILENCE_SECONDS = 30
_DEFAULTS: dict[str, str | int] = {
    "application_name": "x402sms",
    "connect_timeout": CONNECT_SECONDS,
    # A machine that is gone does not say so.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": SILENCE_SECONDS * 1000,
}
_SECRETS = ("password", "sslpassword", "oauth_client_secret")


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """Every wait for the server ends: libpq alone would wait for ever for one that says nothing."""

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **named: Any) -> Any:
        return super().wait(_while_answered(gen), *arguments, **named)


def _while_answered(gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """`gen`, which is told of the socket every now and then, until that is silent for too long."""
    heard = time.monotonic()
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if ready:
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENCE_SECONDS:
                raise psycopg.OperationalError(
                    f"the server has said nothing for {SILENCE_SECONDS} seconds"
                )
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value


class Server:
    """Where the ledger is, by its URL. Neither repr, str nor vars() shows what is secret in it.

    Raises ConfigError for a URL that cannot be read.
    """

    __slots__ = ("__parameters", "shown")

    def __init__(self, url: str) -> None:
        given = _parsed(url)
        del url  # a traceback that shows locals must not show it
        host = given.get("host") or given.get("hostaddr") or "the default host"
        port = f":{given['port']}" if given.get("port") else ""
        self.shown = one_line(f"postgresql at {host}{port}/{given.get('dbname', '')}")
        self.__parameters = {**_DEFAULTS, **given, "client_encoding": "utf8"}

    def connect(self) -> Connection:
        """A new connection, with no transaction begun. Raises psycopg.Error."""
        return Connection.connect(
            **self.__parameters,
            autocommit=True,  # transactions are begun and ended in so many words
            # A pooler in front may give each transaction another session.
            prepare_threshold=None,
        )

    def what_it_said(self, error: Exception) -> str:
        """A driver's error in one line. What is secret is taken out, should the server echo it."""
        said = str(error)
        for name in _SECRETS:
            if secret := self.__parameters.get(name):
                said = said.replace(str(secret), "...")
        return one_line(said)

    def __repr__(self) -> str:
        return f"Server({self.shown})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an address with a password is not pickled")


def _parsed(url: str) -> dict[str, Any]:
    try:
        return conninfo_to_dict(url)
    except psycopg.Error:
        pass  # libpq's message may quote the password
    raise ConfigError(
        "the address of the ledger cannot be read (it is not shown): it has the form "
        "postgresql://user:password@host:port/database?sslmode=verify-full, where any other "
        "character of the password than letters and digits is written as %XX"
    )
