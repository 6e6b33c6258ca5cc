"""`payments reconcile|cancel|rebuild|export` against Circle's USDC on anvil."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from web3.exceptions import ContractLogicError

from tests.cli.conftest import Cli, MakeCli
from tests.cli.on_chain import Customer, Shop, open_shop, signed
from tests.parts.rpc import meddling
from x402sms.ledger import open_ledger
from x402sms.protocol.types import Outcome, PaymentState

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with open_shop() as shop:
        yield shop


@pytest.fixture
def customer(shop: Shop, make_cli: MakeCli) -> Customer:
    return shop.customer(make_cli)


@pytest.fixture
def own(make_cli: MakeCli) -> Iterator[Customer]:
    """One whose chain's clock may be moved."""
    with open_shop() as shop:
        yield shop.customer(make_cli)


# Reconcile


def test_a_settlement_on_the_servers_word_is_verified(customer: Customer) -> None:
    customer.buy("--intent", "first")
    shown = customer.cli("payments", "show", "first")
    assert "Settled, on the server's word: set X402SMS_RPC_URL" in shown.err
    ended = customer.cli("payments", "reconcile", *customer.rpc)
    assert ended.status == 0
    transaction = customer.row("first").transaction
    line = ended.out.splitlines()[0].split("\t")
    assert (line[0], line[3:]) == (
        "POST /orders",
        ["settled", f"settled in transaction {transaction}"],
    )
    assert ended.err == "1 payment: 1 proven settled\n"
    assert customer.row("first").verified
    shown = customer.cli("payments", "show", "first")
    assert "verified\tby the chain\n" in shown.out
    again = customer.cli("payments", "reconcile", *customer.rpc)
    assert (again.status, again.out) == (0, "")
    assert again.err.startswith("nothing to ask")


def test_it_needs_an_rpc_and_no_wallet(customer: Customer, make_cli: MakeCli) -> None:
    customer.buy()
    without = customer.cli("payments", "reconcile")
    assert without.status == 2
    assert "X402SMS_RPC_URL or --rpc-url" in without.err
    nobody = make_cli(X402SMS_NETWORK="base-sepolia")  # on the same ledger
    found = nobody("payments", "reconcile", "--json", *customer.rpc)
    assert (found.status, found.json["proven"], found.json["unproven"]) == (0, 1, 0)
    assert found.json["payments"][0]["verdict"] == "settled"


def test_a_payment_is_open_until_the_chains_time_has_passed(own: Customer) -> None:
    own.promise("hanging")
    open_still = own.cli("payments", "reconcile", *own.rpc)
    assert open_still.status == 5
    assert "\topen\tnot settled so far; it can be until " in open_still.out
    assert own.row("hanging").state is PaymentState.UNKNOWN
    own.shop.chain.anvil.move_clock(3600)
    expired = own.cli("payments", "reconcile", "--json", *own.rpc)
    assert expired.status == 0
    assert all(
        (found["verdict"], found["state"], found["changed"]) == ("void", "void", True)
        and found["why"].startswith("expired: still unused")
        for found in expired.json["payments"]
    )
    assert own.row("hanging").state is PaymentState.VOID
    assert own.paid_on_chain == 0


def test_only_the_payment_that_is_asked_about(customer: Customer) -> None:
    customer.buy("--intent", "one")
    customer.buy("--intent", "two")
    found = customer.cli("payments", "reconcile", "one", "--json", *customer.rpc).json
    assert [row["intent"] for row in found["payments"]] == ["one"]
    assert (customer.row("one").verified, customer.row("two").verified) == (True, False)
    again = customer.cli("payments", "reconcile", customer.row("one").nonce[:12], *customer.rpc)
    assert again.status == 0
    assert "proven before: settled in transaction 0x" in again.out
    nobody = customer.cli("payments", "reconcile", "three", *customer.rpc)
    assert (nobody.status, "no payment in this ledger" in nobody.err) == (2, True)


def test_a_chain_that_cannot_be_read_is_no_answer(customer: Customer) -> None:
    customer.buy("--intent", "first")
    before = customer.rows()
    ended = customer.cli("payments", "reconcile", "--rpc-url", "http://127.0.0.1:9")
    assert ended.status == 8
    assert "\tunread\tcould not read the chain id from http://127.0.0.1:9" in ended.out
    assert customer.rows() == before


