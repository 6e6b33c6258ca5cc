"""`x402sms payments list|show`: the ledger, read here. No wallet, no network, no cost."""

import re
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from x402sms.cli.command import command
from x402sms.cli.failures import utc
from x402sms.cli.options import LEDGER, PaymentArgument
from x402sms.cli.output import Output
from x402sms.cli.receipts import path_of, payment_document, short
from x402sms.cli.run import Run
from x402sms.errors import ConfigError

if TYPE_CHECKING:
    from x402sms.ledger import Payment

# A nonce as receipts write it, `0x12ab…89ef`, or its beginning.
_PART_OF_NONCE = re.compile(r"(0x[0-9a-f]{4,63})(?:(?:…|\.\.\.)([0-9a-f]{4,60}))?", re.ASCII)

StateName = Literal["reserved", "settled", "refused", "unknown", "void"]


class Row:
    """A payment, for `--json` with its amounts and moments as such."""

    def __init__(self, payment: "Payment") -> None:
        self.payment = payment

    def document(self) -> dict[str, Any]:
        return payment_document(self.payment)


def register(group: typer.Typer) -> None:
    command(
        group,
        "list",
        show=_show_list,
        options=LEDGER,
        example="x402sms payments list --state unknown",
    )(list_payments)
    command(
        group,
        "show",
        show=_show_details,
        options=LEDGER,
        example="x402sms payments show 0x3f9a…c41d\nx402sms payments show signup-test-7",
    )(show)


def list_payments(
    run: Run,
    state: Annotated[
        StateName | None, typer.Option(help="Only those of which this is known.")
    ] = None,
) -> list[Row]:
    """List what was promised and what became of it, newest first."""
    from x402sms.protocol.types import PaymentState

    wanted = None if state is None else PaymentState(state)
    return [Row(payment) for payment in run.ledger.payments(state=wanted)]


def show(run: Run, intent_or_nonce: PaymentArgument) -> list[Row]:
    """Show a payment with all it takes to find it on the chain.

    With --json it is a list: an intent may have been used on two networks.
    """
    return [Row(payment) for payment in find(run, intent_or_nonce)]


def find(run: Run, intent_or_nonce: str) -> "list[Payment]":
    """The payments that are meant, at least one. Raises ConfigError where there is none."""
    found = run.ledger.find(intent_or_nonce) or _by_part(run, intent_or_nonce)
    if not found:
        raise ConfigError(
            "no payment in this ledger has that intent or nonce: `x402sms payments list` shows "
            "all, and --ledger or X402SMS_LEDGER names another ledger"
        )
    return found


def _by_part(run: Run, text: str) -> "list[Payment]":
    part = _PART_OF_NONCE.fullmatch(text.strip().lower())
    if part is None:
        return []
    head, tail = part[1], part[2] or ""
    return [
        payment
        for payment in run.ledger.payments()
        if payment.nonce.startswith(head) and payment.nonce.endswith(tail)
    ]


def _show_list(out: Output, rows: list[Row]) -> None:
    if not rows:
        out.note("no payments")
    out.table(
        ("time", "call", "USDC", "nonce", "state"),
        (_columns(row.payment, narrow=out.fancy) for row in rows),
    )


def _columns(payment: "Payment", *, narrow: bool) -> tuple[object, ...]:
    made, path = utc(payment.created_at), path_of(payment.url)
    if narrow:  # 80 columns have no room for a year, seconds and whole order ids
        made = made[5:16]
        path = "/".join(part if len(part) < 16 else short(part) for part in path.split("/"))
    call = f"{payment.method} {path}"
    return made, call, payment.amount, short(payment.nonce), payment.state


def _show_details(out: Output, rows: list[Row]) -> None:
    for at, row in enumerate(rows):
        if at:
            out.line("")
        _show_one(out, row.payment)


def _show_one(out: Output, payment: "Payment") -> None:
    from x402sms.protocol.networks import find_network

    network = find_network(payment.network)
    title = payment.network if network is None else f"{network.name} ({network.caip2})"
    out.fields(
        (
            ("state", payment.state),
            ("because", payment.reason),
            ("amount", payment.amount),
            ("reserved", _reserved(payment)),
            ("for", f"{payment.method} {payment.url}"),
            ("intent", payment.intent),
            ("worker", payment.worker),
            ("labels", _labels(payment)),
            ("made", utc(payment.created_at)),
            ("network", title),
            ("USDC contract", payment.asset),
            ("payer", payment.payer),
            ("paid to", payment.pay_to),
            ("nonce", payment.nonce),
            ("valid before", f"{utc(payment.valid_before)} (Unix {payment.valid_before})"),
            ("can settle until", _last_moment(payment)),
            ("transaction", payment.transaction),
            ("verified", _verified(payment)),
            ("brought", payment.delivered),
        )
    )
    out.note(_meaning(payment))


def _labels(payment: "Payment") -> str:
    from x402sms.protocol.labels import labels_of

    return ", ".join(f"{name}: {value}" for name, value in labels_of(payment.labels).items())


def _verified(payment: "Payment") -> str | None:
    if payment.state != "settled":
        return None
    return "by the chain" if payment.verified else "no"


def _reserved(payment: "Payment") -> Decimal | None:
    """What counts against the budgets, where that is not the amount."""
    from x402sms.money import to_usdc

    same = payment.reserved_atomic == payment.amount_atomic
    return None if same else to_usdc(payment.reserved_atomic)


def _last_moment(payment: "Payment") -> str | None:
    """Where an earlier authorization of the purchase is valid for longer than the last."""
    same = payment.settleable_until == payment.valid_before
    return None if same else utc(payment.settleable_until)


def _meaning(payment: "Payment") -> str:
    """What the state says of the money, and what to do next."""
    check = f"`x402sms payments reconcile {payment.nonce}`"
    if payment.state == "settled" and payment.verified:
        return "Settled: the transaction shows it on the chain."
    if payment.state == "settled":
        return f"Settled, on the server's word: set X402SMS_RPC_URL to have it checked by {check}."
    if payment.state == "void":
        return "Nothing was debited, and nothing can be any more."
    until = utc(payment.settleable_until)
    if time.time() < payment.settleable_until:
        return (
            f"It can settle until {until} and counts as spent. {check} finds out what became of it."
        )
    return f"It could settle until {until}, and may have. It counts as spent. {check} finds out."
