"""Every command that talks to the service: for people, into a pipe, and as JSON."""

from __future__ import annotations

import re
from typing import Any

import pexpect
import pytest

from tests.cli.conftest import ADDRESS, KEY, Cli, MakeCli
from x402sms.sandbox import RunningSandbox, SandboxConfig, running_sandbox

RECEIPT = re.compile(r"paid 0\.\d+ USDC · settled · nonce 0x[0-9a-f]{4}…[0-9a-f]{4}\n")


def _order(cli: Cli, *more: str) -> dict[str, Any]:
    order = cli("orders", "create", "telegram", "GB", "--json", *more).json
    assert isinstance(order, dict)
    return order


@pytest.mark.parametrize(
    ("arguments", "row"),
    [
        ("services", r"telegram\tTelegram\tmessaging"),
        ("services teleg", r"telegram\tTelegram\tmessaging"),
        ("countries", r"GB\tUnited Kingdom\tin stock"),
        ("countries king", r"GB\tUnited Kingdom\tin stock"),
        ("prices GB", r"telegram\tGB\t0\.\d+\t\d+"),
        ("availability telegram", r"telegram\tGB\t0\.\d+\t\d+"),
        ("cheapest telegram", r"telegram\t[A-Z]{2}\t0\.\d+\t\d+"),
        ("account profile", r"plan\tx402"),
        ("account balance", r"currency\tUSDC"),
        ("account stats", r"orders\t\d+"),
    ],
)
def test_what_is_asked_for_and_its_receipt(arguments: str, row: str, cli: Cli) -> None:
    ended = cli(*arguments.split())
    assert ended.status == 0
    assert re.search(f"^{row}$", ended.out, re.MULTILINE)
    assert RECEIPT.fullmatch(ended.err)
    told = cli(*arguments.split(), "--json")
    assert told.status == 0
    assert told.json
    assert RECEIPT.fullmatch(told.err)


def test_searches_leave_out_the_rest(cli: Cli) -> None:
    assert [service["id"] for service in cli("services", "teleg", "--json").json] == ["telegram"]
    assert [row["iso2"] for row in cli("countries", "germ", "--json").json] == ["DE"]


@pytest.mark.parametrize("arguments", ["prices GB", "availability telegram"])
def test_prices_come_cheapest_first(arguments: str, cli: Cli) -> None:
    prices = [offer["price"] for offer in cli(*arguments.split(), "--json").json]
    assert len(prices) > 10
    assert prices == sorted(prices, key=float)


def test_json_has_decimals_as_strings_and_moments_in_iso_8601(cli: Cli) -> None:
    order = _order(cli)
    assert re.fullmatch(r"0\.\d+", order["price"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", order["expires_at"])
    assert order["rules"] == {"cancel_cooldown_seconds": 0, "swap_cooldown_seconds": 0}


def test_an_order_from_purchase_to_confirmation(lively: Cli, intent: str) -> None:
    order = _order(lively, "--max-price", "0.30", "--intent", intent)
    order_id = order["order_id"]
    waited = lively.program("orders", "wait", order_id)
    assert re.fullmatch(r"[0-9]{6}\n", waited.out)
    assert lively("orders", "wait", order_id, "--json").json["code"] == waited.out.strip()
    shown = lively("orders", "show", order_id)
    assert f"number\t{order['phone_number']}\n" in shown.out
    assert f"SMS 1\tYour Telegram code is {waited.out}" in shown.out
    confirmed = lively("orders", "confirm", order_id, "--json")
    assert confirmed.json["status"] == "confirmed"
    late = lively("orders", "cancel", order_id)
    assert late.status == 6
    assert "already confirmed" in late.err


def test_an_order_is_swapped_and_given_back(cli: Cli) -> None:
    order = _order(cli)
    order_id = order["order_id"]
    swapped = cli("orders", "swap", order_id)
    assert f"before\t{order['phone_number']}\n" in swapped.out
    silent = cli("orders", "wait", order_id, "--timeout", "0", "--json")
    assert (silent.status, silent.error["cancelled"]) == (7, False)
    assert f"x402sms orders cancel {order_id}" in silent.error["message"]
    cancelled = cli("orders", "cancel", order_id)
    assert cancelled.out == f"status\tcancelled\nrefund\t{order['price']}\n"
    assert cli("orders", "wait", order_id, "--timeout", "0", "--json").error["cancelled"] is True


def test_a_rental_is_extended_and_released(cli: Cli) -> None:
    order_id = _order(cli, "--rental-hours", "4")["order_id"]
    too_dear = cli("orders", "extend", order_id, "4", "--max-price", "0.001")
    assert too_dear.status == 3
    longer = cli("orders", "extend", order_id, "4", "--max-price", "0.10", "--json")
    assert longer.json["rental_hours"] == 4
    assert cli("orders", "release", order_id).out == f"order\t{order_id}\nstatus\tcompleted\n"


def test_lists_stop_where_they_are_told_to_and_pay_for_no_page_more(make_cli: MakeCli) -> None:
    with running_sandbox(SandboxConfig(funded_key=KEY)) as sandbox:
        cli = make_cli(sandbox.url)
        ids = [_order(cli)["order_id"] for _ in range(3)]
        before = len(sandbox.payments())
        listed = cli("orders", "list", "--limit", "2")
        assert [line.split("\t")[0] for line in listed.out.splitlines()] == ids[:0:-1]
        charged = cli("account", "transactions", "--limit", "3", "--json").json
        assert len(charged) == 3
        assert len(sandbox.payments()) == before + 2


def test_an_intent_is_paid_once_however_often_it_is_asked_for(cli: Cli, intent: str) -> None:
    order = _order(cli, "--intent", intent)
    again = cli("orders", "create", "telegram", "GB", "--intent", intent, "--json")
    assert (again.status, again.json, again.err) == (0, order, "")
    assert len(cli("payments", "list", "--json").json) == 1
    other = cli("orders", "create", "telegram", "US", "--intent", intent, "--json")
    assert other.error["type"] == "IntentConflict"


@pytest.mark.parametrize("dialect", ["v1", "header"])
def test_the_other_dialects_pay_too(dialect: Any, make_cli: MakeCli) -> None:
    with running_sandbox(SandboxConfig(funded_key=KEY, dialect=dialect, sms_after=0)) as sandbox:
        ended = make_cli(sandbox.url)("code", "telegram", "--max-price", "0.30", "--json")
    assert ended.status == 0
    assert {payment["dialect"] for payment in ended.json["payments"]} == {dialect}


def test_a_terminal_gets_tables_of_80_columns(cli: Cli, sandbox: RunningSandbox) -> None:
    environment = {**cli.program_environment, "TERM": "xterm-256color"}
    for arguments in (["availability", "telegram"], ["payments", "list"], ["account", "stats"]):
        program, *rest = cli.command(*arguments)
        with pexpect.spawn(
            program, rest, env=environment, encoding="utf-8", dimensions=(40, 80)
        ) as terminal:
            terminal.expect(pexpect.EOF)
            assert isinstance(terminal.before, str)
            shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal.before)
        assert terminal.exitstatus == 0
        assert all(len(line) <= 80 for line in shown.splitlines())
        assert "\t" not in shown
    assert sandbox.balance(ADDRESS) > 0