def test_an_rpc_of_another_chain_is_a_setting_that_is_wrong(customer: Customer) -> None:
    customer.buy()
    ended = customer.cli("payments", "reconcile", "--network", "base", *customer.rpc, "--json")
    # Its rows are of the other network, and nobody is asked about them.
    assert ended.status == 8
    assert "no RPC of Base Sepolia is configured" in ended.json["payments"][0]["why"]
    rebuilt = customer.cli(
        "payments", "rebuild", "--from-block", "0", "--network", "base", *customer.rpc
    )
    assert (rebuilt.status, "is on chain 84532" in rebuilt.err) == (2, True)


# Cancel


def test_without_eth_it_says_how_much_is_missing_and_where(customer: Customer) -> None:
    customer.promise("hanging")
    ended = customer.cli("payments", "cancel", "hanging", "--yes", *customer.rpc)
    assert (ended.status, ended.out) == (2, "")
    assert "promised   0.05 USDC to 0x" in ended.err
    assert f"paid by    {customer.wallet.address}, which has 0 ETH\n" in ended.err
    assert "error: nothing sent: a cancellation may cost up to 0.0" in ended.err
    assert f"{customer.wallet.address} has 0: send it 0.0" in ended.err
    assert customer.row("hanging").state is PaymentState.UNKNOWN


def test_a_hanging_payment_is_cancelled_for_good(customer: Customer) -> None:
    customer.promise("hanging")
    promised = signed(customer, customer.row("hanging"))
    customer.give_eth()
    ended = customer.cli("payments", "cancel", "hanging", "--yes", "--json", *customer.rpc)
    assert ended.status == 0
    assert ended.json["cancelled"] is True
    transaction = ended.json["transaction"]
    row = customer.row("hanging")
    assert (row.state, row.nonce_burnt) == (PaymentState.VOID, True)
    assert row.reason == f"cancelled in transaction {transaction}"
    receipt = customer.shop.chain.anvil.request("eth_getTransactionReceipt", transaction)
    assert receipt["status"] == "0x1"
    with pytest.raises(ContractLogicError, match="used or canceled"):
        customer.shop.chain.usdc.relay(promised)
    again = customer.cli("payments", "cancel", "hanging", *customer.rpc)
    assert again.status == 0
    assert "void already: cancelled in transaction" in again.out
    conflict = customer.cli("orders", "create", "telegram", "HR", "--intent", "hanging")
    assert (conflict.status, "give the purchase a new intent" in conflict.err) == (2, True)


def test_without_a_terminal_only_yes_agrees(customer: Customer) -> None:
    customer.promise("hanging")
    customer.give_eth()
    ended = customer.cli.program("payments", "cancel", "hanging", *customer.rpc)
    assert (ended.status, ended.out) == (2, "")
    assert "gas        100000 units, at most 0.0" in ended.err
    assert "--yes agrees to it" in ended.err
    assert customer.row("hanging").state is PaymentState.UNKNOWN


@pytest.mark.parametrize(
    ("answer", "state"), [("n", "unknown"), ("y", "void"), ("\x03", "unknown")]
)
def test_on_a_terminal_it_asks(answer: str, state: str, customer: Customer) -> None:
    customer.promise("hanging")
    customer.give_eth()
    program, *arguments = customer.cli.command("payments", "cancel", "hanging", *customer.rpc)
    with pexpect.spawn(
        program,
        arguments,
        env=customer.cli.program_environment,
        encoding="utf-8",
        timeout=30,
        dimensions=(40, 200),
    ) as terminal:
        terminal.expect(r"Cancel it, for at most 0\.0\d+ ETH of 0x[0-9a-fA-F]{40}\? \[y/N\]: ")
        terminal.send(answer if answer == "\x03" else f"{answer}\r")
        terminal.expect(pexpect.EOF)
        assert isinstance(terminal.before, str)
        assert "Traceback" not in terminal.before
    assert terminal.exitstatus == {"n": 2, "y": 0, "\x03": 130}[answer]
    assert customer.row("hanging").state == state


