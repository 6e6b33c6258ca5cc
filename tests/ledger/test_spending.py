"""Who spent it, and what for: the same sums from every store, and exact ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x402sms.conformance.parts import NOW, OTHER, PAYER, ask, attempt, charge
from x402sms.errors import ConfigError, SpendLimitExceeded
from x402sms.ledger import Ledger, Spending, Spent
from x402sms.ledger.spending import spent_by, summed
from x402sms.limits import Budget
from x402sms.protocol.labels import labels_text
from x402sms.protocol.networks import BASE, BASE_SEPOLIA
from x402sms.protocol.types import OnChainSettled, Outcome, PaymentState

DAY = 86_400
TODAY = NOW // DAY * DAY
TELEGRAM = {"service": "telegram", "country": "GB"}


def promise(
    ledger: Ledger,
    intent: str,
    worker: str = "",
    labels: dict[str, str] | None = None,
    *,
    state: PaymentState = PaymentState.SETTLED,
    now: int = NOW,
    **changes: Any,
) -> None:
    promised = attempt(intent, worker=worker, labels=labels or {}, **changes)
    ledger.reserve(promised, [], now=now)
    if state is not PaymentState.RESERVED:
        ledger.record(promised, Outcome(state), now=now)


def rows(ledger: Ledger, *by: str, since: int = 0) -> list[tuple[object, ...]]:
    found = spent_by(ledger.spending(since=since), by)
    return [
        (*row.by.values(), row.count, row.settled_atomic, row.open_atomic, row.road)[: len(by) + 3]
        for row in found
    ]


def test_what_is_alike_is_one_row_of_the_store(ledger: Ledger) -> None:
    for intent in "abc":
        promise(ledger, intent, "w-1", TELEGRAM)
    assert list(ledger.spending()) == [
        Spending(
            road="x402",
            network=BASE.caip2,
            payer=PAYER,
            day=NOW // DAY,
            worker="w-1",
            labels='{"country":"GB","service":"telegram"}',
            state=PaymentState.SETTLED,
            count=3,
            atomic=30,
        )
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"worker": "w-2"},
        {"labels": {"service": "signal", "country": "GB"}},
        {"state": PaymentState.UNKNOWN},
        {"now": NOW + DAY},
        {"network": BASE_SEPOLIA},
        {"payer": OTHER},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_is_not_alike_is_another(ledger: Ledger, changes: dict[str, Any]) -> None:
    first: dict[str, Any] = {"worker": "w-1", "labels": TELEGRAM}
    promise(ledger, "a", **first)
    promise(ledger, "b", **(first | changes))
    assert [group.count for group in ledger.spending()] == [1, 1]


def test_it_is_added_up_by_what_was_asked_for(ledger: Ledger) -> None:
    promise(ledger, "a", "w-1", TELEGRAM, now=TODAY)
    promise(ledger, "b", "w-1", {"service": "signal", "country": "GB"}, now=TODAY + DAY - 1)
    promise(ledger, "c", "w-2", TELEGRAM, now=TODAY + DAY, state=PaymentState.REFUSED)
    promise(ledger, "d", "w-2", {"campaign": "spring"}, now=TODAY + DAY)
    promise(ledger, "e", now=TODAY + DAY, state=PaymentState.RESERVED)
    promise(ledger, "f", "w-2", TELEGRAM, now=TODAY + DAY, state=PaymentState.VOID)

    assert rows(ledger, "worker") == [("w-1", 2, 20, 0), ("w-2", 2, 10, 10), (None, 1, 0, 10)]
    assert rows(ledger, "service") == [
        ("signal", 1, 10, 0),
        ("telegram", 2, 10, 10),
        (None, 2, 10, 10),
    ]
    assert rows(ledger, "campaign") == [("spring", 1, 10, 0), (None, 4, 20, 20)]
    assert rows(ledger, "day") == [("2027-01-15", 2, 20, 0), ("2027-01-16", 3, 10, 20)]
    assert rows(ledger, "day", "worker", since=TODAY + DAY) == [
        ("2027-01-16", "w-2", 2, 10, 10),
        ("2027-01-16", None, 1, 0, 10),
    ]
    assert rows(ledger, "worker", since=TODAY + DAY + 1) == []


def test_what_is_settled_cost_its_amount_and_what_is_open_may_cost_the_most(
    ledger: Ledger,
) -> None:
    for amount in (30, 20):  # the price moved, under one nonce
        promise(
            ledger, "a", amount_atomic=amount, valid_before=NOW + amount, state=PaymentState.UNKNOWN
        )
    assert rows(ledger, "worker") == [(None, 1, 0, 30)]
    promise(ledger, "a", amount_atomic=20, valid_before=NOW + 20)
    assert rows(ledger, "worker") == [(None, 1, 20, 0)]
    [payment] = ledger.payments()
    found = OnChainSettled("0x" + "ab" * 32, payment.pay_to, 30)
    ledger.settle_from_chain(payment, found, now=NOW)
    assert rows(ledger, "worker") == [(None, 1, 30, 0)]


def test_charges_are_told_apart_only_where_there_are_both(ledger: Ledger) -> None:
    asked = charge(worker="w-1", labels=labels_text(TELEGRAM))
    for intent, state in zip(
        "abc", (PaymentState.SETTLED, PaymentState.UNKNOWN, PaymentState.VOID), strict=True
    ):
        ask(ledger, replace(asked, intent=intent))
        ledger.charges.end(replace(asked, intent=intent), state, now=NOW)

    assert {(each.road, each.network, each.payer) for each in ledger.spending()} == {
        ("rest", "", "key:1")
    }
    assert spent_by(ledger.spending(), ["worker"]) == (Spent({"worker": "w-1"}, None, 2, 10, 10),)

    promise(ledger, "a", "w-1", TELEGRAM)
    assert spent_by(ledger.spending(), ["worker"]) == (
        Spent({"worker": "w-1"}, "rest", 2, 10, 10),
        Spent({"worker": "w-1"}, "x402", 1, 10, 0),
    )
    assert list(ledger.spending(since=NOW + 1)) == []


def test_a_budget_of_a_worker_counts_what_that_worker_was_charged(ledger: Ledger) -> None:
    budgets = [Budget("worker_total", 20, of_worker=True), Budget("total", 30)]

    def limit(intent: str, worker: str) -> str | None:
        try:
            ask(ledger, charge(intent, worker=worker), *budgets)
        except SpendLimitExceeded as refused:
            return refused.limit
        return None

    assert [limit(intent, "one") for intent in "abc"] == [None, None, "worker_total"]
    assert [limit(intent, "two") for intent in "de"] == [None, "total"]
    spent = [ledger.charges.charged_atomic("key:1", worker=worker) for worker in ("one", "two", "")]
    assert (spent, ledger.charges.charged_atomic("key:1")) == ([20, 10, 0], 30)


def test_what_counts_as_spent_is_told_of_a_worker(ledger: Ledger) -> None:
    promise(ledger, "a", "one")
    promise(ledger, "b", "two", now=NOW + 60)

    def spent(worker: str | None, since: int = 0) -> int:
        return ledger.spent_atomic(network=BASE.caip2, payer=PAYER, since=since, worker=worker)

    assert [spent(worker) for worker in (None, "one", "two", "three")] == [20, 10, 10, 0]
    assert [spent(worker, NOW + 1) for worker in (None, "one", "two")] == [10, 0, 10]


@pytest.mark.parametrize(
    "by",
    [[], ["worker", "worker"], ["Service"], ["two words"], [""], ["state\n"]],
    ids=repr,
)
def test_what_it_cannot_be_told_by_is_a_config_error(by: Sequence[str]) -> None:
    with pytest.raises(ConfigError):
        spent_by([], by)


GROUPS = st.lists(
    st.builds(
        Spending,
        road=st.sampled_from(["x402", "rest"]),
        network=st.just(BASE.caip2),
        payer=st.just(PAYER),
        day=st.integers(20_000, 20_003),
        worker=st.sampled_from(["", "w-1", "w-2"]),
        labels=st.dictionaries(
            st.sampled_from(["service", "country"]), st.sampled_from(["a", "b", "-"])
        ).map(labels_text),
        state=st.sampled_from(list(PaymentState)),
        count=st.integers(1, 10**6),
        atomic=st.integers(0, 2**63 - 1),
    )
)
KEYS = st.permutations(["worker", "day", "service", "country", "other"]).flatmap(
    lambda names: st.integers(1, 5).map(lambda count: names[:count])
)


@given(groups=GROUPS, by=KEYS)
def test_nothing_is_lost_and_nothing_counted_twice(groups: list[Spending], by: list[str]) -> None:
    told = spent_by(groups, by)
    counted = [group for group in groups if group.state is not PaymentState.VOID]
    total = summed(told)
    assert total.count == sum(group.count for group in counted)
    assert total.total == Decimal(sum(group.atomic for group in counted)) / 10**6
    assert total.settled + total.open == total.total
    assert all(list(row.by) == by for row in told)
    keys = Counter((*row.by.values(), row.road) for row in told)
    assert set(keys.values()) <= {1}
    assert spent_by(reversed(groups), by) == told
