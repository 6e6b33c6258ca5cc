"""SQLite and PostgreSQL answer alike, whatever is done in whatever order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import astuple, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ledger.parts import NOW, OTHER, PAYER, RECIPIENT, attempt
from tests.parts.postgres import Postgres
from x402sms.errors import X402SMSError
from x402sms.ledger import Charge, Ledger, Payment, open_ledger
from x402sms.limits import Budget
from x402sms.protocol.networks import BASE
from x402sms.protocol.types import Attempt, OnChainSettled, Outcome, PaymentState

Step = Callable[[Ledger], object]

BUDGETS = [
    Budget("per_hour", 60, 100),
    Budget("total", 120),
    Budget("pay_to", 40, pay_to=OTHER),
]
moments = st.sampled_from([NOW - 50, NOW, NOW + 99, NOW + 100, NOW + 400])
attempts = st.builds(
    attempt,
    st.sampled_from("ab"),
    st.sampled_from([0, 10, 30]),
    payer=st.sampled_from([PAYER, PAYER, PAYER, OTHER]),
    pay_to=st.sampled_from([RECIPIENT, OTHER]),
    valid_before=st.sampled_from([NOW + 300, NOW + 400]),
    fingerprint=st.sampled_from(["f" * 64] * 4 + ["e" * 64]),
)
outcomes = st.builds(
    Outcome,
    st.sampled_from(PaymentState),
    st.sampled_from([None, "why \u00fc"]),
    st.sampled_from([None, "0x" + "ab" * 32]),
    never_sent=st.booleans(),
    chain_time=st.sampled_from([None, NOW + 300, NOW + 401]),
    nonce_burnt=st.booleans(),
)
charges = st.builds(
    Charge,
    st.sampled_from(["key:1", "key:2"]),
    st.sampled_from("ab"),
    st.sampled_from(["a number", "more hours"]),
    st.just("https://seller.example/orders"),
    st.sampled_from([0, 10, 60]),
    asked_at=st.sampled_from([0, NOW, NOW + 99]),
)


def stored(ledger: Ledger, made: Attempt) -> Payment:
    """As it was read, or as it would be."""
    return next(iter(ledger.find(made.authorization.nonce_hex)), Payment.reserved(made, NOW))


def reserve(made: Attempt, now: int) -> Step:
    return lambda ledger: ledger.reserve(made, BUDGETS, now=now)


def record(made: Attempt, outcome: Outcome, now: int) -> Step:
    return lambda ledger: astuple(ledger.record(made, outcome, now=now))


def settle(made: Attempt, now: int) -> Step:
    found = OnChainSettled("0x" + "cd" * 32, OTHER, 7)
    return lambda ledger: astuple(ledger.settle_from_chain(stored(ledger, made), found, now=now))


def void(made: Attempt, again: int, burnt: bool, now: int) -> Step:
    def step(ledger: Ledger) -> object:
        read = stored(ledger, made)
        read = replace(read, presentations=read.presentations + again)
        return astuple(ledger.void(read, "proven", nonce_burnt=burnt, now=now))

    return step


def deliver(made: Attempt, what: str) -> Step:
    nonce, payer = made.authorization.nonce_hex, made.authorization.payer
    return lambda ledger: ledger.note_delivered(
        network=BASE.caip2, payer=payer, nonce=nonce, what=what
    )


def insert(made: Attempt, now: int) -> Step:
    found = replace(Payment.reserved(made, now), state=PaymentState.SETTLED, verified=True)
    return lambda ledger: ledger.insert_settled(found)


def ask(charge: Charge, now: int) -> Step:
    return lambda ledger: ledger.charges.ask(charge, BUDGETS[:2], now=now)


def end(
    charge: Charge, state: PaymentState, order: str | None, amount: int | None, now: int
) -> Step:
    return lambda ledger: ledger.charges.end(
        charge, state, order_id=order, amount_atomic=amount, now=now
    )


orders = st.sampled_from([None, "order-1", "order-2"])
ends = st.sampled_from([PaymentState.UNKNOWN, PaymentState.SETTLED, PaymentState.VOID])
reservations = st.builds(reserve, attempts, moments)
steps = st.one_of(
    reservations,
    reservations,
    st.builds(record, attempts, outcomes, moments),
    st.builds(settle, attempts, moments),
    st.builds(void, attempts, st.sampled_from([0, 0, 1]), st.booleans(), moments),
    st.builds(deliver, attempts, st.sampled_from(["order-1", "order-2"])),
    st.builds(insert, attempts, moments),
    st.builds(ask, charges, moments),
    st.builds(end, charges, ends, orders, st.sampled_from([None, 5]), moments),
)


def answer(ledger: Ledger, step: Step) -> object:
    """What it returns or raises, without where the ledger is."""
    try:
        return step(ledger)
    except X402SMSError as error:
        return type(error), vars(error).get("limit"), vars(error).get("spent")


def books(ledger: Ledger) -> object:
    accounts = [ledger.charges.charged_atomic(each, since=NOW) for each in ("key:1", "key:2")]
    spent = [
        ledger.spent_atomic(network=BASE.caip2, payer=payer, since=since)
        for payer in (PAYER, OTHER)
        for since in (0, NOW, NOW + 99)
    ]
    settled = list(ledger.payments(since=NOW, state=PaymentState.SETTLED))
    return list(ledger.payments()), settled, ledger.charges.list(), accounts, spent


@settings(max_examples=80, deadline=None)
@given(taken=st.lists(steps, max_size=25))
def test_both_ledgers_answer_alike(
    postgres: Postgres, postgres_url: str, taken: list[Step]
) -> None:
    postgres.execute(
        "DELETE FROM x402sms.payments", "DELETE FROM x402sms.charges", database="conformance"
    )
    with closing(open_ledger(":memory:")) as here, closing(open_ledger(postgres_url)) as there:
        for step in taken:
            assert answer(there, step) == answer(here, step)
        assert books(there) == books(here)