def test_it_costs_no_more_than_was_agreed_to(customer: Customer) -> None:
    customer.promise("hanging")
    customer.give_eth()
    cancel = ("payments", "cancel", "hanging", "--yes", *customer.rpc, "--max-cost")
    ended = customer.cli(*cancel, "0.000000000000000001")
    assert (ended.status, "0.000000000000000001 was agreed to" in ended.err) == (2, True)
    for nonsense in ("lots", "-1", "1e3", "0.0000000000000000001"):
        wrong = customer.cli(*cancel, nonsense)
        assert (wrong.status, "--max-cost is an amount of ETH" in wrong.err) == (2, True)
    assert customer.cli(*cancel, "1").status == 0


def test_what_settled_meanwhile_is_not_called_cancelled(customer: Customer) -> None:
    customer.promise("hanging")
    customer.give_eth()
    transaction = customer.shop.chain.usdc.relay(signed(customer, customer.row("hanging")))
    ended = customer.cli("payments", "cancel", "hanging", "--yes", *customer.rpc)
    assert ended.status == 2
    assert f"nothing cancelled: the payment of 0.05 USDC settled, in transaction {transaction}" in (
        ended.err
    )
    row = customer.row("hanging")
    assert (row.state, row.verified, row.transaction) == ("settled", True, transaction)


def test_what_settles_at_the_last_moment_is_not_called_cancelled(customer: Customer) -> None:
    customer.promise("hanging")
    customer.give_eth()
    promised = signed(customer, customer.row("hanging"))

    def overtaken(_: list[Any], ask: Callable[[], Any]) -> Any:
        customer.shop.chain.usdc.relay(promised)
        return ask()

    with meddling(customer.shop.chain.rpc_url, eth_sendRawTransaction=overtaken) as rpc:
        ended = customer.cli("payments", "cancel", "hanging", "--yes", "--rpc-url", rpc.url)
    assert (ended.status, "nothing cancelled: the payment" in ended.err) == (2, True)
    assert customer.row("hanging").verified


def test_a_settlement_that_a_server_made_up_can_be_cancelled(customer: Customer) -> None:
    customer.promise("hanging")
    customer.give_eth()
    made_up = Outcome(PaymentState.SETTLED, None, "0x" + "ab" * 32)
    ledger = open_ledger(customer.cli.environment["X402SMS_LEDGER"])
    row = customer.row("hanging")
    ledger.record(row.attempt(), made_up, now=row.created_at)
    ledger.close()
    reconciled = customer.cli("payments", "reconcile", "hanging", *customer.rpc)
    assert (reconciled.status, "\topen\tnot settled so far" in reconciled.out) == (5, True)
    assert customer.cli("payments", "cancel", "hanging", "--yes", *customer.rpc).status == 0
    assert customer.row("hanging").state is PaymentState.VOID


def test_an_expired_payment_needs_no_cancelling(own: Customer) -> None:
    own.promise("hanging")
    own.shop.chain.anvil.move_clock(3600)
    ended = own.cli("payments", "cancel", "hanging", "--json", *own.rpc)
    assert (ended.status, ended.json["transaction"]) == (0, None)
    assert ended.json["why"].startswith("expired")
    assert own.row("hanging").state is PaymentState.VOID


def test_only_the_own_wallets_payments_on_this_network(
    customer: Customer, shop: Shop, make_cli: MakeCli
) -> None:
    customer.promise("hanging")
    other = shop.customer(make_cli)  # on the same ledger
    ended = other.cli("payments", "cancel", "hanging", "--yes", *customer.rpc)
    assert (ended.status, f"of the wallet {customer.wallet.address}" in ended.err) == (2, True)
    ended = customer.cli("payments", "cancel", "hanging", "--network", "base", *customer.rpc)
    assert (ended.status, "on the network eip155:84532, not on base" in ended.err) == (2, True)
    unread = customer.cli("payments", "cancel", "hanging", "--rpc-url", "http://127.0.0.1:9")
    assert unread.status == 8


# Rebuild


