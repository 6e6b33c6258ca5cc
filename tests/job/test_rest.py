"""With an API key nothing is signed: no nonce keeps a purchase from being made twice.

Each claim against a service that knows a purchase by its `Idempotency-Key`, and against one that
has never heard of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.buyer import COLOURS, Colour
from tests.job.accounts import adds_up, closed, exact
from tests.job.scene import (
    BUY,
    LIST,
    OFFERS,
    POLL,
    SLEEP,
    Exchange,
    Moment,
    Scene,
    always,
    cancel_task,
    interrupt,
    lost,
    once,
    staged,
    with_fields,
    with_rows,
)
from tests.job.schedules import Plan, Tally, run
from x402sms import PaymentState, SpendLimits
from x402sms.errors import (
    InsufficientBalance,
    IntentConflict,
    LedgerError,
    NoCodeReceived,
    NoStock,
    PaymentUnknown,
    RateLimited,
    SpendLimitExceeded,
    X402SMSError,
)
from x402sms.sandbox import Fault
from x402sms.virtualsms.effects import Bought

PRICES = {"US": "0.10", "GB": "0.12"}
HOUR, DAY = 3600, 86_400
SENT_BY_NOW = 300  # seconds after which what was sent has arrived, or never will
INTENT = "signup-7"
KNOWS = {"honoured": True, "ignored": False}


@pytest.fixture(params=list(KNOWS.values()), ids=list(KNOWS))
def honours(request: pytest.FixtureRequest) -> bool:
    known: bool = request.param
    return known


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    return str(tmp_path / "ledger.db")


def rest(colour: Colour, **options: Any) -> Any:
    return staged(colour, road="rest", **{"only": PRICES, **options})


def buy(scene: Scene, intent: str = INTENT, country: str = "US", **options: Any) -> Any:
    """The id of the order, or the error."""
    try:
        order = scene.wait_for(
            lambda: scene.client.orders.create("telegram", country, intent=intent, **options)
        )
    except X402SMSError as error:
        return error
    return order.order_id


def by_hand(scene: Scene) -> str:
    """An equal order on the same account, of which our ledger knows nothing."""
    with_own = scene.beside(ledger=":memory:")
    order_id: str = buy(with_own, "by hand")
    with_own.leave()
    return order_id


def posts(scene: Scene) -> list[Exchange]:
    return [each for each in scene.wire if each.purchase is not None]


def never_arrives() -> None:
    raise httpx.ReadError("the connection was lost")


LATER = "2040-01-01T00:00:00Z"
NEVER_ARRIVES = once("drop-before", BUY)


# --- one intent, at most one order

DOUBT, ORDER = PaymentUnknown, str
# Fault -> what asking ends in: at once, at once again, and 300 s later; how often it was sent.
BEFALLING: dict[str, tuple[type, type, type, int]] = {
    "drop-before": (DOUBT, DOUBT, ORDER, 2),
    "error-500": (DOUBT, DOUBT, ORDER, 2),
    "html-502-before": (DOUBT, DOUBT, ORDER, 2),
    "rate-limit": (RateLimited, ORDER, ORDER, 2),
    "no-stock": (NoStock, ORDER, ORDER, 2),
    "stock-ends": (NoStock, NoStock, NoStock, 3),
    "drop-after-settle": (ORDER, ORDER, ORDER, 1),
    "html-502": (ORDER, ORDER, ORDER, 1),
    "plain-error": (ORDER, ORDER, ORDER, 1),
    "truncate": (ORDER, ORDER, ORDER, 1),
    "slow": (ORDER, ORDER, ORDER, 1),
    "duplicate": (ORDER, ORDER, ORDER, 1),
}


@pytest.mark.parametrize("fault", BEFALLING)
def test_an_intent_buys_at_most_one_order_whatever_befalls_it(
    fault: str, honours: bool, colour: Colour
) -> None:
    first, second, third, sent = BEFALLING[fault]
    with rest(colour, honours=honours, faults=[once(fault, BUY)]) as scene:
        with scene.client.meter() as meter:
            results = [buy(scene), buy(scene)]
            scene.sandbox.advance(SENT_BY_NOW)
            results.append(buy(scene))
        assert [type(each) for each in results] == [first, second, third], results
        assert len(posts(scene)) == sent
        assert len({each for each in results if isinstance(each, str)}) == (third is ORDER)
        if (fault, honours) == ("duplicate", False):
            assert len(scene.orders) == 2  # of one request: no client can keep that from being so
            return
        assert len(scene.orders) == (third is ORDER)
        assert meter.total == scene.books[0]


@pytest.mark.parametrize("fault", BEFALLING)
def test_a_job_ends_with_a_code_or_its_money_back_whatever_befalls_its_purchase(
    fault: str, colour: Colour
) -> None:
    honours = fault == "duplicate"
    with rest(colour, honours=honours, faults=[once(fault, BUY)], sms_after=130) as scene:
        ended = scene.receive(intent=INTENT)
        adds_up(scene, ended)
        assert len(scene.orders) <= 1
        assert (ended.code is None) == isinstance(ended.error, PaymentUnknown), repr(ended.error)
        if ended.code is not None:
            exact(scene, ended)
            assert scene.orders == ["confirmed"]
            return
        assert f"{INTENT!r}" in ended.said
        assert ended.cost == Decimal("0.10")  # perhaps
        scene.sandbox.advance(SENT_BY_NOW)
        assert scene.receive(intent=INTENT).code is not None
        assert scene.orders == ["confirmed"]


@pytest.mark.parametrize(
    ("seconds", "asks"),
    [(0, 1), (SENT_BY_NOW - 1, 1), (SENT_BY_NOW, 2), (20 * HOUR, 2), (2 * DAY, 1)],
)
def test_it_is_asked_again_only_where_the_list_must_show_that_nothing_came_of_the_first(
    seconds: int, asks: int, honours: bool, colour: Colour
) -> None:
    """Not too early, when it may be on its way; nor so late that the list has forgotten it."""
    with rest(colour, honours=honours, faults=[NEVER_ARRIVES]) as scene:
        assert isinstance(buy(scene), PaymentUnknown)
        scene.sandbox.advance(seconds)
        again = buy(scene)
        assert len(posts(scene)) == asks
        assert isinstance(again, str if asks == 2 else PaymentUnknown)


@pytest.mark.parametrize("failing", ["error-500", "drop-before", "html-502", "rate-limit"])
def test_it_is_not_asked_again_while_the_list_cannot_be_read(failing: str, colour: Colour) -> None:
    with rest(colour, honours=False, faults=[always(failing, LIST)]) as scene:
        scene.change(BUY, lost)
        for seconds in (0, HOUR):
            scene.sandbox.advance(seconds)
            error = buy(scene)
            assert isinstance(error, PaymentUnknown)
            assert "looking for it in GET /orders failed" in str(error)
        scene.sandbox.set_faults({})
        assert buy(scene) == scene.order_ids[0]
        assert (len(posts(scene)), len(scene.orders)) == (1, 1)


Rows = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


def _without(*names: str) -> Rows:
    return lambda rows: [{**row, **dict.fromkeys(names)} for row in rows]


def _with(**fields: Any) -> Rows:
    return lambda rows: [{**row, **fields} for row in rows]


# What the list says of the order -> whether it can be told that it is ours.
SAYING: dict[str, tuple[Rows, bool]] = {
    "no moment": (_without("created_at"), False),
    "no service": (_without("service"), False),
    "no country": (_without("country"), False),
    "the service in another case": (_with(service="TELEGRAM"), True),
    "the service by another name": (_with(service="tg"), False),
    "the country by another code": (_with(country="us"), True),
    "no price": (_without("price"), True),
}


@pytest.mark.parametrize(("rows", "tells"), SAYING.values(), ids=SAYING)
def test_an_order_that_the_list_hardly_describes_is_at_least_not_bought_again(
    rows: Rows, tells: bool, colour: Colour
) -> None:
    with rest(colour, honours=False) as scene:
        scene.change(BUY, lost)
        scene.change(LIST, with_rows(rows))
        results = [buy(scene)]
        scene.sandbox.advance(2 * SENT_BY_NOW)
        results.append(buy(scene))
        assert len(posts(scene)) == len(scene.orders) == 1
        for result in results:
            assert result == scene.order_ids[0] if tells else isinstance(result, PaymentUnknown)


def test_of_two_that_ask_again_at_once_one_does(ledger: str, colour: Colour) -> None:
    """Each has read a list without the order; the slower must not undo what the quicker wrote."""
    with rest(colour, honours=False, ledger=ledger) as scene:
        scene.at(Moment(BUY), never_arrives)
        assert isinstance(buy(scene), PaymentUnknown)
        scene.sandbox.advance(SENT_BY_NOW)
        other = scene.beside()
        scene.at(
            Moment(LIST, "after"),
            lambda: other.client.orders.create("telegram", "US", intent=INTENT),
        )
        assert isinstance(buy(scene), PaymentUnknown)
        assert buy(scene) == scene.order_ids[0]
        assert len(scene.orders) == 1


@pytest.mark.parametrize("answered", [True, False])
def test_of_two_that_ask_for_the_first_time_at_once_one_does(
    answered: bool, ledger: str, colour: Colour
) -> None:
    with rest(colour, honours=False, ledger=ledger) as scene:
        other = scene.beside()
        if not answered:
            other.at(Moment(BUY, "after"), never_arrives)
            other.change(LIST, lost)

        async def awaited(asked: Any) -> None:
            with suppress(PaymentUnknown):
                await asked

        def meanwhile() -> Any:
            with suppress(PaymentUnknown):
                asked = other.client.orders.create("telegram", "US", intent=INTENT)
                return awaited(asked) if colour == "async" else None
            return None

        scene.at(Moment(OFFERS, "after"), meanwhile)
        assert buy(scene) == scene.order_ids[0]  # which the other bought
        assert (posts(scene), len(posts(other)), len(scene.orders)) == ([], 1, 1)


def test_an_order_that_another_claims_as_it_is_found_is_not_ours(
    colour: Colour, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rest(colour, honours=False) as scene:
        scene.change(BUY, lost)
        monkeypatch.setattr(scene.client.ledger.charges, "end", lambda *_, **__: False)
        assert isinstance(buy(scene), PaymentUnknown)
        scene.sandbox.advance(SENT_BY_NOW)
        assert isinstance(buy(scene), PaymentUnknown)
        assert len(posts(scene)) == 1


def test_another_machine_with_the_same_intent_gets_the_same_order(colour: Colour) -> None:
    """Where the service knows purchases by name; no ledger of ours is there to know it."""
    with rest(colour) as scene:
        elsewhere = scene.beside(ledger=":memory:")
        assert buy(scene) == buy(elsewhere) == scene.order_ids[0]
        assert len(scene.orders) == 1


def test_a_job_for_any_country_finds_what_it_bought_where_another_is_cheapest_now(
    honours: bool, colour: Colour
) -> None:
    faults = [once("drop-after-settle", BUY), always("error-500", LIST)]
    with rest(colour, honours=honours, faults=faults, sms_after=60) as scene:
        assert isinstance(scene.receive(intent=INTENT, timeout=60).error, PaymentUnknown)
        scene.sandbox.set_faults({})
        scene.sandbox.advance(SENT_BY_NOW)
        scene.only({"US": "0.20", "GB": "0.12"})
        ended = scene.receive(intent=INTENT, timeout=60)
        assert ended.code is not None, repr(ended.error)
        assert ended.code.order_id == scene.order_ids[0]
        assert len(posts(scene)) == len(scene.orders) == 1
        exact(scene, ended)


def test_a_name_that_the_service_knows_from_something_else_leaves_a_doubt(colour: Colour) -> None:
    """Another machine bought there under the intent: a 422 says so, and "no" it does not mean."""
    with rest(colour) as scene:
        elsewhere = scene.beside(ledger=":memory:")
        assert isinstance(buy(elsewhere, country="GB"), str)
        assert isinstance(buy(scene), PaymentUnknown)
        assert len(scene.orders) == 1


# --- never another purchase's order


@pytest.mark.parametrize("before", [5 * 60, 30 * 60])
def test_an_order_bought_by_hand_before_is_not_taken(before: int, colour: Colour) -> None:
    with rest(colour, honours=False) as scene:
        order_id = by_hand(scene)
        scene.sandbox.advance(before)
        scene.at(Moment(BUY), never_arrives)
        error = buy(scene)
        assert isinstance(error, PaymentUnknown)
        assert order_id in str(error)
        assert scene.charge_of(INTENT).order_id is None


def test_an_old_order_bought_by_hand_is_in_nobodys_way(colour: Colour) -> None:
    with rest(colour, honours=False) as scene:
        old = by_hand(scene)
        scene.sandbox.advance(2 * HOUR)
        scene.change(BUY, lost)
        found = buy(scene)
        assert found == scene.order_ids[1] != old


@pytest.mark.parametrize(
    ("later", "asks"), [(20 * 60, 1), (2 * HOUR, 2)], ids=["20 minutes", "2 hours"]
)
def test_an_order_bought_by_hand_later_is_not_taken(later: int, asks: int, colour: Colour) -> None:
    with rest(colour, honours=False, faults=[NEVER_ARRIVES]) as scene:
        assert isinstance(buy(scene), PaymentUnknown)
        scene.sandbox.advance(later)
        order_id = by_hand(scene)
        result = buy(scene)
        assert result != order_id
        assert len(posts(scene)) == asks
        if asks == 1:
            assert order_id in str(result)


def test_of_two_that_it_may_be_neither_is_taken(colour: Colour) -> None:
    with rest(colour, honours=False) as scene:
        order_id = by_hand(scene)
        scene.change(BUY, lost)
        results = [buy(scene)]
        scene.sandbox.advance(SENT_BY_NOW)
        results.append(buy(scene))
        for result in results:
            assert isinstance(result, PaymentUnknown)
            assert all(each in str(result) for each in scene.order_ids)
        assert order_id in scene.order_ids
        assert (len(posts(scene)), len(scene.orders)) == (1, 2)
        assert scene.charge_of(INTENT).state is PaymentState.UNKNOWN


def test_a_rental_by_hand_is_not_taken_for_a_number(colour: Colour) -> None:
    with rest(colour, honours=False) as scene:
        with_own = scene.beside(ledger=":memory:")
        assert isinstance(buy(with_own, "by hand", rental_hours=4), str)
        scene.change(LIST, with_rows(lambda rows: [rows[0], {**rows[1], "rental_until": LATER}]))
        scene.change(BUY, lost)
        assert buy(scene) == scene.order_ids[1]


def test_the_order_of_another_that_is_on_its_way_is_not_taken(ledger: str, colour: Colour) -> None:
    """Two clients on one ledger: one asked in vain as the other's answer was on its way."""
    with rest(colour, honours=False, ledger=ledger) as scene:
        other = scene.beside()
        other.at(Moment(BUY), never_arrives)
        in_vain: list[Any] = []

        def meanwhile() -> Any:
            create = other.client.orders.create
            if colour == "sync":
                in_vain.append(buy(other, "other"))
                return None

            async def created() -> None:
                with pytest.raises(PaymentUnknown) as caught:
                    await create("telegram", "US", intent="other")
                in_vain.append(caught.value)

            return created()

        scene.at(Moment(BUY, "after"), meanwhile)
        assert buy(scene) == scene.order_ids[0]
        assert isinstance(in_vain[0], PaymentUnknown)
        assert scene.charge_of("other").order_id is None
        scene.sandbox.advance(SENT_BY_NOW)
        assert buy(other, "other") == scene.order_ids[1]


