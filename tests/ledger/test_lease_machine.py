"""Whatever workers with leases, others without, and the chain do in whatever order: no window of
any budget is ever over, and at the end every payment is on the shared ledger."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.ledger.leasing import empty, made, spent
from tests.parts.postgres import Postgres
from x402sms.conformance.parts import NOW, attempt
from x402sms.errors import AlreadyPaid, SpendLimitExceeded
from x402sms.ledger import LeasedLedger, Ledger, Payment, SQLiteLedger
from x402sms.ledger.charges import Charges
from x402sms.ledger.lease import Leases
from x402sms.ledger.postgres import PostgresLedger
from x402sms.limits import Budget
from x402sms.protocol.types import Attempt, OnChainSettled, Outcome, PaymentState

WORKERS = ["one", "two", "three"]
HOURLY, EVER = Budget("per_hour", 120, 3600), Budget("total", 300)
BUDGETS = [HOURLY, EVER]
HASH = "0x" + "ab" * 32

workers = st.sampled_from(WORKERS)
skews = st.sampled_from([0, 0, -100, 100])
# Each worker has intents of its own, and there are some that everyone uses, at one price.
OWN_PRICES = [10, 10, 20, 35]


class Kept:
    """The shared ledger of all workers: stays open when one of them closes it."""

    def __init__(self, ledger: PostgresLedger) -> None:
        self.charges: Charges = ledger.charges
        self.leases: Leases = ledger.leases

    def close(self) -> None:
        pass


class Machine(RuleBasedStateMachine):
    postgres: Postgres
    shared: PostgresLedger

    def __init__(self) -> None:
        super().__init__()
        empty(self.postgres)
        self.folder = tempfile.TemporaryDirectory()
        self.now = NOW
        self.open: dict[str, tuple[SQLiteLedger, LeasedLedger]] = {}
        self.made: dict[str, list[Attempt]] = {name: [] for name in (*WORKERS, "")}

    def worker(self, name: str) -> LeasedLedger:
        """As it runs, or started (again)."""
        if name not in self.open:
            local = SQLiteLedger(Path(self.folder.name) / f"{name}.db")
            ledger = LeasedLedger(local, Kept(self.shared), worker=name, slice_of="0.00005")
            self.open[name] = local, ledger
        return self.open[name][1]

    def reserve(self, ledger: Ledger, name: str, intent: str, amount: int, now: int) -> None:
        made = attempt(intent, amount, valid_before=self.now + 300)
        try:
            ledger.reserve(made, BUDGETS, now=now)
        except (SpendLimitExceeded, AlreadyPaid):
            return
        self.made[name].append(made)

    @rule(name=workers, number=st.integers(0, 9), price=st.sampled_from(OWN_PRICES), skew=skews)
    def reserve_from_a_lease(self, name: str, number: int, price: int, skew: int) -> None:
        self.reserve(self.worker(name), name, f"{name} {number}", price, self.now + skew)

    @rule(name=workers, number=st.integers(0, 2), skew=skews)
    def reserve_what_others_may_have_reserved(self, name: str, number: int, skew: int) -> None:
        self.reserve(self.worker(name), name, f"all {number}", 10, self.now + skew)

    @rule(number=st.integers(0, 4), price=st.just(10), everyone=st.booleans(), skew=skews)
    def reserve_directly(self, number: int, price: int, everyone: bool, skew: int) -> None:
        intent = f"all {number % 3}" if everyone else f"direct {number}"
        self.reserve(self.shared, "", intent, price, self.now + skew)

    @rule(name=st.sampled_from([*WORKERS, ""]), number=st.integers(0, 20))
    def present_again(self, name: str, number: int) -> None:
        if self.made[name]:
            again = self.made[name][number % len(self.made[name])]
            ledger = self.worker(name) if name else self.shared
            if ledger.find(again.intent)[0].attempt().authorization == again.authorization:
                try:
                    ledger.reserve(again, BUDGETS, now=self.now)
                except (SpendLimitExceeded, AlreadyPaid):
                    pass

    @rule(
        name=st.sampled_from([*WORKERS, ""]),
        number=st.integers(0, 20),
        state=st.sampled_from(["settled", "unknown", "refused", "void"]),
    )
    def record(self, name: str, number: int, state: str) -> None:
        if self.made[name]:
            ended = self.made[name][number % len(self.made[name])]
            ledger: Ledger = self.worker(name) if name else self.shared
            outcome = Outcome(PaymentState(state), never_sent=state == "void")
            ledger.record(ended, outcome, now=self.now)

    @rule(number=st.integers(0, 20), settled=st.booleans())
    def the_chain_is_asked_on_the_shared_ledger(self, number: int, settled: bool) -> None:
        payments = [each for each in self.shared.payments() if not each.verified]
        if payments:
            payment = payments[number % len(payments)]
            if settled:
                found = OnChainSettled(HASH, payment.pay_to, payment.amount_atomic)
                self.shared.settle_from_chain(payment, found, now=self.now)
            elif self.now > payment.settleable_until + 100:
                self.shared.void(payment, "it expired", now=self.now)

    @rule(name=workers)
    def crash(self, name: str) -> None:
        if name in self.open:
            self.open.pop(name)[0].close()

    @rule(name=workers)
    def close(self, name: str) -> None:
        if name in self.open:
            self.open.pop(name)[1].close()

    @rule(name=workers)
    def give_back(self, name: str) -> None:
        self.worker(name).give_back()

    @rule(seconds=st.sampled_from([1, 59, 300, 600, 601, 3000, 3600]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    def local_rows(self) -> Iterator[Payment]:
        for name in WORKERS:
            path = Path(self.folder.name) / f"{name}.db"
            if name in self.open:
                yield from self.open[name][0].payments()
            elif path.exists():
                with SQLiteLedger(path) as local:
                    yield from local.payments()

    @invariant()
    def no_window_is_over(self) -> None:
        """By nonce, since of one at most one settles: what is shared, and what only files have."""
        leased = {lease.id for lease in self.shared.leases.list(unreturned=True)}
        rows = [*self.shared.payments(), *(row for row in self.local_rows() if row.lease in leased)]
        counted = [row for row in rows if row.state is not PaymentState.VOID]
        for moment in {row.created_at for row in counted}:
            most: dict[str, int] = {}
            for row in counted:
                if moment - 3600 < row.created_at <= moment:
                    most[row.nonce] = max(most.get(row.nonce, 0), row.reserved_atomic)
            assert sum(most.values()) <= HOURLY.cap_atomic
        ever: dict[str, int] = {}
        for row in counted:
            ever[row.nonce] = max(ever.get(row.nonce, 0), row.reserved_atomic)
        assert sum(ever.values()) <= spent(self.shared) <= EVER.cap_atomic

    def teardown(self) -> None:
        for name in WORKERS:
            self.worker(name).give_back()
        assert self.shared.leases.list(unreturned=True) == []
        shared = {row.nonce: row for row in self.shared.payments()}
        for row in self.local_rows():
            there = shared[row.nonce]
            if row.state is PaymentState.SETTLED:
                assert there.state in (PaymentState.SETTLED, PaymentState.VOID)
            if row.state is not PaymentState.VOID:
                assert there.reserved_atomic >= row.reserved_atomic or there.verified
        for _, ledger in self.open.values():
            ledger.close()
        self.folder.cleanup()


def test_no_budget_is_over_whatever_happens(postgres: Postgres) -> None:
    with PostgresLedger(made(postgres)) as shared:
        Machine.postgres, Machine.shared = postgres, shared
        run_state_machine_as_test(
            Machine,
            settings=settings(max_examples=20, stateful_step_count=20, deadline=None),
        )