def test_an_empty_ledger_is_made_whole_from_the_chain(customer: Customer, tmp_path: Path) -> None:
    customer.buy("--intent", "one")
    customer.cli("services")
    customer.promise("never paid")
    new = str(tmp_path / "new.db")
    rebuild = ("payments", "rebuild", "--from-block", "0", *customer.rpc)
    ended = customer.cli(*rebuild, "--ledger", new, "--json")
    assert ended.status == 0
    document = ended.json
    assert (document["added"], document["corrected"], document["on_chain"]) == (2, 0, 2)
    assert document["payer"] == customer.wallet.address
    rows = customer.rows(ledger=new)
    assert all((row.state, row.verified) == ("settled", True) for row in rows)
    assert sum(row.amount_atomic for row in rows) == customer.paid_on_chain
    assert document["total"] == f"{customer.paid_on_chain / 10**6:.6f}"
    used = customer.shop.chain.usdc.authorizations_used(payer=customer.wallet.address)
    assert {row.nonce for row in rows} == {"0x" + each.nonce.hex() for each in used}
    again = customer.cli(*rebuild, "--ledger", new)
    assert "added\t0\ncorrected\t0\n" in again.out
    assert customer.rows(ledger=new) == rows


def test_a_ledger_that_knows_less_is_corrected(customer: Customer, make_cli: MakeCli) -> None:
    customer.lose("lost")
    assert customer.row("lost").state is PaymentState.UNKNOWN
    nobody = make_cli(X402SMS_NETWORK="base-sepolia")
    ended = nobody(
        *("payments", "rebuild", "--from-block", "0", *customer.rpc),
        *("--address", customer.wallet.address.lower()),
    )
    assert ended.status == 0
    corrected = len(customer.rows())
    assert f"added\t0\ncorrected\t{corrected}\n" in ended.out
    row = customer.row("lost")
    assert (row.state, row.verified, row.method) == ("settled", True, "POST")


@pytest.mark.parametrize("address", ["0x12", "me"])
def test_an_address_that_is_none(address: str, customer: Customer) -> None:
    ended = customer.cli(
        "payments", "rebuild", "--from-block", "0", "--address", address, *customer.rpc
    )
    assert ended.status == 2


def test_a_chain_that_cannot_be_read_rebuilds_nothing(customer: Customer) -> None:
    rebuild = ("payments", "rebuild", "--from-block", "0", "--rpc-url", "http://127.0.0.1:9")
    assert customer.cli(*rebuild, "--json").error["type"] == "ChainUnreadable"
    assert customer.cli("payments", "rebuild", "--from-block", "0").status == 2


# Export


@pytest.fixture
def formula(intent: str) -> str:
    return f"=1+{intent}"


@pytest.fixture
def booked(cli: Cli, formula: str) -> Cli:
    cli("services")
    cli("orders", "create", "telegram", "GB", "--intent", formula)
    return cli


def test_csv_parses_back_and_runs_no_formula(booked: Cli, formula: str) -> None:
    ended = booked.program("payments", "export")
    assert (ended.status, ended.err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    listed = booked("payments", "list", "--json").json
    assert [row["nonce"] for row in rows] == [row["nonce"] for row in listed]
    assert [row["amount"] for row in rows] == [row["amount"] for row in listed]
    assert rows[0]["intent"] == f"'{formula}"
    assert rows[0]["verified"] == "false"


def test_json_is_json_either_way_and_says_what_the_list_says(booked: Cli, formula: str) -> None:
    exported = booked("payments", "export", "--json").json
    assert exported == booked("payments", "export", "--format", "json").json
    assert exported[0]["intent"] == formula
    for row, listed in zip(exported, booked("payments", "list", "--json").json, strict=True):
        assert row == {name: listed[name] for name in row}
    clash = booked("payments", "export", "--json", "--format", "csv")
    assert (clash.status, "--json prints JSON" in clash.error["message"]) == (2, True)


def test_an_export_goes_into_a_file(booked: Cli, tmp_path: Path) -> None:
    path = tmp_path / "book.csv"
    ended = booked("payments", "export", "--output", str(path))
    assert (ended.status, ended.out) == (0, "")
    assert ended.err == f"payments written to {path} as csv: 2\n"
    with path.open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 2
    told = booked("payments", "export", "--output", str(path), "--json").json
    assert told == {"path": str(path), "format": "json", "payments": 2}
    assert len(json.loads(path.read_text())) == 2
    nowhere = booked("payments", "export", "--output", str(tmp_path / "no" / "book.csv"))
    assert (nowhere.status, "cannot write" in nowhere.err) == (2, True)
