"""The commands put together, and what happens around any of them."""

import os
import sys
from typing import Annotated, Any

import typer

from x402sms import __version__
from x402sms.cli import (
    account,
    cancelling,
    catalogue,
    code,
    demo,
    exporting,
    leases,
    mcp,
    orders,
    payments,
    reconciling,
    recover,
    sandbox,
    spend,
    topup,
    wallet,
    webhooks,
)
from x402sms.cli.command import epilog
from x402sms.cli.failures import Failure
from x402sms.cli.output import Output

HELP = """Rent a phone number and receive its SMS code, paid per call in USDC over x402.

The wallet comes from X402SMS_KEYSTORE or X402SMS_PRIVATE_KEY, never from an argument; without
one, an account's balance pays: X402SMS_API_KEY, or the key that `x402sms topup` kept.
`x402sms demo` shows all of it on this machine, without real money.
"""
EXAMPLE = """x402sms demo
x402sms wallet new
x402sms code telegram --max-price 0.30"""

app = typer.Typer(name="x402sms", help=HELP, rich_markup_mode=None)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"x402sms {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True, epilog=epilog(EXAMPLE))
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    _help_without_command(context)


def _help_without_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def _group(name: str, help_text: str, example: str) -> typer.Typer:
    group = typer.Typer(rich_markup_mode=None, help=help_text)
    group.callback(invoke_without_command=True, epilog=epilog(example))(_help_without_command)
    app.add_typer(group, name=name)
    return group


code.register(app)
demo.register(app)
catalogue.register(app)
orders.register(_group("orders", "Numbers bought or rented.", "x402sms orders create telegram GB"))
account.register(_group("account", "The account behind the wallet.", "x402sms account balance"))
wallet.register(_group("wallet", "The key that pays: make one, look at it.", "x402sms wallet new"))
_payments = _group(
    "payments",
    "What the ledger on this machine says was paid, and what the chain says of it.",
    "x402sms payments list --state unknown",
)
for _part in (payments, reconciling, cancelling, exporting):
    _part.register(_payments)
spend.register(app)
leases.register(app)
recover.register(app)
topup.register(app)
sandbox.register(app)
mcp.register(app)
webhooks.register(
    _group("webhooks", "What the service tells your endpoint.", "x402sms webhooks listen")
)


def run(arguments: list[str]) -> int:
    """The exit status. Nothing that a user did wrong leaves here as an exception."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without UTF-8 must not cost a result
            stream.reconfigure(errors="backslashreplace")
    try:
        command = typer.main.get_command(app)
        status = command.main(args=arguments, prog_name="x402sms", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        Output(as_json="--json" in arguments).failure(_usage_failure(error))
        return 2
    except typer.Abort:
        return 130
    except BrokenPipeError:
        # Whoever read our output (`| head`) has seen enough; python must not try to flush the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status if isinstance(status, int) else 0


def _usage_failure(error: typer.TyperException) -> Failure:
    context: Any = getattr(error, "ctx", None)
    help_hint = "" if context is None else f" See `{context.command_path} --help`."
    message = " ".join(error.format_message().split()).replace("Value error, ", "").rstrip(".")
    return Failure("UsageError", f"{message}.{help_hint}", 2, {})
