"""What was bought from an account's balance, with an API key instead of a wallet.

Nothing is signed there, so no nonce keeps a purchase from being made twice. What does is this: it
is written down before it is asked for, and what was asked for is looked for, not asked for again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from x402sms.errors import IntentConflict
from x402sms.limits import Budget
from x402sms.money import to_usdc
from x402sms.protocol.types import PaymentState


@dataclass(frozen=True, slots=True)
class Charge:
    """One purchase. `account` tells accounts apart and is no key; times are Unix seconds.

    `state` is unknown from when it was asked for until its answer was read, then settled (it is
    charged) or void (the service said no, or nothing of it is to be found). `amount_atomic` is the
    price that was expected, and then the one that was charged. `order_id` is what it brought.
    `worker` and `labels` are as a Payment has them.
    """

    account: str
    intent: str
    what: str
    url: str
    amount_atomic: int
    state: PaymentState = PaymentState.UNKNOWN
    order_id: str | None = None
    asked_at: int = 0
    updated_at: int = 0
    worker: str = ""
    labels: str = ""


class Charges(Protocol):
    """Every method raises LedgerError when the store fails; then nothing may be bought."""

    def ask(self, charge: Charge, budgets: Sequence[Budget], *, now: int) -> Charge | None:
        """Write down durably that it is about to be asked for, and count it against the budgets.

        Returns the charge that has the intent already (nothing is written, nothing may be asked
        for), or None. Raises SpendLimitExceeded, and IntentConflict where that is for something
        else.
        """
        ...

    def end(
        self,
        charge: Charge,
        state: PaymentState,
        *,
        order_id: str | None = None,
        amount_atomic: int | None = None,
        now: int,
    ) -> bool:
        """What became of it. False, and nothing written, where the order is another charge's.

        A charge that has an order keeps that. It is void only as it was read: not where it was
        asked for anew since then (`charge.asked_at`, where that is not 0).
        """
        ...

    def get(self, account: str, intent: str) -> Charge | None: ...

    def list(self, *, since: int = 0) -> list[Charge]:
        """All, newest first."""
        ...

    def charged_atomic(self, account: str, *, since: int = 0, worker: str | None = None) -> int:
        """What counts as spent: everything asked for from `since` on and not void, by one worker or
        any (None)."""
        ...


NAMES = [field.name for field in fields(Charge)]
_EVER = -1


class Asked(Protocol):
    """The charges in one transaction, beside which nothing else is written of their account."""

    def find(self, account: str, intent: str) -> Charge | None: ...

    def latest(self) -> int:
        """When the last charge of anyone was asked for, 0 where there is none."""
        ...

    def spent(self, account: str, after: int, worker: str | None) -> int:
        """What counts of what was asked for after a second, by one worker or any (None)."""
        ...

    def put(self, charge: Charge) -> None:
        """Its row takes the place of the one with the same intent, as the newest of all."""
        ...


def ask_once(asked: Asked, charge: Charge, budgets: Sequence[Budget], now: int) -> Charge | None:
    """See `Charges.ask`."""
    # A clock set back must not let yesterday's spending out of today's window.
    now = max(now, asked.latest())
    earlier = asked.find(charge.account, charge.intent)
    if earlier is not None and earlier.state is not PaymentState.VOID:
        refuse_other(earlier, charge)
        return earlier
    for budget in budgets:
        _check(asked, budget, charge, now)
    asked.put(replace(charge, asked_at=now, updated_at=now))
    return None


def columns_of(charge: Charge) -> dict[str, object]:
    return {name: getattr(charge, name) for name in NAMES}


def charge_of(row: Sequence[Any]) -> Charge:
    """The charge whose columns these are, in the order of NAMES."""
    columns = dict(zip(NAMES, row, strict=True))
    return Charge(**{**columns, "state": PaymentState(columns["state"])})


def refuse_other(earlier: Charge, charge: Charge) -> None:
    """Raise IntentConflict where the intent of both was used for something else before."""
    if earlier.what != charge.what:
        raise IntentConflict(
            f"nothing bought: the intent {charge.intent!r} bought {earlier.what} already, "
            f"and {charge.what} is something else; give each purchase an intent of its own",
            intent=charge.intent,
            amount=to_usdc(earlier.amount_atomic),
        )


def _check(asked: Asked, budget: Budget, charge: Charge, now: int) -> None:
    if budget.pay_to is not None:
        return  # nobody is paid: the balance was, by a top-up
    after = _EVER if budget.seconds is None else now - budget.seconds
    worker = charge.worker if budget.of_worker else None
    spent = asked.spent(charge.account, after, worker)
    if spent + charge.amount_atomic > budget.cap_atomic:
        raise budget.exceeded(charge.amount_atomic, spent, charge.intent)
