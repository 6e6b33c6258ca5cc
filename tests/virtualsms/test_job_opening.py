"""Getting a number: the cheapest under the ceiling, once, and never one that nobody can return."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.virtualsms.scripted import (
    EPOCH,
    ERRORS,
    ORDINARY,
    Answer,
    Scripted,
    instant,
    job,
    name_of,
)
from x402sms.errors import (
    APIError,
    CountryNotFound,
    NoCodeReceived,
    NoStock,
    OrderExpired,
    OrderNotFound,
    PaymentRefused,
    PaymentUnknown,
    RateLimited,
    ServerError,
    ServiceNotFound,
    SpendLimitExceeded,
    UnreadableResponse,
    X402SMSError,
)
from x402sms.virtualsms.effects import Bought, Chosen, Earlier, LeftOut, Paused, Recall
from x402sms.virtualsms.job import MOST_NUMBERS, Job, purchase_of
from x402sms.virtualsms.opening import open_job
from x402sms.virtualsms.verification import enter, receive_code


def opened(played: Scripted, *, resume: bool = False, **terms: Any) -> Job:
    present = job(**terms)
    played.run(open_job(present, resume=resume))
    return present


def countries(service: Scripted) -> list[str]:
    return [str((buy.call.json or {})["country"]) for buy in service.buys]


def test_the_cheapest_number_is_bought_and_handed_over() -> None:
    service = Scripted(prices={"US": "0.25", "GB": "0.20", "DE": "0.18", "FR": "0.31"})
    present = opened(service)
    assert countries(service) == ["DE"]
    assert [event.offer.country for event in service.told(Chosen)] == ["DE"]
    [bought] = service.told(Bought)
    assert bought.order == present.need_order()
    assert not bought.resumed


NEXT: dict[str, Callable[[], X402SMSError]] = {
    "no-stock": ERRORS["no-stock"],  # type: ignore[dict-item]
    "country-not-found": ERRORS["country-not-found"],  # type: ignore[dict-item]
    "over-max-amount": ERRORS["over-max-amount"],  # type: ignore[dict-item]
}


def dearer_at_the_second_402() -> X402SMSError:
    error = PaymentRefused("the price went up")
    error.__cause__ = SpendLimitExceeded("over", limit="max_amount", amount=Decimal("0.40"))
    return error


@pytest.mark.parametrize(
    "failure", [*NEXT.values(), dearer_at_the_second_402], ids=[*NEXT, "dearer-at-the-second-402"]
)
def test_where_nothing_can_be_bought_the_next_cheapest_is_tried_as_the_same_purchase(
    failure: Callable[[], X402SMSError],
) -> None:
    service = Scripted(queues={"buy": [failure(), failure()]})
    opened(service)
    assert countries(service) == ["GB", "DE", "US"]
    assert [event.country for event in service.told(LeftOut)] == ["GB", "DE"]
    assert {(buy.intent, buy.purchase) for buy in service.buys} == {
        ("job", "a number for telegram in any country")
    }


@pytest.mark.parametrize(
    ("failure", "error", "says"),
    [
        ("no-stock", NoStock, "3 tried, nothing bought"),
        ("country-not-found", NoStock, "3 tried, nothing bought"),
        ("over-max-amount", SpendLimitExceeded, "costs 0.40 USDC"),
    ],
)
def test_where_no_country_is_left_it_says_so(
    failure: str, error: type[X402SMSError], says: str
) -> None:
    service = Scripted(queues={"buy": [ERRORS[failure]() for _ in range(3)]})
    with pytest.raises(error, match=says):
        opened(service)
    assert not service.orders


def test_a_refusal_without_its_price_is_said_as_no_stock() -> None:
    over = [SpendLimitExceeded("over", limit="max_amount") for _ in range(3)]
    with pytest.raises(NoStock, match="3 tried"):
        opened(Scripted(queues={"buy": list(over)}))


PASSING = ["cannot-be-reached", "server", "unreadable", "payment-unknown", "already-paid"]


@pytest.mark.parametrize("name", PASSING)
def test_a_purchase_whose_end_is_not_clear_is_tried_again_as_the_same(name: str) -> None:
    service = Scripted(queues={"buy": [ERRORS[name](), ERRORS[name]()]})
    opened(service)
    assert countries(service) == ["GB", "GB", "GB"]
    assert service.sleeps == [2, 5]
    assert len(service.told(Paused)) == 2
    assert len({buy.intent for buy in service.buys}) == 1


@pytest.mark.parametrize("name", [name for name in ERRORS if name not in NEXT])
def test_a_purchase_that_fails_for_ever_is_given_up_within_three_minutes(name: str) -> None:
    def refuse(service: Scripted, effect: Any) -> Answer:
        return ERRORS[name]() if name_of(effect.call) == "buy" else ORDINARY

    service = Scripted(refuse)
    with pytest.raises(X402SMSError):
        opened(service)
    assert len(service.buys) <= 12
    assert service.now <= 180
    assert set(countries(service)) == {"GB"}


def test_a_lost_answer_is_not_waited_for_beyond_the_deadline() -> None:
    service = Scripted(
        queues={"buy": [RateLimited("wait", retry_after=179), ServerError("502"), ORDINARY]}
    )
    with pytest.raises(ServerError):
        opened(service)


# What the answer to the purchase may look like


def partial(*left_out: str, **said: Any) -> Callable[[Scripted], Answer]:
    def answer(service: Scripted) -> Answer:
        shown = service.order().shown() | said
        return {key: value for key, value in shown.items() if key not in left_out}

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        partial("status"),
        partial("price"),
        partial("country", "service"),
        partial("created_at", "expires_at", "cancel_available_at", "swap_available_at"),
        partial("cancel_available_at", rules={"cancel_cooldown_seconds": 120}),
        partial("cancel_available_at", rules={}),
        partial("cancel_available_at", rules={"cancel_cooldown_seconds": -50}),
        partial("phone_number"),
        partial(status="pending"),
        partial(status="teleported"),
        partial(phone_number="447700900101"),
        partial(phone_number="not-a-number"),
        partial(created_at="0001-01-01T00:00:00Z", expires_at="9999-12-31T23:59:59Z"),
        partial(cancel_available_at="9999-12-31T23:59:59Z"),
        partial(cancel_available_at="0001-01-01T00:00:00Z"),
        partial(swap_available_at="9999-12-31T23:59:59Z"),
        partial(expires_at=instant(EPOCH - 3600)),
        partial(created_at=instant(EPOCH + 600)),
        partial(created_at=instant(EPOCH - 600)),
        partial(cancel_available_at=instant(EPOCH + 2400)),
        partial(price="0"),
    ],
    ids=[
        "no-status",
        "no-price",
        "no-country",
        "no-times",
        "rules-alone",
        "rules-empty",
        "rules-below-0",
        "no-number",
        "pending",
        "unknown-status",
        "no-plus",
        "no-number-at-all",
        "first-and-last-year",
        "cancel-at-the-end-of-time",
        "cancel-long-ago",
        "swap-at-the-end-of-time",
        "expired-an-hour-ago",
        "created-in-ten-minutes",
        "created-ten-minutes-ago",
        "cancel-after-its-end",
        "free",
    ],
)
@pytest.mark.parametrize("swaps", [0, 1])
def test_an_odd_order_is_listened_to_and_given_back(
    answer: Callable[[Scripted], Answer], swaps: int
) -> None:
    service = Scripted(queues={"buy": [answer]})
    with pytest.raises(NoCodeReceived) as caught:
        service.run(receive_code(job(max_swaps=swaps), 180))
    assert caught.value.cancelled
    assert service.orders["o1"].status == "cancelled"
    assert service.now <= 900
    assert service.count("poll") <= 3
    assert service.count("cancel") <= 3


def test_a_number_that_the_answer_leaves_out_is_looked_up() -> None:
    service = Scripted(queues={"buy": [partial("phone_number")]})
    present = opened(service)
    assert present.need_order().phone_number == "+447700900101"
    assert [event.order.phone_number for event in service.told(Bought)] == ["+447700900101"]


def test_an_order_without_its_price_has_cost_what_was_offered() -> None:
    service = Scripted(queues={"buy": [partial("price", "country")]})
    order = opened(service).need_order()
    assert (order.price, order.country) == (Decimal("0.15"), "GB")


@pytest.mark.parametrize("ahead", [-25, 25, 600, 3600 * 24])
def test_a_clock_that_differs_does_not_change_when_the_order_is_cancelled(ahead: int) -> None:
    service = Scripted(ahead=ahead)
    with pytest.raises(NoCodeReceived):
        service.run(receive_code(job(), 60))
    assert service.times_of("cancel") == [120]


@pytest.mark.parametrize("ahead", [-90, -600, -3600 * 24])
def test_a_clock_that_seems_late_costs_one_refused_cancel_and_no_refund(ahead: int) -> None:
    service = Scripted(ahead=ahead)
    with pytest.raises(NoCodeReceived) as caught:
        service.run(receive_code(job(), 60))
    assert caught.value.cancelled
    assert service.count("cancel") <= 2


@pytest.mark.parametrize("order_id", ["a/b", "..", "", " ", "x" * 300, "a\nb", "o?1"])
def test_an_order_that_no_call_can_name_is_an_error_that_says_a_number_was_bought(
    order_id: str,
) -> None:
    service = Scripted(queues={"buy": [partial(order_id=order_id)]})
    with pytest.raises(UnreadableResponse, match="a number was bought"):
        service.run(receive_code(job(), 60))
    with pytest.raises(UnreadableResponse, match="a number was bought"):
        opened(Scripted(earlier={"job": Earlier(order_id, "settled")}), resume=True)


# What was bought before


def test_an_earlier_order_is_gone_on_with() -> None:
    service = Scripted(earlier={"job": Earlier("o1", "settled")})
    service.order()
    present = opened(service, resume=True)
    assert present.need_order().order_id == "o1"
    assert service.told(Bought) == [Bought(present.need_order(), resumed=True)]
    assert not service.buys


@pytest.mark.parametrize("status", ["received", "completed", "confirmed", "sms_received"])
def test_an_earlier_order_that_has_its_sms_is_gone_on_with(status: str) -> None:
    service = Scripted(earlier={"job": Earlier("o1", "settled")})
    service.order(status=status, messages=[{"content": "Telegram code 12345"}])
    assert service.run(receive_code(job(), 60, resume=True)).code == "12345"
    assert service.count("cancel") == 0


@pytest.mark.parametrize("found", [None, Earlier(None, "unknown")], ids=["nothing", "unknown"])
def test_without_an_earlier_order_the_purchase_is_made_under_the_same_intent(
    found: Earlier | None,
) -> None:
    service = Scripted(earlier={} if found is None else {"job": found})
    opened(service, resume=True)
    assert [buy.intent for buy in service.buys] == ["job"]


def test_after_earlier_orders_that_were_cancelled_the_next_number_is_bought() -> None:
    service = Scripted(earlier={"job": Earlier("o1", "settled"), "job#2": Earlier("o2", "settled")})
    service.order(status="cancelled")
    service.order(status="cancelled")
    present = opened(service, resume=True)
    assert [buy.intent for buy in service.buys] == ["job#3"]
    assert (present.before, present.numbers) == (2, 3)


@pytest.mark.parametrize("status", ["expired", "failed", "gone"])
@pytest.mark.parametrize("total", [None, "1.00"], ids=["no-total", "with-a-total"])
def test_after_one_whose_refund_is_not_known_another_is_bought_only_if_that_is_allowed(
    status: str, total: str | None
) -> None:
    service = Scripted(
        queues={"get": [OrderExpired("its window has passed")]} if status == "gone" else {},
        earlier={"job": Earlier("o1", "settled")},
    )
    service.order(status=status)
    terms = {"max_total": None if total is None else Decimal(total)}
    if total is None:
        with pytest.raises(NoCodeReceived, match="whether that is refunded is not known"):
            opened(service, resume=True, **terms)
        assert not service.buys
    else:
        opened(service, resume=True, **terms)
        assert [buy.intent for buy in service.buys] == ["job#2"]


def test_an_earlier_order_that_cannot_be_read_stops_before_another_is_bought() -> None:
    service = Scripted(earlier={"job": Earlier("o9", "settled")})
    with pytest.raises(OrderNotFound):
        opened(service, resume=True)
    assert not service.buys


def test_one_intent_has_a_bounded_number_of_purchases() -> None:
    names = ["job", *(f"job#{n}" for n in range(2, MOST_NUMBERS + 5))]
    service = Scripted(earlier={name: Earlier("o1", "settled") for name in names})
    service.order(status="cancelled")
    with pytest.raises(NoCodeReceived, match="another intent"):
        opened(service, resume=True)
    assert sum(isinstance(effect, Recall) for effect in service.effects) == MOST_NUMBERS
    assert not service.buys


def test_what_an_earlier_run_paid_and_this_one_gives_back_costs_only_the_calls() -> None:
    service = Scripted(earlier={"job": Earlier("o1", "settled")})
    service.order(created=-60.0)
    with pytest.raises(NoCodeReceived) as caught:
        service.run(receive_code(job(), 60, resume=True))
    assert caught.value.refunded == Decimal("0.15")
    assert caught.value.cost == service.paid


def test_what_earlier_runs_lost_and_got_back_is_no_gain_of_this_one() -> None:
    service = Scripted(earlier={"job": Earlier("o1", "settled")}, sms_after=10)
    service.order(status="cancelled")
    code = service.run(receive_code(job(), 60, resume=True))
    assert code.cost == service.paid


# Interrupted while it is bought

MAYBE_PAID = "a number may have been paid for under the intent 'job': "

STOPS: list[BaseException] = [KeyboardInterrupt(), MemoryError(), RuntimeError("a callback")]


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: type(stop).__name__)
def test_what_was_paid_when_it_was_interrupted_is_found_and_given_back(
    stop: BaseException,
) -> None:
    def bought_and_stopped(service: Scripted) -> Answer:
        service.queues["buy"] = []
        service.perform(service.buys[0])
        raise stop

    service = Scripted(queues={"buy": [bought_and_stopped]})
    with pytest.raises(type(stop)) as caught:
        service.run(enter(job()))
    assert [held.status for held in service.orders.values()] == ["cancelled"]
    assert any("o1 is cancelled" in note for note in caught.value.__notes__)


def test_an_interruption_of_the_pause_before_another_try_finds_what_was_paid() -> None:
    def lost(service: Scripted) -> Answer:
        service.queues["buy"] = []
        service.perform(service.buys[0])
        index = len(service.effects)
        service.interrupt = {index + 2: KeyboardInterrupt()}  # Now, Announce, Sleep
        raise PaymentUnknown("lost")

    service = Scripted(queues={"buy": [lost]})
    with pytest.raises(KeyboardInterrupt):
        service.run(receive_code(job(), 60))
    assert [held.status for held in service.orders.values()] == ["cancelled"]


@pytest.mark.parametrize(
    ("state", "noted"), [("reserved", True), ("unknown", True), ("refused", False), ("void", False)]
)
def test_what_may_have_been_paid_and_cannot_be_found_is_noted(state: str, noted: bool) -> None:
    service = Scripted(
        queues={"buy": [KeyboardInterrupt(), ServerError("502")]},
        earlier={"job": Earlier(None, state)},
    )
    with pytest.raises(KeyboardInterrupt) as caught:
        service.run(receive_code(job(), 60))
    notes = getattr(caught.value, "__notes__", [])
    assert any(MAYBE_PAID in note for note in notes) is noted
    assert not service.orders


def test_a_ledger_that_fails_then_does_not_take_the_place_of_the_interruption() -> None:
    service = Scripted(queues={"buy": [KeyboardInterrupt()]})
    at = len(_effects_until_bought())
    service.interrupt = {at: ERRORS["ledger"]()}
    with pytest.raises(KeyboardInterrupt) as caught:
        service.run(receive_code(job(), 60))
    assert any(MAYBE_PAID in note for note in caught.value.__notes__)


def test_a_second_interruption_then_says_what_to_do() -> None:
    service = Scripted(queues={"buy": [KeyboardInterrupt(), KeyboardInterrupt("again")]})
    service.intents["job"] = Earlier(None, "unknown")
    with pytest.raises(KeyboardInterrupt, match="again") as caught:
        service.run(receive_code(job(), 60))
    assert MAYBE_PAID in caught.value.__notes__[0]


def _effects_until_bought() -> list[Any]:
    service = Scripted()
    opened(service)
    return service.effects[: 1 + service.effects.index(service.buys[0])]


# Before anything is bought


@pytest.mark.parametrize(
    ("terms", "error"),
    [
        ({"service": "telegrm"}, ServiceNotFound),
        ({"country": "germny"}, CountryNotFound),
        ({"country": "44"}, ValueError),
        ({"country": "FR"}, NoStock),
        ({"max_price": Decimal("0.10")}, SpendLimitExceeded),
        ({"max_total": Decimal("0.10")}, SpendLimitExceeded),
    ],
    ids=["service", "country", "number", "elsewhere", "too-dear", "total"],
)
def test_what_cannot_be_had_stops_before_anything_is_bought(
    terms: dict[str, Any], error: type[Exception]
) -> None:
    service = Scripted()
    with pytest.raises(error):
        service.run(receive_code(job(**terms), 60))
    assert not service.buys


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("call", ["availability", "services", "countries"])
def test_whatever_a_look_at_the_offers_ends_in_nothing_is_bought(call: str, name: str) -> None:
    def refuse(service: Scripted, effect: Any) -> Answer:
        return ERRORS[name]() if name_of(effect.call) == call else ORDINARY

    service = Scripted(refuse)
    wanted: dict[str, dict[str, Any]] = {"availability": {}, "services": {"service": "Tele/gram"}}
    with pytest.raises(X402SMSError):
        opened(service, **wanted.get(call, {"country": "Germany"}))
    assert not service.buys
    assert service.now <= 180


@pytest.mark.parametrize("hours", [None, 4])
@pytest.mark.parametrize("country", [None, "GB"])
def test_what_is_bought_is_said_the_same_way_for_every_country_tried(
    country: str | None, hours: int | None
) -> None:
    said = {purchase_of("telegram", country, hours) for _ in range(3)}
    assert said == {
        f"a number for telegram in {country or 'any country'}"
        + ("" if hours is None else " for 4 hours")
    }


def test_an_error_of_the_purchase_that_is_none_of_these_is_raised() -> None:
    with pytest.raises(APIError, match="418"):
        opened(Scripted(queues={"buy": [APIError("HTTP 418")]}))