@pytest.mark.parametrize("shared", [True, False], ids=["one ledger", "two ledgers"])
def test_two_that_lost_their_answers_do_not_take_each_others_orders(
    shared: bool, ledger: str, colour: Colour
) -> None:
    with rest(colour, honours=False, ledger=ledger) as scene:
        other = scene.beside(ledger=None if shared else ":memory:")
        for each in (scene, other):
            each.change(BUY, lost)
        scene.at(Moment(LIST), never_arrives)
        assert isinstance(buy(scene, "a"), PaymentUnknown)
        assert isinstance(buy(other, "b"), PaymentUnknown)
        scene.sandbox.advance(SENT_BY_NOW)
        assert isinstance(buy(scene, "a"), PaymentUnknown)
        assert isinstance(buy(other, "b"), PaymentUnknown)
        assert len(scene.orders) == len(posts(scene)) + len(posts(other)) == 2


def test_of_many_at_once_of_whom_some_lose_their_answers_none_has_anothers_order() -> None:
    many = 20
    faults = [Fault("drop-after-settle", 0.3, BUY), Fault("drop-before", 0.2, BUY)]
    with rest("async", honours=False, faults=faults) as scene:
        create = scene.client.orders.create

        async def all_of_them() -> list[Any]:
            each = (create("telegram", "US", intent=f"intent-{number}") for number in range(many))
            return await asyncio.gather(*each, return_exceptions=True)

        results = scene.wait_for(all_of_them)
        bought = [each.order_id for each in results if not isinstance(each, BaseException)]
        doubts = [each for each in results if isinstance(each, PaymentUnknown)]
        assert len(set(bought)) == len(bought) == many - len(doubts) > 0
        assert set(bought) <= set(scene.order_ids)
        assert {each.order_id for each in scene.charges if each.order_id} == set(bought)
        scene.sandbox.set_faults({})
        scene.sandbox.advance(SENT_BY_NOW)
        assert len(posts(scene)) == many
        for number in range(many):
            buy(scene, f"intent-{number}")
        assert all(each.state is not PaymentState.VOID for each in scene.charges)
        assert len(scene.orders) <= many  # none was bought twice


