"""`x402sms topup`: from the wallet onto an account's balance, for an API key."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from x402sms.cli.command import command
from x402sms.cli.options import EVERYTHING, Intent
from x402sms.cli.output import Output
from x402sms.cli.run import Run
from x402sms.errors import PaymentUnknown
from x402sms.money import usdc

if TYPE_CHECKING:
    from x402sms.ledger import Payment
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
    try:
        brought = run.client.topup(amount, new_account=new_account, intent=intent)
    except KeyboardInterrupt:
        # Also where it has settled: its key may be neither kept nor shown yet.
        for payment in run.made:
            if (finish := finishing(run, payment)) is not None and payment.state != "void":
                raise _stopped(payment, finish) from None
        raise
    return Result(brought, show_key=show_key)


def finishing(run: Run, payment: "Payment") -> str | None:
    """What brings the key that a top-up was paid for; None for another payment."""
    if payment.url != run.settings.topup_url:
        return None
    return (
        f"`x402sms topup {payment.amount.normalize():f} --intent {payment.intent}` brings its key, "
        "and is never paid twice"
    )


def _stopped(payment: "Payment", finish: str) -> PaymentUnknown:
    return PaymentUnknown(
        f"stopped while {usdc(payment.amount)} USDC were paid onto an account ({payment.state}): "
        f"they may have been taken. {finish}",
        intent=payment.intent,
        amount=payment.amount,
        nonce=payment.nonce,
        valid_before=payment.valid_before,
    )


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
