"""Workers that spend one budget in slices of their own: never over it, and nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.ledger.leasing import Fleet, empty, intents, made, spent, states
from tests.ledger.parts import buy
from tests.parts.postgres import Postgres
from tests.protocol.parts import settled, v2
from x402sms import ledger as ledgers
from x402sms.chain import Chain, UsedAuthorization
from x402sms.conformance.parts import NOW, OTHER, PAYER, attempt
from x402sms.errors import ConfigError, LedgerError, SpendLimitExceeded
from x402sms.ledger import LeasedLedger, Ledger, Payment, SQLiteLedger
from x402sms.ledger.base import SharesCommits
from x402sms.ledger.lease import SLACK_SECONDS, Lease, LeaseState
from x402sms.ledger.postgres import PostgresLedger
from x402sms.limits import Budget, SpendLimits
from x402sms.protocol.effects import Sign
from x402sms.protocol.networks import BASE, Network
from x402sms.protocol.types import OnChainSettled, Outcome, PaymentState
from x402sms.reconcile import rebuild

TEN = [Budget("total", 100)]  # of a payment's 10


@pytest.fixture(scope="module")
def made_url(postgres: Postgres) -> str:
    return made(postgres)


@pytest.fixture
def url(postgres: Postgres, made_url: str) -> str:
    """A shared ledger in which nothing is."""
    empty(postgres)
    return made_url


@pytest.fixture
def shared(url: str) -> Iterator[PostgresLedger]:
    with PostgresLedger(url) as ledger:
        yield ledger


@pytest.fixture
def fleet(url: str, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(url, tmp_path)
    with fleet.opened:
        yield fleet


# --- what a lease is ---


def test_a_lease_counts_in_full_until_its_payments_are_there_in_its_place(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    worker = fleet.open("one")
    worker.reserve(attempt("a"), TEN, now=NOW)
    assert (spent(worker), spent(shared), intents(shared)) == (10, 30, set())
    worker.give_back()
    assert (spent(worker), spent(shared), intents(shared)) == (10, 10, {"a"})
    [mine], [theirs] = worker.payments(), shared.payments()
    assert mine == theirs
    assert mine.lease == shared.leases.list()[0].id


def test_between_two_slices_the_shared_ledger_is_not_needed(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    worker = fleet.open("one")
    worker.reserve(attempt("a"), TEN, now=NOW)
    fleet.parts["one"][1].close()
    for intent in ("b", "c"):
        worker.reserve(attempt(intent), TEN, now=NOW)
        worker.record(attempt(intent), Outcome(PaymentState.SETTLED), now=NOW)
    with pytest.raises(LedgerError):
        worker.reserve(attempt("d"), TEN, now=NOW)
    assert intents(worker) == {"a", "b", "c"}
    assert spent(shared) == 30


def test_workers_and_those_who_pay_directly_spend_one_budget(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    one, two = fleet.open("one"), fleet.open("two")
    one.reserve(attempt("a"), TEN, now=NOW)
    two.reserve(attempt("b"), TEN, now=NOW)
    for intent in "cdef":
        shared.reserve(attempt(intent), TEN, now=NOW)
    for refusing, intent in ((shared, "g"), (fleet.open("three"), "h")):
        with pytest.raises(SpendLimitExceeded) as refused:
            refusing.reserve(attempt(intent), TEN, now=NOW)
        assert refused.value.limit == "total"
    assert "x402sms leases" in str(refused.value.__notes__)
    assert states(shared) == {"open": 2}
    one.give_back()
    shared.reserve(attempt("g"), TEN, now=NOW)


def test_the_last_of_a_budget_is_a_smaller_slice(fleet: Fleet, shared: PostgresLedger) -> None:
    shared.reserve(attempt("a", 85), TEN, now=NOW)
    worker = fleet.open("one")
    with pytest.raises(SpendLimitExceeded):
        worker.reserve(attempt("b", 16), TEN, now=NOW)
    worker.reserve(attempt("b"), TEN, now=NOW)
    assert [lease.amount_atomic for lease in shared.leases.list()] == [15]


def test_a_payment_of_more_than_a_slice_takes_a_larger_one(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    fleet.open("one").reserve(attempt("a", 80), TEN, now=NOW)
    assert [lease.amount_atomic for lease in shared.leases.list()] == [80]


def test_without_budgets_slices_are_taken_all_the_same(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    with fleet.open("one") as worker:
        for intent in "abcde":
            worker.reserve(attempt(intent), [], now=NOW)
    assert intents(shared) == set("abcde")


def test_a_slice_is_of_the_budgets_it_was_taken_from(fleet: Fleet, shared: PostgresLedger) -> None:
    worker = fleet.open("one")
    worker.reserve(attempt("a"), TEN, now=NOW)
    with pytest.raises(SpendLimitExceeded):
        worker.reserve(attempt("b"), [Budget("per_day", 15, 86_400)], now=NOW)
    worker.reserve(attempt("b"), [Budget("per_day", 20, 86_400)], now=NOW)
    assert spent(shared) == 20


def test_each_payer_and_network_has_slices_of_its_own(fleet: Fleet, shared: PostgresLedger) -> None:
    worker = fleet.open("one")
    worker.reserve(attempt("a"), TEN, now=NOW)
    worker.reserve(attempt("a", payer=OTHER), TEN, now=NOW)
    assert {lease.payer for lease in shared.leases.list(unreturned=True)} == {PAYER, OTHER}
    worker.close()
    assert len(list(shared.payments())) == 2


def test_budgets_of_a_worker_are_checked_in_its_file(fleet: Fleet, shared: PostgresLedger) -> None:
    budgets = [*TEN, Budget("per_day", 20, 86_400, of_worker=True)]
    worker = fleet.open("one")
    for intent in "ab":
        worker.reserve(attempt(intent, worker="one"), budgets, now=NOW)
    with pytest.raises(SpendLimitExceeded) as refused:
        worker.reserve(attempt("c", worker="one"), budgets, now=NOW)
    assert refused.value.limit == "per_day"
    assert len(shared.leases.list()) == 1


def test_on_the_shared_ledger_a_lease_counts_for_its_worker_and_every_recipient(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    fleet.open("one").reserve(attempt("a"), TEN, now=NOW)
    budgets = [Budget("per_hour", 20, 3600, of_worker=True), Budget("pay_to", 40, pay_to=OTHER)]
    with pytest.raises(SpendLimitExceeded, match="per_hour"):
        shared.reserve(attempt("b", worker="one"), budgets, now=NOW)
    shared.reserve(attempt("b", worker="two", pay_to=OTHER), budgets, now=NOW)
    with pytest.raises(SpendLimitExceeded, match="pay_to"):
        shared.reserve(attempt("c", worker="two", pay_to=OTHER), budgets, now=NOW)


def test_a_workers_file_by_itself_pays_nothing(fleet: Fleet, tmp_path: Path) -> None:
    worker = fleet.open("one")
    worker.reserve(attempt("a"), TEN, now=NOW)
    worker.give_back()
    with SQLiteLedger(tmp_path / "one.db") as alone:
        with pytest.raises(ConfigError, match="this ledger is the file of a worker"):
            alone.reserve(attempt("b"), TEN, now=NOW)
        assert intents(alone) == {"a"}


def test_a_budget_of_a_recipient_cannot_be_leased(fleet: Fleet) -> None:
    worker = fleet.open("one")
    with pytest.raises(ConfigError, match="one recipient cannot be leased"):
        worker.reserve(attempt("a"), [Budget("pay_to", 100, pay_to=OTHER)], now=NOW)
    assert intents(worker) == set()


def test_an_authorization_that_outlives_every_lease_is_refused(fleet: Fleet) -> None:
    worker = fleet.open("one")
    with pytest.raises(ConfigError, match="3600 seconds"):
        worker.reserve(attempt("a", valid_before=NOW + 3601), TEN, now=NOW)
    worker.reserve(attempt("a", valid_before=NOW + 3600), TEN, now=NOW)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"slice_of": "0"}, "more than nothing"),
        ({"slice_of": "10000000000000"}, "less than there is"),
        ({"slice_of": "-1"}, "the slice of a lease"),
        ({"slice_of": 1.5}, "the slice of a lease"),
        ({"seconds": 59}, "60 to 86400 seconds"),
        ({"seconds": 86_401}, "60 to 86400 seconds"),
        ({"seconds": "600"}, "60 to 86400 seconds"),
        ({"worker": ""}, "the name of its worker"),
        ({"worker": "w" * 201}, "the name of its worker"),
        ({"worker": 7}, "the name of its worker"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_meant_is_refused(
    changes: dict[str, Any], says: str, shared: PostgresLedger
) -> None:
    with pytest.raises(ConfigError, match=says), SQLiteLedger(":memory:") as local:
        LeasedLedger(local, shared, **({"worker": "one"} | changes))


def test_charges_are_the_shared_ones_and_quotes_its_own(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    worker = fleet.open("one")
    local, own = fleet.parts["one"]
    assert (worker.charges, worker.quotes) == (own.charges, local.quotes)
    assert worker.leases.list() == shared.leases.list() == []


# --- time ---


def test_an_expired_lease_is_not_spent_from_and_what_is_left_comes_back(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    worker = fleet.open("one")
    worker.reserve(attempt("a"), TEN, now=NOW)
    worker.reserve(attempt("b"), TEN, now=NOW + 599)
    assert states(shared) == {"open": 1}
    worker.reserve(attempt("c"), TEN, now=NOW + 600)
    assert states(shared) == {"open": 1, "returned": 1}
    assert (intents(shared), spent(shared)) == ({"a", "b"}, 20 + 30)


def test_a_clock_set_back_extends_no_lease(fleet: Fleet, shared: PostgresLedger) -> None:
    worker = fleet.open("one", slice_of="0.00005")
    worker.reserve(attempt("a"), TEN, now=NOW)
    worker.reserve(attempt("b"), TEN, now=NOW + 599)
    worker.reserve(attempt("c"), TEN, now=NOW - 86_400)
    assert {payment.created_at for payment in worker.payments()} == {NOW, NOW + 599}
    worker.reserve(attempt("d"), TEN, now=NOW + 601)
    worker.reserve(attempt("e", valid_before=NOW), TEN, now=NOW - 86_400)
    taken = [lease.taken_at for lease in shared.leases.list()]
    assert taken == [NOW + 601, NOW]


def test_a_clock_that_stands_still_does_not_extend_it_either(
    fleet: Fleet, shared: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = 0
    monkeypatch.setattr("time.monotonic_ns", lambda: passed)
    worker = fleet.open("one")
    worker.reserve(attempt("a"), TEN, now=NOW)
    passed = 600 * 10**9
    worker.reserve(attempt("b"), TEN, now=NOW)
    assert states(shared) == {"open": 1, "returned": 1}


def test_a_worker_whose_clock_is_behind_promises_as_of_the_shared_ledgers_time(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    shared.reserve(attempt("a"), TEN, now=NOW + 100)
    worker = fleet.open("one")
    worker.reserve(attempt("b"), TEN, now=NOW)
    [payment] = worker.payments()
    assert payment.created_at == NOW + 100
    with fleet.open("two") as later:
        later.reserve(attempt("c"), TEN, now=NOW + 50)
        assert next(later.payments()).created_at == NOW + 100


def test_a_lease_that_nobody_returns_counts_in_its_window_as_its_last_payment_would(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    fleet.open("one").reserve(attempt("a"), TEN, now=NOW)
    fleet.crash("one")
    ever, hourly = Budget("total", 30), Budget("per_hour", 30, 3600)

    def refused_by(budget: Budget, after: int) -> bool:
        try:
            shared.reserve(attempt(f"{budget.name} {after}"), [budget], now=NOW + after)
        except SpendLimitExceeded:
            return True
        return False

    assert [refused_by(hourly, 600 + after) for after in (0, 3599)] == [True, True]
    assert refused_by(ever, 10**8)
    assert not refused_by(hourly, 10**8)


# --- the same purchase again ---


def test_the_same_authorization_again_costs_nothing(fleet: Fleet, shared: PostgresLedger) -> None:
    worker = fleet.open("one")
    for intent in "abc":
        worker.reserve(attempt(intent), TEN, now=NOW)
    worker.reserve(attempt("a"), TEN, now=NOW + 1)
    assert (spent(worker), states(shared)) == (30, {"open": 1})
    worker.give_back()
    worker.reserve(attempt("a"), TEN, now=NOW + 700)
    assert (spent(worker), states(shared)) == (30, {"returned": 1})
    worker.record(attempt("a"), Outcome(PaymentState.UNKNOWN), now=NOW + 701)
    [row] = shared.find("a")
    assert (row.state, row.presentations, row.created_at) == (PaymentState.UNKNOWN, 3, NOW)


def test_another_price_under_the_same_nonce_counts_in_the_lease_of_now(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    worker = fleet.open("one")
    worker.reserve(attempt("a"), TEN, now=NOW)
    worker.give_back()
    worker.reserve(attempt("a", 20, valid_before=NOW + 400), TEN, now=NOW + 1)
    assert spent(shared) == 10 + 30
    worker.reserve(attempt("b", 10), TEN, now=NOW + 1)
    assert states(shared) == {"open": 1, "returned": 1}
    worker.close()
    assert spent(shared) == 30
    [row] = shared.find("a")
    assert (row.reserved_atomic, row.settleable_until, row.created_at) == (20, NOW + 400, NOW + 1)


def test_a_row_of_before_that_no_budget_knows_counts_when_it_is_presented_again(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    with closing(SQLiteLedger(fleet.path("one"))) as plain:
        plain.reserve(attempt("a"), TEN, now=NOW)
    fleet.open("one").reserve(attempt("a"), TEN, now=NOW)
    assert spent(shared) == 30


# --- what becomes of payments whose lease is returned ---


def test_what_becomes_of_a_payment_later_reaches_the_shared_ledger(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    worker = fleet.open("one", slice_of="0.00005")
    for intent in "abcde":
        worker.reserve(attempt(intent), TEN, now=NOW)
    worker.give_back()
    worker.record(attempt("a"), Outcome(PaymentState.SETTLED, transaction="0x1"), now=NOW)
    worker.record(attempt("b"), Outcome(PaymentState.VOID, "no", never_sent=True), now=NOW)
    [c], [d] = worker.find("c"), worker.find("d")
    worker.settle_from_chain(c, OnChainSettled("0x2", c.pay_to, 10), now=NOW)
    worker.void(d, "cancelled", nonce_burnt=True, now=NOW)
    assert worker.note_delivered(network=BASE.caip2, payer=PAYER, nonce=c.nonce, what="order")
    assert {payment.intent: payment for payment in shared.payments()} == {
        payment.intent: payment for payment in worker.payments()
    }
    assert spent(shared) == 30
    assert not worker.note_delivered(network=BASE.caip2, payer=PAYER, nonce="0x", what="order")


def test_what_could_not_be_told_is_told_with_the_next_lease(
    fleet: Fleet, shared: PostgresLedger, caplog: pytest.LogCaptureFixture
) -> None:
    worker = fleet.open("one")
    worker.reserve(attempt("a"), TEN, now=NOW)
    worker.give_back()
    fleet.parts["one"][1].close()
    worker.record(attempt("a"), Outcome(PaymentState.SETTLED), now=NOW)
    assert "not yet on the shared ledger" in caplog.text
    assert [payment.state for payment in shared.payments()] == [PaymentState.RESERVED]
    fleet.open("one")
    assert [payment.state for payment in shared.payments()] == [PaymentState.SETTLED]


def test_what_changes_while_it_is_told_is_told_again(
    fleet: Fleet, shared: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = fleet.open("one")
    local, own = fleet.parts["one"]
    worker.reserve(attempt("a"), TEN, now=NOW)
    worker.give_back()
    take_over = own.leases.take_over

    def meanwhile(payments: list[Payment]) -> None:
        take_over(payments)
        local.record(attempt("a"), Outcome(PaymentState.SETTLED), now=NOW)

    monkeypatch.setattr(own.leases, "take_over", meanwhile)
    worker.record(attempt("a"), Outcome(PaymentState.UNKNOWN), now=NOW)
    monkeypatch.undo()
    assert [payment.state for payment in shared.payments()] == [PaymentState.UNKNOWN]
    worker.give_back()
    assert [payment.state for payment in shared.payments()] == [PaymentState.SETTLED]


def test_a_payment_of_more_than_one_payer_is_told_each_to_its_own(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    worker = fleet.open("one")
    promised = [attempt("a"), attempt("a", payer=OTHER)]
    for each in promised:
        worker.reserve(each, TEN, now=NOW)
    worker.give_back()
    local = fleet.parts["one"][0]
    for each in promised:
        local.record(each, Outcome(PaymentState.SETTLED), now=NOW)
    worker.give_back()
    assert {payment.state for payment in shared.payments()} == {PaymentState.SETTLED}


def test_many_payments_go_over_in_parts(
    fleet: Fleet, shared: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("x402sms.ledger.postgres_leases.MOST_ROWS", 2)
    with fleet.open("one", slice_of="0.00005") as worker:
        for intent in "abcde":
            worker.reserve(attempt(intent), TEN, now=NOW)
    assert intents(shared) == set("abcde")


def test_text_that_postgresql_cannot_hold_keeps_no_lease_from_coming_back(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    template = {"x402Version": 2, "deep": "\0 \ud800 \\u0000 ü"}
    with fleet.open("one") as worker:
        worker.reserve(attempt("a\0b", template=template), TEN, now=NOW)
        worker.reserve(attempt("ü\\u0000"), TEN, now=NOW)
    assert intents(shared) == {"a\ufffdb", "ü\\u0000"}
    [row] = shared.find("a\ufffdb")
    assert row.attempt().template == template


def test_what_the_chain_shows_is_added_for_all(fleet: Fleet, shared: PostgresLedger) -> None:
    worker = fleet.open("one")
    shared.reserve(attempt("a"), TEN, now=NOW)
    shown = replace(Payment.reserved(attempt("a"), NOW), state=PaymentState.SETTLED, verified=True)
    assert worker.insert_settled(shown)
    assert not worker.insert_settled(shown)
    assert [payment.verified for payment in (*shared.payments(), *worker.payments())] == [True] * 2
    assert worker.get(network=BASE.caip2, payer=PAYER, nonce=shown.nonce) == shown


# --- crashes ---


class Crash(BaseException):
    """The process ends here."""


def crash_at(target: object, name: str, *, after: bool) -> Callable[[pytest.MonkeyPatch], None]:
    real = getattr(target, name)

    def crashing(*arguments: Any, **named: Any) -> None:
        if after:
            real(*arguments, **named)
        raise Crash

    return lambda patch: patch.setattr(target, name, crashing)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("part", "step"),
    [(0, "close"), (0, "payments"), (1, "give_back"), (0, "returned"), (0, "unpassed")],
    ids=["closed here", "read", "on the shared ledger", "noted here", "told the rest"],
)
def test_a_crash_while_a_lease_is_returned_loses_and_doubles_nothing(
    part: int,
    step: str,
    after: bool,
    fleet: Fleet,
    shared: PostgresLedger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = fleet.open("one")
    worker.reserve(attempt("a"), TEN, now=NOW)
    worker.reserve(attempt("b"), TEN, now=NOW)
    local, own = fleet.parts["one"]
    crash_at((local.own_leases, own.leases)[part], step, after=after)(monkeypatch)
    with pytest.raises(Crash):
        worker.give_back()
    monkeypatch.undo()
    fleet.crash("one")
    assert spent(shared) in (20, 30)

    with fleet.open("one") as again:
        assert spent(again) == spent(shared) == 20
        assert states(shared) == {"returned": 1}
        again.reserve(attempt("c"), TEN, now=NOW)
    assert list(shared.payments()) == fleet.rows("one")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("part", "step"),
    [(0, "ask"), (1, "take"), (0, "opened")],
    ids=["asked here", "on the shared ledger", "noted here"],
)
def test_a_crash_while_a_lease_is_taken_leaves_none_behind(
    part: int,
    step: str,
    after: bool,
    fleet: Fleet,
    shared: PostgresLedger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = fleet.open("one")
    local, own = fleet.parts["one"]
    crash_at((local.own_leases, own.leases)[part], step, after=after)(monkeypatch)
    with pytest.raises(Crash):
        worker.reserve(attempt("a"), TEN, now=NOW)
    monkeypatch.undo()
    fleet.crash("one")
    assert fleet.rows("one") == []

    with fleet.open("one") as again:
        assert spent(shared) == 0
        again.reserve(attempt("a"), TEN, now=NOW)
    assert spent(shared) == 10


def test_an_answer_that_is_lost_while_a_lease_is_taken_costs_no_budget(
    fleet: Fleet, shared: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = fleet.open("one")
    leases = fleet.parts["one"][1].leases
    take = leases.take

    def lost(*arguments: Any, **named: Any) -> Lease:
        take(*arguments, **named)
        raise LedgerError("the connection is lost")

    monkeypatch.setattr(leases, "take", lost)
    with pytest.raises(LedgerError):
        worker.reserve(attempt("a"), TEN, now=NOW)
    assert (spent(shared), intents(worker)) == (30, set())
    monkeypatch.undo()
    worker.reserve(attempt("a"), TEN, now=NOW)
    assert states(shared) == {"open": 1, "returned": 1}


def test_a_lease_that_another_process_gives_back_while_it_is_taken_is_not_spent(
    fleet: Fleet, shared: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = fleet.open("one")
    leases = fleet.parts["one"][1].leases
    take, stolen = leases.take, list[str]()

    def first(*arguments: Any, **named: Any) -> Lease:
        if not stolen:
            stolen.append(arguments[0].id)
            fleet.open("one").close()  # the same file
        return take(*arguments, **named)

    monkeypatch.setattr(leases, "take", first)
    worker.reserve(attempt("a"), TEN, now=NOW)
    [payment] = worker.payments()
    assert payment.lease not in stolen
    assert states(shared) == {"open": 1, "returned": 1}


def test_processes_with_one_file_take_the_slice_from_each_other_safely(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    one = fleet.open("one")
    one.reserve(attempt("a"), TEN, now=NOW)
    two = fleet.open("one")  # gives the lease of the first back
    two.reserve(attempt("b"), TEN, now=NOW)
    one.reserve(attempt("c"), TEN, now=NOW)
    assert (spent(one), spent(shared)) == (30, 10 + 30 + 30)
    for each in (one, two, one):
        each.close()
    assert spent(shared) == 30


def test_closing_without_the_shared_ledger_says_what_it_means_for_the_budget(
    fleet: Fleet, shared: PostgresLedger, caplog: pytest.LogCaptureFixture
) -> None:
    worker = fleet.open("one")
    worker.reserve(attempt("a"), TEN, now=NOW)
    fleet.parts["one"][1].close()
    worker.close()
    assert "counts as spent until this worker's ledger is opened again" in caplog.text
    assert spent(shared) == 30
    fleet.open("one")
    assert spent(shared) == 10


def test_the_file_may_be_opened_on_another_machine(
    fleet: Fleet, shared: PostgresLedger, tmp_path: Path
) -> None:
    fleet.open("one").reserve(attempt("a"), TEN, now=NOW)
    fleet.crash("one")
    shutil.move(fleet.path("one"), fleet.path("moved"))
    fleet.open("moved").close()
    assert (spent(shared), states(shared)) == (10, {"returned": 1})


# --- returned on the chain's proof ---


def proven(shared: PostgresLedger, covered_from: int, chain_time: int) -> list[Lease]:
    return shared.leases.return_proven(
        network=BASE.caip2, payer=PAYER, covered_from=covered_from, chain_time=chain_time
    )


def test_time_alone_returns_no_lease_but_the_chain_past_its_last_moment_does(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    fleet.open("one").reserve(attempt("a"), TEN, now=NOW)
    fleet.crash("one")
    [lease] = shared.leases.list(unreturned=True)
    assert lease.settleable_until == NOW + 600 + 3600
    first, last = NOW - SLACK_SECONDS, lease.settleable_until + SLACK_SECONDS
    assert proven(shared, first + 1, last + 1) == []
    assert proven(shared, first, last) == []
    assert spent(shared) == 30
    assert [each.id for each in proven(shared, first, last + 1)] == [lease.id]
    assert (spent(shared), shared.leases.list(unreturned=True)) == (0, [])
    assert proven(shared, first, last + 1) == []


def test_what_comes_from_a_worker_after_that_can_settle_no_more(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    worker = fleet.open("one", slice_of="0.00005")
    for intent in "abcd":
        worker.reserve(attempt(intent), TEN, now=NOW)
    worker.record(attempt("b"), Outcome(PaymentState.SETTLED), now=NOW)
    worker.record(attempt("d"), Outcome(PaymentState.VOID, "no", never_sent=True), now=NOW)
    fleet.crash("one")
    [c] = [payment for payment in fleet.rows("one") if payment.intent == "c"]
    assert shared.insert_settled(replace(c, state=PaymentState.SETTLED, verified=True, lease=""))
    assert len(proven(shared, NOW - SLACK_SECONDS, NOW + 10_000)) == 1
    again = fleet.open("one")
    assert {each.intent: each.state for each in shared.payments()} == {
        "a": PaymentState.VOID,
        "b": PaymentState.VOID,
        "c": PaymentState.SETTLED,
        "d": PaymentState.VOID,
    }
    assert (spent(shared), states(shared)) == (10, {"proven": 1})
    again.record(attempt("a"), Outcome(PaymentState.UNKNOWN), now=NOW)
    assert spent(shared) == 10


@dataclass(frozen=True)
class ChainOf:
    """A chain on which these settled."""

    used: tuple[UsedAuthorization, ...] = ()
    time: int = NOW + 10_000
    network: Network = BASE

    def now(self) -> int:
        return self.time

    def block_time(self, number: int) -> int:
        return NOW - 1000 + number

    def used_authorizations(self, payer: str, *, from_block: int) -> Iterator[UsedAuthorization]:
        assert (payer, from_block) == (PAYER, 0)
        return iter(self.used)


def settled_on_chain(payment: Payment, transaction: str = "0x" + "ab" * 32) -> UsedAuthorization:
    return UsedAuthorization(PAYER, payment.nonce, payment.pay_to, 10, transaction, 7, NOW)


@pytest.mark.parametrize("through", ["shared", "another worker"])
def test_rebuilding_from_the_chain_returns_the_lease_of_a_file_that_is_lost(
    through: str, fleet: Fleet, shared: PostgresLedger
) -> None:
    worker = fleet.open("one")
    for intent in ("a", "b"):
        worker.reserve(attempt(intent), TEN, now=NOW)
    [a] = worker.find("a")
    fleet.crash("one")
    fleet.path("one").unlink()
    ledger: Ledger = shared if through == "shared" else fleet.open("two")
    chain = ChainOf((settled_on_chain(a),))

    def rebuilt(chain: ChainOf) -> tuple[Lease, ...]:
        return rebuild(ledger, cast(Chain, chain), PAYER, from_block=0, now=NOW).returned

    assert rebuilt(replace(chain, time=NOW + 4000)) == ()
    [lease] = rebuilt(chain)
    assert (lease.worker, lease.state) == ("one", LeaseState.PROVEN)
    assert (spent(shared), len(list(shared.payments()))) == (10, 1)
    assert rebuilt(chain) == ()


def test_where_the_chain_contradicts_the_ledger_no_lease_is_returned(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    fleet.open("one").reserve(attempt("a"), TEN, now=NOW)
    shared.reserve(attempt("b"), TEN, now=NOW)
    [b] = shared.find("b")
    shared.settle_from_chain(b, OnChainSettled("0x" + "cd" * 32, b.pay_to, 10), now=NOW)
    chain = cast(Chain, ChainOf((settled_on_chain(b),)))
    report = rebuild(shared, chain, PAYER, from_block=0, now=NOW)
    assert (report.all_proven, report.returned, spent(shared)) == (False, (), 40)


def test_whole_calls_pay_from_a_lease_and_sign_nothing_beyond_the_budget(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    limits = SpendLimits(total="0.02")  # of two calls
    with fleet.open("one", slice_of="0.01") as worker:
        for intent in "ab":
            played = buy(worker, [v2(), settled()], intent=intent, limits=limits)
            assert played.error is None
            assert played.driver.all_of(Sign)
        refused = buy(worker, [v2(), settled()], intent="c", limits=limits)
        assert isinstance(refused.error, SpendLimitExceeded)
        assert not refused.driver.all_of(Sign)
    assert [row.state for row in shared.payments()] == [PaymentState.SETTLED] * 2


# --- threads and forks ---


def test_a_thread_that_finds_another_lease_taken_spends_that(
    fleet: Fleet, shared: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = fleet.open("one")
    local = fleet.parts["one"][0]
    reserve_from = local.reserve_from

    def meanwhile(*arguments: Any, **named: Any) -> None:
        try:
            reserve_from(*arguments, **named)
        finally:
            monkeypatch.undo()
            worker.reserve(attempt("b"), TEN, now=NOW)  # by another thread

    monkeypatch.setattr(local, "reserve_from", meanwhile)
    worker.reserve(attempt("a"), TEN, now=NOW)
    assert (intents(worker), states(shared)) == ({"a", "b"}, {"open": 1})


def test_threads_spend_one_lease_and_never_more(fleet: Fleet, shared: PostgresLedger) -> None:
    worker = fleet.open("one")

    def reserve(intent: str) -> bool:
        try:
            worker.reserve(attempt(intent), TEN, now=NOW)
        except SpendLimitExceeded:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        reserved = list(threads.map(reserve, map(str, range(14))))
    assert reserved.count(True) == 10
    worker.close()
    assert (spent(shared), len(list(shared.payments()))) == (100, 10)


def test_a_fork_does_not_wait_for_a_thread_of_its_parent(
    fleet: Fleet, shared: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = fleet.open("one")
    with worker._turn():
        monkeypatch.setattr("x402sms.ledger.leased.os", SimpleNamespace(getpid=lambda: -1))
        worker.reserve(attempt("a"), TEN, now=NOW)
    assert spent(shared) == 30


def test_payments_share_a_commit_while_the_lease_lasts_and_none_is_taken_in_it(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    worker = fleet.open("one")
    assert isinstance(worker, SharesCommits)

    def reserved_together(*names: str) -> bool:
        """All of them, or none and why."""
        with worker.together():
            for name in names:
                with suppress(LedgerError):  # as whoever waits for it meets it
                    worker.reserve(attempt(name), TEN, now=NOW)
        return intents(worker) >= set(names)

    with pytest.raises(LedgerError, match="another lease"):
        reserved_together("a", "b")
    assert (intents(worker), shared.leases.list()) == (set(), [])
    worker.reserve(attempt("a"), TEN, now=NOW)
    assert reserved_together("b", "c")
    with pytest.raises(LedgerError, match="another lease"):
        reserved_together("a", "d")
    assert intents(worker) == {"a", "b", "c"}
    worker.reserve(attempt("d"), TEN, now=NOW)
    assert (intents(shared), states(shared)) == ({"a", "b", "c"}, {"open": 1, "returned": 1})


def test_what_is_written_together_reaches_the_shared_ledger_afterwards(
    fleet: Fleet, shared: PostgresLedger
) -> None:
    worker = fleet.open("one")
    worker.reserve(attempt("a"), TEN, now=NOW)
    worker.give_back()
    with worker.together():
        worker.record(attempt("a"), Outcome(PaymentState.SETTLED), now=NOW)
    assert [payment.state for payment in shared.payments()] == [PaymentState.RESERVED]
    worker.give_back()
    assert [payment.state for payment in shared.payments()] == [PaymentState.SETTLED]


def test_what_was_spent_on_what_is_this_workers(fleet: Fleet) -> None:
    worker = fleet.open("one")
    worker.reserve(attempt("a", worker="one"), TEN, now=NOW)
    assert [(row.worker, row.count) for row in worker.spending()] == [("one", 1)]
    found = {
        name: worker.spent_atomic(network=BASE.caip2, payer=PAYER, worker=name)
        for name in ("one", "two")
    }
    assert found == {"one": 10, "two": 0}


def test_the_ledgers_have_no_other_name_that_loads_on_first_use() -> None:
    assert ledgers.LeasedLedger is LeasedLedger
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = ledgers.Nothing
