"""May it be promised, and as which row: the same answer in every store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from x402sms.ledger.base import Payment, refuse_reuse
from x402sms.ledger.lease import Lease, check_lease
from x402sms.limits import Budget
from x402sms.protocol.types import Attempt, Outcome, PaymentState

Key = tuple[str, str, str]  # network (CAIP-2), payer, nonce

NAMES = [field.name for field in fields(Payment)]
EVER = -1  # before the first second that counts
NO_NONCE = ""


@dataclass(frozen=True, slots=True)
class Window:
    """What was promised after a second, to one recipient or any, by one worker or any; or all that
    came from one lease."""

    after: int
    pay_to: str | None = None
    worker: str | None = None
    lease: str | None = None


class Promises(Protocol):
    """The payments in one transaction, beside which nothing else is written of their payer."""

    def find(self, key: Key) -> Payment | None: ...

    def latest(self) -> int:
        """When the last payment of anyone was promised, 0 where there is none."""
        ...

    def spent(self, key: Key, window: Window) -> int:
        """What counts in it, but for the payment with the key's own nonce."""
        ...

    def put(self, payment: Payment) -> None:
        """Its row takes the place of the one with the same key, as the newest of all."""
        ...


def promise(
    promises: Promises,
    attempt: Attempt,
    budgets: Sequence[Budget],
    now: int,
    lease: Lease | None = None,
) -> None:
    """See `Ledger.reserve`. With a lease, what is new is promised from that, or LeaseSpent."""
    # A clock set back must not let yesterday's spending out of today's window.
    now = max(now, promises.latest())
    if lease is None:
        payment = Payment.reserved(attempt, now)
    else:
        payment = Payment.reserved(attempt, max(now, lease.taken_at), lease=lease.id)
    earlier = promises.find(key_of(payment))
    if earlier is not None and (refusal := refuse_reuse(earlier, attempt)) is not None:
        raise refusal
    if earlier is not None and earlier.state is not PaymentState.VOID:
        payment = _promised_again(payment, earlier)
        counted = lease is None or earlier.lease  # where the budgets are, not in this file alone
        if counted and earlier.attempt().authorization == attempt.authorization:
            # The same promise: as old as it was, and counted already.
            payment = replace(payment, created_at=earlier.created_at, lease=earlier.lease)
            budgets, lease = (), None
    for budget in budgets:
        _check(promises, budget, payment)
    if lease is not None:
        promised = promises.spent(key_of(payment), Window(EVER, lease=lease.id))
        check_lease(promised, lease, payment)
    promises.put(payment)


def window_start(budget: Budget, at: int) -> int:
    """The second after which what was promised counts against the budget."""
    return EVER if budget.seconds is None else at - budget.seconds


def key_of(payment: Payment) -> Key:
    return payment.network, payment.payer, payment.nonce


def signed_key(attempt: Attempt) -> Key:
    authorization = attempt.authorization
    return authorization.network.caip2, authorization.payer, authorization.nonce_hex


def outcome_columns(attempt: Attempt, outcome: Outcome, now: int) -> dict[str, object]:
    """What the statement takes that records an outcome."""
    network, payer, nonce = signed_key(attempt)
    return {
        "state": outcome.state,
        "reason": outcome.reason,
        "transaction": outcome.transaction,
        "never_sent": outcome.never_sent,
        "valid_before": attempt.authorization.valid_before,
        "chain_time": outcome.chain_time,
        "burnt": outcome.nonce_burnt,
        "now": now,
        "network": network,
        "payer": payer,
        "nonce": nonce,
    }


def spent_columns(key: Key, window: Window) -> dict[str, object]:
    """What the statement takes that adds up a window."""
    network, payer, nonce = key
    return {
        "network": network,
        "payer": payer,
        "nonce": nonce,
        "after": window.after,
        "pay_to": window.pay_to,
        "worker": window.worker,
        "lease": window.lease,
    }


def columns_of(payment: Payment) -> dict[str, object]:
    return {name: getattr(payment, name) for name in NAMES}


def payment_of(row: Sequence[Any]) -> Payment:
    """The payment whose columns these are, in the order of NAMES."""
    columns = dict(zip(NAMES, row, strict=True))
    columns["state"] = PaymentState(columns["state"])
    columns["verified"] = bool(columns["verified"])
    columns["nonce_burnt"] = bool(columns["nonce_burnt"])
    return Payment(**columns)


def _promised_again(payment: Payment, earlier: Payment) -> Payment:
    """The row of a nonce under which other terms were signed before: any of them may settle."""
    others = {*earlier.other_recipients.split(), earlier.pay_to} - {payment.pay_to}
    return replace(
        payment,
        reserved_atomic=max(payment.reserved_atomic, earlier.reserved_atomic),
        first_at=earlier.first_at,
        settleable_until=max(payment.settleable_until, earlier.settleable_until),
        other_recipients=" ".join(sorted(others)),
        presentations=earlier.presentations + 1,
        delivered=earlier.delivered,
    )


def _check(promises: Promises, budget: Budget, payment: Payment) -> None:
    recipients = (payment.pay_to, *payment.other_recipients.split())
    if budget.pay_to is not None and budget.pay_to not in recipients:
        return
    after = window_start(budget, payment.created_at)
    worker = payment.worker if budget.of_worker else None
    spent = promises.spent(key_of(payment), Window(after, budget.pay_to, worker))
    if spent + payment.reserved_atomic > budget.cap_atomic:
        raise budget.exceeded(payment.reserved_atomic, spent, payment.intent)
