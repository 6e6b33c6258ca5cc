"""A ledger that also remembers which payments passed through it.

`Client.meter()` and `on_payment` are told at the end of each call. A receipt must name a payment
from the moment it is reserved: Ctrl-C may come between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from x402sms.ledger import Charge, Charges, Ledger, Payment, Quotes, Spending
from x402sms.ledger.lease import Leases
from x402sms.limits import Budget
from x402sms.protocol.types import Attempt, OnChainSettled, Outcome, PaymentState


class WatchedCharges:
    """See `Charges`: everything is done by `charges`, and noted here."""

    def __init__(self, charges: Charges) -> None:
        self._charges = charges
        self._made: dict[str, Charge] = {}

    @property
    def made(self) -> list[Charge]:
        """Each that was asked for, oldest first, as it stands."""
        return list(self._made.values())

    def ask(self, charge: Charge, budgets: Sequence[Budget], *, now: int) -> Charge | None:
        earlier = self._charges.ask(charge, budgets, now=now)
        if earlier is None:
            self._note(charge)
        return earlier

    def end(
        self,
        charge: Charge,
        state: PaymentState,
        *,
        order_id: str | None = None,
        amount_atomic: int | None = None,
        now: int,
    ) -> bool:
        ended = self._charges.end(
            charge, state, order_id=order_id, amount_atomic=amount_atomic, now=now
        )
        self._note(charge)
        return ended

    def get(self, account: str, intent: str) -> Charge | None:
        return self._charges.get(account, intent)

    def list(self, *, since: int = 0) -> list[Charge]:
        return self._charges.list(since=since)

    def charged_atomic(self, account: str, *, since: int = 0, worker: str | None = None) -> int:
        return self._charges.charged_atomic(account, since=since, worker=worker)

    def _note(self, charge: Charge) -> None:
        known = self._charges.get(charge.account, charge.intent)
        self._made[charge.intent] = charge if known is None else known


class WatchedLedger:
    """See `Ledger`: everything is done by `ledger`, and noted here."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._made: dict[str, Payment] = {}
        self._charges = WatchedCharges(ledger.charges)

    @property
    def charges(self) -> WatchedCharges:
        return self._charges

    @property
    def quotes(self) -> Quotes:
        return self._ledger.quotes

    @property
    def leases(self) -> Leases | None:
        """None where no workers share it."""
        return getattr(self._ledger, "leases", None)

    @property
    def made(self) -> list[Payment]:
        """Each payment that was reserved, oldest first, as it stands."""
        return list(self._made.values())

    def take_over(self, payment: Payment) -> None:
        """A purchase of an earlier command, which this one goes on with, counts as its own."""
        if payment.nonce not in self._made:
            self._made = {payment.nonce: payment, **self._made}

    def reserve(self, attempt: Attempt, budgets: Sequence[Budget], *, now: int) -> None:
        self._ledger.reserve(attempt, budgets, now=now)
        self._made[attempt.authorization.nonce_hex] = Payment.reserved(attempt, now)

    def record(self, attempt: Attempt, outcome: Outcome, *, now: int) -> Payment:
        return self._noted(self._ledger.record(attempt, outcome, now=now))

    def get(self, *, network: str, payer: str, nonce: str) -> Payment | None:
        return self._ledger.get(network=network, payer=payer, nonce=nonce)

    def settle_from_chain(self, payment: Payment, found: OnChainSettled, *, now: int) -> Payment:
        return self._noted(self._ledger.settle_from_chain(payment, found, now=now))

    def void(
        self, payment: Payment, reason: str, *, nonce_burnt: bool = False, now: int
    ) -> Payment:
        voided = self._ledger.void(payment, reason, nonce_burnt=nonce_burnt, now=now)
        return self._noted(voided)

    def note_delivered(self, *, network: str, payer: str, nonce: str, what: str) -> bool:
        noted = self._ledger.note_delivered(network=network, payer=payer, nonce=nonce, what=what)
        if noted and nonce in self._made:
            self._made[nonce] = replace(self._made[nonce], delivered=what)
        return noted

    def insert_settled(self, payment: Payment) -> bool:
        return self._ledger.insert_settled(payment)

    def find(self, intent_or_nonce: str) -> list[Payment]:
        return self._ledger.find(intent_or_nonce)

    def payments(self, *, since: int = 0, state: PaymentState | None = None) -> Iterator[Payment]:
        return self._ledger.payments(since=since, state=state)

    def spent_atomic(
        self, *, network: str, payer: str, since: int = 0, worker: str | None = None
    ) -> int:
        return self._ledger.spent_atomic(network=network, payer=payer, since=since, worker=worker)

    def spending(self, *, since: int = 0) -> Iterator[Spending]:
        return self._ledger.spending(since=since)

    def close(self) -> None:
        self._ledger.close()

    def _noted(self, payment: Payment) -> Payment:
        """One that was not promised here (an answer that is replayed, say) costs nothing more."""
        if payment.nonce in self._made:
            self._made[payment.nonce] = payment
        return payment
