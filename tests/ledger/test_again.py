"""One intent more than once: presented again, priced anew, proven by the chain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ledger.parts import NOW, OTHER, PAYER, RECIPIENT, attempt
from x402sms.errors import AlreadyPaid, IntentConflict, LedgerError, SpendLimitExceeded
from x402sms.ledger import Ledger, Payment, open_ledger
from x402sms.limits import Budget
from x402sms.protocol.networks import BASE
from x402sms.protocol.types import OnChainSettled, Outcome, PaymentState

HASH = "0x" + "ab" * 32
ELSEWHERE = "0x" + "cd" * 32
HOUR = 3600
OPEN = [PaymentState.RESERVED, PaymentState.REFUSED, PaymentState.UNKNOWN]
FOUND = OnChainSettled(ELSEWHERE, OTHER, 7)
NEVER_SENT = Outcome(PaymentState.VOID, "no connection", never_sent=True)


def row(ledger: Ledger, intent: str = "a") -> Payment:
    (payment,) = ledger.find(intent)
    return payment


def spent(ledger: Ledger, since: int = 0) -> int:
    return ledger.spent_atomic(network=BASE.caip2, payer=PAYER, since=since)


def put(ledger: Ledger, state: PaymentState) -> Payment:
    """The row of intent `a`, in that state."""
    ledger.reserve(attempt(), [], now=NOW)
    transaction = HASH if state is PaymentState.SETTLED else None
    if state is not PaymentState.RESERVED:
        ledger.record(attempt(), Outcome(state, f"was {state}", transaction), now=NOW + 1)
    return row(ledger)


# --- presented again


@pytest.mark.parametrize("state", OPEN)
def test_the_same_authorization_costs_nothing_more_however_late(
    ledger: Ledger, state: PaymentState
) -> None:
    put(ledger, state)
    full = [Budget("per_hour", 10, HOUR), Budget("total", 0)]

    ledger.reserve(attempt(), full, now=NOW + 50)

    again = row(ledger)
    assert (again.state, again.reason) == (PaymentState.RESERVED, None)
    assert (again.created_at, again.updated_at) == (NOW, NOW + 50)
    assert (again.reserved_atomic, again.presentations) == (10, 2)
    assert spent(ledger) == 10


@pytest.mark.parametrize("late", [0, 50])
@pytest.mark.parametrize("state", OPEN)
def test_a_new_authorization_is_counted_now_with_the_larger_amount(
    ledger: Ledger, state: PaymentState, late: int
) -> None:
    put(ledger, state)

    ledger.reserve(attempt(amount_atomic=25), [Budget("total", 25)], now=NOW + late)
    dearer = row(ledger)
    ledger.reserve(attempt(amount_atomic=5), [Budget("total", 25)], now=NOW + late + 1)
    cheaper = row(ledger)

    assert (dearer.amount_atomic, dearer.reserved_atomic) == (25, 25)
    assert (cheaper.amount_atomic, cheaper.reserved_atomic) == (5, 25)
    assert (dearer.created_at, cheaper.created_at) == (NOW + late, NOW + late + 1)
    assert cheaper.presentations == 3
    assert spent(ledger) == 25


@pytest.mark.parametrize("late", [0, 1])
@pytest.mark.parametrize("state", OPEN)
def test_a_new_authorization_is_held_against_the_budgets(
    ledger: Ledger, state: PaymentState, late: int
) -> None:
    before = put(ledger, state)
    ledger.reserve(attempt("b"), [], now=NOW)

    with pytest.raises(SpendLimitExceeded) as caught:
        ledger.reserve(attempt(amount_atomic=41), [Budget("total", 50)], now=NOW + late)

    assert (caught.value.spent, caught.value.amount) == (Decimal("1e-5"), Decimal("4.1e-5"))
    assert row(ledger) == before
    ledger.reserve(attempt(amount_atomic=40), [Budget("total", 50)], now=NOW + late)
    assert spent(ledger) == 50


def test_a_void_intent_that_is_paid_in_the_same_second_is_held_against_the_budgets(
    ledger: Ledger,
) -> None:
    put(ledger, PaymentState.VOID)
    ledger.reserve(attempt("b"), [Budget("total", 10)], now=NOW)
    with pytest.raises(SpendLimitExceeded):
        ledger.reserve(attempt(), [Budget("total", 10)], now=NOW)
    assert spent(ledger) == 10


def test_a_promise_to_a_second_recipient_leaves_the_one_to_the_first(ledger: Ledger) -> None:
    """Either of the two may settle: neither may be forgotten in its recipient's budget."""
    budgets = [Budget("pay_to", 10, pay_to=RECIPIENT), Budget("pay_to", 10, pay_to=OTHER)]
    ledger.reserve(attempt(), budgets, now=NOW)
    ledger.reserve(attempt(pay_to=OTHER), budgets, now=NOW + 1)
    for recipient in (RECIPIENT, OTHER):
        with pytest.raises(SpendLimitExceeded):
            ledger.reserve(attempt("b", pay_to=recipient), budgets, now=NOW + 2)


