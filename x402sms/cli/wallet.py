"""`x402sms wallet ...`: the key that pays. It is read and written here, and never shown."""

import os
import shlex
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from x402sms.cli import keys
from x402sms.cli.command import command
from x402sms.cli.options import CHAIN, NONE, WALLET
from x402sms.cli.output import Output
from x402sms.cli.run import Run
from x402sms.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Created:
    address: str
    keystore: str


@dataclass(frozen=True, slots=True)
class Shown:
    address: str
    network: str
    usdc: str
    source: str


@dataclass(frozen=True, slots=True)
class OnChain:
    """`balance` in USDC."""

    address: str
    network: str
    balance: Decimal


def register(group: typer.Typer) -> None:
    command(
        group,
        "new",
        show=_show_created,
        options=NONE,
        example="x402sms wallet new\nx402sms wallet new --out test-keystore.json",
    )(new)
    command(group, "show", show=_show_wallet, options=WALLET, example="x402sms wallet show")(show)
    command(
        group,
        "balance",
        show=_show_balance,
        options=CHAIN,
        example="x402sms wallet balance --rpc-url http://127.0.0.1:8545",
    )(balance)


def new(
    run: Run,
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Where to; else keystore.json in your settings folder."),
    ] = None,
) -> Created:
    """Make a wallet: a new key in a keystore file, locked with a password.

    The password is asked for twice, or taken from X402SMS_KEYSTORE_PASSWORD or
    X402SMS_KEYSTORE_PASSWORD_FILE. Without it the money on the wallet is lost.
    """
    from x402sms.wallet import Wallet

    path = (out or _default_path()).absolute()
    if path.exists():  # said before a password is asked for
        raise ConfigError(f"{path} exists already; a key is never overwritten")
    password = keys.new_password(run.environment)
    wallet = Wallet.generate()
    wallet.save_keystore(path, password)
    return Created(wallet.address, str(path))


def show(run: Run) -> Shown:
    """Show the wallet's address, its network, and where the key comes from."""
    network = run.settings.network
    source = keys.source_of(run.environment)
    if source == keys.KEY and keys.KEY not in os.environ:
        source += " (in .env)"
    return Shown(run.wallet.address, network.name, network.usdc, source)


def balance(run: Run) -> OnChain:
    """Show the USDC that the wallet holds on the chain. Costs nothing, needs an RPC."""
    from x402sms.money import to_usdc

    chain, address = run.chain, run.wallet.address
    return OnChain(address, chain.network.name, to_usdc(chain.balance(address)))


def _default_path() -> Path:
    from platformdirs import user_config_path

    return user_config_path("x402sms") / "keystore.json"


def _show_created(out: Output, created: Created) -> None:
    out.fields((("address", created.address), ("keystore", created.keystore)))
    out.line(f"export {keys.KEYSTORE}={shlex.quote(created.keystore)}")
    out.note(
        "The line above makes x402sms use it. On a terminal the password is asked for; elsewhere "
        f"{keys.PASSWORD_FILE} names a file that holds it."
    )
    out.note("Keep the file and its password: without either, what is on the wallet is lost.")


def _show_wallet(out: Output, shown: Shown) -> None:
    out.fields(
        (
            ("address", shown.address),
            ("network", shown.network),
            ("USDC contract", shown.usdc),
            ("key from", shown.source),
        )
    )


def _show_balance(out: Output, found: OnChain) -> None:
    out.fields((("address", found.address), ("network", found.network), ("USDC", found.balance)))