def test_an_answer_with_an_order_that_another_purchase_has_is_not_believed(colour: Colour) -> None:
    with rest(colour) as scene:
        first = buy(scene, "a")
        scene.change(BUY, with_fields(order_id=first))
        error = buy(scene, "b")
        assert isinstance(error, PaymentUnknown)
        assert first in str(error)
        assert scene.charge_of("a").order_id == first
        assert scene.charge_of("b").state is PaymentState.UNKNOWN


@pytest.mark.parametrize(
    ("skew", "finds"), [(-90, True), (90, True), (-1800, False), (1800, False)]
)
def test_clocks_that_differ_cost_a_doubt_at_most(skew: int, finds: bool, colour: Colour) -> None:
    with rest(colour, honours=False, skew=skew) as scene:
        scene.change(BUY, lost)
        results = [buy(scene)]
        scene.sandbox.advance(2 * SENT_BY_NOW)
        results.append(buy(scene))
        assert len(posts(scene)) == len(scene.orders) == 1
        assert [type(each) for each in results] == [str if finds else PaymentUnknown] * 2


def test_an_intent_that_bought_something_else_buys_nothing(colour: Colour) -> None:
    with rest(colour) as scene:
        assert isinstance(buy(scene), str)
        assert isinstance(buy(scene, country="GB"), IntentConflict)
        scene.at(Moment(BUY), never_arrives)
        assert isinstance(buy(scene, "b"), PaymentUnknown)
        assert isinstance(buy(scene, "b", country="GB"), IntentConflict)
        assert len(scene.orders) == 1


