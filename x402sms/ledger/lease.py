"""A slice of a shared budget that one worker spends by itself: what it is, and when it is given.

What keeps the budgets exact: until it is returned, a lease counts in full where they are kept, and
that until `expires_at`, the last second from which it can be spent. Nothing that is spent from it
is later, or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from x402sms.errors import ConfigError
from x402sms.limits import LONGEST_WINDOW, Budget

if TYPE_CHECKING:
    from x402sms.ledger.base import Payment


# Between the chain's clock and the ledger's, and for blocks that a node has not heard of.
SLACK_SECONDS = 900


class LeaseState(StrEnum):
    """In a worker's file: asked, open, closed, returned. On the shared ledger: open, then returned
    by the worker's own rows, or proven by the chain."""

    ASKED = "asked"
    OPEN = "open"
    CLOSED = "closed"
    RETURNED = "returned"
    PROVEN = "proven"


@dataclass(frozen=True, slots=True)
class Lease:
    """Amounts are atomic USDC, times Unix seconds. `network` is CAIP-2, `terms` the budgets that it
    was taken from. It is spent before `expires_at`; whatever was signed from it can settle until
    `settleable_until` by the chain's clock."""

    id: str
    network: str
    payer: str
    worker: str
    terms: str
    amount_atomic: int
    taken_at: int = 0
    expires_at: int = 0
    settleable_until: int = 0
    state: LeaseState = LeaseState.ASKED


LEASE_NAMES = [field.name for field in fields(Lease)]
# From this nothing can be spent.
NO_LEASE = Lease("", "", "", "", "", 0)


def lease_of(row: Sequence[Any]) -> Lease:
    """The lease whose columns these are, in the order of LEASE_NAMES."""
    columns = dict(zip(LEASE_NAMES, row, strict=True))
    return Lease(**columns | {"state": LeaseState(columns["state"])})


class LeaseSpent(Exception):
    """Not enough is left of the lease, or no time: at the second `at`, `needed_atomic` are."""

    def __init__(self, needed_atomic: int, at: int) -> None:
        super().__init__(needed_atomic, at)
        self.needed_atomic = needed_atomic
        self.at = at


class Leases(Protocol):
    """The leases of a ledger that workers share. Every method raises LedgerError when it fails."""

    def take(
        self,
        asked: Lease,
        budgets: Sequence[Budget],
        *,
        needed_atomic: int,
        seconds: int,
        intent: str,
        now: int,
    ) -> Lease:
        """A slice of what the budgets leave: what is asked for, else the rest, and at least what is
        needed. Raises SpendLimitExceeded."""
        ...

    def give_back(self, lease: Lease, payments: Sequence[Payment]) -> None:
        """Count these in its place, which are all that were promised from it. Doing it again
        changes nothing; one that was never taken cannot be any more."""
        ...

    def take_over(self, payments: Sequence[Payment]) -> None:
        """What became of payments whose lease was given back."""
        ...

    def return_proven(
        self, *, network: str, payer: str, covered_from: int, chain_time: int
    ) -> list[Lease]:
        """The leases that are over, now that every payment which settled between these moments of
        the chain is in this ledger: what else was signed from them can settle no more."""
        ...

    def list(self, *, unreturned: bool = False) -> list[Lease]:
        """All, newest first; or those that count."""
        ...


def check_lease(promised_atomic: int, lease: Lease, payment: Payment) -> None:
    """May it be promised from what is left? Raises LeaseSpent; ConfigError for an authorization
    that outlives every lease."""
    if payment.settleable_until - payment.created_at > LONGEST_WINDOW:
        raise ConfigError(
            f"nothing signed: the authorization would be valid for more than {LONGEST_WINDOW} "
            "seconds, and a lease is returned on the word that none is"
        )
    left = lease.amount_atomic - promised_atomic
    if payment.created_at >= lease.expires_at or payment.reserved_atomic > left:
        raise LeaseSpent(payment.reserved_atomic, payment.created_at)
