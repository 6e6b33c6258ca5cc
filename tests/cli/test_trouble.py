"""What goes wrong for real: the exit status, one sentence, and what happened to the money."""

from __future__ import annotations

import socket
import stat
import sys
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.cli.conftest import KEY, Cli, Ended, MakeCli, challenge_of, orders_of, reply, serving
from x402sms.cli import main
from x402sms.sandbox import RunningSandbox
from x402sms.wallet import Wallet

Handler = BaseHTTPRequestHandler


def _error_line(ended: Ended, status: int) -> str:
    """The one line on stderr that is the error; stdout is empty."""
    assert (ended.status, ended.out) == (status, "")
    [line] = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    return line


def _closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def test_a_host_that_is_not_there(cli: Cli) -> None:
    url = f"http://127.0.0.1:{_closed_port()}/api/v2"
    line = _error_line(cli.program("services", "--base-url", url), 8)
    for word in ("cannot reach 127.0.0.1", "Nothing was paid", "--base-url"):
        assert word in line
    assert cli("services", "--base-url", url, "--json").error["host"] == "127.0.0.1"


def test_a_host_that_serves_something_else(cli: Cli) -> None:
    with serving(lambda handler: reply(handler, 404, {}, b"<html>Not Found</html>")) as url:
        line = _error_line(cli.program("services", "--base-url", url), 8)
    for word in ("404", "does not seem to serve the API", "--base-url", "Nothing was paid"):
        assert word in line


def test_an_empty_wallet(sandbox: RunningSandbox, make_cli: MakeCli, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("correct horse\n")
    wallet = Wallet.generate()
    wallet.save_keystore(tmp_path / "empty.json", "correct horse")
    cli = make_cli(
        sandbox.url,
        X402SMS_PRIVATE_KEY="",
        X402SMS_KEYSTORE=str(tmp_path / "empty.json"),
        X402SMS_KEYSTORE_PASSWORD_FILE=str(tmp_path / "password"),
    )
    ended = cli.program("services")
    line = _error_line(ended, 4)
    for word in ("insufficient_funds", f"send USDC to {'it'}", wallet.address, "budgets"):
        assert word in line
    assert ended.err.splitlines()[-1].startswith("promised 0.001 USDC · refused · nonce 0x")


def test_a_price_above_the_ceiling_of_one_payment(cli: Cli) -> None:
    ended = cli.program("services", "--max-per-call", "0.0001")
    line = _error_line(ended, 3)
    for word in ("nothing signed", "0.001 USDC is 0.0009 over", "X402SMS_MAX_PER_CALL"):
        assert word in line
    assert ended.err.count("\n") == 1
    error = cli("services", "--max-per-call", "0.0001", "--json").error
    assert (error["limit"], error["amount"], error["payments"]) == ("per_call", "0.001000", [])


def test_a_number_above_the_ceiling_costs_only_the_search(
    cli: Cli, sandbox: RunningSandbox
) -> None:
    before = len(orders_of(sandbox))
    ended = cli.program("code", "telegram", "--max-price", "0.01")
    line = _error_line(ended, 3)
    for word in ("nothing bought", "--max-price", "another country"):
        assert word in line
    assert ended.err.splitlines()[-2] == "total\t1 call\t0.001\t\t"
    assert len(orders_of(sandbox)) == before


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"X402SMS_PRIVATE_KEY": ""}, "no wallet"),
        ({"X402SMS_PRIVATE_KEY": KEY[:-2]}, "that is no private key"),
        ({"X402SMS_PRIVATE_KEY": "correct horse"}, "that is no private key"),
        ({"X402SMS_KEYSTORE": "k.json"}, "which wallet is meant"),
        ({"X402SMS_NETWORK": "mainnet"}, "unknown network 'mainnet'"),
        ({"X402SMS_BASE_URL": "api"}, "is no http(s) URL"),
        ({"X402SMS_MAX_PER_CALL": "lots"}, "the limit per_call"),
        ({"X402SMS_LEDGER": "."}, "cannot be used"),
    ],
)
def test_a_wrong_setting(
    settings: dict[str, str], says: str, sandbox: RunningSandbox, make_cli: MakeCli
) -> None:
    ended = make_cli(sandbox.url, **settings)("services")
    assert says in _error_line(ended, 2)
    assert "horse" not in ended.err
    assert KEY[2:20] not in ended.err


