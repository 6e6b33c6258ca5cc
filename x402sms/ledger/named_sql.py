"""Statements by name, from the files in `sql/`: `-- name --`, then the statement."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources

_NAME = re.compile(r"^-- (\w+) --$", re.MULTILINE)


def statements(file: str, names: Sequence[str] = ()) -> dict[str, str]:
    """The statements of `sql/<file>.sql`, with the columns `names` where they leave room for them.

    {columns} is `a, b`, {values} `%(a)s, %(b)s`, {replaced} `a = excluded.a, b = excluded.b`.
    """
    path = resources.files("x402sms.ledger") / "sql" / f"{file}.sql"
    _, *parts = _NAME.split(path.read_text(encoding="utf-8"))
    room = {
        "{columns}": ", ".join(names),
        "{values}": ", ".join(f"%({name})s" for name in names),
        "{replaced}": ", ".join(f"{name} = excluded.{name}" for name in names),
    }
    found = dict(zip(parts[::2], parts[1::2], strict=True))
    for left, filled in room.items():
        found = {name: text.replace(left, filled) for name, text in found.items()}
    return {name: text.strip() for name, text in found.items()}


def migration(store: str, version: int) -> str:
    """The text of `migrations/<store>_<version>.sql`."""
    name = f"{store}_{version:04d}.sql"
    path = resources.files("x402sms.ledger") / "migrations" / name
    return path.read_text(encoding="utf-8")
