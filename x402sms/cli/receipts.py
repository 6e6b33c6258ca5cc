"""What a command cost, told on stderr."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from x402sms.cli.output import Output
from x402sms.money import to_usdc, usdc

if TYPE_CHECKING:
    from x402sms.ledger import Charge, Payment

# A promise is money gone until the chain says otherwise; the word says how sure we are.
_VERBS = {
    "settled": "paid",
    "refused": "promised",
    "unknown": "may have paid",
    "reserved": "may have paid",
    "void": "did not pay",
}
NOTHING = Decimal("0.000000")  # to the atomic unit, as every sum is
COLUMNS = ("paid", "call", "USDC", "nonce", "state")
WITH_NONCE = 76  # columns of a terminal: in fewer the calls need the room


def show_line(out: Output, payments: Sequence[Payment]) -> None:
    """One line for all of `payments`, none where nothing was promised."""
    if not payments:
        return
    by_state: dict[str, Decimal] = {}
    for payment in payments:
        by_state[payment.state] = by_state.get(payment.state, Decimal(0)) + payment.amount
    sums = (f"{_VERBS[state]} {usdc(sum_)} USDC · {state}" for state, sum_ in by_state.items())
    where = f"nonce {short(payments[0].nonce)}"
    if len(payments) > 1:
        where = f"{counted(payments)}, see `x402sms payments list`"
    out.note(" · ".join((*sums, where)))


def show_table(out: Output, payments: Sequence[Payment], *, error: bool = True) -> None:
    """A line for each of `payments`, and their total."""
    if not payments:
        return
    out.gap(error=error)
    wide = out.columns(error=error) >= WITH_NONCE
    shown = [at for at, name in enumerate(COLUMNS) if wide or name != "nonce"]
    sums = ("total", counted(payments), total(payments), "", "")
    out.table(
        [COLUMNS[at] for at in shown],
        [[row[at] for at in shown] for row in map(_row, payments)],
        total=[sums[at] for at in shown],
        error=error,
    )


def show_charges(out: Output, charges: Sequence[Charge]) -> None:
    """One line for what came from an account's balance, none where nothing did."""
    if charges:
        sure = all(charge.state == "settled" for charge in charges)
        verb = "charged" if sure else "may have charged"
        out.note(f"{verb} {usdc(charged_total(charges))} USDC · the account's balance")


def charged_total(charges: Sequence[Charge]) -> Decimal:
    """All that was charged, or may have been, in USDC."""
    return sum((to_usdc(charge.amount_atomic) for charge in charges), NOTHING)


def counted(payments: Sequence[object], what: str = "call") -> str:
    return f"{len(payments)} {what}{'' if len(payments) == 1 else 's'}"


def _row(payment: Payment) -> tuple[object, ...]:
    call = path_of(payment.url)
    return payment.method, call, payment.amount, short(payment.nonce), payment.state


def total(payments: Sequence[Payment]) -> Decimal:
    """All that is promised and not known to be void, as `Meter.total` counts."""
    return sum((p.amount for p in payments if p.state != "void"), NOTHING)


def short(text: str) -> str:
    """`0x1234…abcd`: enough to find a nonce or an address again."""
    return f"{text[:6]}…{text[-4:]}"


def path_of(url: str) -> str:
    """Without the host and the API's root, which are the same in all of a table."""
    path = urlsplit(url).path
    root, version, rest = path.partition("/v2/")
    return f"/{rest}" if version and "/" not in root.removeprefix("/") else path


def payment_document(payment: Payment) -> dict[str, Any]:
    """All that the ledger knows, for `--json`: what an export has, and more; moments as such."""
    from x402sms.export import row

    return {
        **row(payment),
        "reserved": to_usdc(payment.reserved_atomic),
        "usdc": payment.asset,
        "valid_after": _moment(payment.valid_after),
        "settleable_until": _moment(payment.settleable_until),
        "dialect": payment.dialect,
        "nonce_burnt": payment.nonce_burnt,
        "delivered": payment.delivered,
    }


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