# --- killed, interrupted


class Killed(BaseException):
    """As far as anybody can tell, the process is gone."""


def _kill() -> None:
    raise Killed


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_killed_as_it_bought_is_gone_on_with_by_its_intent(
    when: str, honours: bool, ledger: str, colour: Colour
) -> None:
    with rest(colour, honours=honours, ledger=ledger) as scene:
        scene.at(Moment(BUY, when), _kill)
        with pytest.raises(Killed):
            buy(scene)
        scene.leave()
        scene.enter()
        again = buy(scene)
        if when == "before":
            assert isinstance(again, PaymentUnknown)
            scene.sandbox.advance(SENT_BY_NOW)
            again = buy(scene)
        assert [again] == scene.order_ids
        assert scene.charge_of(INTENT).order_id == again


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupted_job_finds_its_order_and_cancels_it(
    when: str, honours: bool, colour: Colour
) -> None:
    stop = interrupt if colour == "sync" else cancel_task
    with rest(colour, honours=honours) as scene:
        scene.at(Moment(BUY, when), stop)
        ended = scene.receive(intent=INTENT)
        assert isinstance(ended.error, KeyboardInterrupt | asyncio.CancelledError)
        if when == "after":
            assert scene.orders == ["cancelled"]
            exact(scene, ended)
            return
        assert "a number may have been paid for" in ended.said
        scene.sandbox.advance(SENT_BY_NOW)
        again = scene.receive(intent=INTENT)
        assert isinstance(again.error, NoCodeReceived)
        assert scene.orders == ["cancelled"]
        closed(scene, again)


