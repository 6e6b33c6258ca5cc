"""`x402sms code`: the number on stderr, the code on stdout, and no money lost on the way."""

from __future__ import annotations

import inspect
import json
import re
import signal
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.cli.conftest import ADDRESS, KEY, Cli, MakeCli, bought_at, newest_order, orders_of
from x402sms import job_options
from x402sms.cli.code import code
from x402sms.errors import ServerError
from x402sms.sandbox import Fault, RunningSandbox, SandboxConfig, running_sandbox
from x402sms.virtualsms import ending

ANSI = re.compile(r"\x1b\[")
BUY = ("code", "telegram", "--max-price", "0.30")


@pytest.fixture
def own_sandbox() -> Iterator[RunningSandbox]:
    with running_sandbox(SandboxConfig(funded_key=KEY)) as running:
        yield running


@pytest.fixture
def own_cli(own_sandbox: RunningSandbox, make_cli: MakeCli) -> Cli:
    return make_cli(own_sandbox.url)


def _deliver(sandbox: RunningSandbox, text: str) -> None:
    """An SMS for the newest order."""
    sandbox.deliver_sms(newest_order(sandbox)["order_id"], text)


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
        r"waiting +at most 180 s, for another number after 120 s",
        rf"received +Your Telegram code is {code}",
        r"confirmed +order ord_[0-9a-f]+",
        r"GET\t/services/telegram/availability\t0\.001\t0x[0-9a-f]{4}…[0-9a-f]{4}\tsettled",
        r"POST\t/orders\t0\.[0-9]+\t0x[0-9a-f]{4}…[0-9a-f]{4}\tsettled",
        r"GET\t/orders/ord_[0-9a-f]+/sms\t0\.002\t.*\tsettled",
        r"POST\t/orders/ord_[0-9a-f]+/confirm\t0\.001\t.*\tsettled",
        r"total\t4 calls\t0\.[0-9]+\t\t",
        r"cost +0\.054 USDC = number 0\.05 \+ 3 other calls 0\.004; nothing refunded",
    ]
    for pattern, line in zip(patterns, lines, strict=True):
        assert re.fullmatch(pattern, line), line
    assert not ANSI.search(ended.out + ended.err)


def test_json_is_one_document_and_adds_up(lively: Cli) -> None:
    ended = lively.program(*BUY, "--json", "--country", "gb")
    assert ended.status == 0
    found = ended.json
    assert list(found) == [
        "code", "text", "order_id", "phone_number", "country", "price", "cost", "paid", "refunded",
        "swaps", "numbers", "left_out", "intent", "payments", "warnings",
    ]  # fmt: skip
    assert found["text"] == f"Your Telegram code is {found['code']}"
    assert (found["country"], found["warnings"], found["left_out"]) == ("GB", [], [])
    assert found["phone_number"].startswith("+44")
    assert isinstance(found["price"], str)
    atomic = [int(payment["amount_atomic"]) for payment in found["payments"]]
    assert found["paid"] == found["cost"] == f"{sum(atomic) / 10**6:.6f}"
    assert (found["refunded"], found["swaps"]) == ("0.000000", 0)
    assert {payment["state"] for payment in found["payments"]} == {"settled"}
    assert [payment["delivered"] for payment in found["payments"]] == [
        None,
        found["order_id"],
        None,
        None,
    ]
    assert found["payments"][1]["intent"] == found["intent"]
    assert found["numbers"] == [
        {
            "order_id": found["order_id"],
            "phone_number": found["phone_number"],
            "previous_numbers": [],
            "country": "GB",
            "price": found["price"],
            "resumed": False,
            "ended": "confirmed",
            "refund": None,
            "why": None,
        }
    ]


@pytest.mark.parametrize("written", ["Telegram", "telegram"])
def test_a_service_may_be_written_by_its_name(written: str, lively: Cli) -> None:
    ended = lively("code", written, "--max-price", "0.30")
    assert (ended.status, len(ended.out)) == (0, 7)


