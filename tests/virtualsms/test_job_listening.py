"""Listening: few and long polls, a swap for a silent number, and an end to everything."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from tests.virtualsms.scripted import (
    ERRORS,
    ORDINARY,
    Answer,
    Held,
    Scripted,
    job,
    name_of,
)
from x402sms.errors import (
    CooldownActive,
    NoCodeReceived,
    NoStock,
    NotFound,
    OrderAlreadyConfirmed,
    OrderExpired,
    PaymentUnknown,
    RateLimited,
    ServerError,
    ValidationFailed,
    X402SMSError,
)
from x402sms.virtualsms.effects import (
    Bought,
    Cancelled,
    Confirmed,
    Earlier,
    Make,
    NotCancelled,
    Paused,
    Recall,
    Received,
    Swapped,
    Waiting,
)
from x402sms.virtualsms.ending import End, How
from x402sms.virtualsms.job import Job, told
from x402sms.virtualsms.models import Order
from x402sms.virtualsms.opening import open_job
from x402sms.virtualsms.verification import (
    close,
    close_after,
    enter,
    extend,
    leave,
    next_messages,
    receive_code,
    release,
    wait,
)


def opened(played: Scripted, **terms: Any) -> Job:
    present = job(**terms)
    played.run(open_job(present))
    return present


def lengths(service: Scripted) -> list[int]:
    return [call.long_poll_seconds for _, name, call in service.calls if name == "poll"]


def for_ever(**answers: Answer) -> Any:
    return lambda service, effect: answers.get(name_of(effect.call), ORDINARY)


# Polls


@pytest.mark.parametrize(
    ("timeout", "polls"),
    [
        (180, [180]),
        (179.9, [179]),
        (60, [60]),
        (4, [4]),
        (0.5, []),
        (0, []),
        (400, [180, 180, 40]),
        (362, [180, 180]),
    ],
)
def test_a_silent_number_costs_as_few_polls_as_can_be(timeout: float, polls: list[int]) -> None:
    service = Scripted()
    with pytest.raises(NoCodeReceived):
        service.run(receive_code(job(), timeout))
    assert lengths(service) == polls
    assert service.orders["o1"].status == "cancelled"


AT_ONCE: dict[str, Answer] = {
    "nothing": {"status": "waiting"},
    "empty": {},
    "unknown-status": {"status": "teleported"},
    "swapped": {"status": "swapped"},
}


@pytest.mark.parametrize("answer", AT_ONCE.values(), ids=AT_ONCE)
@pytest.mark.parametrize("timeout", [180, 3600])
def test_a_service_that_holds_no_poll_is_asked_less_and_less(
    answer: Answer, timeout: float
) -> None:
    service = Scripted(for_ever(poll=answer))
    with pytest.raises(NoCodeReceived):
        service.run(receive_code(job(), timeout))
    times = service.times_of("poll")
    assert len(times) <= 6 + timeout / 60
    assert all(later - earlier >= 5 for earlier, later in pairwise(times))
    assert service.now <= timeout + 60


@pytest.mark.parametrize("says", [0, 1, 3, 30, 170, None])
@pytest.mark.parametrize("timeout", [60, 180, 3600])
def test_polls_refused_for_ever_are_few_and_end_with_the_deadline(
    says: int | None, timeout: float
) -> None:
    service = Scripted(
        lambda service, effect: (
            RateLimited("slow down", retry_after=says)
            if name_of(effect.call) == "poll"
            else ORDINARY
        )
    )
    with pytest.raises((NoCodeReceived, RateLimited)):
        service.run(receive_code(job(), timeout))
    times = service.times_of("poll")
    assert len(times) <= 10 + timeout / 60
    assert all(later - earlier >= 5 for earlier, later in pairwise(times))
    assert service.orders["o1"].status == "cancelled"


@pytest.mark.parametrize("retry_after", [10, 100])
def test_a_poll_that_was_refused_does_not_outlast_the_deadline(retry_after: int) -> None:
    service = Scripted(queues={"poll": [RateLimited("slow down", retry_after=retry_after)]})
    with pytest.raises(NoCodeReceived):
        service.run(receive_code(job(), 180))
    assert lengths(service) == [180, 180 - retry_after]


@pytest.mark.parametrize(
    "name", ["cannot-be-reached", "server", "unreadable", "payment-unknown", "payment-refused"]
)
def test_three_failed_polls_in_a_row_are_enough_and_the_number_is_given_back(name: str) -> None:
    def refuse(service: Scripted, effect: Any) -> Answer:
        return ERRORS[name]() if name_of(effect.call) == "poll" else ORDINARY

    service = Scripted(refuse)
    with pytest.raises(type(ERRORS[name]())) as caught:
        service.run(receive_code(job(), 600))
    assert service.count("poll") == 3
    assert len(service.told(Paused)) == 2
    assert caught.value.__notes__ == ["the order o1 is cancelled, 0.15 USDC refunded"]


def test_a_poll_that_works_forgives_those_that_failed() -> None:
    two: list[Answer] = [ServerError("502"), PaymentUnknown("lost")]
    service = Scripted(queues={"poll": [*two, {}, *two, ORDINARY]}, sms_after=300)
    assert service.run(receive_code(job(), 600)).code == "12345"


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("call", ["poll", "swap", "cancel", "confirm", "get"])
@pytest.mark.parametrize("sms_after", [None, 60], ids=["silent", "with-an-sms"])
def test_whatever_one_call_ends_in_every_time_the_job_ends_and_says_so(
    call: str, name: str, sms_after: float | None
) -> None:
    def refuse(service: Scripted, effect: Any) -> Answer:
        return ERRORS[name]() if name_of(effect.call) == call else ORDINARY

    service = Scripted(refuse, sms_after=sms_after)
    present = job(max_swaps=1, max_numbers=2)
    try:
        code = service.run(receive_code(present, 300))
    except X402SMSError as error:
        said = "\n".join([str(error), *getattr(error, "__notes__", ())])
        assert "o1" in said
        assert service.orders["o1"].status == "cancelled" or "`x402sms orders " in said
    else:
        assert code.code == "12345"
        assert call in ("confirm", "poll") or not code.warnings
        assert call != "confirm" or code.warnings
    assert service.count("poll") <= 20
    assert service.count("swap") <= 30
    assert service.now <= 3000


# What a poll may say


@pytest.mark.parametrize("status", ["received", "sms_received", "completed", "confirmed"])
@pytest.mark.parametrize("told", [{}, {"messages": []}, {"code": "", "full_text": ""}], ids=str)
def test_an_sms_that_is_only_said_to_be_there_is_never_cancelled(
    status: str, told: dict[str, Any]
) -> None:
    def happened(service: Scripted) -> Answer:
        held = service.orders["o1"]
        held.status, held.messages = status, [{"content": "Telegram code 12345"}]
        return {"status": status} | told

    service = Scripted(queues={"poll": [happened]})
    assert service.run(receive_code(job(), 180)).code == "12345"
    assert service.count("cancel") == 0


@pytest.mark.parametrize("known", [True, False], ids=["order-readable", "order-lost"])
@pytest.mark.parametrize(
    ("status", "cancelled"), [("cancelled", True), ("expired", None), ("failed", None)]
)
def test_an_order_that_ended_meanwhile_is_told_as_it_ended(
    status: str, cancelled: bool | None, known: bool
) -> None:
    def ended(service: Scripted) -> Answer:
        service.orders["o1"].status = status
        return {"status": status}

    service = Scripted(queues={"poll": [ended], "get": [ORDINARY if known else ServerError("502")]})
    with pytest.raises(NoCodeReceived) as caught:
        service.run(receive_code(job(), 180))
    assert caught.value.cancelled is (cancelled if known else caught.value.cancelled)
    assert caught.value.cancelled in (cancelled, None)
    assert service.count("poll") == 1
    assert service.told(Cancelled if caught.value.cancelled else NotCancelled)


@pytest.mark.parametrize("name", ["waiting", "received", "expired", "cancelled"])
def test_a_410_has_the_order_read_once_more(name: str) -> None:
    def over(service: Scripted) -> Answer:
        held = service.orders["o1"]
        held.status = name
        if name == "received":
            held.messages = [{"content": "Telegram code 12345"}]
        return OrderExpired("over")

    service = Scripted(queues={"poll": [over]})
    present = job()
    if name == "received":
        assert service.run(receive_code(present, 180)).code == "12345"
        return
    with pytest.raises(NoCodeReceived) as caught:
        service.run(receive_code(present, 180))
    # One that is said to be over and shown as waiting is cancelled all the same, if that works.
    cancelled = name in ("cancelled", "waiting")
    assert caught.value.cancelled is (True if cancelled else None)
    assert ("refunded is not known" in str(caught.value)) is not cancelled


def test_an_order_that_has_its_message_already_costs_no_poll() -> None:
    service = Scripted()
    present = opened(service)
    order = present.need_order()
    held = service.orders["o1"]
    held.messages = [{"content": "Telegram code 12345"}]
    present.order = type(order).model_validate(held.shown())
    assert service.run(wait(present, 180)).code == "12345"
    assert service.count("poll") == 0


# Swaps


def test_a_silent_number_is_swapped_once_and_the_new_one_is_told() -> None:
    service = Scripted(sms_after=150)
    code = service.run(receive_code(job(max_swaps=1), 600))
    assert code.phone_number == "+447700900109"
    assert [event.order.phone_number for event in service.told(Swapped)] == ["+447700900109"]
    assert service.times_of("swap") == [120]
    waits = service.told(Waiting)
    assert (waits[0].seconds, waits[0].swap_in) == (600, 120)
    assert waits[1].swap_in is None


@pytest.mark.parametrize(
    ("terms", "timeout", "swaps"),
    [
        ({}, 180, 0),
        ({"max_swaps": 1}, 149, 0),
        ({"max_swaps": 1}, 150, 1),
        ({"max_swaps": 2}, 180, 1),
        ({"max_swaps": 2}, 300, 2),
        ({"max_swaps": 1, "rental_hours": 4}, 600, 0),
        ({"max_swaps": 1, "swap_after": 30}, 180, 1),
    ],
)
def test_a_number_is_swapped_only_where_that_is_worth_it(
    terms: dict[str, Any], timeout: float, swaps: int
) -> None:
    service = Scripted()
    with pytest.raises(NoCodeReceived):
        service.run(receive_code(job(**terms), timeout))
    assert len(service.told(Swapped)) == swaps


@pytest.mark.parametrize(
    "left_out",
    [
        ["phone_number"],
        ["status", "price", "country", "service", "created_at"],
        ["order_id", "expires_at", "cancel_available_at", "swap_available_at"],
    ],
    ids=lambda names: names[0],
)
def test_an_answer_to_a_swap_may_leave_much_out(left_out: list[str]) -> None:
    def swapped(service: Scripted) -> Answer:
        held = service.orders["o1"]
        held.number, held.number_since = "+447700900155", service.now
        return {key: value for key, value in held.shown().items() if key not in left_out}

    service = Scripted(queues={"swap": [swapped]}, sms_after=150)
    code = service.run(receive_code(job(max_swaps=1), 600))
    assert code.phone_number == "+447700900155"
    assert (code.order_id, code.price, code.order.country) == ("o1", Decimal("0.15"), "GB")


def test_an_order_id_in_the_answer_to_a_swap_does_not_change_what_is_cancelled() -> None:
    service = Scripted(queues={"swap": [{"order_id": "o7", "phone_number": "+447700900155"}]})
    with pytest.raises(NoCodeReceived) as caught:
        service.run(receive_code(job(max_swaps=1), 180))
    assert (caught.value.order_id, service.orders["o1"].status) == ("o1", "cancelled")


@pytest.mark.parametrize(
    "failure", [NotFound("No replacement"), NoStock("none")], ids=["404", "503"]
)
def test_without_a_replacement_the_number_is_given_back(failure: X402SMSError) -> None:
    service = Scripted(queues={"swap": [failure]})
    with pytest.raises(NoCodeReceived) as caught:
        service.run(receive_code(job(max_swaps=2), 600))
    assert caught.value.cancelled
    assert (service.count("swap"), service.times_of("cancel")) == (1, [120])


@pytest.mark.parametrize(("says", "at"), [(30, 150), (0, 125), (None, 240), (100_000, 720)])
def test_a_hold_period_is_waited_out_before_the_swap(says: int | None, at: float) -> None:
    service = Scripted(queues={"swap": [CooldownActive("hold period", retry_after=says)]})
    with pytest.raises(NoCodeReceived):
        service.run(receive_code(job(max_swaps=1), 900))
    assert service.times_of("swap") == [120, at]


def test_a_swap_that_is_refused_for_ever_is_given_up_after_three() -> None:
    service = Scripted(
        lambda service, effect: (
            CooldownActive("hold period", retry_after=0)
            if name_of(effect.call) == "swap"
            else ORDINARY
        )
    )
    with pytest.raises(NoCodeReceived) as caught:
        service.run(receive_code(job(max_swaps=2), 900))
    assert service.count("swap") == 3
    assert caught.value.cancelled


def _number_changed(held: Held) -> None:
    held.number = "+447700900155"


def _received(held: Held) -> None:
    held.status, held.messages = "received", [{"content": "Telegram code 12345"}]


def _cancelled(held: Held) -> None:
    held.status = "cancelled"


def _expired(held: Held) -> None:
    held.status = "expired"


def _as_before(held: Held) -> None:
    pass


@pytest.mark.parametrize(
    "failure",
    [ValidationFailed, OrderAlreadyConfirmed, OrderExpired, ServerError, PaymentUnknown],
)
@pytest.mark.parametrize(
    ("happened", "swaps", "code"),
    [
        (_number_changed, 1, None),
        (_received, 0, "12345"),
        (_cancelled, 0, None),
        (_expired, 0, None),
        (_as_before, 1, None),
    ],
    ids=["it-was-swapped", "an-sms-came", "it-was-cancelled", "it-expired", "nothing"],
)
def test_a_swap_that_failed_has_the_order_read(
    failure: type[X402SMSError], happened: Any, swaps: int, code: str | None
) -> None:
    def refuse(service: Scripted) -> Answer:
        happened(service.orders["o1"])
        return failure("no")

    service = Scripted(queues={"swap": [refuse]})
    present = job(max_swaps=1)
    if code is None:
        with pytest.raises(NoCodeReceived):
            service.run(receive_code(present, 300))
    else:
        assert service.run(receive_code(present, 300)).code == code
        assert service.count("cancel") == 0
    assert len(service.told(Swapped)) == swaps


# The next number


def test_the_next_number_is_another_purchase_in_another_country() -> None:
    service = Scripted()
    with pytest.raises(NoCodeReceived) as caught:
        service.run(receive_code(job(max_numbers=2), 600))
    assert [buy.intent for buy in service.buys] == ["job", "job#2"]
    assert [event.order.country for event in service.told(Bought)] == ["GB", "DE"]
    assert caught.value.refunded == Decimal("0.33")
    assert caught.value.cost == service.paid - service.refunded


def test_without_another_country_the_first_end_is_told() -> None:
    service = Scripted(prices={"GB": "0.15"})
    with pytest.raises(NoCodeReceived) as caught:
        service.run(receive_code(job(max_numbers=3), 600))
    assert isinstance(caught.value.__cause__, NoStock)
    assert caught.value.cancelled


def test_the_only_country_that_was_asked_for_is_bought_from_again() -> None:
    service = Scripted()
    with pytest.raises(NoCodeReceived):
        service.run(receive_code(job(max_numbers=2, country="GB"), 600))
    assert [event.order.country for event in service.told(Bought)] == ["GB", "GB"]


@pytest.mark.parametrize(("total", "numbers"), [(None, 1), ("0.20", 1), ("0.33", 2), ("5.00", 3)])
def test_after_a_number_that_may_be_lost_another_is_bought_within_the_total_alone(
    total: str | None, numbers: int
) -> None:
    def lose(service: Scripted, effect: Any) -> Answer:
        if name_of(effect.call) != "poll":
            return ORDINARY
        for held in service.orders.values():
            held.status = "expired"
        return OrderExpired("over")

    service = Scripted(lose)
    allowed = None if total is None else Decimal(total)
    with pytest.raises(NoCodeReceived) as caught:
        service.run(receive_code(job(max_numbers=3, max_total=allowed), 600))
    assert len(service.orders) == numbers
    assert caught.value.cancelled is None
    assert "refunded is not known" in str(caught.value)


@pytest.mark.parametrize("ahead", [0, 600, -600, -86_400])
def test_a_silent_order_is_given_back_before_it_expires(ahead: float) -> None:
    """By our clock, as far as that can be right; else the service says when it is over."""
    service = Scripted(ahead=ahead)
    with pytest.raises(NoCodeReceived) as caught:
        service.run(receive_code(job(), 3600))
    assert caught.value.cancelled is (None if ahead == -86_400 else True)
    assert service.now <= 1200 + 180


# Waiting again, keeping, leaving


@pytest.mark.parametrize("how", ["rental", "give-up-false", "second-wait"])
def test_a_number_may_be_kept_without_a_code(how: str) -> None:
    service = Scripted(sms_after=10 if how == "second-wait" else None)
    present = opened(service, rental_hours=4 if how == "rental" else None)
    if how == "second-wait":
        assert service.run(wait(present, 60)).code == "12345"
    with pytest.raises(NoCodeReceived, match="is kept") as caught:
        service.run(wait(present, 60, give_up=how != "give-up-false"))
    assert caught.value.cancelled is False
    assert service.count("cancel") == 0


@pytest.mark.parametrize("how", ["rental", "give-up-false", "second-wait"])
@pytest.mark.parametrize("status", ["cancelled", "expired"])
def test_a_number_that_is_over_is_not_said_to_be_kept(how: str, status: str) -> None:
    service = Scripted(sms_after=10 if how == "second-wait" else None)
    present = opened(service, rental_hours=4 if how == "rental" else None)
    if how == "second-wait":
        service.run(wait(present, 60))

    def ended(service: Scripted) -> Answer:
        service.orders["o1"].status, service.orders["o1"].messages = status, []
        return {"status": status}

    service.queues["poll"] = [ended]
    with pytest.raises(NoCodeReceived) as caught:
        service.run(wait(present, 20, give_up=how != "give-up-false"))
    assert "is kept" not in str(caught.value)
    assert caught.value.cancelled is (True if status == "cancelled" else None)


def test_a_rental_is_extended_and_released_and_then_over() -> None:
    service = Scripted()
    present = opened(service, rental_hours=4)
    service.run(extend(present, 2))
    assert present.need_order().rental_until is not None
    service.run(release(present))
    assert present.need_order().status == "completed"
    assert service.run(close(present)) is None


def test_a_code_is_confirmed_once() -> None:
    service = Scripted(sms_after=10)
    present = opened(service)
    service.run(wait(present, 60))
    service.run(leave(present))
    service.run(leave(present))
    assert service.count("confirm") == 1
    assert service.told(Confirmed)
    assert [event.code for event in service.told(Received)] == ["12345"]


def test_an_order_that_the_service_has_confirmed_is_not_confirmed_again() -> None:
    answer = {"status": "completed", "full_text": "Telegram code 12345"}
    service = Scripted(queues={"poll": [answer]})
    assert service.run(receive_code(job(), 60)).code == "12345"
    assert service.count("confirm") == 0


@pytest.mark.parametrize("name", ERRORS)
def test_a_code_is_returned_whatever_confirming_it_ends_in(name: str) -> None:
    service = Scripted(
        lambda service, effect: ERRORS[name]() if name_of(effect.call) == "confirm" else ORDINARY,
        sms_after=10,
    )
    code = service.run(receive_code(job(), 60))
    assert code.code == "12345"
    assert "be confirmed" in code.warnings[0]
    assert code.cost == service.paid


def test_leaving_raises_for_an_order_that_could_not_be_cancelled() -> None:
    service = Scripted(lambda service, effect: _refuses(effect))
    present = opened(service)
    with pytest.raises(NoCodeReceived, match="could NOT be cancelled") as caught:
        service.run(leave(present))
    assert caught.value.cancelled is False
    assert "`x402sms orders cancel o1`" in str(caught.value)


def _refuses(effect: Any) -> Answer:
    return ERRORS["unauthorized"]() if name_of(effect.call) == "cancel" else ORDINARY


def test_an_sms_that_comes_before_the_cancel_is_the_code() -> None:
    service = Scripted(sms_after=70)
    code = service.run(receive_code(job(), 60))
    assert code.code == "12345"
    assert service.orders["o1"].status == "confirmed"


def test_an_error_on_the_way_to_a_code_becomes_a_warning() -> None:
    service = Scripted(
        lambda service, effect: ERRORS["server"]() if name_of(effect.call) == "poll" else ORDINARY,
        sms_after=5,
    )
    code = service.run(receive_code(job(), 600))
    assert code.code == "12345"
    assert code.warnings == ("something went wrong before its SMS was there: broken",)


def test_a_second_interruption_of_what_has_no_order_is_raised_as_it_is() -> None:
    service = Scripted(interrupt={at: KeyboardInterrupt(str(at)) for at in range(9)})
    service.queues["buy"] = []
    with pytest.raises(KeyboardInterrupt) as caught:
        service.run(receive_code(job(), 60))
    assert not hasattr(caught.value, "__notes__")


def test_an_order_whose_only_sms_was_for_its_former_number_is_said_to_be_open() -> None:
    late = {"content": "Your late code is 99999", "phone_number": "+447700900199"}

    def refuse(service: Scripted) -> Answer:
        held = service.orders["o1"]
        held.status, held.messages = "received", [late]
        return ValidationFailed("Cannot cancel order with status: received")

    service = Scripted(queues={"cancel": [refuse]})
    with pytest.raises(NoCodeReceived, match="for the number that it had before a swap") as caught:
        service.run(receive_code(job(), 60))
    assert caught.value.cancelled is False


@pytest.mark.parametrize("how", How, ids=lambda how: how.name)
def test_what_became_of_an_order_names_it(how: How) -> None:
    order = Order(order_id="o1", status="waiting")
    assert "o1" in told(End(how, order, why="why"))


def test_a_job_that_is_closed_while_its_purchase_is_looked_for_asks_for_nothing_more() -> None:
    service = Scripted(queues={"buy": [KeyboardInterrupt()]})
    service.intents["job"] = Earlier(None, "unknown")
    logic = receive_code(job(), 60)
    effect = next(logic)
    while not isinstance(effect, Recall):
        try:
            effect = logic.send(service.perform(effect))
        except KeyboardInterrupt as stop:
            effect = logic.throw(stop)
    logic.close()
    assert not service.orders


@pytest.mark.parametrize("step", [wait, next_messages, extend], ids=lambda step: step.__name__)
def test_a_job_without_a_number_says_so(step: Any) -> None:
    with pytest.raises(NoCodeReceived, match="has no number"):
        Scripted().run(step(job(), 10))


def test_what_has_no_order_has_nothing_to_close() -> None:
    service, error = Scripted(), KeyboardInterrupt()
    service.run(close_after(job(), error))
    assert not service.effects
    assert not hasattr(error, "__notes__")
    stopped = Scripted(interrupt={0: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        stopped.run(enter(job()))
    assert len(stopped.effects) == 1


def test_a_generator_that_is_closed_at_any_effect_stops_there() -> None:
    for steps in range(1, 40):
        service = Scripted()
        present = opened(service)
        for logic in (wait(present, 60), leave(present), close_after(present, ValueError())):
            try:
                effect = next(logic)
                for _ in range(steps):
                    effect = logic.send(service.perform(effect))
            except (StopIteration, X402SMSError):
                continue
            logic.close()
    assert not [effect for effect in service.effects if isinstance(effect, Make)][40:]
