"""What a ledger is, whatever keeps it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from x402sms.errors import AlreadyPaid, IntentConflict, PaymentError, PaymentUnknown
from x402sms.limits import Budget
from x402sms.money import format_usdc, to_usdc
from x402sms.protocol.networks import find_network
from x402sms.protocol.types import Attempt, Outcome, PaymentState, Receipt


@dataclass(frozen=True, slots=True)
class Payment:
    """One row: what was promised to whom for what, and what became of it.

    `network` is CAIP-2, times are Unix seconds, `nonce` is `0x` + 64 hex digits.
    """

    intent: str
    fingerprint: str
    method: str
    url: str
    network: str
    asset: str
    payer: str
    pay_to: str
    amount_atomic: int
    valid_after: int
    valid_before: int
    nonce: str
    dialect: str
    requirements: str
    state: PaymentState
    reason: str | None
    transaction: str | None
    verified: bool
    created_at: int
    updated_at: int

    @classmethod
    def reserved(cls, attempt: Attempt, now: int) -> Payment:
        """The row of an attempt before anything is signed."""
        authorization = attempt.authorization
        return cls(
            intent=attempt.intent,
            fingerprint=attempt.fingerprint,
            method=attempt.method,
            url=attempt.url,
            network=authorization.network.caip2,
            asset=authorization.network.usdc,
            payer=authorization.payer,
            pay_to=authorization.pay_to,
            amount_atomic=authorization.amount_atomic,
            valid_after=authorization.valid_after,
            valid_before=authorization.valid_before,
            nonce=authorization.nonce_hex,
            dialect=attempt.dialect,
            requirements=attempt.requirements,
            state=PaymentState.RESERVED,
            reason=None,
            transaction=None,
            verified=False,
            created_at=now,
            updated_at=now,
        )

    @property
    def amount(self) -> Decimal:
        """In USDC."""
        return to_usdc(self.amount_atomic)

    def receipt(self) -> Receipt:
        network = find_network(self.network)
        return Receipt(
            intent=self.intent,
            amount=self.amount,
            network=self.network if network is None else network.name,
            payer=self.payer,
            pay_to=self.pay_to,
            nonce=self.nonce,
            valid_before=self.valid_before,
            transaction=self.transaction,
            state=self.state,
            method=self.method,
            url=self.url,
            verified=self.verified,
            reason=self.reason,
        )


class Ledger(Protocol):
    """Every method raises LedgerError when the store fails; then nothing may be signed.

    Safe to call from several threads. Calls may block for as long as a commit takes.
    """

    def reserve(self, attempt: Attempt, budgets: Sequence[Budget], *, now: int) -> None:
        """Store the attempt durably and count it against the budgets, in one transaction.

        Raises SpendLimitExceeded; IntentConflict, AlreadyPaid or PaymentUnknown where the intent
        was used before and is not known to be void.
        """
        ...

    def record(self, attempt: Attempt, outcome: Outcome, *, now: int) -> Payment:
        """Write what became of it. A state that is final already stays as it is."""
        ...

    def find(self, intent_or_nonce: str) -> list[Payment]:
        """The payments of an intent, or the one with a nonce, newest first."""
        ...

    def payments(self, *, since: int = 0, state: PaymentState | None = None) -> Iterator[Payment]:
        """All, newest first."""
        ...

    def spent_atomic(self, *, network: str, payer: str, since: int = 0) -> int:
        """What counts as spent: everything promised from `since` on and not void."""
        ...

    def close(self) -> None: ...


def refuse_reuse(earlier: Payment, attempt: Attempt) -> PaymentError:
    """Why the intent of `earlier`, which is not void, may not be signed for again."""
    intent, bought = earlier.intent, f"{earlier.method} {earlier.url}"
    if earlier.fingerprint != attempt.fingerprint:
        return IntentConflict(
            f"nothing signed: the intent {intent!r} pays for {bought} already, and "
            f"{attempt.method} {attempt.url} is something else (a redirect after the payment, or "
            "an intent used twice); give each purchase an intent of its own",
            intent=intent,
            amount=earlier.amount,
            nonce=earlier.nonce,
            valid_before=earlier.valid_before,
        )
    if earlier.state is PaymentState.SETTLED:
        return AlreadyPaid(
            f"nothing signed: the intent {intent!r} is paid already, "
            f"{format_usdc(earlier.amount_atomic)} USDC for {bought} in transaction "
            f"{earlier.transaction}",
            receipt=earlier.receipt(),
        )
    return PaymentUnknown(
        f"nothing more signed: the intent {intent!r} has a payment of "
        f"{format_usdc(earlier.amount_atomic)} USDC for {bought} whose end is open "
        f"({earlier.state}: {earlier.reason or 'the process stopped'}); it can settle until "
        f"{earlier.valid_before} (Unix time). See `x402sms payments show {earlier.nonce}`",
        intent=intent,
        amount=earlier.amount,
        nonce=earlier.nonce,
        valid_before=earlier.valid_before,
    )
