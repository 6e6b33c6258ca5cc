"""`x402sms topup`: from the wallet onto an account's balance, for an API key."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from x402sms.cli.command import command
from x402sms.cli.options import EVERYTHING, Intent
from x402sms.cli.output import Output
from x402sms.cli.run import Run

if TYPE_CHECKING:
    from x402sms.topping_up import TopUp


def register(app: typer.Typer) -> None:
    command(
        app,
        "topup",
        show=_show,
        options=EVERYTHING,
        example="x402sms topup 5 --max-per-call 5\n"
        "x402sms topup 20 --max-per-call 20 --intent november",
    )(topup)


class Result:
    """What a top-up brought; the key in it is only shown where it was asked for, or not kept."""

    def __init__(self, brought: "TopUp", *, show_key: bool) -> None:
        self.brought = brought
        self.shows_key = show_key or brought.kept_in is None

    def document(self) -> dict[str, Any]:
        brought = self.brought
        return {
            "api_key": brought.api_key if self.shows_key else None,
            "amount": brought.amount,
            "balance": brought.balance,
            "user_id": brought.user_id,
            "kept_in": brought.kept_in,
            "warning": brought.warning,
        }


def topup(
    run: Run,
    amount: Annotated[
        int, typer.Argument(metavar="USD", min=2, max=10_000, help="Whole USDC, 2 to 10000.")
    ],
    *,
    new_account: Annotated[
        bool, typer.Option("--new-account", help="Onto a new account, also where there is a key.")
    ] = False,
    show_key: Annotated[
        bool, typer.Option("--show-key", help="Print the API key as well as keeping it.")
    ] = False,
    intent: Intent = None,
) -> Result:
    """Pay from the wallet onto the balance of an account, and keep its API key.

    With a key already (X402SMS_API_KEY, or kept by an earlier top-up) that account is added to,
    else a new one is made. The key is kept in the system's keyring, or in a file that only you can
    read; without a wallet in the environment every command then uses it. Your limits hold: 1 USDC
    a payment unless you say otherwise. Run again with the same --intent, it is paid at most once.
    """
    brought = run.client.topup(amount, new_account=new_account, intent=intent)
    return Result(brought, show_key=show_key)


def _show(out: Output, result: Result) -> None:
    brought = result.brought
    if brought.warning is not None:
        out.note(f"warning: {brought.warning}")
    out.fields(
        (
            ("paid", brought.amount),
            ("balance", brought.balance),
            ("account", brought.user_id),
            ("key kept in", brought.kept_in),
            ("api key", brought.api_key if result.shows_key else None),
        )
    )
    sys.stdout.flush()
