"""Any sequence of calls, beside SQLite in memory: both must answer alike."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import ClassVar, Protocol

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from x402sms.conformance.cases import Cases
from x402sms.conformance.parts import ELSEWHERE, HASH, NOW, OPEN, OTHER, RECIPIENT, attempt
from x402sms.errors import X402SMSError
from x402sms.ledger import Charge, Ledger, Payment, Spending, SQLiteLedger
from x402sms.limits import Budget
from x402sms.protocol.networks import BASE
from x402sms.protocol.types import Attempt, OnChainSettled, Outcome, PaymentState

BUDGETS = (
    Budget("per_hour", 50, 100),
    Budget("total", 55),
    Budget("pay_to", 40, pay_to=OTHER),
    Budget("total", 35, of_worker=True),
)
WORKERS = ("", "one", "two")
EARLIEST, LATEST = -50, 400
MOMENTS = (EARLIEST, 0, 99, 100, LATEST)
APART = 1_000  # seconds between what two examples do: more than any of their windows


@dataclass(frozen=True)
class Stage:
    """Wallets, accounts and hours that no other example has. One store serves them all."""

    number: int

    def at(self, moment: int) -> int:
        return NOW + self.number * APART + moment

    def payer(self, which: int) -> str:
        return f"0x{2 * self.number + which + 1:040d}"

    def account(self, which: int) -> str:
        return f"key:{self.number}:{which}"


class Step(Protocol):
    """One call. Its moments are seconds from the example's own zero."""

    def take(self, ledger: Ledger, stage: Stage) -> object: ...


@dataclass(frozen=True)
class Terms:
    """What is promised for which intent, by the first or the second wallet."""

    intent: str
    amount_atomic: int
    wallet: int
    pay_to: str
    until: int
    bought: str
    worker: str

    def attempt(self, stage: Stage) -> Attempt:
        return attempt(
            self.intent,
            self.amount_atomic,
            payer=stage.payer(self.wallet),
            pay_to=self.pay_to,
            valid_before=stage.at(self.until),
            fingerprint=self.bought * 64,
            worker=self.worker,
            labels={"of": self.worker} if self.worker else {},
        )

    def stored(self, ledger: Ledger, stage: Stage) -> Payment:
        """As it was read, or as it would be."""
        made = self.attempt(stage)
        found = ledger.find(made.authorization.nonce_hex)
        return next(iter(found), Payment.reserved(made, stage.at(0)))


@dataclass(frozen=True)
class Reserve:
    terms: Terms
    moment: int

    def take(self, ledger: Ledger, stage: Stage) -> None:
        ledger.reserve(self.terms.attempt(stage), BUDGETS, now=stage.at(self.moment))


@dataclass(frozen=True)
class Record:
    """`proven_at` is the chain's time when the nonce was unused."""

    terms: Terms
    outcome: Outcome
    proven_at: int | None
    moment: int

    def take(self, ledger: Ledger, stage: Stage) -> object:
        chain_time = None if self.proven_at is None else stage.at(self.proven_at)
        outcome = replace(self.outcome, chain_time=chain_time)
        return ledger.record(self.terms.attempt(stage), outcome, now=stage.at(self.moment))


@dataclass(frozen=True)
class Settle:
    terms: Terms
    moment: int

    def take(self, ledger: Ledger, stage: Stage) -> object:
        found = OnChainSettled(ELSEWHERE, OTHER, 7)
        read = self.terms.stored(ledger, stage)
        return ledger.settle_from_chain(read, found, now=stage.at(self.moment))


@dataclass(frozen=True)
class Void:
    """`missed` is how often it was promised again since it was read."""

    terms: Terms
    missed: int
    burnt: bool
    moment: int

    def take(self, ledger: Ledger, stage: Stage) -> object:
        read = self.terms.stored(ledger, stage)
        read = replace(read, presentations=read.presentations - self.missed)
        return ledger.void(read, "proven", nonce_burnt=self.burnt, now=stage.at(self.moment))


@dataclass(frozen=True)
class Deliver:
    terms: Terms
    what: str

    def take(self, ledger: Ledger, stage: Stage) -> object:
        authorization = self.terms.attempt(stage).authorization
        return ledger.note_delivered(
            network=BASE.caip2,
            payer=authorization.payer,
            nonce=authorization.nonce_hex,
            what=self.what,
        )


@dataclass(frozen=True)
class InsertSettled:
    terms: Terms
    moment: int

    def take(self, ledger: Ledger, stage: Stage) -> object:
        made = Payment.reserved(self.terms.attempt(stage), stage.at(self.moment))
        found = replace(made, state=PaymentState.SETTLED, transaction=HASH, verified=True)
        return ledger.insert_settled(found)


@dataclass(frozen=True)
class Purchase:
    """What is bought from the balance of the first or the second account."""

    which: int
    intent: str
    what: str
    amount_atomic: int
    read_at: int | None

    def charge(self, stage: Stage) -> Charge:
        return Charge(
            stage.account(self.which),
            self.intent,
            self.what,
            "https://seller.example/orders",
            self.amount_atomic,
            asked_at=0 if self.read_at is None else stage.at(self.read_at),
        )


@dataclass(frozen=True)
class Ask:
    purchase: Purchase
    moment: int

    def take(self, ledger: Ledger, stage: Stage) -> object:
        now = stage.at(self.moment)
        return ledger.charges.ask(self.purchase.charge(stage), BUDGETS[:2], now=now)


@dataclass(frozen=True)
class End:
    purchase: Purchase
    state: PaymentState
    order_id: str | None
    amount_atomic: int | None
    moment: int

    def take(self, ledger: Ledger, stage: Stage) -> object:
        return ledger.charges.end(
            self.purchase.charge(stage),
            self.state,
            order_id=self.order_id,
            amount_atomic=self.amount_atomic,
            now=stage.at(self.moment),
        )


