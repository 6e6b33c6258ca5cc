"""The command line with an API key: nothing is signed, and what is bought comes from a balance."""

from __future__ import annotations

import re
import stat
from decimal import Decimal
from typing import NoReturn

import httpx
import pytest

from tests.cli.conftest import KEY, Cli, MakeCli
from x402sms.api_keys import ApiKey, keys_path, load_key
from x402sms.sandbox import RunningSandbox, SandboxConfig, running_sandbox


@pytest.fixture
def rest(sandbox: RunningSandbox, make_cli: MakeCli) -> Cli:
    cli = make_cli(X402SMS_BASE_URL=sandbox.url, X402SMS_API_KEY=sandbox.api_key)
    assert "X402SMS_PRIVATE_KEY" not in cli.environment
    return cli


@pytest.mark.parametrize(
    ("arguments", "row"),
    [
        ("services teleg", r"telegram\tTelegram\tmessaging"),
        ("cheapest telegram", r"telegram\t[A-Z]{2}\t0\.\d+\t\d+"),
        ("account profile", r"plan\tprepaid"),
        ("account balance", r"currency\tUSD"),
    ],
)
def test_what_is_only_asked_costs_nothing_and_says_nothing_of_money(
    arguments: str, row: str, rest: Cli
) -> None:
    ended = rest(*arguments.split())

    assert (ended.status, ended.err) == (0, "")
    assert re.search(f"^{row}$", ended.out, re.MULTILINE)


def test_an_order_comes_from_the_balance_once(
    rest: Cli, sandbox: RunningSandbox, intent: str
) -> None:
    before = sandbox.orders_of(sandbox.account)
    first = rest("orders", "create", "telegram", "GB", "--intent", intent, "--json")
    again = rest("orders", "create", "telegram", "GB", "--intent", intent, "--json")

    order = first.json["order_id"]
    assert again.json["order_id"] == order
    assert re.fullmatch(r"charged 0\.\d+ USDC · the account's balance\n", first.err)
    assert again.err == ""
    assert len(sandbox.orders_of(sandbox.account)) == len(before) + 1
    assert rest("orders", "cancel", order, "--json").json["refund_amount"] == first.json["price"]


def test_a_code_and_what_it_cost(lively_sandbox: RunningSandbox, make_cli: MakeCli) -> None:
    rest = make_cli(X402SMS_BASE_URL=lively_sandbox.url, X402SMS_API_KEY=lively_sandbox.api_key)

    ended = rest("code", "telegram", "--max-price", "0.30")
    told = rest("code", "telegram", "--max-price", "0.30", "--json")

    assert re.fullmatch(r"\d{5,6}\n", ended.out)
    assert re.search(r"cost +0\.\d+ USDC of the balance = number 0\.\d+; nothing", ended.err)
    document = told.json
    assert Decimal(document["cost"]) == Decimal(document["paid"]) == Decimal(document["price"])
    assert document["payments"] == []


def test_what_is_above_its_ceiling_is_not_bought(rest: Cli) -> None:
    ended = rest("orders", "create", "telegram", "GB", "--max-price", "0.01", "--json")

    assert ended.status == 3
    assert ended.error["limit"] == "max_amount"


def test_a_wrong_key_is_the_services_no(rest: Cli, make_cli: MakeCli) -> None:
    wrong = make_cli(
        X402SMS_BASE_URL=rest.environment["X402SMS_BASE_URL"], X402SMS_API_KEY="sk_test_wrong"
    )
    ended = wrong("account", "balance")

    assert ended.status == 6
    assert "sk_test_wrong" not in ended.err
    assert "Nothing was paid" in ended.err


def test_too_little_balance_says_how_much_is_missing(make_cli: MakeCli) -> None:
    with running_sandbox(SandboxConfig(account_balance="0.01")) as poor:  # type: ignore[arg-type]  # parsed as USDC
        rest = make_cli(X402SMS_BASE_URL=poor.url, X402SMS_API_KEY=poor.api_key)
        ended = rest("orders", "create", "telegram", "GB")

    assert ended.status == 6
    assert "Balance $0.01 < required" in ended.err


