"""Budgets against a model in ten lines; the conformance suite then holds the others to SQLite."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from x402sms.conformance.parts import NOW, attempt, spent
from x402sms.errors import AlreadyPaid, SpendLimitExceeded
from x402sms.ledger import open_ledger
from x402sms.limits import Budget
from x402sms.protocol.types import Outcome, PaymentState


@settings(max_examples=60, deadline=None)
@given(
    payments=st.lists(
        st.tuples(
            st.integers(0, 30), st.integers(-50, 200), st.sampled_from([None, *PaymentState])
        ),
        max_size=12,
    )
)
def test_a_budget_is_never_overspent_whatever_the_order_and_the_clock(
    payments: list[tuple[int, int, PaymentState | None]],
) -> None:
    ledger = open_ledger(":memory:")
    budget = Budget("per_hour", 60, 100)
    counted: list[tuple[int, int]] = []
    latest = 0
    for number, (amount, offset, state) in enumerate(payments):
        given_attempt = attempt(str(number), amount)
        latest_if_taken = max(latest, 1000 + offset)
        within = sum(each for when, each in counted if when > latest_if_taken - 100)
        try:
            ledger.reserve(given_attempt, [budget], now=1000 + offset)
        except SpendLimitExceeded:
            assert within + amount > 60
            continue
        assert within + amount <= 60
        latest = latest_if_taken
        if state is not None:
            ledger.record(given_attempt, Outcome(state), now=1000)
        if state is not PaymentState.VOID:
            counted.append((latest, amount))
    assert spent(ledger) == sum(amount for _, amount in counted)
    ledger.close()


authorizations = st.tuples(
    st.sampled_from("abc"), st.sampled_from([0, 1, 10, 30, 60]), st.sampled_from([300, 400])
)
steps = st.tuples(
    authorizations,
    st.sampled_from([0, 1, 99, 100]),
    st.sampled_from([None, *sorted(PaymentState)]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=14))
def test_whatever_is_promised_again_no_window_is_overspent(
    taken: list[tuple[tuple[str, int, int], int, PaymentState | None]],
) -> None:
    ledger = open_ledger(":memory:")
    budget = Budget("per_hour", 60, 100)
    rows: dict[str, tuple[int, int, tuple[int, int], PaymentState]] = {}
    now = NOW
    for (intent, amount, until), later, state in taken:
        now += later
        made = attempt(intent, amount, valid_before=NOW + until)
        created, reserved, promised, was = rows.get(intent, (0, 0, (-1, -1), PaymentState.VOID))
        same = promised == (amount, until) and was is not PaymentState.VOID
        wanted = max(amount, reserved if was is not PaymentState.VOID else 0)
        others = sum(
            each
            for name, (when, each, _, what) in rows.items()
            if name != intent and when > now - 100 and what is not PaymentState.VOID
        )
        try:
            ledger.reserve(made, [budget], now=now)
        except AlreadyPaid:
            assert was is PaymentState.SETTLED
            continue
        except SpendLimitExceeded:
            assert not same
            assert others + wanted > 60
            continue
        assert same or others + wanted <= 60
        rows[intent] = (created if same else now, wanted, (amount, until), PaymentState.RESERVED)
        if state is not None:
            ledger.record(made, Outcome(state), now=now)
            rows[intent] = (*rows[intent][:3], state)
    alive = [each for _, each, _, what in rows.values() if what is not PaymentState.VOID]
    assert spent(ledger) == sum(alive)
    ledger.close()
