"""The ledger, read without wallet and network; and the wallet that pays."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.cli.conftest import ADDRESS, KEY, Cli, MakeCli
from tests.parts.fixtures import LocalChain
from x402sms.sandbox import RunningSandbox
from x402sms.wallet import Wallet

PASSWORD = "correct horse battery staple"


@pytest.fixture
def paid(cli: Cli, intent: str) -> list[dict[str, Any]]:
    """Two payments: one settled, one refused."""
    cli("orders", "create", "telegram", "GB", "--intent", intent)
    cli("orders", "show", "ord_nobody_has")
    payments = cli("payments", "list", "--json").json
    assert isinstance(payments, list)
    return payments


@pytest.fixture
def offline(make_cli: MakeCli) -> Cli:
    """The same ledger, with no wallet and no service."""
    return make_cli()


def test_the_list_needs_no_wallet(paid: list[dict[str, Any]], offline: Cli) -> None:
    lines = offline("payments", "list").out.splitlines()
    assert len(lines) == len(paid) == 2
    time, call, usdc, nonce, state = lines[0].split("\t")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", time)
    assert (call, usdc, state) == ("GET /orders/ord_nobody_has", "0.001", "refused")
    assert nonce == paid[0]["nonce"][:6] + "…" + paid[0]["nonce"][-4:]


def test_the_list_by_state(paid: list[dict[str, Any]], offline: Cli) -> None:
    found = offline("payments", "list", "--state", "settled", "--json").json
    assert found == [paid[1]]
    empty = offline("payments", "list", "--state", "void")
    assert (empty.status, empty.out, empty.err) == (0, "", "no payments\n")


def test_a_payment_is_found_by_intent_nonce_or_what_a_receipt_shows(
    paid: list[dict[str, Any]], offline: Cli, intent: str
) -> None:
    assert [payment["state"] for payment in paid] == ["refused", "settled"]
    nonce = paid[1]["nonce"]
    ways = (intent, nonce, nonce.upper().replace("0X", "0x"), nonce[:10])
    for way in (*ways, f"{nonce[:6]}…{nonce[-4:]}", f"{nonce[:6]}...{nonce[-4:]}"):
        assert offline("payments", "show", way, "--json").json == [paid[1]]


def test_a_payment_is_shown_with_all_it_takes_to_find_it(
    paid: list[dict[str, Any]], offline: Cli, intent: str
) -> None:
    payment = paid[1]
    ended = offline("payments", "show", intent)
    for name, value in (
        ("state", "settled"),
        ("network", "base-sepolia (eip155:84532)"),
        ("USDC contract", payment["usdc"]),
        ("payer", ADDRESS),
        ("paid to", payment["pay_to"]),
        ("nonce", payment["nonce"]),
        ("transaction", payment["transaction"]),
        ("intent", intent),
    ):
        assert f"{name}\t{value}\n" in ended.out
    assert re.search(r"valid before\t\d{4}-.* UTC \(Unix \d+\)\n", ended.out)
    assert ("verified\tno\n" in ended.out, "can settle until" in ended.out) == (True, False)
    assert ended.out.endswith(f"brought\t{payment['delivered']}\n")
    assert "Settled, on the server's word: set X402SMS_RPC_URL" in ended.err
    refused = offline("payments", "show", paid[0]["nonce"])
    assert "It can settle until" in refused.err
    assert f"`x402sms payments reconcile {paid[0]['nonce']}`" in refused.err
    assert "verified" not in refused.out


def test_a_payment_nobody_made(offline: Cli) -> None:
    for unknown in ("signup-test-8", "0x1234", "0x12…34"):
        ended = offline("payments", "show", unknown)
        assert ended.status == 2
        assert "no payment in this ledger" in ended.err


# The wallet


def test_a_new_wallet_can_be_used_at_once(
    sandbox: RunningSandbox, make_cli: MakeCli, tmp_path: Path
) -> None:
    keystore = tmp_path / "wallet with space.json"
    cli = make_cli(X402SMS_KEYSTORE_PASSWORD=PASSWORD)
    made = cli.program("wallet", "new", "--out", str(keystore))
    assert made.status == 0
    address = made.out.splitlines()[0].removeprefix("address\t")
    assert f"export X402SMS_KEYSTORE='{keystore}'\n" in made.out
    assert PASSWORD not in made.out + made.err
    assert stat.S_IMODE(keystore.stat().st_mode) == 0o600
    assert json.loads(keystore.read_text())["crypto"]["kdf"] == "scrypt"
    assert Wallet.from_keystore(keystore, PASSWORD).address == address
    again = cli("wallet", "new", "--out", str(keystore))
    assert again.status == 2
    assert "never overwritten" in again.err
    settings = {"X402SMS_KEYSTORE": str(keystore), "X402SMS_KEYSTORE_PASSWORD": PASSWORD}
    shown = make_cli(sandbox.url, X402SMS_PRIVATE_KEY="", **settings)("wallet", "show", "--json")
    assert shown.json["address"] == address
    assert shown.json["source"] == f"keystore {keystore}"


def test_a_wallet_asks_for_its_password_twice_and_never_shows_it(
    make_cli: MakeCli, tmp_path: Path
) -> None:
    cli = make_cli()
    program, *arguments = cli.command("wallet", "new")
    for second, status in ((PASSWORD + "!", 2), (PASSWORD, 0)):
        with pexpect.spawn(
            program, arguments, env=cli.program_environment, encoding="utf-8", timeout=30
        ) as terminal:
            terminal.expect("Password for the new keystore: ")
            terminal.sendline(PASSWORD)
            terminal.expect("The same again: ")
            terminal.sendline(second)
            terminal.expect(pexpect.EOF)
            assert isinstance(terminal.before, str)
            assert PASSWORD not in terminal.before
        assert terminal.exitstatus == status
    [keystore] = tmp_path.rglob("keystore.json")
    assert Wallet.from_keystore(keystore, PASSWORD).address in terminal.before


def test_a_keystores_password_is_asked_for_on_a_terminal(make_cli: MakeCli, tmp_path: Path) -> None:
    Wallet.from_key(KEY).save_keystore(tmp_path / "k.json", PASSWORD)
    cli = make_cli(X402SMS_KEYSTORE=str(tmp_path / "k.json"))
    program, *arguments = cli.command("wallet", "show")
    with pexpect.spawn(
        program, arguments, env=cli.program_environment, encoding="utf-8", timeout=30
    ) as terminal:
        terminal.expect("Password of .*: ")
        terminal.sendline(PASSWORD)
        terminal.expect(ADDRESS)
        terminal.expect(pexpect.EOF)


def test_without_a_terminal_a_password_must_be_set(make_cli: MakeCli, tmp_path: Path) -> None:
    ended = make_cli().program("wallet", "new")
    assert ended.status == 2
    assert "X402SMS_KEYSTORE_PASSWORD_FILE" in ended.err
    missing = make_cli(X402SMS_KEYSTORE_PASSWORD_FILE="nowhere")("wallet", "new")
    assert "cannot read the password file nowhere" in missing.err
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    made = make_cli(X402SMS_KEYSTORE_PASSWORD_FILE="password")("wallet", "new", "--json")
    assert set(made.json) == {"address", "keystore"}
    assert Wallet.from_keystore(made.json["keystore"], PASSWORD).address == made.json["address"]


def test_the_wallet_is_shown_without_its_key(cli: Cli, make_cli: MakeCli, tmp_path: Path) -> None:
    ended = cli("wallet", "show")
    assert f"address\t{ADDRESS}\nnetwork\tbase-sepolia\n" in ended.out
    assert ended.out.endswith("key from\tX402SMS_PRIVATE_KEY\n")
    (tmp_path / ".env").write_text(f"X402SMS_PRIVATE_KEY={KEY}\n")
    from_file = make_cli()("wallet", "show", "--network", "base", "--json").json
    assert from_file["source"] == "X402SMS_PRIVATE_KEY (in .env)"
    assert (from_file["network"], from_file["address"]) == ("base", ADDRESS)


def test_the_wallets_balance_is_the_chains(make_cli: MakeCli, base_chain: LocalChain) -> None:
    key = base_chain.funded_account(1_234_500).key.hex()
    cli = make_cli(X402SMS_PRIVATE_KEY=key)
    ended = cli("wallet", "balance", "--rpc-url", base_chain.rpc_url)
    assert ended.out.endswith("network\tbase\nUSDC\t1.2345\n")
    assert key[2:] not in ended.out + ended.err
    assert cli("wallet", "balance", "--json", "--rpc-url", base_chain.rpc_url).json["balance"] == (
        "1.234500"
    )
    elsewhere = cli(
        "wallet", "balance", "--network", "base-sepolia", "--rpc-url", base_chain.rpc_url
    )
    assert elsewhere.status == 2


def test_the_balance_needs_an_rpc_that_answers(cli: Cli) -> None:
    ended = cli("wallet", "balance")
    assert ended.status == 2
    assert "X402SMS_RPC_URL or --rpc-url" in ended.err
    down = cli("wallet", "balance", "--rpc-url", "http://127.0.0.1:9")
    assert down.status == 8
    assert "could not read" in down.err
