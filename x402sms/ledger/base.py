"""What a ledger is, whatever keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol, runtime_checkable

from x402sms.errors import AlreadyPaid, IntentConflict, PaymentError
from x402sms.ledger.charges import Charges
from x402sms.ledger.quotes import Quotes
from x402sms.ledger.spending import Spending
from x402sms.limits import Budget
from x402sms.money import format_usdc, to_usdc
from x402sms.protocol import strict_json
from x402sms.protocol.eip3009 import Authorization
from x402sms.protocol.labels import labels_of, labels_text
from x402sms.protocol.networks import find_network
from x402sms.protocol.types import (
    Attempt,
    Dialect,
    OnChainSettled,
    Outcome,
    PaymentState,
    Receipt,
)


@dataclass(frozen=True, slots=True)
class Payment:
    """One row: what was promised to whom for what, and what became of it.

    `network` is CAIP-2, times are Unix seconds, `nonce` is `0x` + 64 hex digits. Under one nonce
    several terms may have been signed, of which at most one can settle: `amount_atomic`, `pay_to`
    and the window are the last; `reserved_atomic` (what counts against the budgets) is the most,
    `other_recipients` are those of the earlier ones (with spaces between), `first_at` is when the
    first was promised, `created_at` the last, and after `settleable_until`, by the chain's clock,
    none can settle. `delivered` is what it brought, such as an order's id. `template` is JSON: the
    payment message but for its payload. `worker` is who of a fleet promised it, `labels` what it
    was for (a JSON object, "" for none), `lease` the slice of a shared budget that it came from.
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
    template: str
    state: PaymentState
    reason: str | None
    transaction: str | None
    verified: bool
    reserved_atomic: int
    first_at: int
    settleable_until: int
    created_at: int
    updated_at: int
    other_recipients: str = ""
    presentations: int = 1
    nonce_burnt: bool = False
    delivered: str | None = None
    worker: str = ""
    labels: str = ""
    lease: str = ""

    @classmethod
    def reserved(cls, attempt: Attempt, now: int, *, lease: str = "") -> Payment:
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
            template=strict_json.dumps(attempt.template).decode("ascii"),
            state=PaymentState.RESERVED,
            reason=None,
            transaction=None,
            verified=False,
            reserved_atomic=authorization.amount_atomic,
            first_at=now,
            settleable_until=authorization.valid_before,
            created_at=now,
            updated_at=now,
            worker=attempt.worker,
            labels=labels_text(attempt.labels),
            lease=lease,
        )

    @property
    def amount(self) -> Decimal:
        """In USDC."""
        return to_usdc(self.amount_atomic)

    def attempt(self) -> Attempt:
        """What was signed last, to present it again. Raises ValueError for a network we no longer
        know."""
        network = find_network(self.network)
        if network is None:
            raise ValueError(f"{self.network} is not a network x402sms pays on")
        return Attempt(
            intent=self.intent,
            authorization=Authorization(
                network=network,
                payer=self.payer,
                pay_to=self.pay_to,
                amount_atomic=self.amount_atomic,
                valid_after=self.valid_after,
                valid_before=self.valid_before,
                nonce=bytes.fromhex(self.nonce[2:]),
            ),
            method=self.method,
            url=self.url,
            fingerprint=self.fingerprint,
            dialect=Dialect(self.dialect),
            template=json.loads(self.template),
            worker=self.worker,
            labels=labels_of(self.labels),
        )

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
            worker=self.worker,
            labels=labels_of(self.labels),
        )


# What a row rebuilt from the chain says of what the chain does not know.
NOT_KNOWN = "?"