def test_a_top_up_is_refused_by_the_default_limit(cli: Cli) -> None:
    ended = cli("topup", "5", "--json")

    assert ended.status == 3
    assert ended.error["limit"] == "per_call"
    assert not keys_path().exists()


def test_a_top_up_brings_a_key_and_every_command_then_uses_it(
    cli: Cli, sandbox: RunningSandbox, make_cli: MakeCli
) -> None:
    ended = cli("topup", "5", "--max-per-call", "5")

    assert ended.status == 0, ended.err
    key = load_key(sandbox.url)
    assert key is not None
    assert key.reveal() not in ended.out + ended.err
    assert f"key kept in\t{keys_path()}" in ended.out
    assert "paid 5.00 USDC · settled" in ended.err
    assert stat.S_IMODE(keys_path().stat().st_mode) == 0o600

    keyless = make_cli(X402SMS_BASE_URL=sandbox.url)
    assert keyless("account", "balance", "--json").json["balance"] == "5.00"

    more = cli("topup", "2", "--max-per-call", "5", "--json", "--show-key").json
    assert (more["balance"], ApiKey(more["api_key"])) == ("7.00", key)
    new = cli("topup", "2", "--max-per-call", "5", "--new-account", "--json").json
    assert (new["balance"], new["api_key"]) == ("2.00", None)


def test_a_key_that_cannot_be_kept_is_shown(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("x402sms.api_keys.os.write", full)
    told = cli("topup", "2", "--max-per-call", "2", "--json").json
    ended = cli("topup", "2", "--max-per-call", "2")

    assert told["api_key"].startswith("sk_test_")
    assert (told["kept_in"], "No space left" in told["warning"]) == (None, True)
    assert "warning: the key is not stored" in ended.err
    assert "api key\tsk_test_" in ended.out


def test_keys_that_cannot_be_read_are_told_before_anything_is_paid(cli: Cli) -> None:
    keys_path().mkdir(parents=True)

    ended = cli("topup", "2", "--max-per-call", "2")

    assert ended.status == 2
    assert "cannot be read" in ended.err
    assert "paid" not in ended.err


def test_a_wallet_is_before_a_key(cli: Cli, sandbox: RunningSandbox, make_cli: MakeCli) -> None:
    both = make_cli(sandbox.url, X402SMS_API_KEY=sandbox.api_key)

    assert both("account", "profile").out.count("x402") == 1
    assert KEY not in both("account", "profile").out


@pytest.mark.parametrize("when", ["the answer is on its way", "the key is being kept"])
def test_a_top_up_that_was_stopped_says_what_brings_its_key(
    when: str,
    cli: Cli,
    sandbox: RunningSandbox,
    make_cli: MakeCli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send = httpx.HTTPTransport.handle_request

    def stop(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    def stop_if_paid(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        answer = send(self, request)
        return stop() if "X-PAYMENT" in request.headers else answer

    with monkeypatch.context() as patch:
        if when == "the key is being kept":
            patch.setattr("x402sms.client.keep", stop)
        else:
            patch.setattr(httpx.HTTPTransport, "handle_request", stop_if_paid)
        ended = cli("topup", "5", "--new-account", "--max-per-call", "5")
    assert ended.status == 5
    said = re.search(r"`x402sms (topup 5 --intent \w+)` brings its key", ended.err)
    assert said is not None
    assert (said[0] in cli("recover").out) == (when == "the answer is on its way")

    finished = cli(*said[1].split(), "--show-key", "--json").json
    balance = make_cli(X402SMS_BASE_URL=sandbox.url, X402SMS_API_KEY=finished["api_key"])
    assert balance("account", "balance", "--json").json["balance"] == "5.00"
    paid = cli("payments", "list", "--json").json
    assert sum("topup" in each["url"] for each in paid) == 1