def test_an_sms_without_a_code_is_printed_as_it_is(
    own_sandbox: RunningSandbox, make_cli: MakeCli
) -> None:
    running = make_cli(own_sandbox.url).start(*BUY)
    own_sandbox.wait_for_pollers(1)
    _deliver(own_sandbox, "Welcome!\x1b[31m Open\nthe app")
    out, _ = running.communicate(timeout=30)
    assert out == "Welcome![31m Open the app\n"


def test_a_pattern_says_what_the_code_is(own_sandbox: RunningSandbox, own_cli: Cli) -> None:
    running = own_cli.start(*BUY, "--pattern", "ref ([A-Z]{4})")
    own_sandbox.wait_for_pollers(1)
    _deliver(own_sandbox, "Your code is 481516, ref QXJK")
    out, _ = running.communicate(timeout=30)
    assert out == "QXJK\n"


def test_no_sms_in_time_cancels_the_order(own_sandbox: RunningSandbox, own_cli: Cli) -> None:
    ended = own_cli.program(*BUY, "--timeout", "1", "--json")
    error = ended.error
    assert (ended.status, error["type"], error["cancelled"]) == (7, "NoCodeReceived", True)
    [order] = orders_of(own_sandbox)
    assert (order["order_id"], order["status"]) == (error["order_id"], "cancelled")
    assert "is cancelled" in error["message"]
    assert "refunded" in error["message"]
    assert_books_agree(error, own_sandbox)
    [number] = error["numbers"]
    assert (number["ended"], number["refund"]) == ("cancelled", order["price"])
    assert ended.err.splitlines()[-1] == (
        "cost       0.002 USDC = number 0.05 + 2 other calls 0.002 - 0.05 refunded"
    )


def assert_books_agree(told: dict[str, Any], sandbox: RunningSandbox) -> None:
    """What the document says was paid and came back is what the sandbox has."""
    paid, refunded = (Decimal(told[name]) for name in ("paid", "refunded"))
    assert (int(paid * 10**6), int(refunded * 10**6)) == sandbox.books(ADDRESS)
    assert Decimal(told["cost"]) == paid - refunded
    assert sum(Decimal(number["refund"] or 0) for number in told["numbers"]) == refunded


# Numbers that bring nothing


def test_a_silent_number_is_swapped_and_the_new_one_told(
    own_sandbox: RunningSandbox, own_cli: Cli
) -> None:
    running = own_cli.start(*BUY, "--swap-after", "1", "--max-numbers", "1", "--json")
    assert running.stderr is not None
    heard = ""
    while not heard.startswith("swapped"):
        heard = running.stderr.readline()
    order = newest_order(own_sandbox)
    assert heard == f"swapped    new number {order['phone_number']}\n"
    _deliver(own_sandbox, "Your code is 481516")
    out, _ = running.communicate(timeout=30)
    found = json.loads(out)
    assert (found["code"], found["swaps"]) == ("481516", 1)
    assert found["phone_number"] == order["phone_number"]
    [number] = found["numbers"]
    assert len(number["previous_numbers"]) == 1
    assert_books_agree(found, own_sandbox)


def test_after_the_last_swap_another_number_is_bought(
    own_sandbox: RunningSandbox, own_cli: Cli
) -> None:
    options = ("--swap-after", "1", "--max-swaps", "0", "--max-numbers", "2", "--timeout", "60")
    running = own_cli.start(*BUY, *options, "--json")
    assert running.stderr is not None
    numbers: list[str] = []
    while len(numbers) < 2:
        if (heard := running.stderr.readline()).startswith("number"):
            numbers.append(heard.split()[1])
    _deliver(own_sandbox, "Your code is 481516")
    out, err = running.communicate(timeout=30)
    found = json.loads(out)
    assert found["code"] == "481516"
    assert [number["phone_number"] for number in found["numbers"]] == numbers
    assert [number["ended"] for number in found["numbers"]] == ["cancelled", "confirmed"]
    first, second = (number["price"] for number in found["numbers"])
    assert found["numbers"][0]["refund"] == first
    assert_books_agree(found, own_sandbox)
    both = Decimal(first) + Decimal(second)
    assert f"= 2 numbers {both:.2f} + " in err.splitlines()[-1]


