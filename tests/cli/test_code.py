"""`x402sms code`: the number on stderr, the code on stdout, and no money lost on the way."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

import httpx
import pexpect
import pytest

from tests.cli.conftest import KEY, Cli, MakeCli, orders_of
from x402sms.errors import ServerError
from x402sms.sandbox import RunningSandbox, SandboxConfig, running_sandbox

ANSI = re.compile(r"\x1b\[")
BUY = ("code", "telegram", "--max-price", "0.30")


@pytest.fixture
def own_sandbox() -> Iterator[RunningSandbox]:
    with running_sandbox(SandboxConfig(funded_key=KEY)) as running:
        yield running


def _deliver(sandbox: RunningSandbox, text: str) -> None:
    """An SMS for the newest order."""
    order_id = orders_of(sandbox)[0]["order_id"]
    sms = f"{sandbox.origin}/_sandbox/orders/{order_id}/sms"
    httpx.post(sms, json={"text": text}, trust_env=False).raise_for_status()


def test_the_bare_code_on_stdout_and_the_rest_on_stderr(lively: Cli) -> None:
    ended = lively.program(*BUY)
    assert ended.status == 0
    assert re.fullmatch(r"[0-9]{6}\n", ended.out)
    code = ended.out.strip()
    lines = ended.err.splitlines()
    patterns = [
        r"cheapest +[A-Z]{2}, 0\.[0-9]+ USDC",
        r"number +\+[0-9]{8,15}",
        r"order +ord_[0-9a-f]+",
        r"waiting +at most 180 s",
        rf"received +Your Telegram code is {code}",
        r"GET\t/services/telegram/cheapest\t0\.001\t0x[0-9a-f]{4}…[0-9a-f]{4}\tsettled",
        r"POST\t/orders\t0\.[0-9]+\t0x[0-9a-f]{4}…[0-9a-f]{4}\tsettled",
        r"GET\t/orders/ord_[0-9a-f]+/sms\t0\.002\t.*\tsettled",
        r"POST\t/orders/ord_[0-9a-f]+/confirm\t0\.001\t.*\tsettled",
        r"total\t4 calls\t0\.[0-9]+\t\t",
    ]
    for pattern, line in zip(patterns, lines, strict=True):
        assert re.fullmatch(pattern, line), line
    assert not ANSI.search(ended.out + ended.err)


def test_json_is_one_document_and_adds_up(lively: Cli) -> None:
    ended = lively.program(*BUY, "--json", "--country", "gb")
    assert ended.status == 0
    found = ended.json
    assert set(found) == {
        "code", "text", "phone_number", "order_id", "country", "price", "total", "payments",
        "warnings",
    }  # fmt: skip
    assert found["text"] == f"Your Telegram code is {found['code']}"
    assert (found["country"], found["warnings"]) == ("GB", [])
    assert found["phone_number"].startswith("+44")
    assert isinstance(found["price"], str)
    atomic = [int(payment["amount_atomic"]) for payment in found["payments"]]
    assert found["total"] == f"{sum(atomic) / 10**6:.6f}"
    assert {payment["state"] for payment in found["payments"]} == {"settled"}
    assert [payment["delivered"] for payment in found["payments"]] == [
        None,
        found["order_id"],
        None,
        None,
    ]


def test_an_sms_without_a_code_is_printed_as_it_is(
    own_sandbox: RunningSandbox, make_cli: MakeCli
) -> None:
    running = make_cli(own_sandbox.url).start(*BUY)
    own_sandbox.wait_for_pollers(1)
    _deliver(own_sandbox, "Welcome!\x1b[31m Open\nthe app")
    out, _ = running.communicate(timeout=30)
    assert out == "Welcome![31m Open the app\n"


def test_no_sms_in_time_cancels_the_order(own_sandbox: RunningSandbox, make_cli: MakeCli) -> None:
    ended = make_cli(own_sandbox.url).program(*BUY, "--timeout", "1", "--json")
    error = ended.error
    assert (ended.status, error["type"], error["cancelled"]) == (7, "NoCodeReceived", True)
    [order] = orders_of(own_sandbox)
    assert (order["order_id"], order["status"]) == (error["order_id"], "cancelled")
    assert "is cancelled" in error["message"]
    assert "refunded" in error["message"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_cancels_the_order_and_says_so(
    number: signal.Signals, own_sandbox: RunningSandbox, make_cli: MakeCli
) -> None:
    running = make_cli(own_sandbox.url).start(*BUY)
    own_sandbox.wait_for_pollers(1)
    running.send_signal(number)
    out, err = running.communicate(timeout=30)
    [order] = orders_of(own_sandbox)
    assert (running.returncode, out, order["status"]) == (7, "", "cancelled")
    assert f"the order {order['order_id']} is cancelled, {order['price']} USDC refunded" in err
    assert "\tunknown" in err  # the poll that was cut off is on the receipt
    assert "Traceback" not in err


def test_a_second_ctrl_c_leaves_the_order_and_says_how_to_cancel_it(make_cli: MakeCli) -> None:
    with running_sandbox(SandboxConfig(funded_key=KEY, cooldown=120)) as sandbox:
        running = make_cli(sandbox.url).start(*BUY)
        sandbox.wait_for_pollers(1)
        running.send_signal(signal.SIGINT)
        assert running.stderr is not None
        seen = ""
        while "at most 120 s" not in seen and "at most 119 s" not in seen:
            seen += running.stderr.readline()
        assert "held back" in seen
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
        [order] = orders_of(sandbox)
    assert (running.returncode, order["status"]) == (7, "waiting")
    assert f"`x402sms orders cancel {order['order_id']}`" in err
    assert "Traceback" not in err


def test_ctrl_c_after_the_sms_still_gives_the_code(
    lively: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(order_id: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("x402sms.virtualsms.calls.confirm_order", stopped)
    ended = lively(*BUY)
    assert ended.status == 0
    assert re.fullmatch(r"[0-9]{6}\n", ended.out)
    assert "warning: stopped before the order ord_" in ended.err


def test_ctrl_c_before_anything_is_bought(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(service: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("x402sms.virtualsms.calls.find_cheapest", stopped)
    ended = cli(*BUY)
    assert ended.status == 7
    assert ended.err == "error: stopped before a number was bought\n"


def test_ctrl_c_while_the_purchase_is_on_its_way_is_an_unknown_outcome(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = httpx.HTTPTransport.handle_request

    def stopped(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and "PAYMENT-SIGNATURE" in request.headers:
            raise KeyboardInterrupt
        return honest(transport, request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", stopped)
    for command in (BUY, ("orders", "create", "telegram", "GB")):
        error = cli(*command, "--json").error
        assert (error["type"], error["exit_code"]) == ("PaymentUnknown", 5)
        assert "it may have been taken" in error["message"]
        [payment] = cli("payments", "show", error["nonce"], "--json").json
        assert payment["state"] == "unknown"


def test_an_error_while_waiting_says_what_became_of_the_order(
    own_sandbox: RunningSandbox, make_cli: MakeCli
) -> None:
    running = make_cli(own_sandbox.url).start(*BUY, "--json")
    own_sandbox.wait_for_pollers(1)
    own_sandbox.advance(3600)  # the order expires under the poll, and cannot be cancelled
    out, err = running.communicate(timeout=30)
    assert running.returncode == 6, err
    [order] = orders_of(own_sandbox)
    assert f"x402sms orders cancel {order['order_id']}" in out


def test_a_terminal_sees_a_countdown(own_sandbox: RunningSandbox, make_cli: MakeCli) -> None:
    cli = make_cli(own_sandbox.url)
    program, *arguments = cli.command(*BUY, "--timeout", "60")
    environment = {**cli.program_environment, "TERM": "xterm-256color"}
    with pexpect.spawn(
        program, arguments, env=environment, encoding="utf-8", timeout=30, dimensions=(30, 80)
    ) as terminal:
        terminal.expect(r"number .*\+[0-9]{8}")
        terminal.expect("waiting for the SMS")
        terminal.expect(r"1:00|0:59")
        own_sandbox.wait_for_pollers(1)
        _deliver(own_sandbox, "Your code is 481516")
        terminal.expect("received")
        terminal.expect("481516\r\n")
        terminal.expect("total")
        terminal.expect(pexpect.EOF)
    assert terminal.exitstatus == 0


def test_no_color_is_respected_on_a_terminal(
    own_sandbox: RunningSandbox, make_cli: MakeCli
) -> None:
    cli = make_cli(own_sandbox.url, NO_COLOR="1")
    program, *arguments = cli.command("cheapest", "telegrm")
    environment = {**cli.program_environment, "TERM": "xterm-256color"}
    with pexpect.spawn(program, arguments, env=environment, encoding="utf-8") as terminal:
        terminal.expect(pexpect.EOF)
        shown = terminal.before
    assert "telegram" in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", shown)


# Names of services and countries


def test_an_unknown_service_is_answered_with_near_names(cli: Cli) -> None:
    ended = cli.program("code", "telegrm", "--max-price", "0.30")
    assert (ended.status, ended.out) == (6, "")
    assert "looking for near names in the list of services: one paid call\n" in ended.err
    assert "Did you mean telegram" in ended.err
    nothing = cli("cheapest", "zzzzzzzzzz").err
    assert "`x402sms services` lists all there are" in nothing


def test_near_names_that_cannot_be_had_do_not_hide_the_error(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise ServerError("it broke")

    monkeypatch.setattr("x402sms.resources.Services.list", broken)
    assert "No service 'telegrm'" in cli("cheapest", "telegrm", "--json").error["message"]


@pytest.mark.parametrize(
    ("written", "code", "lookups"),
    [("GB", "GB", 0), ("uk", "GB", 0), ("Germany", "DE", 1), ("united kingdom", "GB", 1)],
)
def test_a_country_may_be_written_as_people_do(
    written: str, code: str, lookups: int, cli: Cli
) -> None:
    ended = cli("prices", written, "--json")
    assert {offer["country"] for offer in ended.json} == {code}
    assert ended.err.count("one paid call") == lookups
    assert len(cli("payments", "list", "--json").json) == 1 + lookups


def test_a_country_nobody_knows_is_answered_with_near_names(cli: Cli) -> None:
    ended = cli("code", "telegram", "--max-price", "0.3", "--country", "germani")
    assert ended.status == 6
    assert "Did you mean DE (Germany)" in ended.err
    assert "`x402sms countries` lists" in cli("prices", "zzzzzzzz").err


def test_a_number_is_no_country(cli: Cli) -> None:
    ended = cli("orders", "create", "telegram", "44")
    assert ended.status == 2
    assert "write the country's two-letter code" in ended.err
    assert cli("payments", "list", "--json").json == []


def test_a_price_that_is_none_is_refused_before_any_lookup(cli: Cli) -> None:
    for command in (["code", "telegram", "--country"], ["orders", "create", "telegram"]):
        ended = cli(*command, "germany", "--max-price", "1e3")
        assert ended.status == 2
        assert ended.err.startswith("error: '1e3' is not an amount of USDC")
    assert cli("payments", "list", "--json").json == []