def test_a_job_is_gone_on_with_by_its_intent(ledger: str, colour: Colour) -> None:
    with rest(colour, ledger=ledger) as scene:
        scene.entered(scene.job(intent=INTENT))
        scene.leave()
        scene.enter()
        ended = scene.receive(intent=INTENT, timeout=60)
        assert [event.resumed for event in ended.told(Bought)] == [True]
        assert len(posts(scene)) == 1
        assert scene.orders == ["cancelled"]


# --- limits

LIMITED: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "per_call": ({"per_call": "0.09"}, {}, 0),
    "max_amount": ({}, {"max_price": "0.09"}, 0),
    "per_hour": ({"per_hour": "0.25"}, {}, 2),
    "per_day": ({"per_day": "0.25"}, {}, 2),
    "total": ({"total": "0.25"}, {}, 2),
}


@pytest.mark.parametrize("name", LIMITED)
def test_a_limit_holds(name: str, colour: Colour) -> None:
    limits, options, bought = LIMITED[name]
    with rest(colour, client={"limits": SpendLimits(**{"per_day": None, **limits})}) as scene:
        results = [buy(scene, f"intent-{number}", **options) for number in range(4)]
        refused = results[bought:]
        assert all(isinstance(each, str) for each in results[:bought])
        assert [type(each) for each in refused] == [SpendLimitExceeded] * (4 - bought)
        assert {each.limit for each in refused} == {name}
        assert all("nothing" in str(each) for each in refused)
        assert len(posts(scene)) == len(scene.orders) == len(scene.charges) == bought


def test_what_is_in_doubt_counts_against_the_limits(colour: Colour) -> None:
    with rest(colour, client={"limits": SpendLimits(per_hour="0.15")}) as scene:
        scene.at(Moment(BUY), never_arrives)
        assert isinstance(buy(scene, "a"), PaymentUnknown)
        assert isinstance(buy(scene, "b"), SpendLimitExceeded)
        scene.sandbox.advance(SENT_BY_NOW)
        assert isinstance(buy(scene, "a"), str)


def test_a_window_lets_go_of_what_is_old(colour: Colour) -> None:
    with rest(colour, client={"limits": SpendLimits(per_hour="0.15")}) as scene:
        assert isinstance(buy(scene, "a"), str)
        assert isinstance(buy(scene, "b"), SpendLimitExceeded)
        scene.sandbox.advance(HOUR + 1)
        assert isinstance(buy(scene, "b"), str)


