"""`x402sms spend`: who spent it, and what for, read from the ledger alone."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli, MakeCli
from x402sms.conformance.parts import attempt, charge
from x402sms.ledger import Ledger, open_ledger
from x402sms.protocol.labels import labels_text
from x402sms.protocol.networks import BASE, BASE_SEPOLIA
from x402sms.protocol.types import Outcome, PaymentState

DAY = 86_400
GB = {"service": "telegram", "country": "GB"}
US = {"service": "telegram", "country": "US"}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """That of the command line."""
    with closing(open_ledger(tmp_path / "payments.db")) as opened:
        yield opened


@pytest.fixture
def cli(make_cli: MakeCli) -> Cli:
    """Without a wallet, and with nobody to ask."""
    return make_cli()


def promise(
    ledger: Ledger,
    intent: str,
    amount_atomic: int,
    *,
    state: PaymentState = PaymentState.SETTLED,
    now: int | None = None,
    **changes: Any,
) -> None:
    now = int(time.time()) if now is None else now
    promised = attempt(intent, amount_atomic, **changes)
    ledger.reserve(promised, [], now=now)
    ledger.record(promised, Outcome(state), now=now)


@pytest.fixture
def spent(ledger: Ledger) -> None:
    """0.30 by two workers and nobody, 0.05 of it open; and 1 void."""
    now = int(time.time())
    promise(ledger, "a", 50_000, worker="w-1", labels=GB, now=now - 30 * DAY)
    promise(ledger, "b", 100_000, worker="w-2", labels=US, now=now - DAY)
    promise(ledger, "c", 50_000, worker="w-2", labels=GB, state=PaymentState.UNKNOWN, now=now)
    promise(ledger, "d", 100_000, labels={"campaign": "spring"}, now=now)
    promise(ledger, "e", 1_000_000, worker="w-2", labels=GB, state=PaymentState.VOID, now=now)


def table(said: str) -> list[list[str]]:
    return [line.split("\t") for line in said.splitlines()]


@pytest.mark.usefixtures("spent")
def test_it_is_by_worker_with_a_total(cli: Cli) -> None:
    ended = cli("spend")
    assert ended.status == 0
    assert table(ended.out) == [
        ["w-1", "1", "0.05", "0.00", "0.05"],
        ["w-2", "2", "0.10", "0.05", "0.15"],
        ["-", "1", "0.10", "0.00", "0.10"],
        ["total", "4", "0.25", "0.05", "0.30"],
    ]
    assert "open: promised" in ended.err
    assert "not counted: 1 void" in ended.err


@pytest.mark.usefixtures("spent")
@pytest.mark.parametrize(
    ("by", "names"),
    [
        (["service"], ["telegram", "-"]),
        (["country"], ["GB", "US", "-"]),
        (["campaign"], ["spring", "-"]),
        (["service", "country"], ["telegram GB", "telegram US", "- -"]),
        (["nothing_has_it"], ["-"]),
    ],
    ids=" ".join,
)
def test_it_is_by_any_label_and_by_several(cli: Cli, by: list[str], names: list[str]) -> None:
    rows = table(cli("spend", *(word for name in by for word in ("--by", name))).out)
    assert [" ".join(row[: len(by)]) for row in rows[:-1]] == names
    assert rows[-1] == ["total", *[""] * (len(by) - 1), "4", "0.25", "0.05", "0.30"]


@pytest.mark.usefixtures("spent")
def test_it_is_by_day(cli: Cli) -> None:
    days = [row[0] for row in table(cli("spend", "--by", "day").out)][:-1]
    assert days == sorted(days)
    assert len(days) == 3


@pytest.mark.usefixtures("spent")
@pytest.mark.parametrize(
    ("since", "count"), [("7d", 3), ("30m", 2), ("12h", 2), ("9w", 4), ("1970-01-01", 4)]
)
def test_it_is_since_a_moment(cli: Cli, since: str, count: int) -> None:
    assert cli("spend", "--since", since, "--json").json["total"]["count"] == count


@pytest.mark.usefixtures("spent")
def test_its_json_has_exact_sums(cli: Cli) -> None:
    said = cli("spend", "--by", "worker", "--by", "country", "--network", "base", "--json").json
    assert said["rows"][0] == {
        "by": {"worker": "w-1", "country": "GB"},
        "road": None,
        "count": 1,
        "settled": "0.050000",
        "open": "0.000000",
        "total": "0.050000",
    }
    assert said["rows"][-1]["by"] == {"worker": None, "country": None}
    sums = {"count": 4, "settled": "0.250000", "open": "0.050000", "total": "0.300000"}
    assert said["total"] == sums
    rest = {name: said[name] for name in ("by", "since", "network", "void")}
    assert rest == {"by": ["worker", "country"], "since": None, "network": "base", "void": 1}


def test_both_roads_are_told_apart_where_there_are_both(cli: Cli, ledger: Ledger) -> None:
    promise(ledger, "a", 50_000, worker="w-1")
    asked = charge(worker="w-1", amount_atomic=20_000, labels=labels_text(GB))
    ledger.charges.ask(asked, [], now=int(time.time()))
    assert table(cli("spend").out) == [
        ["w-1", "rest", "1", "0.00", "0.02", "0.02"],
        ["w-1", "x402", "1", "0.05", "0.00", "0.05"],
        ["total", "", "2", "0.05", "0.02", "0.07"],
    ]


def test_it_is_of_one_network_and_says_so(cli: Cli, ledger: Ledger) -> None:
    promise(ledger, "a", 50_000, network=BASE)
    promise(ledger, "b", 10_000, network=BASE_SEPOLIA)
    ended = cli("spend")
    assert table(ended.out)[-1] == ["total", "1", "0.05", "0.00", "0.05"]
    assert "not shown: what was paid on base-sepolia" in ended.err
    assert cli("spend", "--json").json["left_out"] == ["base-sepolia"]
    other = cli("spend", "--network", "base-sepolia")
    assert table(other.out)[-1] == ["total", "1", "0.01", "0.00", "0.01"]


def test_nothing_spent_is_said(cli: Cli) -> None:
    ended = cli("spend")
    assert (ended.status, ended.out, ended.err) == (0, "", "nothing spent\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--by", "Service"], "the name of a label"),
        (["--by", "day", "--by", "day"], "each once"),
        (["--since", "yesterday"], "7d"),
        (["--since", "0d"], "7d"),
        (["--since", "2026-13-01"], "--since is"),
        (["--since", "2026-02-30"], "--since is"),
        (["--since", "٣d"], "7d"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_status_2(cli: Cli, arguments: list[str], says: str) -> None:
    ended = cli("spend", *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert says in ended.err


def test_labels_that_another_program_wrote_are_no_labels(
    cli: Cli, ledger: Ledger, tmp_path: Path
) -> None:
    promise(ledger, "a", 50_000, worker="w-1", labels=GB)
    with closing(sqlite3.connect(tmp_path / "payments.db")) as file, file:
        file.execute("UPDATE payments SET worker = ?, labels = '[1]'", ("\x1b[2J\nw-2",))
    assert table(cli("spend", "--by", "worker", "--by", "service").out)[0] == [
        "[2J w-2",
        "-",
        "1",
        "0.05",
        "0.00",
        "0.05",
    ]
    for arguments in (["payments", "show", "a"], ["payments", "export"]):
        assert cli(*arguments).status == 0


def test_a_payment_that_is_shown_says_who_made_it_and_what_for(cli: Cli, ledger: Ledger) -> None:
    promise(ledger, "a", 50_000, worker="w-1", labels=GB)
    shown = dict(table(cli("payments", "show", "a").out))
    assert (shown["worker"], shown["labels"]) == ("w-1", "country: GB, service: telegram")
    [document] = cli("payments", "show", "a", "--json").json
    assert (document["worker"], document["labels"]) == ("w-1", GB)


def test_the_environment_names_the_worker_and_its_limit(cli: Cli) -> None:
    cli.environment |= {"X402SMS_MAX_WORKER_PER_DAY": "1", "X402SMS_PRIVATE_KEY": "0x" + "11" * 32}
    ended = cli("orders", "create", "telegram", "GB")
    assert (ended.status, ended.out) == (2, "")
    assert "X402SMS_WORKER" in ended.err
