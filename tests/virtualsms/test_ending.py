"""An order that brought nothing is given back for its refund, whatever stands in the way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.virtualsms.scripted import EPOCH, ERRORS, ORDINARY, Answer, Held, Scripted
from x402sms.errors import (
    CooldownActive,
    OrderAlreadyConfirmed,
    OrderExpired,
    RateLimited,
    ServerError,
    ValidationFailed,
    X402SMSError,
)
from x402sms.virtualsms.effects import Cancelled, HeldBack, NotCancelled
from x402sms.virtualsms.ending import End, How, Moments, cancel, look, merged, standing
from x402sms.virtualsms.models import Order, OrderStatus

MOST_ASKED = 20  # of one order


def present(service: Scripted) -> Order:
    return Order.model_validate(service.orders["o1"].shown())


def ending(service: Scripted, moments: Moments | None = None, **known: Any) -> End:
    service.order(**known)
    return service.run(cancel(present(service), moments or Moments()))


def test_it_is_cancelled_as_soon_as_the_service_allows_it() -> None:
    service = Scripted()
    end = ending(service, Moments(cancel_at=120, expires_at=1200))
    assert (end.how, end.refund) == (How.CANCELLED, Decimal("0.15"))
    assert service.times_of("cancel") == [120]
    assert service.told(HeldBack) == [HeldBack("o1", 120)]


def test_what_is_held_until_after_its_end_is_tried_just_before_it() -> None:
    service = Scripted()
    ending(service, Moments(cancel_at=500, expires_at=300))
    assert service.times_of("cancel") == [290]


def test_a_refusal_that_says_how_long_is_waited_out() -> None:
    service = Scripted()
    assert ending(service).how is How.CANCELLED
    assert service.times_of("cancel") == [0, 121]


def test_a_refusal_without_a_time_is_taken_for_the_usual_cooldown() -> None:
    service = Scripted(queues={"cancel": [CooldownActive("too early")]})
    assert ending(service).how is How.CANCELLED
    assert service.times_of("cancel") == [0, 120]


@pytest.mark.parametrize("after", [60, 600, 900, 3000], ids=lambda after: f"{after}-s-later")
@pytest.mark.parametrize("name", ["server", "rate", "payment-unknown", "cooldown", "unreadable"])
def test_a_failure_that_may_pass_is_tried_again_however_long_ago_it_could_be_cancelled(
    name: str, after: float
) -> None:
    service = Scripted(queues={"cancel": [ERRORS[name]()]})
    service.now = after
    service.order(created=-120.0, number_since=after)
    end = service.run(cancel(present(service), Moments(cancel_at=0)))
    assert end.how is How.CANCELLED
    assert service.count("cancel") == 2


@pytest.mark.parametrize("says", [0, 1, 5, 30, 118, 3600, None])
@pytest.mark.parametrize(
    "moments",
    [
        Moments(),
        Moments(cancel_at=-5000),
        Moments(cancel_at=120, expires_at=1200),
        Moments(cancel_at=120, expires_at=-600),
        Moments(cancel_at=120, expires_at=60),
        Moments(cancel_at=600, expires_at=1e9),
    ],
    ids=["nothing-said", "long-past", "usual", "expired-by-our-clock", "after-its-end", "far"],
)
def test_a_service_that_refuses_for_ever_is_asked_a_few_times_and_within_twenty_minutes(
    moments: Moments, says: int | None
) -> None:
    service = Scripted(
        lambda service, effect: CooldownActive("too early", retry_after=says), sms_after=None
    )
    end = ending(service, moments)
    assert end.how is How.OPEN
    assert service.count("cancel") <= MOST_ASKED
    assert service.now <= 1300
    assert service.told(NotCancelled)


@pytest.mark.parametrize("says", [20, 118])
def test_the_service_knows_better_than_our_clock_that_an_order_is_still_there(says: int) -> None:
    """Our clock is an hour ahead, so the order seems to have expired."""
    service = Scripted(queues={"cancel": [CooldownActive("too early", retry_after=says)]})
    end = ending(service, Moments(cancel_at=-3480, expires_at=-2400), created=-120.0)
    assert end.how is How.CANCELLED
    assert service.times_of("cancel") == [0, says]


def then(status: str, **more: Any) -> Callable[[Scripted], None]:
    def happen(service: Scripted) -> None:
        held = service.orders["o1"]
        held.status = status
        for name, value in more.items():
            setattr(held, name, value)

    return happen


REFUSALS: dict[str, Callable[[], X402SMSError]] = {
    "400": lambda: ValidationFailed("Cannot cancel order with status: x"),
    "409": lambda: OrderAlreadyConfirmed("confirmed"),
    "410": lambda: OrderExpired("over"),
    "lost": lambda: ServerError("502"),
}


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize(
    ("status", "how"),
    [
        ("cancelled", How.CANCELLED),
        ("received", How.RECEIVED),
        ("sms_received", How.RECEIVED),
        ("completed", How.RECEIVED),
        ("confirmed", How.RECEIVED),
        ("expired", How.EXPIRED),
        ("failed", How.EXPIRED),
    ],
)
def test_a_refused_cancel_reads_the_order_again(refusal: str, status: str, how: How) -> None:
    def refuse(service: Scripted) -> Answer:
        then(status)(service)
        raise REFUSALS[refusal]()

    service = Scripted(queues={"cancel": [refuse]})
    end = ending(service)
    assert end.how is how
    assert (end.refund is not None) is (how is How.CANCELLED)
    assert service.count("cancel") == 1


def test_an_order_that_the_service_says_is_over_has_expired() -> None:
    service = Scripted(queues={"cancel": [OrderExpired("over")], "get": [OrderExpired("over")]})
    end = ending(service)
    assert end.how is How.EXPIRED
    assert "refunded" in end.why


def test_one_that_the_service_calls_over_and_shows_as_waiting_may_not_be_refunded() -> None:
    service = Scripted(queues={"cancel": [OrderExpired("over")]})
    end = ending(service)
    assert (end.how, end.refund) == (How.EXPIRED, None)
    assert "refunded is not known" in end.why


@pytest.mark.parametrize("refusal", [name for name in REFUSALS if name != "410"])
def test_one_that_stays_open_is_given_up_and_said_to_be_open(refusal: str) -> None:
    service = Scripted(
        lambda service, effect: (
            REFUSALS[refusal]() if effect.call.path.endswith("/cancel") else ORDINARY
        )
    )
    end = ending(service)
    assert end.how is How.OPEN
    assert service.count("cancel") == 6
    assert service.told(NotCancelled)[0].reason == end.why


@pytest.mark.parametrize("name", ERRORS)
def test_whatever_a_cancel_ends_in_is_said_and_not_raised(name: str) -> None:
    service = Scripted(lambda service, effect: ERRORS[name]())
    end = ending(service)
    assert end.how in (How.OPEN, How.EXPIRED)
    assert service.told(NotCancelled)
    assert service.count("cancel") <= 2 * MOST_ASKED


CANCELLATIONS: list[tuple[str, object, How, str | None]] = [
    (
        "in-full",
        {"success": True, "status": "cancelled", "refund_amount": "0.15"},
        How.CANCELLED,
        "0.15",
    ),
    (
        "in-part",
        {"success": True, "status": "cancelled", "refund_amount": "0.10"},
        How.CANCELLED,
        "0.10",
    ),
    ("only-success", {"success": True}, How.CANCELLED, "0.15"),
    ("only-status", {"status": "cancelled"}, How.CANCELLED, "0.15"),
    ("other-word", {"success": True, "status": "refunded"}, How.CANCELLED, "0.15"),
    ("no-but-cancelled", {"success": False, "status": "cancelled"}, How.CANCELLED, "0.15"),
    ("refund-null", {"success": True, "refund_amount": None}, How.CANCELLED, "0.15"),
]


@pytest.mark.parametrize(
    ("answer", "how", "refund"),
    [row[1:] for row in CANCELLATIONS],
    ids=[row[0] for row in CANCELLATIONS],
)
def test_a_cancellation_is_read_in_every_form(answer: object, how: How, refund: str | None) -> None:
    service = Scripted(queues={"cancel": [answer]})
    end = ending(service)
    assert (end.how, end.refund) == (how, None if refund is None else Decimal(refund))
    assert service.told(Cancelled) == [Cancelled("o1", end.refund)]


@pytest.mark.parametrize(
    "answer",
    [{"success": False, "status": "waiting"}, {"success": False, "status": "received"}],
    ids=["waiting", "received"],
)
def test_a_success_that_is_none_is_no_cancellation(answer: object) -> None:
    service = Scripted(lambda service, effect: answer if _cancels(effect) else ORDINARY)
    end = ending(service)
    assert end.how is How.OPEN
    assert not service.told(Cancelled)


def _cancels(effect: Any) -> bool:
    return bool(effect.call.path.endswith("/cancel"))


def test_a_price_that_was_never_said_gives_no_refund_to_tell() -> None:
    service = Scripted(queues={"cancel": [{"success": True}]})
    service.order()
    order = present(service).model_copy(update={"price": None})
    assert service.run(cancel(order, Moments())).refund is None


def test_too_many_requests_are_waited_out_before_a_cancel() -> None:
    service = Scripted(queues={"cancel": [RateLimited("slow down", retry_after=45)]})
    service.order(created=-200.0)
    assert service.run(cancel(present(service), Moments())).how is How.CANCELLED
    assert service.sleeps == [45]


# How an order stands


@pytest.mark.parametrize(
    ("status", "how"),
    [
        ("created", How.OPEN),
        ("waiting", How.OPEN),
        ("pending", How.OPEN),
        ("swapped", How.OPEN),
        ("teleported", How.OPEN),
        ("received", How.RECEIVED),
        ("sms_received", How.RECEIVED),
        ("completed", How.RECEIVED),
        ("confirmed", How.RECEIVED),
        ("CANCELLED ", How.CANCELLED),
        ("expired", How.EXPIRED),
        ("failed", How.EXPIRED),
    ],
)
def test_an_order_stands_as_its_status_says_in_either_vocabulary(status: str, how: How) -> None:
    assert standing(Order.model_validate({"order_id": "o1", "status": status})).how is how


@pytest.mark.parametrize("status", ["waiting", "cancelled", "expired", "teleported"])
@pytest.mark.parametrize(
    "sms", [{"sms_received": True}, {"messages": [{"content": "x"}]}], ids=["flag", "messages"]
)
def test_a_message_counts_more_than_the_status(status: str, sms: dict[str, Any]) -> None:
    body = {"order_id": "o1", "status": status} | sms
    assert standing(Order.model_validate(body)).how is How.RECEIVED


@pytest.mark.parametrize("name", ERRORS)
def test_an_order_that_cannot_be_read_is_open_as_far_as_is_known(name: str) -> None:
    service = Scripted(lambda service, effect: ERRORS[name]())
    order = Order(order_id="o1", status=OrderStatus.WAITING)
    end = service.run(look(order, until=60))
    assert end.how is (How.EXPIRED if name == "expired" else How.OPEN)
    assert end.order == order


def test_an_answer_that_leaves_much_out_loses_nothing_that_was_known() -> None:
    known = Order.model_validate(Held("o1", "GB", Decimal("0.15"), 0, "+447700900101", 0).shown())
    partial = Order.model_validate(
        {"id": "o1", "status": "swapped", "phone_number": "447700900102"}
    )
    now = merged(known, partial)
    assert (now.phone_number, now.status) == ("+447700900102", OrderStatus.SWAPPED)
    assert (now.price, now.country, now.created_at) == (Decimal("0.15"), "GB", known.created_at)
    assert now.created_at == datetime.fromtimestamp(EPOCH, UTC)


@pytest.mark.parametrize(
    "odd",
    [
        {"order_id": "o2"},
        {"model_fields": 1},
        {"dict": 1, "json": 2, "copy": 3},
        {"has_sms": "no", "is_final": True},
        {"model_extra": {"x": 1}, "__class__": "Order"},
        {"price": None, "phone_number": None, "expires_at": None},
    ],
    ids=lambda odd: next(iter(odd)),
)
def test_no_field_of_an_answer_makes_another_order_of_it(odd: dict[str, Any]) -> None:
    known = Order.model_validate(Held("o1", "GB", Decimal("0.15"), 0, "+447700900101", 0).shown())
    now = merged(known, Order.model_validate({"order_id": "o1", "status": "waiting"} | odd))
    assert now.order_id == "o1"
    assert now.price == Decimal("0.15")
    assert standing(now).how is How.OPEN


def test_fields_that_nobody_knows_survive() -> None:
    known = Order.model_validate({"order_id": "o1", "status": "waiting", "lane": 1})
    now = merged(known, Order.model_validate({"order_id": "o1", "status": "waiting", "note": "x"}))
    assert now.model_extra == {"lane": 1, "note": "x"}