def test_a_country_whose_stock_ends_is_left_out(own_sandbox: RunningSandbox, own_cli: Cli) -> None:
    own_sandbox.set_faults([Fault("no-stock", route="POST /orders", times=1)])
    running = own_cli.start(*BUY, "--json")
    own_sandbox.wait_for_pollers(1)
    _deliver(own_sandbox, "Your code is 481516")
    out, err = running.communicate(timeout=30)
    found = json.loads(out)
    [left_out] = found["left_out"]
    first, reason = re.findall(r"(?m)^left out +([A-Z]{2}): (.+)$", err)[0]
    assert left_out == {"country": first, "reason": reason}
    assert found["country"] != first
    assert_books_agree(found, own_sandbox)


def test_an_order_that_somebody_else_cancels_is_told_of(
    own_sandbox: RunningSandbox, own_cli: Cli
) -> None:
    running = own_cli.start(*BUY, "--json")
    own_sandbox.wait_for_pollers(1)
    first = newest_order(own_sandbox)["order_id"]
    assert own_cli("orders", "cancel", first).status == 0
    assert running.stderr is not None
    while (heard := running.stderr.readline()) and not heard.startswith("cancelled"):
        pass
    assert heard == f"cancelled  order {first}, 0.05 USDC refunded\n"
    own_sandbox.wait_for_pollers(1)
    _deliver(own_sandbox, "Your code is 481516")
    out, _ = running.communicate(timeout=30)
    numbers = json.loads(out)["numbers"]
    assert [(number["ended"], number["refund"]) for number in numbers] == [
        ("cancelled", "0.05"),
        ("confirmed", None),
    ]


def test_every_offer_above_the_ceiling_names_the_cheapest(cli: Cli) -> None:
    ended = cli.program("code", "telegram", "--max-price", "0.01", "--json")
    error = ended.error
    assert (ended.status, error["limit"], error["amount"]) == (3, "max_price", "0.05")
    assert "the cheapest number for telegram costs 0.05 USDC" in error["message"]
    assert (error["numbers"], error["order_id"], error["paid"]) == ([], None, "0.001000")
    assert ended.err.splitlines()[-1] == "cost       0.001 USDC for 1 call; no number bought"


def test_a_rental_is_kept(own_sandbox: RunningSandbox, own_cli: Cli) -> None:
    rent = ("--rental-hours", "4", "--country", "GB")
    running = own_cli.start("code", "telegram", "--max-price", "1", *rent, "--json")
    own_sandbox.wait_for_pollers(1)
    _deliver(own_sandbox, "Your code is 481516")
    out, _ = running.communicate(timeout=30)
    found = json.loads(out)
    assert (found["code"], found["numbers"][0]["ended"]) == ("481516", "kept")
    assert newest_order(own_sandbox)["status"] == "received"
    running = own_cli.start("code", "telegram", "--max-price", "1", *rent)
    own_sandbox.wait_for_pollers(1)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    order = newest_order(own_sandbox)
    assert (running.returncode, order["status"]) == (7, "waiting")
    assert f"the rental {order['order_id']} is kept" in err
    # What hours cost is known only when they are bought.
    assert f"order      {order['order_id']}, GB, {order['price']} USDC\n" in err


# Ctrl-C, SIGTERM


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
    told = f"the order {order['order_id']} is cancelled, {order['price']} USDC refunded"
    assert err.count(told) == 1
    assert "\tunknown" in err  # the poll that was cut off is on the receipt
    assert "Traceback" not in err


def test_in_the_background_it_does_not_hear_the_ctrl_c_of_another_program(
    own_sandbox: RunningSandbox, own_cli: Cli
) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for `command &`
    try:
        running = own_cli.start(*BUY)
    finally:
        signal.signal(signal.SIGINT, before)
    own_sandbox.wait_for_pollers(1)
    running.send_signal(signal.SIGINT)
    _deliver(own_sandbox, "Your code is 481516")
    out, _ = running.communicate(timeout=30)
    assert (running.returncode, out) == (0, "481516\n")