AGAIN: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "its own ceiling": ({}, {"max_price": "0.15"}, "max_amount"),
    "that of any call": ({"per_call": "0.15"}, {}, "per_call"),
    "a budget": ({"per_hour": "0.15"}, {}, "per_hour"),
}


@pytest.mark.parametrize(("limits", "options", "name"), AGAIN.values(), ids=AGAIN)
def test_what_is_asked_for_again_is_within_the_limits_again(
    limits: dict[str, Any], options: dict[str, Any], name: str, colour: Colour
) -> None:
    client = {"limits": SpendLimits(**{"per_day": None, **limits})}
    with rest(colour, client=client, faults=[NEVER_ARRIVES]) as scene:
        assert isinstance(buy(scene, **options), PaymentUnknown)
        scene.sandbox.advance(SENT_BY_NOW)
        scene.only({"US": "0.20"})
        error = buy(scene, **options)
        assert isinstance(error, SpendLimitExceeded), error
        assert error.limit == name
        assert (len(posts(scene)), scene.orders) == (1, [])


def test_a_rental_counts_as_its_ceiling_until_its_price_is_known(colour: Colour) -> None:
    limits = SpendLimits(per_call="1", per_day="1.05")
    with rest(colour, client={"limits": limits}) as scene:
        assert isinstance(buy(scene, "a", rental_hours=4, max_price="0.50"), str)
        assert scene.charge_of("a").amount_atomic == 120_000
        error = buy(scene, "b", rental_hours=4)  # may cost up to 1 USDC
        assert isinstance(error, SpendLimitExceeded)
        assert error.limit == "per_day"
        assert isinstance(buy(scene, "b", rental_hours=4, max_price="0.50"), str)


@pytest.mark.parametrize("cooldown", [0, 120])
@pytest.mark.parametrize("what", ["an order", "a job"])
def test_what_was_bought_too_dear_is_cancelled_and_told(
    what: str, cooldown: int, colour: Colour
) -> None:
    """The price went up between the list and the purchase."""
    with rest(colour, cooldown=cooldown) as scene:
        scene.at(Moment(BUY), lambda: scene.only({"US": "0.50"}))
        error: Any
        if what == "an order":
            error = buy(scene, max_price="0.30")
        else:
            ended = scene.receive(intent=INTENT, country="US")
            error = ended.error
            assert ended.cost == scene.books[0] - scene.books[1]
        assert isinstance(error, NoCodeReceived), repr(error)
        assert error.order_id == scene.order_ids[0]
        for said in (scene.order_ids[0], "0.50 USDC", "max_amount of 0.30"):
            assert said in str(error)
        assert error.cost == scene.books[0] - scene.books[1]
        if cooldown and what == "an order":
            assert (error.cancelled, scene.orders) == (False, ["waiting"])
            assert f"`x402sms orders cancel {scene.order_ids[0]}`" in str(error)
        else:
            assert (error.cancelled, scene.orders) == (True, ["cancelled"])
            assert error.refunded == Decimal("0.50")
        assert scene.charge_of(INTENT).amount_atomic == 500_000  # it was charged


@pytest.mark.parametrize("failing", [[], [once("error-500", LIST)]], ids=["at once", "later"])
def test_what_was_bought_too_dear_and_lost_is_found_and_cancelled(
    failing: list[Fault], colour: Colour
) -> None:
    with rest(colour, cooldown=0, faults=[once("html-502", BUY), *failing]) as scene:
        scene.at(Moment(BUY), lambda: scene.only({"US": "0.50"}))
        results = [buy(scene, max_price="0.30") for _ in range(1 + len(failing))]
        error = results[-1]
        assert isinstance(error, NoCodeReceived), repr(error)
        assert (error.cancelled, error.refunded) == (True, Decimal("0.50"))
        assert scene.orders == ["cancelled"]


def test_what_was_bought_too_dear_is_kept_where_its_sms_is_there(colour: Colour) -> None:
    """It could not be cancelled any more."""
    with rest(colour, faults=[once("html-502", BUY)], sms_after=1) as scene:
        scene.at(Moment(BUY), lambda: scene.only({"US": "0.50"}))
        scene.at(Moment(LIST), lambda: scene.sandbox.advance(2))
        assert buy(scene, max_price="0.30") == scene.order_ids[0]


@pytest.mark.parametrize("what", ["an order", "a job"])
def test_too_little_balance_is_said_and_nothing_is_charged(what: str, colour: Colour) -> None:
    with rest(colour) as scene, scene.client.meter() as meter:
        scene.sandbox.state.account.balance_atomic = 90_000
        result = buy(scene) if what == "an order" else scene.receive(intent=INTENT).error
        assert isinstance(result, InsufficientBalance)
        assert "Balance $0.09 < required $0.10" in str(result)
        assert scene.charge_of(INTENT).state is PaymentState.VOID
        assert (scene.orders, scene.books, meter.receipts) == ([], (0, 0), [])
        assert scene.sandbox.balance(scene.payer) == 90_000


