"""`x402sms account ...`: the account that the service keeps for the wallet."""

from itertools import islice
from typing import TYPE_CHECKING

import typer

from x402sms.cli.command import command
from x402sms.cli.options import SERVICE, Limit
from x402sms.cli.output import Output
from x402sms.cli.run import Run

if TYPE_CHECKING:
    from x402sms.virtualsms.models import Balance, Profile, Stats, Transaction


def register(group: typer.Typer) -> None:
    command(
        group,
        "profile",
        show=_show_profile,
        options=SERVICE,
        example="x402sms account profile",
    )(profile)
    command(
        group,
        "balance",
        show=_show_balance,
        options=SERVICE,
        example="x402sms account balance --json",
    )(balance)
    command(
        group,
        "stats",
        show=_show_stats,
        options=SERVICE,
        example="x402sms account stats",
    )(stats)
    command(
        group,
        "transactions",
        show=_show_transactions,
        options=SERVICE,
        example="x402sms account transactions --limit 20",
    )(transactions)


def profile(run: Run) -> "Profile":
    """Show the account: e-mail address, balance, plan."""
    return run.client.account.profile()


def balance(run: Run) -> "Balance":
    """Show the account's balance at the service. (`wallet balance` is the wallet's own.)"""
    return run.client.account.balance()


def stats(run: Run) -> "Stats":
    """Show how many orders the account ever made, and what they cost."""
    return run.client.account.stats()


def transactions(run: Run, limit: Limit = 50) -> "list[Transaction]":
    """List the account's charges and refunds, newest first."""
    return list(islice(run.client.account.transactions(), limit))


def _show_profile(out: Output, found: "Profile") -> None:
    out.fields(
        (("e-mail", found.email), ("balance", found.balance), ("plan", found.plan)),
    )


def _show_balance(out: Output, found: "Balance") -> None:
    out.fields((("balance", found.balance), ("currency", found.currency)))


def _show_stats(out: Output, found: "Stats") -> None:
    out.fields((("orders", found.lifetime_orders), ("spent", found.lifetime_spend)))


def _show_transactions(out: Output, found: "list[Transaction]") -> None:
    out.table(
        ("time", "type", "amount", "currency", "order"),
        ((row.created_at, row.type, row.amount, row.currency, row.order_id) for row in found),
    )
