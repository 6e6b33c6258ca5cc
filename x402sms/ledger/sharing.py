"""Between a worker's ledger and the one it shares: a slice goes out, payments come back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from x402sms.ledger.base import Payment
from x402sms.ledger.lease import Lease, LeaseState
from x402sms.ledger.promising import NO_NONCE, Promises, Window, window_start
from x402sms.limits import LONGEST_WINDOW, Budget
from x402sms.protocol.types import PaymentState

_SETTLES_NO_MORE = "the chain's time was past it, and it had not settled, when its lease was ended"


def grant(
    promises: Promises,
    asked: Lease,
    budgets: Sequence[Budget],
    *,
    needed_atomic: int,
    seconds: int,
    intent: str,
    now: int,
) -> Lease:
    """See `Leases.take`. Other leases count in full in `promises.spent`.

    The seconds are those of the shared ledger, whose newest row may be ahead of this worker's
    clock, by no more than `max_clock_skew` where clocks are kept. So nothing is promised as of
    before `taken_at`, and the worker counts the seconds by its monotonic clock too: whichever is
    over first ends the lease.
    """
    taken_at = max(now, promises.latest())
    amount = max(asked.amount_atomic, needed_atomic)
    for budget in budgets:
        window = Window(window_start(budget, taken_at))
        spent = promises.spent((asked.network, asked.payer, NO_NONCE), window)
        left = budget.cap_atomic - spent
        if left < needed_atomic:
            refusal = budget.exceeded(needed_atomic, spent, intent)
            refusal.add_note("what workers have on lease counts too: `x402sms leases` lists it")
            raise refusal
        amount = min(amount, left)
    return replace(
        asked,
        amount_atomic=amount,
        taken_at=taken_at,
        expires_at=taken_at + seconds,
        settleable_until=taken_at + seconds + LONGEST_WINDOW,
        state=LeaseState.OPEN,
    )


def merged(shared: Payment | None, came: Payment, *, proven: bool = False) -> Payment:
    """The shared row of a nonce, once a worker's own row of it has come.

    What the chain has shown stays. Where both are promises, either may settle, and at most one:
    the larger counts. `proven`: what the chain does not show as settled by now never settles.
    """
    if proven and not came.verified and came.state is not PaymentState.VOID:
        came = replace(came, state=PaymentState.VOID, reason=_SETTLES_NO_MORE)
    if shared is None:
        return came
    if shared.verified or came.verified:
        shown, other = (shared, came) if shared.verified else (came, shared)
        return replace(shown, delivered=shown.delivered or other.delivered)
    if shared.lease == came.lease:
        return _followed(shared, came)
    return _beside(shared, came)


def _followed(shared: Payment, came: Payment) -> Payment:
    """The shared row came from the same worker's, which goes on with it."""
    if shared.state is PaymentState.VOID:
        return shared  # by proof: the same signature is worth nothing any more
    if came.state is PaymentState.VOID:
        return _voided(shared, came)
    if shared.state is PaymentState.SETTLED and came.state is not PaymentState.SETTLED:
        came = replace(
            came, state=shared.state, reason=shared.reason, transaction=shared.transaction
        )
    presentations = max(shared.presentations, came.presentations)
    return _either(came, shared, presentations)


def _beside(shared: Payment, came: Payment) -> Payment:
    """Two who did not know of each other promised under one nonce."""
    if came.state is PaymentState.VOID:
        return _voided(shared, came) if came.nonce_burnt else shared
    # More than either knows of, so that neither can say that it was never sent.
    presentations = shared.presentations + came.presentations
    if shared.state is PaymentState.VOID:
        return shared if shared.nonce_burnt else replace(came, presentations=presentations)
    newer, other = (came, shared) if came.created_at >= shared.created_at else (shared, came)
    if other.state is PaymentState.SETTLED:
        newer, other = other, newer
    return replace(_either(newer, other, presentations), lease=came.lease)


def _voided(shared: Payment, came: Payment) -> Payment:
    """Void as far as the worker knows; the shared row may have been presented again since."""
    known = shared.presentations <= came.presentations
    if came.nonce_burnt or (known and shared.settleable_until <= came.settleable_until):
        return replace(
            shared,
            state=PaymentState.VOID,
            reason=came.reason,
            nonce_burnt=came.nonce_burnt,
            updated_at=came.updated_at,
        )
    return shared


def _either(payment: Payment, other: Payment, presentations: int) -> Payment:
    """The payment, where what the other one signed may settle in its place."""
    recipients = {payment.pay_to, other.pay_to, *payment.other_recipients.split()}
    recipients |= set(other.other_recipients.split())
    return replace(
        payment,
        reserved_atomic=max(payment.reserved_atomic, other.reserved_atomic),
        first_at=min(payment.first_at, other.first_at),
        created_at=max(payment.created_at, other.created_at),
        settleable_until=max(payment.settleable_until, other.settleable_until),
        other_recipients=" ".join(sorted(recipients - {payment.pay_to})),
        presentations=presentations,
        delivered=payment.delivered or other.delivered,
    )