# --- answers of a service that means no good, or of ours that fails

PRICED: dict[str, tuple[str, int]] = {
    "finer than a unit": ("0.1000001", 100_001),
    "nothing": ("0", 0),
    "not said": ("", 100_000),
}


@pytest.mark.parametrize(("price", "atomic"), PRICED.values(), ids=PRICED)
def test_an_odd_price_is_counted_and_costs_nobody_the_order(
    price: str, atomic: int, colour: Colour
) -> None:
    with rest(colour) as scene:
        scene.change(BUY, with_fields(price=price or None))
        assert buy(scene) == scene.order_ids[0]
        charge = scene.charge_of(INTENT)
        assert (charge.state, charge.amount_atomic) == (PaymentState.SETTLED, atomic)


@pytest.mark.parametrize("limits", [SpendLimits(), SpendLimits(per_call=None, per_day=None)])
def test_a_price_beyond_all_bounds_is_survived(limits: SpendLimits, colour: Colour) -> None:
    with rest(colour, client={"limits": limits}, cooldown=0) as scene:
        scene.change(BUY, with_fields(price="9" * 40))
        assert isinstance(buy(scene), NoCodeReceived)
        assert isinstance(buy(scene, "b"), SpendLimitExceeded if limits.per_day else NoCodeReceived)
        assert scene.wait_for(lambda: scene.client.orders.get(scene.order_ids[0])).is_final


def test_an_order_that_no_call_can_name_is_told_of_without_its_escapes(colour: Colour) -> None:
    with rest(colour) as scene:
        scene.change(BUY, with_fields(order_id="../x\x1b[31m", price="5"))
        error = buy(scene)
        assert isinstance(error, NoCodeReceived)
        assert "../x[31m" in str(error)
        assert str(error).isprintable()


def test_a_ledger_that_fails_once_it_is_bought_does_not_cost_the_order(
    colour: Colour, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*given: Any, **options: Any) -> bool:
        raise LedgerError("no space left")

    with rest(colour) as scene:
        with monkeypatch.context() as patched:
            patched.setattr(scene.client.ledger.charges, "end", full)
            assert buy(scene) == scene.order_ids[0]
        assert "the ledger does not know" in caplog.text
        assert buy(scene) == scene.order_ids[0]
        assert len(posts(scene)) == 1


def test_a_ledger_that_fails_before_buys_nothing(
    colour: Colour, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any, **options: Any) -> None:
        raise LedgerError("no space left")

    with rest(colour) as scene:
        monkeypatch.setattr(scene.client.ledger.charges, "ask", full)
        assert isinstance(buy(scene), LedgerError)
        assert posts(scene) == []


