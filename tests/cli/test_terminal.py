"""`x402sms code` in a real pseudo-terminal: what is on the screen, and when."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from tests.cli.conftest import KEY, Cli, MakeCli, newest_order
from tests.cli.terminal import Terminal, in_terminal
from x402sms.sandbox import Fault, RunningSandbox, SandboxConfig, running_sandbox

BUY = ("code", "telegram", "--max-price", "0.30")
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
NUMBER = r"\+[0-9]{8,15}"


@pytest.fixture
def own_sandbox() -> Iterator[RunningSandbox]:
    with running_sandbox(SandboxConfig(funded_key=KEY)) as running:
        yield running


@pytest.fixture
def own_cli(own_sandbox: RunningSandbox, make_cli: MakeCli) -> Cli:
    return make_cli(own_sandbox.url)


@contextmanager
def waiting(
    cli: Cli,
    sandbox: RunningSandbox,
    *options: str,
    columns: int = 80,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Terminal]:
    """The command in a terminal, once it waits for its SMS."""
    command = cli.command(*BUY, *options)
    with in_terminal(cli, *command, columns=columns, environment=environment) as terminal:
        terminal.see(r"[0-9]:[0-9]{2}")
        sandbox.wait_for_pollers(1)
        yield terminal


SWAP, END = "(?:2:00|1:[0-9]{2})", "(?:3:00|2:[0-9]{2})"
LIVE = {
    80: rf"^. no SMS yet · new number in {SWAP} · gives up in {END} · Ctrl-C cancels$",
    60: rf"^. new number in {SWAP} · gives up in {END} · Ctrl-C cancels$",
    40: rf"^. new number {SWAP} · gives up {END}$",
    24: rf"^. {SWAP} · {END}$",
}


@pytest.mark.parametrize("columns", LIVE)
@pytest.mark.parametrize("colour", [True, False], ids=["colour", "NO_COLOR"])
def test_the_whole_job_on_a_screen(
    columns: int, colour: bool, own_sandbox: RunningSandbox, own_cli: Cli
) -> None:
    environment = {} if colour else {"NO_COLOR": "1"}
    with waiting(own_cli, own_sandbox, columns=columns, environment=environment) as terminal:
        terminal.see(rf"(?m){LIVE[columns]}")
        order = newest_order(own_sandbox)
        beginning = [
            f"cheapest   {order['country']}, 0.05 USDC",
            *folded(f"number     {order['phone_number']}", columns),
            *folded(f"order      {order['order_id']}", columns),
        ]
        assert terminal.lines[:-1] == beginning
        assert terminal.is_bold(order["phone_number"][:12])
        own_sandbox.deliver_sms(order["order_id"], "Your code is 481516")
        assert terminal.end() == 0
    assert terminal.has_colour() is colour
    assert "\x1b]" not in terminal.raw.decode()
    if columns >= 60:  # the receipt is one screen
        told = terminal.lines
        assert told[:3] == beginning
        assert told[3:6] == [
            "received   Your code is 481516",
            f"confirmed  order {order['order_id']}",
            "481516",
        ]
        assert any(line.endswith("settled") for line in told)
        assert ("nonce" in terminal.screen) is (columns == 80)
        cost = "cost       0.054 USDC = number 0.05 + 3 other calls 0.004; nothing refunded"
        assert " ".join(terminal.screen.split()).endswith(" ".join(cost.split()))
    assert not re.search(LIVE[columns], terminal.screen, re.MULTILINE)  # it is gone
    assert "· gives up" not in terminal.screen


def folded(line: str, columns: int) -> list[str]:
    """What a step of one long word looks like: below its beginning it goes on."""
    label, text = line[:11], line[11:]
    room = columns - len(label)
    parts = [text[at : at + room] for at in range(0, len(text), room)]
    return [label + parts[0], *(" " * len(label) + part for part in parts[1:])]


def test_a_long_sms_goes_on_below_its_beginning(own_sandbox: RunningSandbox, own_cli: Cli) -> None:
    text = "Your Telegram code is 481516. Do not give this code to anyone, even if they say so!"
    with waiting(own_cli, own_sandbox) as terminal:
        own_sandbox.deliver_sms(newest_order(own_sandbox)["order_id"], text)
        assert terminal.end() == 0
    assert "received   Your Telegram code is 481516. Do not give this code to anyone, even" in (
        terminal.lines
    )
    assert "           if they say so!" in terminal.lines


def test_an_sms_cannot_steer_the_terminal(own_sandbox: RunningSandbox, own_cli: Cli) -> None:
    with waiting(own_cli, own_sandbox) as terminal:
        evil = "\x1b[2J\x1b]0;owned\x07 your code\nis \x1b[31m481516"
        own_sandbox.deliver_sms(newest_order(own_sandbox)["order_id"], evil)
        assert terminal.end() == 0
    assert "received   [2J]0;owned your code is [31m481516" in terminal.lines
    assert b"\x1b[2J" not in terminal.raw


def test_a_silent_number_is_swapped_before_your_eyes(
    own_sandbox: RunningSandbox, own_cli: Cli
) -> None:
    options = ("--swap-after", "1", "--max-numbers", "1")
    with waiting(own_cli, own_sandbox, *options) as terminal:
        terminal.see(f"(?m)^swapped    new number {NUMBER}$")
        order = newest_order(own_sandbox)
        assert f"swapped    new number {order['phone_number']}" in terminal.lines
        assert terminal.is_bold(order["phone_number"])
        terminal.see(r"(?m)^. no SMS yet · gives up in 2:[0-9]{2} · Ctrl-C cancels$")
        own_sandbox.deliver_sms(order["order_id"], "Your code is 730114")
        assert terminal.end() == 0
    assert "730114" in terminal.lines


def test_ctrl_c_gives_the_number_back(own_sandbox: RunningSandbox, own_cli: Cli) -> None:
    with waiting(own_cli, own_sandbox) as terminal:
        terminal.interrupt()
        assert terminal.end() == 7
    order_id = newest_order(own_sandbox)["order_id"]
    assert newest_order(own_sandbox)["status"] == "cancelled"
    assert terminal.lines[3:7] == [
        "stopping   what was bought is given back for its refund",
        f"cancelled  order {order_id}, 0.05 USDC refunded",
        f"error: stopped before an SMS came; the order {order_id} is cancelled,",
        "0.05 USDC refunded",
    ]
    assert terminal.screen.count("refunded") == 3  # with the sum at the end; said once each
    told = " ".join(terminal.screen.split())
    assert told.endswith("at most 0.004 USDC = number 0.05 + 3 other calls 0.004 - 0.05 refunded")
    assert "^C" not in terminal.screen


@pytest.mark.parametrize("columns", [80, 60])
def test_ctrl_c_shows_the_countdown_of_the_hold_and_twice_leaves_it(
    columns: int, make_cli: MakeCli
) -> None:
    with running_sandbox(SandboxConfig(funded_key=KEY, cooldown=120)) as sandbox:
        cli = make_cli(sandbox.url)
        with waiting(cli, sandbox, columns=columns) as terminal:
            terminal.interrupt()
            terminal.see(r"(?m)^. cancels in [12]:[0-9]{2} · Ctrl-C again leaves it open$")
            order_id = newest_order(sandbox)["order_id"]
            terminal.see(rf"held back  order {order_id} can be cancelled in\s+1[0-9]{{2}}\s+s")
            terminal.interrupt()
            assert terminal.end() == 7
        assert newest_order(sandbox)["status"] == "waiting"
        told = " ".join(terminal.screen.split())
        assert f"cancel it for its refund with `x402sms orders cancel {order_id}`" in told
        sandbox.advance(120)
        assert cli("orders", "cancel", order_id).status == 0
        assert newest_order(sandbox)["status"] == "cancelled"


def test_a_hold_is_waited_out(make_cli: MakeCli) -> None:
    with running_sandbox(SandboxConfig(funded_key=KEY, cooldown=2)) as sandbox:
        with waiting(make_cli(sandbox.url), sandbox) as terminal:
            terminal.interrupt()
            assert terminal.end() == 7
        assert newest_order(sandbox)["status"] == "cancelled"
    assert "0.05 USDC refunded" in terminal.screen


def test_a_pause_has_its_countdown(own_sandbox: RunningSandbox, own_cli: Cli) -> None:
    own_sandbox.set_faults(
        [Fault("rate-limit", route="GET /services/{service_id}/availability", times=1)]
    )
    with in_terminal(own_cli, *own_cli.command(*BUY)) as terminal:
        terminal.see(r"(?m)^. paused · tries again in 0:0[01] · Ctrl-C cancels$")
        assert terminal.lines[0] == "paused     1 s: the service limits the rate"
        terminal.see("gives up in")
        own_sandbox.wait_for_pollers(1)
        terminal.interrupt()
        assert terminal.end() == 7


def test_only_the_code_is_captured_and_the_rest_is_on_the_screen(
    own_sandbox: RunningSandbox, own_cli: Cli
) -> None:
    command = " ".join(own_cli.command(*BUY))
    script = f'code="$({command})"; echo "got <$code>"'
    with in_terminal(own_cli, "sh", "-c", script) as terminal:
        terminal.see("Ctrl-C cancels")
        own_sandbox.wait_for_pollers(1)
        own_sandbox.deliver_sms(newest_order(own_sandbox)["order_id"], "Your code is 481516")
        assert terminal.end() == 0
    assert terminal.lines[-1] == "got <481516>"
    assert any(line.startswith("number     +") for line in terminal.lines)


def test_a_terminal_that_can_do_nothing_has_plain_lines(
    own_sandbox: RunningSandbox, own_cli: Cli
) -> None:
    command = own_cli.command(*BUY)
    with in_terminal(own_cli, *command, environment={"TERM": "dumb"}) as terminal:
        terminal.see("waiting    at most 180 s, for another number after 120 s")
        own_sandbox.wait_for_pollers(1)
        own_sandbox.deliver_sms(newest_order(own_sandbox)["order_id"], "Your code is 481516")
        assert terminal.end() == 0
    assert not CONTROL.search(terminal.raw.decode().replace("\r\n", "\n").replace("\t", ""))


def test_no_color_is_respected_by_other_commands(own_cli: Cli) -> None:
    command = own_cli.command("cheapest", "telegrm")
    with in_terminal(own_cli, *command, environment={"NO_COLOR": "1"}) as terminal:
        assert terminal.end() == 6
    assert "Did you mean telegram" in " ".join(terminal.lines)
    assert not terminal.has_colour()
