"""The schema `x402sms` of a database: ours, and of the version that this code knows."""

from __future__ import annotations

import hashlib

from x402sms.ledger.named_sql import migration, statements
from x402sms.ledger.postgres_connection import Connection

SCHEMA_VERSION = 1
APPLICATION = "x402sms ledger"
# Seconds: for another to let go of a lock, and how long it may hold one while it does nothing.
LOCK_SECONDS = 15
IDLE_SECONDS = 10

_SQL = statements("postgres/session")


def lock_of(*names: str) -> int:
    """The number that PostgreSQL knows a lock by. Two that collide wait for each other, no more."""
    digest = hashlib.sha256("\0".join(("x402sms", *names)).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


MIGRATION = lock_of("migration")


def begin(lock: int | None = None, *, durable: bool = False) -> str:
    """What begins a transaction, in one message. `lock` is held until it ends."""
    parts = [_SQL["begin"].format(lock_seconds=LOCK_SECONDS, idle_seconds=IDLE_SECONDS)]
    parts.append(_SQL["durable" if durable else "not_durable"])
    if lock is not None:
        parts.append(_SQL["lock"].format(lock=lock))
    return "\n".join(parts)


COMMIT = "COMMIT"
# And another after it, which ends once all that was committed before it is on disk too. In one
# message: a pooler may give the next one a session on a server that has crashed since, and lost it.
COMMIT_AND_FLUSH = "\n".join(("COMMIT;", begin(durable=True), _SQL["flush"]))


def bring_up_to_date(connection: Connection) -> str | None:
    """Make or upgrade the schema where that is needed; why it cannot be used, where it cannot be.

    A role that may not create anything is enough once the schema is there. Many may come at once:
    the first does it, the others wait and find it done.
    """
    connection.execute(begin())
    version = _version(connection)
    connection.execute("COMMIT")
    if version == SCHEMA_VERSION:
        return None
    connection.execute(begin(MIGRATION, durable=True))
    if (complaint := _complaint(connection)) is not None:
        return complaint
    for upgrade in range(_version(connection) + 1, SCHEMA_VERSION + 1):
        connection.execute(migration("postgres", upgrade))
        connection.execute(_SQL["set_version"], {"version": upgrade})
    connection.execute("COMMIT")
    return None


def _version(connection: Connection) -> int:
    """0 where there is none. One of another program is as good as one that is too new."""
    [[is_there]] = connection.execute(_SQL["has_version"])
    if not is_there:
        return 0
    [[application, version]] = connection.execute(_SQL["version"])
    return int(version) if application == APPLICATION else -1


def _complaint(connection: Connection) -> str | None:
    """What keeps the schema from being ours. Makes an empty one where there is none."""
    [[encoding, has_schema, tables]] = connection.execute(_SQL["state"])
    if encoding != "UTF8":
        return f"its text is {encoding}: make one with ENCODING 'UTF8'"
    version = _version(connection)
    if version < 0 or (version == 0 and tables):
        return "its schema x402sms is of another program, not a ledger of x402sms"
    if version > SCHEMA_VERSION:
        return (
            f"it was written by a newer x402sms (schema {version}, this one knows {SCHEMA_VERSION})"
        )
    if not has_schema:
        connection.execute(_SQL["make_schema"])
    return None