def test_a_callback_that_fails_does_not_cost_the_order(
    colour: Colour, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(receipt: Any) -> None:
        raise RuntimeError("no paper")

    with rest(colour, client={"on_payment": fails}) as scene:
        assert buy(scene) == scene.order_ids[0]
    assert "on_payment failed" in caplog.text


# --- more hours of a rental


def _rented(scene: Scene) -> str:
    order_id: str = buy(scene, "rental", rental_hours=4)
    assert isinstance(order_id, str), order_id
    return order_id


def _extend(scene: Scene, order_id: str, **options: Any) -> Any:
    try:
        return scene.wait_for(
            lambda: scene.client.orders.extend(order_id, 4, intent="more", **options)
        )
    except X402SMSError as error:
        return error


def test_more_hours_cost_what_the_rental_costs_more(colour: Colour) -> None:
    with rest(colour) as scene:
        order_id = _rented(scene)
        before = scene.books[0]
        with scene.client.meter() as meter:
            order = _extend(scene, order_id)
        [receipt] = meter.receipts
        assert receipt.amount == scene.books[0] - before == Decimal("0.02")
        assert receipt.state is PaymentState.SETTLED
        assert scene.charge_of("more").amount_atomic == 20_000
        again = _extend(scene, order_id)
        assert (again.order_id, again.price) == (order.order_id, order.price)
        assert len(posts(scene)) == 2


def test_more_hours_under_a_ceiling_are_refused_since_none_can_hold(colour: Colour) -> None:
    with rest(colour) as scene:
        error = _extend(scene, _rented(scene), max_price="5")
        assert isinstance(error, SpendLimitExceeded)
        assert "nothing bought" in str(error)
        assert len(posts(scene)) == 1


@pytest.mark.parametrize("price", [None, "0.02"], ids=["no price", "only that of these hours"])
def test_more_hours_of_an_unknown_price_count_as_the_most_they_may_cost(
    price: str | None, colour: Colour
) -> None:
    with rest(colour, client={"limits": SpendLimits(per_call="1", per_day="1.5")}) as scene:
        order_id = _rented(scene)
        scene.change("POST /orders/{order_id}/extend", with_fields(price=price))
        with scene.client.meter() as meter:
            _extend(scene, order_id)
        [receipt] = meter.receipts
        assert (receipt.amount, receipt.state) == (1, PaymentState.SETTLED)
        assert "does not say" in (receipt.reason or "")
        assert isinstance(buy(scene, "b", max_price="0.50", rental_hours=4), SpendLimitExceeded)


def test_more_hours_that_were_refused_cost_nothing_and_may_be_asked_for_again(
    colour: Colour,
) -> None:
    with rest(colour) as scene:
        order_id = _rented(scene)
        account = scene.sandbox.state.account
        balance, account.balance_atomic = account.balance_atomic, 0
        assert isinstance(_extend(scene, order_id), InsufficientBalance)
        assert scene.charge_of("more").state is PaymentState.VOID
        account.balance_atomic = balance
        assert _extend(scene, order_id).order_id == order_id
        assert scene.charge_of("more").amount_atomic == 20_000


@pytest.mark.parametrize("fault", ["drop-before", "drop-after-settle", "html-502", "truncate"])
def test_more_hours_whose_answer_is_lost_stay_in_doubt_and_are_not_asked_for_again(
    fault: str, honours: bool, colour: Colour
) -> None:
    extending = "POST /orders/{order_id}/extend"
    with rest(colour, honours=honours, faults=[once(fault, extending)]) as scene:
        order_id = _rented(scene)
        assert isinstance(_extend(scene, order_id), PaymentUnknown)
        for seconds in (0, SENT_BY_NOW, DAY):
            scene.sandbox.advance(seconds)
            assert isinstance(_extend(scene, order_id), PaymentUnknown)
        assert scene.sent(extending) == 1
        assert scene.charge_of("more").amount_atomic > 0  # counts as spent


# --- no more requests than there are places


def test_a_call_takes_one_place(colour: Colour) -> None:
    with rest(colour, client={"requests_per_minute": 20}, rate_limit=20) as scene:
        for _ in range(20):
            scene.wait_for(scene.client.countries.list)
        assert scene.clock.slept == []
        scene.wait_for(scene.client.countries.list)
        assert sum(scene.clock.slept) >= 60
        assert [each.status for each in scene.wire] == [200] * 21


def test_a_job_waits_out_a_service_that_says_later(colour: Colour) -> None:
    with rest(colour, rate_limit=3, sms_after=30) as scene:
        ended = scene.receive(timeout=600)
        assert ended.code is not None, repr(ended.error)
        assert 429 in [each.status for each in scene.wire]
        assert len(scene.orders) == 1
        exact(scene, ended)


@pytest.mark.parametrize("route", [OFFERS, BUY, POLL])
def test_a_429_is_waited_out_wherever_it_comes(route: str, colour: Colour) -> None:
    with rest(colour, faults=[once("rate-limit", route, times=3)], sms_after=30) as scene:
        ended = scene.receive(intent=INTENT)
        assert ended.code is not None, repr(ended.error)
        assert scene.orders == ["confirmed"]
        exact(scene, ended)


def test_a_refusal_that_is_no_answer_to_the_purchase_is_interrupted_in_its_pause() -> None:
    with rest("sync", faults=[once("rate-limit", BUY)]) as scene:
        scene.at(SLEEP, interrupt)
        ended = scene.receive(intent=INTENT)
        assert isinstance(ended.error, KeyboardInterrupt)
        assert scene.orders == []
        exact(scene, ended)


# --- whatever goes wrong

SCHEDULES = 100  # of each colour


@pytest.mark.parametrize("colour", COLOURS)
def test_a_code_or_every_refundable_cent_back_whatever_goes_wrong(
    colour: Colour, pytestconfig: pytest.Config
) -> None:
    tally, seed = Tally(), pytestconfig.option.hypothesis_seed
    for number in range(SCHEDULES):
        plan = Plan.of(f"rest/{seed}/{number}")
        try:
            run(plan, colour, tally, road="rest", honours=number % 2 == 0)
        except BaseException as error:
            error.add_note(f"{plan}, {colour}; again with --hypothesis-seed={seed}")
            raise
    assert sum(tally.ended.values()) == SCHEDULES
    assert tally.ended["Code"] > 0
    assert sum(tally.next_steps.values()) <= SCHEDULES // 10
