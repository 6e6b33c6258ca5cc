"""The ledgers that one suite runs over: whatever holds for one holds for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.parts.postgres import Postgres
from x402sms.ledger import Ledger, open_ledger

Reopen = Callable[[], Ledger]


@pytest.fixture(scope="session")
def postgres_url(postgres: Postgres) -> str:
    """A database whose schema is made. Tests take `empty_postgres`."""
    url = postgres.new_database("conformance")
    open_ledger(url).close()
    return url


@pytest.fixture
def empty_postgres(postgres: Postgres, postgres_url: str) -> str:
    """The URL of a ledger in which nothing is."""
    postgres.execute(
        "TRUNCATE x402sms.payments, x402sms.promised, x402sms.charges, x402sms.quotes, "
        "x402sms.leases "
        "RESTART IDENTITY",
        database="conformance",
    )
    return postgres_url


@pytest.fixture(params=["file", "memory", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger, of each kind in its turn."""
    if request.param == "postgres":
        location = request.getfixturevalue("empty_postgres")
    else:
        location = str(tmp_path / "payments.db") if request.param == "file" else ":memory:"
    with closing(open_ledger(location)) as opened:
        yield opened


@pytest.fixture(params=["file", "postgres"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reopen]:
    """Opens one ledger, empty at first, as often as it is called; all are closed at the end."""
    location = str(tmp_path / "payments.db")
    if request.param == "postgres":
        location = request.getfixturevalue("empty_postgres")
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(open_ledger(location)))
