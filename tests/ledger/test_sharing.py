"""The shared row of a nonce when a worker's own row of it comes: what stays and what is taken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from x402sms.conformance.parts import NOW, OTHER, RECIPIENT, attempt
from x402sms.ledger import Payment
from x402sms.ledger.sharing import merged
from x402sms.protocol.types import PaymentState

OPEN, REFUSED, SETTLED, VOID = (
    PaymentState.UNKNOWN,
    PaymentState.REFUSED,
    PaymentState.SETTLED,
    PaymentState.VOID,
)


def row(state: PaymentState = OPEN, lease: str = "mine", **changes: Any) -> Payment:
    return replace(Payment.reserved(attempt(), NOW), state=state, lease=lease, **changes)


def test_a_row_that_is_not_there_comes_as_it_is() -> None:
    assert merged(None, row()) == row()


@pytest.mark.parametrize("lease", ["mine", "another's"])
@pytest.mark.parametrize("other", [OPEN, SETTLED, VOID])
def test_what_the_chain_has_shown_stays_whoever_knows_it(lease: str, other: PaymentState) -> None:
    shown = row(SETTLED, lease, verified=True)
    assert merged(shown, row(other)) == shown
    assert merged(row(other), shown) == shown
    assert merged(shown, row(other, delivered="order")).delivered == "order"


@pytest.mark.parametrize(
    ("there", "comes", "then"),
    [
        (OPEN, REFUSED, REFUSED),
        (OPEN, SETTLED, SETTLED),
        (OPEN, VOID, VOID),
        (SETTLED, OPEN, SETTLED),
        (SETTLED, VOID, VOID),
        (VOID, OPEN, VOID),
        (VOID, SETTLED, VOID),
    ],
    ids=str,
)
def test_news_of_the_same_promise(
    there: PaymentState, comes: PaymentState, then: PaymentState
) -> None:
    assert merged(row(there), row(comes)).state is then
    assert merged(merged(row(there), row(comes)), row(comes)).state is then


@pytest.mark.parametrize(
    ("there", "comes", "then"),
    [
        (OPEN, REFUSED, REFUSED),
        (OPEN, SETTLED, SETTLED),
        (OPEN, VOID, OPEN),
        (SETTLED, OPEN, SETTLED),
        (SETTLED, VOID, SETTLED),
        (VOID, OPEN, OPEN),
        (VOID, SETTLED, SETTLED),
        (VOID, VOID, VOID),
    ],
    ids=str,
)
def test_another_promise_under_the_same_nonce(
    there: PaymentState, comes: PaymentState, then: PaymentState
) -> None:
    shared = row(there, "another's")
    both = merged(shared, row(comes))
    assert both.state is then
    assert merged(both, row(comes)) == both


def test_of_two_promises_either_may_settle_and_the_larger_counts() -> None:
    there = row(
        lease="another's",
        reserved_atomic=30,
        settleable_until=NOW + 900,
        first_at=NOW - 9,
        presentations=2,
        other_recipients="0xb 0xc",
    )
    comes = row(pay_to=OTHER, created_at=NOW + 5, other_recipients="0xa")
    both = merged(there, comes)
    assert (both.pay_to, both.reserved_atomic) == (OTHER, 30)
    assert (both.first_at, both.created_at, both.settleable_until) == (NOW - 9, NOW + 5, NOW + 900)
    assert both.other_recipients.split() == sorted(["0xa", "0xb", "0xc", RECIPIENT])
    assert both.presentations == 3
    earlier = merged(replace(comes, lease="another's"), replace(there, lease="mine"))
    assert (earlier.pay_to, earlier.lease) == (OTHER, "mine")


def test_never_sent_is_no_proof_where_another_may_have_sent_it() -> None:
    never = row(VOID)
    assert merged(row(presentations=2), never).state is OPEN
    assert merged(row(settleable_until=NOW + 900), never).state is OPEN
    assert merged(row(presentations=2), replace(never, nonce_burnt=True)).state is VOID


def test_a_nonce_that_was_cancelled_on_the_chain_is_void_for_everyone() -> None:
    burnt = row(VOID, nonce_burnt=True)
    assert merged(row(lease="another's"), burnt).nonce_burnt
    assert merged(replace(burnt, lease="another's"), row()) == replace(burnt, lease="another's")


@pytest.mark.parametrize("state", [OPEN, REFUSED, SETTLED, VOID])
def test_of_a_lease_that_the_chain_has_ended_nothing_more_settles(state: PaymentState) -> None:
    late = merged(None, row(state), proven=True)
    assert (late.state, late.amount_atomic) == (VOID, 10)
    assert merged(None, row(SETTLED, verified=True), proven=True).state is SETTLED
    assert merged(row(OPEN, "another's"), row(state), proven=True).state is OPEN