@pytest.mark.parametrize("state", sorted(PaymentState))
def test_only_a_void_intent_may_buy_something_else(ledger: Ledger, state: PaymentState) -> None:
    put(ledger, state)
    other = attempt(fingerprint="e" * 64)
    if state is PaymentState.VOID:
        ledger.reserve(other, [], now=NOW + 1)
        assert (row(ledger).fingerprint, row(ledger).presentations) == ("e" * 64, 1)
        return
    with pytest.raises(IntentConflict):
        ledger.reserve(other, [], now=NOW + 1)


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


# --- never sent, and expired


def test_what_only_this_process_could_have_sent_is_void(ledger: Ledger) -> None:
    put(ledger, PaymentState.RESERVED)
    assert ledger.record(attempt(), NEVER_SENT, now=NOW).state is PaymentState.VOID
    assert spent(ledger) == 0


@pytest.mark.parametrize("amount", [10, 25], ids=["the same", "another"])
def test_what_another_may_have_sent_is_not_void_because_we_could_not_connect(
    ledger: Ledger, amount: int
) -> None:
    put(ledger, PaymentState.UNKNOWN)
    again = attempt(amount_atomic=amount)
    ledger.reserve(again, [], now=NOW + 5)

    kept = ledger.record(again, NEVER_SENT, now=NOW + 6)

    assert kept.state is PaymentState.RESERVED
    assert spent(ledger) == amount
    proof = Outcome(PaymentState.VOID, "expired")
    assert ledger.record(again, proof, now=NOW + 999).state is PaymentState.VOID


def test_what_never_left_is_not_the_promise_that_took_its_place(ledger: Ledger) -> None:
    """A connection that hung until others had proven the intent void and promised it anew."""
    ledger.void(put(ledger, PaymentState.RESERVED), "expired", now=NOW + 301)
    ledger.reserve(attempt(valid_before=NOW + 900), [], now=NOW + 310)
    assert ledger.record(attempt(), NEVER_SENT, now=NOW + 311).state is PaymentState.RESERVED
    assert spent(ledger) == 10


@pytest.mark.parametrize(("until", "void"), [(300, False), (301, True)])
def test_the_last_second_of_a_window_is_within_it(ledger: Ledger, until: int, void: bool) -> None:
    put(ledger, PaymentState.UNKNOWN)
    expired = Outcome(PaymentState.VOID, "expired", chain_time=NOW + until)
    kept = ledger.record(attempt(), expired, now=NOW + until)
    assert (kept.state is PaymentState.VOID) == void


@pytest.mark.parametrize("state", OPEN)
def test_a_shorter_promise_does_not_end_a_longer_one_under_the_same_nonce(
    ledger: Ledger, state: PaymentState
) -> None:
    put(ledger, state)
    shorter = attempt(amount_atomic=5, valid_before=NOW + 30)
    ledger.reserve(shorter, [], now=NOW)

    assert (row(ledger).valid_before, row(ledger).settleable_until) == (NOW + 30, NOW + 300)
    too_early = Outcome(PaymentState.VOID, "expired", chain_time=NOW + 200)
    assert ledger.record(shorter, too_early, now=NOW + 200).state is PaymentState.RESERVED
    late = Outcome(PaymentState.VOID, "expired", chain_time=NOW + 301)
    assert ledger.record(shorter, late, now=NOW + 301).state is PaymentState.VOID


