"""`x402sms leases`, on the ledger that workers share."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, MakeCli
from tests.ledger.leasing import Fleet
from tests.parts.postgres import Postgres
from x402sms.conformance.parts import NOW, PAYER, attempt
from x402sms.ledger import open_ledger

LONG_AGO = 1_700_000_000


@pytest.fixture
def fleet(postgres: Postgres, tmp_path: Path) -> Fleet:
    return Fleet(postgres.new_database("leases_listed"), tmp_path)


def test_leases_are_listed_with_what_they_hold_and_whether_they_count(
    fleet: Fleet, make_cli: MakeCli
) -> None:
    cli: Cli = make_cli()
    empty = cli("leases", "--ledger", fleet.url)
    assert (empty.status, empty.out, empty.err) == (0, "", "no leases\n")

    with fleet.opened:
        made = attempt("c", payer="0x" + "7" * 40, valid_before=LONG_AGO + 300)
        fleet.open("gone").reserve(made, [], now=LONG_AGO)
        fleet.open("one").reserve(attempt("a"), [], now=NOW)
        fleet.open("long ago").reserve(attempt("b"), [], now=NOW)
        fleet.open("long ago").close()
        listed = cli("leases", "--ledger", fleet.url).out.splitlines()
        payer = f"{PAYER[:6]}…{PAYER[-4:]}"
        assert [line.split("\t") for line in listed] == [
            ["one", "0.00003", payer, "2027-01-15 08:10:00 UTC", "open"],
            ["gone", "0.00003", "0x7777…7777", "2023-11-14 22:23:20 UTC", "expired, counts"],
        ]
        spent = cli("spend", "--ledger", fleet.url)
        assert "0.00006 USDC on lease" in spent.err
        assert cli("spend", "--ledger", fleet.url, "--json").json["on_lease"] == "0.000060"
        every = cli("leases", "--all", "--ledger", fleet.url, "--json").json
    assert {lease["worker"]: lease["state"] for lease in every} == {
        "one": "open",
        "long ago": "returned",
        "gone": "open",
    }
    [one] = [lease for lease in every if lease["worker"] == "one"]
    del one["id"]
    assert one == {
        "worker": "one",
        "network": "eip155:8453",
        "payer": PAYER,
        "amount": "0.000030",
        "taken_at": "2027-01-15T08:00:00Z",
        "expires_at": "2027-01-15T08:10:00Z",
        "settleable_until": "2027-01-15T09:10:00Z",
        "state": "open",
    }


def test_a_ledger_of_one_machine_has_none(make_cli: MakeCli, tmp_path: Path) -> None:
    path = tmp_path / "alone.db"
    with closing(open_ledger(path)):
        pass
    ended = make_cli()("leases", "--ledger", str(path))
    assert ended.status == 2
    assert "X402SMS_LEDGER (postgresql://...)" in ended.err
