"""Do our receipts and the sandbox's own books say the same, to the atomic unit?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from x402sms.cli.receipts import short

if TYPE_CHECKING:
    from x402sms.ledger import Payment
    from x402sms.sandbox import RunningSandbox


@dataclass(frozen=True, slots=True)
class Balances:
    """Atomic units that the wallet and the service have on the sandbox's chain."""

    wallet: int
    service: int

    @classmethod
    def read(cls, sandbox: RunningSandbox, wallet: str) -> Balances:
        return cls(sandbox.balance(wallet), sandbox.balance(sandbox.pay_to))


def disagreements(
    payments: Sequence[Payment],
    settled: Sequence[dict[str, Any]],
    before: Balances,
    after: Balances,
) -> list[str]:
    """What does not match, in words; empty where everything does.

    `settled` is the sandbox's list of payments. Each nonce must be in both, with the same payer,
    recipient, amount, transaction and call; and both balances must have moved by the sum.
    """
    ours = {payment.nonce: _fields_of(payment) for payment in payments}
    theirs = {entry["nonce"]: _fields_in(entry) for entry in settled}
    found = [
        f"nonce {short(nonce)}: {who} has no such payment"
        for nonce in ours.keys() ^ theirs.keys()
        for who in (["the sandbox"] if nonce in ours else ["the receipt"])
    ]
    found += [
        f"nonce {short(nonce)}: the receipt says {ours[nonce]}, the sandbox {theirs[nonce]}"
        for nonce in ours.keys() & theirs.keys()
        if ours[nonce] != theirs[nonce]
    ]
    if len(theirs) != len(settled):
        found.append("the sandbox settled a nonce twice")
    spent = sum(payment.amount_atomic for payment in payments)
    moved = (before.wallet - after.wallet, after.service - before.service)
    if moved != (spent, spent):
        found.append(
            f"the receipt says {spent} atomic units, the wallet has {moved[0]} less and the "
            f"service {moved[1]} more"
        )
    return found


def _fields_of(payment: Payment) -> tuple[object, ...]:
    return (
        payment.payer,
        payment.pay_to,
        payment.amount_atomic,
        payment.transaction,
        payment.method,
        urlsplit(payment.url).path,
        str(payment.state),
    )


def _fields_in(entry: dict[str, Any]) -> tuple[object, ...]:
    names = ("payer", "pay_to", "amount_atomic", "transaction", "method", "path")
    amount_atomic = int(entry["amount_atomic"])
    return (*({**entry, "amount_atomic": amount_atomic}[name] for name in names), "settled")