def test_the_chain_is_searched_from_the_first_promise_on(ledger: Ledger) -> None:
    put(ledger, PaymentState.UNKNOWN)
    ledger.reserve(attempt(valid_before=NOW + 900), [], now=NOW + 400)
    assert (row(ledger).first_at, row(ledger).created_at) == (NOW, NOW + 400)


# --- what the chain proves


@pytest.mark.parametrize("state", sorted(PaymentState))
def test_the_chain_settles_a_payment_of_any_state(ledger: Ledger, state: PaymentState) -> None:
    before = put(ledger, state)

    settled = ledger.settle_from_chain(before, FOUND, now=NOW + 60)

    assert (settled.state, settled.verified, settled.reason) == (PaymentState.SETTLED, True, None)
    assert (settled.transaction, settled.pay_to) == (ELSEWHERE, OTHER)
    assert (settled.amount_atomic, settled.reserved_atomic) == (7, 7)
    assert (settled.created_at, settled.updated_at) == (NOW, NOW + 60)
    assert settled == row(ledger)
    assert spent(ledger) == 7
    assert settled.receipt().verified


def test_what_the_chain_settled_is_settled_once_and_stays(ledger: Ledger) -> None:
    settled = ledger.settle_from_chain(put(ledger, PaymentState.UNKNOWN), FOUND, now=NOW)
    later = OnChainSettled(HASH, RECIPIENT, 999)
    assert ledger.settle_from_chain(settled, later, now=NOW + 9) == settled
    assert ledger.void(settled, "expired", now=NOW + 9) == settled
    for state in sorted(PaymentState):
        assert ledger.record(attempt(), Outcome(state, "later"), now=NOW + 9) == settled
    with pytest.raises(AlreadyPaid, match=ELSEWHERE):
        ledger.reserve(attempt(), [], now=NOW + 9)


def test_what_the_chain_settled_after_all_is_not_burnt(ledger: Ledger) -> None:
    before = ledger.void(put(ledger, PaymentState.UNKNOWN), "cancelled", nonce_burnt=True, now=NOW)
    settled = ledger.settle_from_chain(before, FOUND, now=NOW + 9)
    assert not settled.nonce_burnt
    with pytest.raises(AlreadyPaid):
        ledger.reserve(attempt(), [], now=NOW + 9)


@pytest.mark.parametrize("burnt", [False, True])
@pytest.mark.parametrize("state", sorted(PaymentState))
def test_what_is_proven_void_no_longer_counts(
    ledger: Ledger, state: PaymentState, burnt: bool
) -> None:
    """What a server called settled too: the chain knows better."""
    before = put(ledger, state)

    after = ledger.void(before, "proven", nonce_burnt=burnt, now=NOW + 60)

    assert (after.state, after.reason, after.nonce_burnt) == (PaymentState.VOID, "proven", burnt)
    assert (spent(ledger), after.updated_at) == (0, NOW + 60)


def test_what_was_promised_anew_since_it_was_read_is_not_void(ledger: Ledger) -> None:
    read = put(ledger, PaymentState.UNKNOWN)
    ledger.reserve(attempt(valid_before=NOW + 900), [], now=NOW + 400)
    assert ledger.void(read, "expired", now=NOW + 401).state is PaymentState.RESERVED
    assert ledger.void(read, "cancelled", nonce_burnt=True, now=NOW + 402).nonce_burnt


