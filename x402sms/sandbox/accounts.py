"""Accounts with a prepaid balance, for callers with a key: what each holds, spent and got back."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal

from x402sms.money import format_usdc
from x402sms.sandbox.payments import PaymentRecord
from x402sms.sandbox.problems import Problem

EntryKind = Literal["purchase", "refund", "deposit"]

ID_PREFIX = "acct_"


@dataclass(frozen=True)
class Entry:
    """A row of an account's ledger; `amount_atomic` is positive whichever way the money went."""

    entry_id: str
    kind: EntryKind
    amount_atomic: int
    at: float
    order_id: str | None
    method: str
    path: str


@dataclass
class Account:
    """`balance_atomic` is in millionths of a dollar, which is what USDC's atomic units are."""

    account_id: str
    balance_atomic: int = 0
    entries: list[Entry] = field(default_factory=list)

    def spent(self) -> int:
        return self._sum("purchase")

    def refunded(self) -> int:
        return self._sum("refund")

    def _sum(self, kind: EntryKind) -> int:
        return sum(entry.amount_atomic for entry in self.entries if entry.kind == kind)


Told = Callable[[Account, int, float], None]


class Accounts:
    """By key and by id; ids follow from the seed. `now` gives the orders' time.

    `on_deposit` and `on_purchase` are told once the balance has changed: by how much, and when.
    """

    def __init__(self, seed: int, now: Callable[[], float]) -> None:
        self._seed = seed
        self._now = now
        self._by_key: dict[str, Account] = {}
        self._by_id: dict[str, Account] = {}
        self._made = 0
        self.on_deposit: Told = _nobody
        self.on_purchase: Told = _nobody

    def new(self) -> Account:
        """One that nobody has the key of until `admit`."""
        self._made += 1
        return Account(ID_PREFIX + self._digest("account", self._made))

    def admit(self, account: Account, api_key: str) -> None:
        self._by_key[api_key] = self._by_id[account.account_id] = account

    def of_key(self, api_key: str) -> Account:
        """Raises Problem (401) for a key that is none."""
        account = self._by_key.get(api_key)
        if account is None:
            raise unauthorized("The API key is not known here")
        return account

    def of_id(self, account_id: str) -> Account | None:
        return self._by_id.get(account_id)

    def reserve(self, account: Account, amount_atomic: int) -> Callable[[], None]:
        """Take the price of a call that is to be tried; returns what takes that back.

        Raises Problem (402) if the balance is less.
        """
        if account.balance_atomic < amount_atomic:
            held, required = (format_usdc(it) for it in (account.balance_atomic, amount_atomic))
            detail = f"Balance ${held} < required ${required}"
            raise Problem(402, "insufficient-balance", detail)
        account.balance_atomic -= amount_atomic

        def undo() -> None:
            account.balance_atomic += amount_atomic

        return undo

    def purchased(self, account: Account, record: PaymentRecord) -> None:
        """What was reserved is spent; a call that costs nothing leaves no entry."""
        if record.amount_atomic:
            self._enter(account, "purchase", record.amount_atomic, record.path, record)
            self.on_purchase(account, record.amount_atomic, self._now())

    def refund(self, account: Account, record: PaymentRecord) -> None:
        """Pay back the whole of a purchase."""
        account.balance_atomic += record.amount_atomic
        self._enter(account, "refund", record.amount_atomic, record.path, record)

    def deposit(self, account: Account, amount_atomic: int, path: str) -> None:
        account.balance_atomic += amount_atomic
        self._enter(account, "deposit", amount_atomic, path)
        self.on_deposit(account, amount_atomic, self._now())

    def _enter(
        self,
        account: Account,
        kind: EntryKind,
        amount_atomic: int,
        path: str,
        record: PaymentRecord | None = None,
    ) -> None:
        """`record` is the purchase that it is about."""
        number = len(account.entries) + 1
        entry = Entry(
            entry_id=f"txn_{self._digest('entry', account.account_id, number)}",
            kind=kind,
            amount_atomic=amount_atomic,
            at=self._now(),
            order_id=None if record is None else record.order_id,
            method="POST",
            path=path,
        )
        account.entries.append(entry)

    def _digest(self, *parts: object) -> str:
        text = "\n".join(str(part) for part in (self._seed, *parts))
        return blake2b(text.encode(), digest_size=8).hexdigest()


def new_key() -> str:
    """A fresh test key; as secret as a real one, for who runs a sandbox may be overheard."""
    return f"sk_test_{secrets.token_urlsafe(24)}"


def unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def _nobody(account: Account, amount_atomic: int, at: float) -> None:
    """Until somebody wants to know."""
