"""A ledger that spends a shared budget in slices: nothing is asked of anyone between two of them.

Every payment is in this worker's own file before it is signed. What makes that safe for the budgets
of all: a slice counts in full on the shared ledger from before it is spent until its payments are
there in its place. Between the two stands only this file, and nothing in it is lost by a crash.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Protocol, Self

from x402sms.errors import ConfigError, LedgerError, SpendLimitExceeded
from x402sms.ledger.base import Payment
from x402sms.ledger.charges import Charges
from x402sms.ledger.lease import Lease, Leases, LeaseSpent
from x402sms.ledger.quotes import Quotes
from x402sms.ledger.spending import Spending
from x402sms.ledger.sqlite import SQLiteLedger
from x402sms.limits import MOST_ATOMIC, Amount, Budget
from x402sms.money import parse_usdc
from x402sms.protocol.types import Attempt, OnChainSettled, Outcome, PaymentState

logger = logging.getLogger("x402sms")

SHORTEST, LONGEST = 60, 86_400  # seconds
_NANOSECONDS = 10**9
_MOST_NAME = 200  # characters
_LEASE_NEEDED = "nothing signed: another lease is needed first, which is taken by itself"


class Shared(Protocol):
    """What is needed of the ledger that holds the budgets: `PostgresLedger`."""

    @property
    def charges(self) -> Charges: ...

    @property
    def leases(self) -> Leases: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Held:
    """A lease of this process, and until when by the clock that nobody sets."""

    lease: Lease
    monotonic_until: int

    def serves(self, terms: str) -> bool:
        return self.lease.terms == terms and time.monotonic_ns() < self.monotonic_until


class LeasedLedger:
    """See `Ledger`. `local` is this worker's own file, `shared` where the budgets are.

    It takes `slice_of` USDC of the shared budgets at a time, to spend within `seconds`; what is
    left goes back with the payments: when the next is taken, by `give_back`, `close`, or when the
    file is opened again. Budgets of a worker are checked in the file. What it lists and adds up is
    this worker's; the shared ledger has what everyone gave back. Closes both.

    Raises ConfigError for a slice, seconds or name that cannot be meant; LedgerError.
    """

    def __init__(
        self,
        local: SQLiteLedger,
        shared: Shared,
        *,
        worker: str,
        slice_of: Amount = "1.00",
        seconds: int = 600,
    ) -> None:
        self._slice_atomic = _slice(slice_of)
        if type(seconds) is not int or not SHORTEST <= seconds <= LONGEST:
            raise ConfigError(f"a lease is for {SHORTEST} to {LONGEST} seconds, not {seconds!r}")
        if not isinstance(worker, str) or not 0 < len(worker) <= _MOST_NAME:
            raise ConfigError("a lease needs the name of its worker, such as its host's")
        self._local, self._shared = local, shared
        self._worker, self._seconds = worker, seconds
        self._held: dict[tuple[str, str], _Held] = {}
        self._taking, self._process = threading.Lock(), os.getpid()
        self._closed = False
        self._lease_needed = False
        self.give_back()  # what a process that died has left in the file

    @property
    def charges(self) -> Charges:
        return self._shared.charges

    @property
    def quotes(self) -> Quotes:
        return self._local.quotes

    @property
    def leases(self) -> Leases:
        """Everyone's."""
        return self._shared.leases

    def reserve(self, attempt: Attempt, budgets: Sequence[Budget], *, now: int) -> None:
        of_all = [budget for budget in budgets if not budget.of_worker]
        own = [budget for budget in budgets if budget.of_worker]
        terms = _terms(of_all)
        account = attempt.authorization.network.caip2, attempt.authorization.payer
        while True:
            held = self._held.get(account)
            lease_id = held.lease.id if held is not None and held.serves(terms) else ""
            try:
                self._local.reserve_from(lease_id, attempt, own, now=now)
            except LeaseSpent as spent:
                if self._local.is_together:
                    self._lease_needed = True
                    raise LedgerError(_LEASE_NEEDED) from None
                asked = Lease(
                    secrets.token_hex(16), *account, self._worker, terms, self._slice_atomic
                )
                with self._turn():
                    if self._held.get(account) is held:  # else another thread took one meanwhile
                        self._take(asked, held, attempt.intent, of_all, spent)
            else:
                return

    def record(self, attempt: Attempt, outcome: Outcome, *, now: int) -> Payment:
        return self._passed_on(self._local.record(attempt, outcome, now=now))

    def get(self, *, network: str, payer: str, nonce: str) -> Payment | None:
        return self._local.get(network=network, payer=payer, nonce=nonce)

    def settle_from_chain(self, payment: Payment, found: OnChainSettled, *, now: int) -> Payment:
        return self._passed_on(self._local.settle_from_chain(payment, found, now=now))

    def void(
        self, payment: Payment, reason: str, *, nonce_burnt: bool = False, now: int
    ) -> Payment:
        voided = self._local.void(payment, reason, nonce_burnt=nonce_burnt, now=now)
        return self._passed_on(voided)

    def note_delivered(self, *, network: str, payer: str, nonce: str, what: str) -> bool:
        noted = self._local.note_delivered(network=network, payer=payer, nonce=nonce, what=what)
        payment = self._local.get(network=network, payer=payer, nonce=nonce)
        if payment is not None:
            self._passed_on(payment)
        return noted

    def insert_settled(self, payment: Payment) -> bool:
        """In both: it may be another worker's, and counts for all."""
        self._shared.leases.take_over([payment])
        return self._local.insert_settled(payment)

    def find(self, intent_or_nonce: str) -> list[Payment]:
        return self._local.find(intent_or_nonce)

    def payments(self, *, since: int = 0, state: PaymentState | None = None) -> Iterator[Payment]:
        return self._local.payments(since=since, state=state)

    def spent_atomic(
        self, *, network: str, payer: str, since: int = 0, worker: str | None = None
    ) -> int:
        return self._local.spent_atomic(network=network, payer=payer, since=since, worker=worker)

    def spending(self, *, since: int = 0) -> Iterator[Spending]:
        return self._local.spending(since=since)

    @contextmanager
    def together(self) -> Iterator[None]:
        """See `SharesCommits`. Raises LedgerError, with nothing written, where another lease is
        needed: what is taken from others must not hang on a commit that may yet fail."""
        with self._local.together():
            self._lease_needed = False
            yield
            if self._lease_needed:
                raise LedgerError(_LEASE_NEEDED)

    def give_back(self) -> None:
        """Return every lease of this file, and tell the shared ledger what is new of its payments.

        Raises LedgerError; what was not told then is told the next time.
        """
        with self._turn():
            self._held.clear()
            self._local.own_leases.close()
            self._hand_over()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self.give_back()
        except LedgerError:
            logger.warning(
                "a lease of the worker %s is not returned: what is left of it counts as spent "
                "until this worker's ledger is opened again",
                self._worker,
                exc_info=True,
            )
        finally:
            self._local.close()
            self._shared.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(
        self,
        asked: Lease,
        held: _Held | None,
        intent: str,
        budgets: Sequence[Budget],
        spent: LeaseSpent,
    ) -> None:
        """Another lease in place of the one that is held. What is left of that is free first."""
        own, started = self._local.own_leases, time.monotonic_ns()
        if held is not None:
            own.close(held.lease.id)
        self._hand_over()
        own.ask(asked)
        try:
            taken = self._shared.leases.take(
                asked,
                budgets,
                needed_atomic=spent.needed_atomic,
                seconds=self._seconds,
                intent=intent,
                now=spent.at,
            )
        except SpendLimitExceeded:
            own.forget(asked)
            raise
        except BaseException:
            own.close(asked.id)  # the answer may be what was lost: it is given back either way
            raise
        if own.opened(taken):
            until = started + self._seconds * _NANOSECONDS
            self._held[asked.network, asked.payer] = _Held(taken, until)

    def _hand_over(self) -> None:
        """Payments in the place of each lease that is closed, then what is new of the others. Each
        step may be the last before a crash: those that follow are found in the file."""
        own = self._local.own_leases
        for lease in own.closed():
            self._shared.leases.give_back(lease, own.payments(lease))
            own.returned(lease)
        if unpassed := own.unpassed():
            self._shared.leases.take_over(unpassed)
            own.passed(unpassed)

    def _passed_on(self, payment: Payment) -> Payment:
        """The shared ledger is told of a payment whose lease is returned: it has a row of it."""
        if self._local.is_together:
            return payment  # it may yet be undone: it is told with the next one
        held = self._held.get((payment.network, payment.payer))
        if payment.lease and (held is None or held.lease.id != payment.lease):
            try:
                self._hand_over()
            except LedgerError:
                logger.warning(
                    "%s is written down here, and not yet on the shared ledger: that is told with "
                    "the next lease",
                    payment.nonce,
                    exc_info=True,
                )
        return payment

    def _turn(self) -> threading.Lock:
        if self._process != os.getpid():  # after a fork: another thread of the parent may have it
            self._taking, self._process = threading.Lock(), os.getpid()
        return self._taking


def _slice(amount: Amount) -> int:
    try:
        atomic = parse_usdc(amount)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"the slice of a lease: {error}") from None
    if not 0 < atomic <= MOST_ATOMIC:
        raise ConfigError("the slice of a lease is more than nothing, and less than there is")
    return atomic


def _terms(budgets: Sequence[Budget]) -> str:
    """The budgets that a lease is taken from, as text. ConfigError for one of a recipient."""
    if any(budget.pay_to is not None for budget in budgets):
        raise ConfigError(
            "nothing signed: a budget for one recipient cannot be leased, since whom a slice will "
            "pay is not known when it is taken; pay from the shared ledger itself, or name the "
            "recipients without an amount each (pay_to) and use per_hour, per_day or total"
        )
    return json.dumps([astuple(budget) for budget in budgets])
