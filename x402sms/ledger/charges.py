"""What was bought from an account's balance, with an API key instead of a wallet.

Nothing is signed there, so no nonce keeps a purchase from being made twice. What does is this: it
is written down before it is asked for, and what was asked for is looked for, not asked for again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import Protocol

from x402sms.errors import IntentConflict
from x402sms.ledger.sqlite_file import number
from x402sms.limits import Budget
from x402sms.money import to_usdc
from x402sms.protocol.types import PaymentState


@dataclass(frozen=True, slots=True)
class Charge:
    """One purchase. `account` tells accounts apart and is no key; times are Unix seconds.

    `state` is unknown from when it was asked for until its answer was read, then settled (it is
    charged) or void (the service said no, or nothing of it is to be found). `amount_atomic` is the
    price that was expected, and then the one that was charged. `order_id` is what it brought.
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

    def charged_atomic(self, account: str, *, since: int = 0) -> int:
        """What counts as spent: everything asked for from `since` on and not void."""
        ...


_NAMES = [field.name for field in fields(Charge)]
_SELECT = f"SELECT {', '.join(_NAMES)} FROM charges"  # noqa: S608  names of ours, no input
_FIND = f"{_SELECT} WHERE account = ? AND intent = ?"
_ASK = f"""
    INSERT OR REPLACE INTO charges ({", ".join(_NAMES)})
    VALUES ({", ".join(f":{name}" for name in _NAMES)})
"""  # noqa: S608  as above
_SPENT = """
    SELECT coalesce(sum(amount_atomic), 0) FROM charges
    WHERE account = ? AND asked_at > ? AND state != 'void'
"""
_END = """
    UPDATE OR IGNORE charges
    SET state = ?, order_id = coalesce(?, order_id), amount_atomic = coalesce(?, amount_atomic),
        updated_at = ?
    WHERE account = ? AND intent = ?
        AND (state != 'settled' OR (? = 'settled' AND order_id IS ?))
        AND (? != 'void' OR ? IN (0, asked_at))
"""
_FOREVER = -1

Transaction = Callable[[str], AbstractContextManager[sqlite3.Connection]]


class SQLiteCharges:
    """See `Charges`. `transaction` is the ledger's own: one file, one lock."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def ask(self, charge: Charge, budgets: Sequence[Budget], *, now: int) -> Charge | None:
        # FULL: on disk before the request leaves, power cut included.
        with self._transaction("FULL") as connection:
            now = _never_backwards(connection, now)
            earlier = _first(connection.execute(_FIND, (charge.account, charge.intent)))
            if earlier is not None and earlier.state is not PaymentState.VOID:
                refuse_other(earlier, charge)
                return earlier
            for budget in budgets:
                _check(connection, budget, charge, now)
            asked = replace(charge, asked_at=now, updated_at=now)
            connection.execute(_ASK, {name: getattr(asked, name) for name in _NAMES})
            return None

    def end(
        self,
        charge: Charge,
        state: PaymentState,
        *,
        order_id: str | None = None,
        amount_atomic: int | None = None,
        now: int,
    ) -> bool:
        with self._transaction("NORMAL") as connection:
            changes = (state, order_id, amount_atomic, now)
            only_if = (charge.account, charge.intent, state, order_id, state, charge.asked_at)
            return connection.execute(_END, (*changes, *only_if)).rowcount == 1

    def get(self, account: str, intent: str) -> Charge | None:
        with self._transaction("NORMAL") as connection:
            return _first(connection.execute(_FIND, (account, intent)))

    def list(self, *, since: int = 0) -> list[Charge]:
        statement = f"{_SELECT} WHERE asked_at >= ? ORDER BY asked_at DESC, rowid DESC"
        with self._transaction("NORMAL") as connection:
            return [_charge(row) for row in connection.execute(statement, (since,))]

    def charged_atomic(self, account: str, *, since: int = 0) -> int:
        with self._transaction("NORMAL") as connection:
            return number(connection, _SPENT, (account, since - 1))


def refuse_other(earlier: Charge, charge: Charge) -> None:
    """Raise IntentConflict where the intent of both was used for something else before."""
    if earlier.what != charge.what:
        raise IntentConflict(
            f"nothing bought: the intent {charge.intent!r} bought {earlier.what} already, "
            f"and {charge.what} is something else; give each purchase an intent of its own",
            intent=charge.intent,
            amount=to_usdc(earlier.amount_atomic),
        )


def _check(connection: sqlite3.Connection, budget: Budget, charge: Charge, now: int) -> None:
    if budget.pay_to is not None:
        return  # nobody is paid: the balance was, by a top-up
    after = _FOREVER if budget.seconds is None else now - budget.seconds
    spent = number(connection, _SPENT, (charge.account, after))
    if spent + charge.amount_atomic > budget.cap_atomic:
        raise budget.exceeded(charge.amount_atomic, spent, charge.intent)


def _never_backwards(connection: sqlite3.Connection, now: int) -> int:
    """A clock set back must not let yesterday's spending out of today's window."""
    return max(now, number(connection, "SELECT coalesce(max(asked_at), 0) FROM charges"))


def _charge(row: sqlite3.Row) -> Charge:
    columns = dict(zip(_NAMES, row, strict=True))
    return Charge(**{**columns, "state": PaymentState(columns["state"])})


def _first(rows: Iterator[sqlite3.Row]) -> Charge | None:
    row = next(rows, None)
    return None if row is None else _charge(row)