def test_a_second_ctrl_c_leaves_the_order_and_says_how_to_cancel_it(make_cli: MakeCli) -> None:
    with running_sandbox(SandboxConfig(funded_key=KEY, cooldown=120)) as sandbox:
        running = make_cli(sandbox.url).start(*BUY)
        sandbox.wait_for_pollers(1)
        running.send_signal(signal.SIGINT)
        assert running.stderr is not None
        seen = ""
        while "held back" not in seen:
            seen += running.stderr.readline()
        assert re.search(r"can be cancelled in 1[0-9]{2} s", seen)
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

    monkeypatch.setattr("x402sms.virtualsms.calls.service_availability", stopped)
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


def test_ctrl_c_while_the_purchase_is_on_its_way_gives_it_back(make_cli: MakeCli) -> None:
    held = Fault("slow", route="POST /orders", paid=True, times=1)
    config = SandboxConfig(funded_key=KEY, faults=[held], slow_seconds=60)
    with running_sandbox(config) as sandbox:
        running = make_cli(sandbox.url).start(*BUY, "--json")
        bought_at(sandbox)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
        [(order_id, status)] = sandbox.orders_of(ADDRESS)
        error = json.loads(out)["error"]
        assert (running.returncode, status) == (7, "cancelled"), err
        assert (error["order_id"], error["cancelled"]) == (order_id, True)
        assert_books_agree(error, sandbox)


def test_an_order_that_ends_under_the_poll_says_that_its_refund_is_not_known(
    own_sandbox: RunningSandbox, own_cli: Cli
) -> None:
    running = own_cli.start(*BUY, "--json")
    own_sandbox.wait_for_pollers(1)
    own_sandbox.advance(3600)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 7, err
    order_id = newest_order(own_sandbox)["order_id"]
    error = json.loads(out)["error"]
    assert f"`x402sms orders show {order_id}`" in error["message"]
    assert error["numbers"][0]["ended"] == "not cancelled"
    assert error["refunded"] == "0.000000"


def test_an_error_while_waiting_says_once_what_became_of_the_order(
    own_sandbox: RunningSandbox, make_cli: MakeCli
) -> None:
    # Enough to look, to buy and to cancel, and not for a poll.
    ended = make_cli(own_sandbox.url, X402SMS_MAX_TOTAL="0.0525")(*BUY, "--json")
    error = ended.error
    assert (ended.status, error["type"], error["limit"]) == (3, "SpendLimitExceeded", "total")
    [(order_id, status)] = own_sandbox.orders_of(ADDRESS)
    assert status == "cancelled"
    assert error["message"].count(f"the order {order_id} is cancelled") == 1
    assert (error["order_id"], error["numbers"][0]["ended"]) == (order_id, "cancelled")
    assert_books_agree(error, own_sandbox)


# Names of services and countries


def test_an_unknown_service_is_answered_with_near_names(cli: Cli) -> None:
    ended = cli.program("code", "telegrm", "--max-price", "0.30")
    assert (ended.status, ended.out) == (6, "")
    assert "nothing was bought. Did you mean telegram (Telegram)" in ended.err
    nothing = cli("cheapest", "zzzzzzzzzz").err
    assert "looking for near names in the list of services: one paid call\n" in nothing
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


def test_what_the_options_are_by_default_is_the_librarys() -> None:
    options = inspect.signature(code).parameters
    assert options["max_swaps"].default == job_options.SWAPS
    assert options["max_numbers"].default == job_options.NUMBERS
    assert options["swap_after"].default == ending.DEFAULT_HOLD


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--pattern", "("), "pattern"),
        (("--max-total", "1e3"), "'1e3' is not an amount of USDC"),
        (("--country", "44"), "write the country's two-letter code"),
        (("--max-numbers", "0"), "--max-numbers"),
    ],
)
def test_an_option_that_cannot_be_right_costs_nothing(
    options: tuple[str, str], says: str, cli: Cli
) -> None:
    ended = cli(*BUY, *options)
    assert ended.status == 2
    assert says in ended.err
    assert cli("payments", "list", "--json").json == []