def test_a_clock_that_is_off(cli: Cli, sandbox: RunningSandbox) -> None:
    headers = {**challenge_of(sandbox), "Date": formatdate(1_700_000_000, usegmt=True)}
    with serving(lambda handler: reply(handler, 402, headers)) as url:
        ended = cli.program("services", "--base-url", url)
    line = _error_line(ended, 2)
    assert "nothing signed: this machine's clock is" in line
    assert "set this clock" in line


def test_a_challenge_that_makes_no_sense_is_the_services_fault(cli: Cli) -> None:
    with serving(lambda handler: reply(handler, 402, {"PAYMENT-REQUIRED": "e30="})) as url:
        assert "malformed" in _error_line(cli("services", "--base-url", url), 6)


@pytest.mark.usefixtures("no_waiting")
def test_an_answer_that_is_lost_after_the_payment_left(cli: Cli, sandbox: RunningSandbox) -> None:
    headers = challenge_of(sandbox)

    def answer(handler: Handler) -> None:
        if handler.headers.get("PAYMENT-SIGNATURE"):
            handler.close_connection = True
        else:
            reply(handler, 402, headers)

    with serving(answer) as url:
        ended = cli("services", "--base-url", url)
        line = _error_line(ended, 5)
        error = cli("services", "--base-url", url, "--json").error
    for word in ("its end is not known", "counts as spent", "x402sms payments reconcile 0x"):
        assert word in line
    assert "may have paid 0.001 USDC · unknown · nonce 0x" in ended.err
    assert error["type"] == "PaymentUnknown"
    assert error["nonce"].startswith("0x")
    assert error["valid_before"].endswith("Z")
    [payment] = error["payments"]
    assert (payment["state"], payment["nonce"]) == ("unknown", error["nonce"])


@pytest.mark.usefixtures("no_waiting")
def test_a_failure_of_the_service_after_the_payment_left(cli: Cli, sandbox: RunningSandbox) -> None:
    headers = challenge_of(sandbox)

    def answer(handler: Handler) -> None:
        reply(handler, 500 if handler.headers.get("PAYMENT-SIGNATURE") else 402, headers)

    with serving(answer) as url:
        line = _error_line(cli("services", "--base-url", url), 5)
    for word in ("its end is not known: answered 500", "x402sms payments reconcile 0x"):
        assert word in line


def test_a_refusal_that_does_not_say_what_became_of_the_payment(
    cli: Cli, sandbox: RunningSandbox
) -> None:
    headers = challenge_of(sandbox)

    def answer(handler: Handler) -> None:
        if handler.headers.get("PAYMENT-SIGNATURE"):
            reply(handler, 409, {"PAYMENT-RESPONSE": "e30="})
        else:
            reply(handler, 402, headers)

    with serving(answer) as url:
        line = _error_line(cli("services", "--base-url", url), 5)
    assert "Its payment may have been taken: `x402sms payments reconcile 0x" in line


def test_without_the_sandbox_extra_it_says_what_to_install(
    make_cli: MakeCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("x402sms.sandbox")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    for command in ("demo", "sandbox"):
        assert "pip install 'x402sms[sandbox]'" in _error_line(make_cli()(command), 2)


def test_a_mistake_of_ours_says_so_and_keeps_its_trace(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> None:
        raise KeyError("nonce")

    monkeypatch.setattr("x402sms.resources.Services.list", broken)
    for name, value in cli.environment.items():
        monkeypatch.setenv(name, value)
    assert main(["services"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Traceback")
    assert "error: unexpected KeyError: 'nonce'. This is a bug in x402sms" in err


def test_a_closed_pipe_is_no_error(cli: Cli) -> None:
    running = cli.start("services")
    assert running.stdout is not None
    running.stdout.close()
    assert running.stderr is not None
    assert running.stderr.read() == ""
    assert running.wait(30) == 1


def test_nothing_is_readable_by_others(cli: Cli, tmp_path: Path) -> None:
    assert cli("cheapest", "telegram").status == 0
    assert stat.S_IMODE((tmp_path / "payments.db").stat().st_mode) == 0o600
