"""The demo and the sandbox as commands."""

from __future__ import annotations

import json
import re
import signal
from typing import Any

import httpx
import pytest

from tests.cli.conftest import ADDRESS, KEY, MakeCli
from x402sms.cli.books import Balances, disagreements
from x402sms.sandbox import RunningSandbox


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """No need to wait for the demo's SMS."""
    monkeypatch.setattr("x402sms.cli.demo.SMS_AFTER", 0)


def test_the_demo_ends_in_a_receipt_that_the_books_confirm(make_cli: MakeCli) -> None:
    ended = make_cli().program("demo")
    assert ended.status == 0
    assert "no real money moves" in ended.err
    assert re.search(r"^number +\+\d{8,}$", ended.err, re.MULTILINE)
    lines = ended.out.splitlines()
    assert re.fullmatch(r"code\t\d{6}", lines[0])
    assert [line.split("\t")[0] for line in lines[1:6]] == ["GET", "POST", "GET", "POST", "total"]
    assert lines[5] == "total\t4 calls\t0.054\t\t"
    assert lines[6] == "wallet\thad 1.00 USDC, spent 0.054, has 0.946"
    assert lines[7].startswith("books\tthe sandbox's own ledger agrees, nonce by nonce")
    assert len(lines) == 8


@pytest.mark.usefixtures("soon")
def test_the_demo_in_json(make_cli: MakeCli) -> None:
    ended = make_cli()("demo", "discord", "--json")
    found = ended.json
    assert (ended.status, found["service"], found["books_agree"]) == (0, "discord", True)
    assert found["sandbox"] is True
    spent = sum(int(payment["amount_atomic"]) for payment in found["payments"])
    assert found["paid"] == found["cost"] == f"0.{spent:06d}"
    assert found["wallet"]["has"] == f"0.{10**6 - spent:06d}"


@pytest.mark.usefixtures("soon")
def test_the_demo_never_touches_the_users_own_wallet_and_ledger(make_cli: MakeCli) -> None:
    cli = make_cli("http://127.0.0.1:9/api/v2", X402SMS_MAX_PER_CALL="0.000001")
    ended = cli("demo", "--json")
    assert ended.status == 0
    assert ADDRESS not in ended.out
    assert cli("payments", "list", "--json").json == []


@pytest.mark.usefixtures("soon")
def test_the_demo_knows_no_such_service(make_cli: MakeCli) -> None:
    ended = make_cli()("demo", "telegrm", "--json")
    assert ended.status == 6
    assert "Did you mean telegram" in ended.error["message"]
    assert (ended.error["numbers"], ended.error["refunded"]) == ([], "0.000000")


def _drop_one(payments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return payments[1:]


def _one_more(payments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*payments, {**payments[0], "nonce": "0x" + "0" * 64}]


def _one_unit_more(payments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    atomic = int(payments[0]["amount_atomic"])
    return [{**payments[0], "amount_atomic": str(atomic + 1)}, *payments[1:]]


def _twice(payments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*payments, payments[0]]


def _other_transaction(payments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**payments[0], "transaction": "0x" + "0" * 64}, *payments[1:]]


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    "tamper", [_drop_one, _one_more, _one_unit_more, _twice, _other_transaction]
)
def test_the_demo_fails_where_the_books_say_anything_else(
    tamper: Any, make_cli: MakeCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = RunningSandbox.payments
    monkeypatch.setattr(RunningSandbox, "payments", lambda sandbox: tamper(honest(sandbox)))
    ended = make_cli()("demo", "--json")
    assert (ended.status, ended.error["type"]) == (1, "BooksDisagree")
    assert "do not agree" in ended.error["message"]


@pytest.mark.usefixtures("soon")
def test_the_demo_fails_where_a_balance_is_off(
    make_cli: MakeCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(100))
    honest = RunningSandbox.balance
    monkeypatch.setattr(
        RunningSandbox, "balance", lambda sandbox, who: honest(sandbox, who) + next(calls)
    )
    ended = make_cli()("demo")
    assert ended.status == 1
    assert "atomic units" in ended.err


def test_nothing_paid_and_nothing_settled_agree() -> None:
    assert disagreements([], [], Balances(5, 0), Balances(5, 0)) == []


def test_the_sandbox_says_when_it_is_ready_and_stops_at_ctrl_c(make_cli: MakeCli) -> None:
    running = make_cli().start("sandbox", "--dialect", "v1", "--seed", "9", "--json")
    assert running.stdout is not None
    ready = json.loads(running.stdout.readline())
    assert {"url", "network", "pay_to", "funded_key", "rpc_url", "api_key"} <= set(ready)
    answer = httpx.get(f"{ready['url']}/services", trust_env=False)
    assert answer.json()["accepts"][0]["payTo"] == ready["pay_to"]
    cli = make_cli(ready["url"], X402SMS_PRIVATE_KEY=ready["funded_key"])
    assert cli("cheapest", "telegram").status == 0
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "70000"], "port 70000 is not between"),
        (["--settlement", "anvil"], "needs rpc_url"),
        (["--dialect", "v3"], "'--dialect'"),
    ],
)
def test_a_sandbox_that_cannot_be(arguments: list[str], says: str, make_cli: MakeCli) -> None:
    ended = make_cli()("sandbox", *arguments)
    assert ended.status == 2
    assert says in ended.err
    assert KEY not in ended.out