def test_what_was_void_and_promised_anew_since_it_was_read_is_not_void(ledger: Ledger) -> None:
    """`reconcile` read the row; a call proved it void and promised it anew; then comes the proof
    of `reconcile`, which is one of the promise before."""
    read = put(ledger, PaymentState.UNKNOWN)
    ledger.record(attempt(), Outcome(PaymentState.VOID, "expired", chain_time=NOW + 301), now=NOW)
    ledger.reserve(attempt(valid_before=NOW + 900), [], now=NOW + 400)
    assert ledger.void(read, "expired", now=NOW + 401).state is PaymentState.RESERVED
    assert spent(ledger) == 10


def test_what_a_payment_brought_is_noted_and_stays_with_it(ledger: Ledger) -> None:
    before = put(ledger, PaymentState.UNKNOWN)
    assert before.delivered is None
    ledger.note_delivered(
        network=before.network, payer=before.payer, nonce=before.nonce, what="order-1"
    )
    assert row(ledger) == replace(before, delivered="order-1")
    ledger.reserve(attempt(), [], now=NOW + 5)
    assert row(ledger).delivered == "order-1"


def test_a_nonce_that_is_burnt_stays_burnt(ledger: Ledger) -> None:
    burnt = ledger.void(put(ledger, PaymentState.UNKNOWN), "cancelled", nonce_burnt=True, now=NOW)
    assert ledger.void(burnt, "expired", now=NOW + 9).nonce_burnt


@pytest.mark.parametrize("how", ["void", "record"])
def test_an_intent_whose_nonce_is_burnt_is_refused_for_good(ledger: Ledger, how: str) -> None:
    before = put(ledger, PaymentState.UNKNOWN)
    if how == "void":
        ledger.void(before, "cancelled", nonce_burnt=True, now=NOW)
    else:
        cancelled = Outcome(PaymentState.VOID, "cancelled", nonce_burnt=True)
        ledger.record(attempt(), cancelled, now=NOW)

    with pytest.raises(IntentConflict, match="cancelled on the chain") as caught:
        ledger.reserve(attempt(), [], now=NOW + 9)

    assert "new intent" in str(caught.value)
    assert (caught.value.intent, caught.value.nonce) == ("a", before.nonce)
    assert caught.value.valid_before == NOW + 300


def test_a_payment_found_on_the_chain_is_added_once(ledger: Ledger) -> None:
    made = Payment.reserved(attempt(), NOW)
    found = replace(made, state=PaymentState.SETTLED, transaction=HASH, verified=True)

    assert ledger.insert_settled(found)
    assert not ledger.insert_settled(replace(found, transaction=ELSEWHERE))

    assert row(ledger) == found
    assert spent(ledger) == 10
    with pytest.raises(AlreadyPaid, match=HASH):
        ledger.reserve(attempt(), [], now=NOW)


@pytest.mark.parametrize("state", sorted(PaymentState))
def test_a_payment_found_on_the_chain_takes_no_rows_place(
    ledger: Ledger, state: PaymentState
) -> None:
    before = put(ledger, state)
    found = replace(before, state=PaymentState.SETTLED, transaction=ELSEWHERE)
    assert not ledger.insert_settled(found)
    assert row(ledger) == before


@pytest.mark.parametrize("how", ["record", "settle", "void"])
def test_a_row_that_is_not_there_is_told_of(ledger: Ledger, how: str) -> None:
    missing = Payment.reserved(attempt(), NOW)
    assert ledger.get(network=missing.network, payer=missing.payer, nonce=missing.nonce) is None
    ways: dict[str, Callable[[], object]] = {
        "settle": lambda: ledger.settle_from_chain(missing, FOUND, now=NOW),
        "void": lambda: ledger.void(missing, "expired", now=NOW),
        "record": lambda: ledger.record(attempt(), Outcome(PaymentState.SETTLED), now=NOW),
    }
    with pytest.raises(LedgerError, match="has lost a payment"):
        ways[how]()


def test_a_row_of_a_network_that_is_not_known_any_more_is_shown_and_never_presented() -> None:
    strange = replace(Payment.reserved(attempt(), NOW), network="eip155:1")
    assert strange.receipt().network == "eip155:1"
    with pytest.raises(ValueError, match="eip155:1 is not a network x402sms pays on"):
        strange.attempt()