moments = st.sampled_from(MOMENTS)
terms = st.builds(
    Terms,
    intent=st.sampled_from("aab"),
    amount_atomic=st.sampled_from([0, 10, 30]),
    wallet=st.sampled_from([0, 0, 0, 1]),
    pay_to=st.sampled_from([RECIPIENT, OTHER]),
    until=st.sampled_from([300, 400]),
    bought=st.sampled_from("ffffe"),
    worker=st.sampled_from(WORKERS),
)
VOID = PaymentState.VOID
answered = st.builds(
    Outcome,
    state=st.sampled_from([*OPEN, *PaymentState]),
    reason=st.sampled_from([None, "why \u00fc"]),
    transaction=st.sampled_from([None, HASH]),
)
not_sent = st.just(Outcome(VOID, "no connection", never_sent=True))
cancelled = st.just(Outcome(VOID, "cancelled", HASH, nonce_burnt=True))
unused = st.just(Outcome(VOID, "expired"))
purchases = st.builds(
    Purchase,
    which=st.sampled_from([0, 1]),
    intent=st.sampled_from("ab"),
    what=st.sampled_from(["a number", "more hours"]),
    amount_atomic=st.sampled_from([0, 10, 30]),
    read_at=st.sampled_from([None, 0, 99]),
)
ends = st.sampled_from([PaymentState.UNKNOWN, PaymentState.SETTLED, PaymentState.VOID])
orders = st.sampled_from(["order-1", "order-2"])
reservations = st.builds(Reserve, terms, moments)
kinds: list[st.SearchStrategy[Step]] = [
    *([reservations] * 5),  # the other calls are about what these left
    *([st.builds(Record, terms, answered, st.none(), moments)] * 2),
    st.builds(Record, terms, not_sent | cancelled, st.none(), moments),
    st.builds(Record, terms, unused, st.sampled_from([300, 301, 400, 401]), moments),
    st.builds(Settle, terms, moments),
    st.builds(Void, terms, st.sampled_from([0, 0, 1]), st.booleans(), moments),
    st.builds(Deliver, terms, orders),
    st.builds(InsertSettled, terms, moments),
    st.builds(Ask, purchases, moments),
    st.builds(End, purchases, ends, st.none() | orders, st.sampled_from([None, 5]), moments),
]
# Not one_of, to which a strategy that is there five times is there once.
steps: st.SearchStrategy[Step] = st.sampled_from(kinds).flatmap(lambda kind: kind)
# Parts of a sequence of some 25: hypothesis makes a list short where it may be empty.
sequences = st.lists(st.lists(steps, max_size=10), max_size=10)


def answer(ledger: Ledger, step: Step, stage: Stage) -> object:
    """What it returns or raises; of an error its kind and its figures, not its words."""
    try:
        return step.take(ledger, stage)
    except X402SMSError as error:
        return type(error), vars(error).get("limit"), vars(error).get("spent")


def books(ledger: Ledger, stage: Stage) -> dict[str, object]:
    """What the ledger says of the example as a whole."""
    begun = stage.at(EARLIEST)
    return {
        "payments": list(ledger.payments(since=begun)),
        "spending": added_up(ledger, begun),
        "settled": list(ledger.payments(since=stage.at(0), state=PaymentState.SETTLED)),
        "spent": [
            ledger.spent_atomic(network=BASE.caip2, payer=stage.payer(which), since=since)
            for which in (0, 1)
            for since in (0, stage.at(0), stage.at(99))
        ],
        "spent by one": [
            ledger.spent_atomic(network=BASE.caip2, payer=stage.payer(0), worker=worker)
            for worker in WORKERS
        ],
        "charges": ledger.charges.list(since=begun),
        "charged": [
            ledger.charges.charged_atomic(stage.account(which), since=stage.at(0))
            for which in (0, 1)
        ],
    }


def added_up(ledger: Ledger, since: int) -> dict[Spending, tuple[int, int]]:
    """How many and how much, of all that is alike, in however many rows a store tells of it."""
    sums: dict[Spending, tuple[int, int]] = {}
    for group in ledger.spending(since=since):
        alike = replace(group, count=0, atomic=0)
        number, atomic = sums.get(alike, (0, 0))
        sums[alike] = number + group.count, atomic + group.atomic
    return sums


def compare(ledger: Ledger, reference: Ledger, taken: list[Step], stage: Stage) -> None:
    for number, step in enumerate(taken, 1):
        found, expected = answer(ledger, step, stage), answer(reference, step, stage)
        assert found == expected, told(taken[:number])
    assert books(ledger, stage) == books(reference, stage), told(taken)


def told(taken: list[Step]) -> str:
    return "\n".join(["after these calls the last answer is not SQLite's:", *map(str, taken)])


class ReferenceCases(Cases):
    """Whatever is done in whatever order, a ledger answers as SQLite does."""

    examples: ClassVar[int] = 50  # sequences that are tried; more find more

    def test_it_answers_as_sqlite_does_whatever_is_done(self, ledger: Ledger) -> None:
        numbers = count()

        @settings(
            max_examples=self.examples,
            deadline=None,
            report_multiple_bugs=False,
            phases=set(Phase) - {Phase.explain},  # which takes long, of calls to a database
        )
        @given(parts=sequences)
        def alike(parts: list[list[Step]]) -> None:
            with closing(SQLiteLedger(":memory:")) as reference:
                compare(ledger, reference, list(chain(*parts)), Stage(next(numbers)))

        alike()