class Ledger(Protocol):
    """Every method raises LedgerError when the store fails; then nothing may be signed.

    Safe to call from several threads. Calls may block for as long as a commit takes. `charges` is
    what was bought with an API key, where nothing is signed; `quotes` what routes were last paid
    by.
    """

    @property
    def charges(self) -> Charges: ...

    @property
    def quotes(self) -> Quotes: ...

    def reserve(self, attempt: Attempt, budgets: Sequence[Budget], *, now: int) -> None:
        """Store the attempt durably and count it against the budgets, in one transaction.

        An open payment of the same intent for the same thing may be presented again: the same
        authorization costs nothing more, a new one takes its place and is counted now, with the
        larger of the amounts reserved.

        Raises SpendLimitExceeded; AlreadyPaid where the intent is settled; IntentConflict where
        it is for something else, or its nonce is burnt.
        """
        ...

    def record(self, attempt: Attempt, outcome: Outcome, *, now: int) -> Payment:
        """Write what became of it. A state that is final already stays as it is, and so does one
        that is to be void for never having been sent while another may have sent it."""
        ...

    def get(self, *, network: str, payer: str, nonce: str) -> Payment | None:
        """The payment with that nonce; `network` is CAIP-2."""
        ...

    def settle_from_chain(self, payment: Payment, found: OnChainSettled, *, now: int) -> Payment:
        """Settled and verified, with the chain's own transaction, recipient and amount."""
        ...

    def void(
        self, payment: Payment, reason: str, *, nonce_burnt: bool = False, now: int
    ) -> Payment:
        """Proven never to settle: it no longer counts. Stays as it is where the chain showed it
        settled, and where it was promised anew since `payment` was read (unless `nonce_burnt`)."""
        ...

    def note_delivered(self, *, network: str, payer: str, nonce: str, what: str) -> bool:
        """Write down what a payment brought, such as the order's id. False, and nothing written,
        where another payment has it already or this one has brought something else."""
        ...

    def insert_settled(self, payment: Payment) -> bool:
        """Add a payment found on the chain; False where its nonce is in the ledger already."""
        ...

    def find(self, intent_or_nonce: str) -> list[Payment]:
        """The payments of an intent, or the one with a nonce, newest first."""
        ...

    def payments(self, *, since: int = 0, state: PaymentState | None = None) -> Iterator[Payment]:
        """All, newest first."""
        ...

    def spent_atomic(
        self, *, network: str, payer: str, since: int = 0, worker: str | None = None
    ) -> int:
        """What counts as spent: everything promised from `since` on and not void, by one worker or
        any (None)."""
        ...

    def spending(self, *, since: int = 0) -> Iterator[Spending]:
        """What was promised, and charged, from `since` on, added up by the store: all that is alike
        in payer, day, worker, labels and state is one row, in no order."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class SharesCommits(Protocol):
    """What a Ledger may have besides: async calls that come at once then cost one commit."""

    def together(self) -> AbstractContextManager[None]:
        """All that this thread writes in the block is committed at its end, or none of it.

        What raises is taken back alone, unless the store itself failed. Raises LedgerError for
        that, and for the commit: then nothing that was written in the block is there.
        """
        ...


def refuse_reuse(earlier: Payment, attempt: Attempt) -> PaymentError | None:
    """Why the intent of `earlier` may not be signed for again, None where it may."""
    intent, bought = earlier.intent, f"{earlier.method} {earlier.url}"
    promised: dict[str, Any] = {
        "intent": intent,
        "amount": earlier.amount,
        "nonce": earlier.nonce,
        "valid_before": earlier.valid_before,
    }
    if earlier.nonce_burnt:
        return IntentConflict(
            f"nothing signed: the payment of the intent {intent!r} was cancelled on the chain, "
            "which uses up its nonce; give the purchase a new intent",
            **promised,
        )
    if earlier.state is PaymentState.VOID:
        return None
    if earlier.fingerprint not in (attempt.fingerprint, NOT_KNOWN):
        return IntentConflict(
            f"nothing signed: the intent {intent!r} pays for {bought} already, and "
            f"{attempt.method} {attempt.url} is something else (a redirect after the payment, or "
            "an intent used twice); give each purchase an intent of its own",
            **promised,
        )
    if earlier.state is PaymentState.SETTLED:
        return AlreadyPaid(
            f"nothing signed: the intent {intent!r} is paid already, "
            f"{format_usdc(earlier.amount_atomic)} USDC for {bought} in transaction "
            f"{earlier.transaction}",
            receipt=earlier.receipt(),
        )
    return None
