"""`x402sms recover`: what a crash left, against the service on a local chain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pexpect
import pytest

from tests.cli.conftest import MakeCli, orders_of
from tests.cli.on_chain import Customer, Shop, open_shop, signed
from x402sms.protocol.types import PaymentState
from x402sms.resources import Orders
from x402sms.virtualsms.models import Cancellation

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with open_shop() as shop:
        yield shop


@pytest.fixture
def customer(shop: Shop, make_cli: MakeCli) -> Customer:
    return shop.customer(make_cli)


def order_of(customer: Customer) -> dict[str, Any]:
    """The customer's newest order, by the service's own account."""
    owned = (
        order
        for order in orders_of(customer.shop.sandbox)
        if order["owner"] == customer.wallet.address
    )
    return next(owned)


def test_nothing_to_do_costs_one_call(customer: Customer) -> None:
    ended = customer.cli("recover", *customer.rpc)
    assert (ended.status, ended.out) == (0, "")
    assert ended.err.startswith("nothing was left open\n")
    assert ended.err.endswith("total\t1 call\t0.001\t\t\n")


def test_an_order_whose_answers_were_all_lost_is_found(customer: Customer) -> None:
    customer.lose("lost")
    order = order_of(customer)
    customer.promise("never paid")  # an equal one, and older than nothing: it must not get it
    ended = customer.cli("recover", "--yes", *customer.rpc)
    row = customer.row("lost")
    assert (row.state, row.verified, row.delivered) == ("settled", True, order["order_id"])
    assert customer.row("never paid").delivered is None
    lines = ended.out.splitlines()
    assert any(
        line.startswith("purchase ") and f"bought order {order['order_id']}" in line
        for line in lines
    )
    assert lines[-1].startswith(f"order {order['order_id']} ({order['phone_number']}, telegram")
    assert lines[-1].endswith("): cancelled, 0.05 USDC refunded")
    assert order_of(customer)["status"] == "cancelled"
    assert ended.status == 5  # the one that was never paid can still settle
    assert "not settled so far" in ended.out
    assert "not all of it is at an end" in ended.err


def test_an_order_with_an_sms_is_confirmed_and_its_code_printed(customer: Customer) -> None:
    order = customer.buy()
    customer.shop.sandbox.deliver_sms(order["order_id"], "Your code is 730114")
    ended = customer.cli("recover", *customer.rpc)
    assert ended.status == 0
    assert ended.out.endswith(": confirmed, code 730114\n")
    assert order_of(customer)["status"] == "confirmed"
    assert "nothing is left open" in ended.err
    again = customer.cli("recover", *customer.rpc)
    assert (again.status, [line for line in again.out.splitlines() if "order " in line]) == (0, [])


def test_an_sms_that_comes_at_the_last_moment_is_not_lost(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = customer.buy()
    cancel = Orders.cancel

    def too_late(orders: Orders, order_id: str) -> Cancellation:
        customer.shop.sandbox.deliver_sms(order_id, "Your code is 5521")
        return cancel(orders, order_id)

    monkeypatch.setattr(Orders, "cancel", too_late)
    ended = customer.cli("recover", "--yes", *customer.rpc)
    assert (ended.status, order["order_id"] in ended.out) == (0, True)
    assert ended.out.endswith(": confirmed, code 5521\n")
    assert order_of(customer)["status"] == "confirmed"


def test_json_is_one_document_of_all_that_was_done(customer: Customer) -> None:
    order = customer.buy("--intent", "first")
    ended = customer.cli("recover", "--yes", "--json", *customer.rpc)
    assert ended.status == 0
    found = ended.json
    assert [(row["intent"], row["verdict"]) for row in found["checked"]] == [("first", "settled")]
    assert (found["unchecked"], found["purchases"], found["failed"]) == ([], [], None)
    [done] = found["orders"]
    assert (done["order_id"], done["done"]) == (order["order_id"], "cancelled")
    assert done["refund"] == order["price"]
    assert found["total"] == "0.003000"  # the list, a look, the cancel
    assert {payment["verified"] for payment in found["payments"]} == {True}


def test_without_a_terminal_and_yes_an_order_that_waits_is_only_named(customer: Customer) -> None:
    order = customer.buy()
    ended = customer.cli.program("recover")
    assert ended.status == 6
    assert f"order {order['order_id']} " in ended.out
    assert "left open, waiting for its SMS; `x402sms recover --yes` cancels it" in ended.out
    assert order_of(customer)["status"] == "waiting"


@pytest.mark.parametrize(("answer", "status"), [("y", "cancelled"), ("n", "waiting")])
def test_on_a_terminal_it_asks(answer: str, status: str, customer: Customer) -> None:
    order = customer.buy()
    program, *arguments = customer.cli.command("recover")
    with pexpect.spawn(
        program,
        arguments,
        env=customer.cli.program_environment,
        encoding="utf-8",
        timeout=30,
        dimensions=(40, 200),
    ) as terminal:
        terminal.expect(rf"Cancel order {order['order_id']} .* for its refund\? \[y/N\]: ")
        terminal.send(f"{answer}\r")
        terminal.expect(pexpect.EOF)
    assert terminal.exitstatus == (0 if answer == "y" else 6)
    assert order_of(customer)["status"] == status


def test_without_an_rpc_it_says_what_to_set(customer: Customer) -> None:
    customer.promise("hanging")
    ended = customer.cli("recover", "--json")
    assert ended.status == 5
    assert {row["state"] for row in ended.json["unchecked"]} == {"unknown"}
    told = customer.cli("recover")
    assert "USDC unknown; set X402SMS_RPC_URL to have the chain asked" in told.out
    assert customer.row("hanging").state is PaymentState.UNKNOWN


def test_a_rental_is_left_alone_and_named(customer: Customer) -> None:
    order = customer.buy("--rental-hours", "4")
    ended = customer.cli("recover", "--yes")
    assert ended.status == 0
    assert f"order {order['order_id']} " in ended.out
    assert "left alone, a rental" in ended.out
    assert order_of(customer)["status"] == "waiting"


def test_a_paid_purchase_whose_order_is_not_there_is_named(customer: Customer) -> None:
    order = customer.buy()
    customer.cli("orders", "cancel", order["order_id"])
    customer.promise("nothing came")
    transaction = customer.shop.chain.usdc.relay(signed(customer, customer.row("nothing came")))
    ended = customer.cli("recover", "--yes", *customer.rpc)
    assert "0.05 USDC paid, and no order of it was found" in ended.out
    assert f"show the service the transaction {transaction}" in ended.out
    row = customer.row("nothing came")  # it does not get the order of another purchase
    assert (row.state, row.delivered) == ("settled", None)


def test_what_cannot_be_cancelled_yet_says_when(make_cli: MakeCli) -> None:
    with open_shop(cooldown=120) as shop:
        customer = shop.customer(make_cli)
        order = customer.buy()
        ended = customer.cli("recover", "--yes", *customer.rpc)
        assert ended.status == 6
        assert "left open, it can be cancelled from 2" in ended.out
        assert order_of(customer)["order_id"] == order["order_id"]
        assert order_of(customer)["status"] == "waiting"
        # No call was made that would have been refused: every payment settled.
        assert {row.state for row in customer.rows()} == {PaymentState.SETTLED}


def test_a_service_that_is_not_there_is_told_with_what_the_chain_said(customer: Customer) -> None:
    customer.buy("--intent", "first")
    away = ("--base-url", "http://127.0.0.1:9/api/v2")
    ended = customer.cli("recover", "--json", *away, *customer.rpc)
    assert ended.status == 8
    assert [row["verdict"] for row in ended.json["checked"]] == ["settled"]
    assert "cannot reach 127.0.0.1" in ended.json["failed"]
    assert "orders: not looked at, cannot reach" in customer.cli("recover", *away).out


def test_it_looks_at_no_more_orders_than_told(customer: Customer) -> None:
    older, newer = customer.buy(), customer.buy()
    ended = customer.cli("recover", "--yes", "--limit", "1")
    assert newer["order_id"] in ended.out
    assert older["order_id"] not in ended.out
    assert "looked at the newest 1 orders only: --limit N looks at more" in ended.err
