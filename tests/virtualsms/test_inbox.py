"""Each message is told once, however often and in whatever form the service sends it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.virtualsms.scripted import RECEIPT, Scripted, job, paid_for
from x402sms.errors import NoCodeReceived, OrderExpired, RateLimited
from x402sms.virtualsms.inbox import Inbox, digits_of, messages_of, of_newest
from x402sms.virtualsms.job import Job
from x402sms.virtualsms.models import Order, Sms, SmsResult
from x402sms.virtualsms.verification import next_messages, receive_code, wait

NINE, TEN = "2026-11-01T09:00:00Z", "2026-11-01T10:00:00Z"
OWN, OLD = "+447700900101", "+447700900199"


def sms(content: str, at: str | None = None, sender: str | None = None, **more: Any) -> Sms:
    return Sms.model_validate({"content": content, "received_at": at, "sender": sender} | more)


def contents(messages: list[Sms]) -> list[str]:
    return [message.content for message in messages]


@pytest.mark.parametrize(
    ("first", "again", "new"),
    [
        (sms("a"), sms("a"), False),
        (sms("a"), sms("b"), True),
        (sms("a", NINE), sms("a", NINE), False),
        (sms("a", NINE), sms("a", TEN), True),
        (sms("a", NINE), sms("a"), False),
        (sms("a"), sms("a", NINE), False),
        (sms("a", NINE, "X"), sms("a", NINE, "Y"), True),
        (sms("a", NINE, "X"), sms("a", NINE), False),
        (sms("a", NINE), sms("a", NINE, "X"), False),
        (sms(""), sms(""), False),
    ],
    ids=[
        "same",
        "other-text",
        "same-time",
        "later",
        "without-time",
        "with-time-now",
        "other-sender",
        "without-sender",
        "with-sender-now",
        "empty",
    ],
)
def test_a_message_is_known_again(first: Sms, again: Sms, new: bool) -> None:
    inbox = Inbox()
    assert inbox.add([first]) == [first]
    assert bool(inbox.add([again])) is new
    assert inbox.has_told


def test_two_equal_messages_in_one_answer_are_two() -> None:
    inbox = Inbox()
    assert contents(inbox.add([sms("a"), sms("a")])) == ["a", "a"]
    assert inbox.add([sms("a"), sms("a")]) == []
    assert contents(inbox.add([sms("a"), sms("a"), sms("a")])) == ["a"]


@pytest.mark.parametrize("number", [OLD, OLD[1:], "+44 7700 900199", "0044-7700-900199"])
def test_a_message_for_a_number_that_was_swapped_away_is_not_told(number: str) -> None:
    inbox = Inbox(number=OWN)
    assert inbox.add([sms("late", phone_number=number)]) == []
    assert not inbox.has_told


@pytest.mark.parametrize("number", [OWN, OWN[1:], "+44 7700-900101", None, "", 5, ["x"], "n/a"])
def test_a_message_for_the_present_number_or_for_none_is_told(number: object) -> None:
    assert Inbox(number=OWN).add([sms("now", phone_number=number)])


@pytest.mark.parametrize("told", [sms("code 12345"), None], ids=["with-its-text", "alone"])
def test_a_code_that_was_told_is_not_told_alone(told: Sms | None) -> None:
    inbox = Inbox()
    if told is None:
        assert inbox.add_code("12345")
    else:
        inbox.add([told])
    assert not inbox.add_code("12345")
    assert inbox.has_told


def test_without_news_an_answer_stays_as_it_is() -> None:
    answer = SmsResult.model_validate({"code": "12345"})
    assert of_newest(answer, []) is answer


def test_without_a_number_every_message_is_told() -> None:
    assert Inbox().add([sms("now", phone_number=OLD)])


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"status": "waiting"}, []),
        ({"full_text": "a"}, ["a"]),
        ({"full_text": "a", "messages": [{"content": "a"}]}, ["a"]),
        ({"full_text": "b", "messages": [{"content": "a"}]}, ["a", "b"]),
        ({"messages": [{"content": "a"}, {"text": "b"}]}, ["a", "b"]),
        ({"full_text": "", "code": "1234"}, []),
    ],
    ids=["nothing", "text", "both", "text-besides", "list", "code"],
)
def test_an_answer_carries_its_messages_and_its_text(body: dict[str, Any], told: list[str]) -> None:
    assert contents(list(messages_of(SmsResult.model_validate(body)))) == told


@pytest.mark.parametrize("number", [None, 5, b"1", ["+1"], {}, ""])
def test_what_is_no_number_has_no_digits(number: object) -> None:
    assert digits_of(number) == ""


# Through the job


def received(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"status": "received", "messages": list(messages)} | more


OWN_TEXT = {"content": "Telegram code 22222", "phone_number": OWN, "received_at": NINE}
LATE_TEXT = {"content": "Telegram code 99999", "phone_number": OLD, "received_at": TEN}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (received(OWN_TEXT, LATE_TEXT), "22222"),
        (received(LATE_TEXT, OWN_TEXT), "22222"),
        (received(OWN_TEXT, LATE_TEXT, code="99999", full_text=LATE_TEXT["content"]), "22222"),
        (received(OWN_TEXT, LATE_TEXT, code="99999"), "22222"),
        (received(OWN_TEXT, LATE_TEXT, code="22222"), "22222"),
        (
            received(
                OWN_TEXT,
                {"content": "Telegram code 33333", "received_at": TEN},
                code="22222",
                full_text=OWN_TEXT["content"],
            ),
            "33333",
        ),
        (received(OWN_TEXT, code="2 2 2 2 2"), "2 2 2 2 2"),
        ({"code": "22222", "full_text": "Telegram code 22222"}, "22222"),
        ({"code": "22222"}, "22222"),
        ({"status": "received", "full_text": "Telegram code 22222"}, "22222"),
        ({"status": "teleported", "full_text": "Telegram code 22222"}, "22222"),
        ({"status": "waiting", "messages": [{"content": "Telegram code 22222"}]}, "22222"),
        ({"status": "received", "full_text": "Hello there"}, None),
        ({"status": "received", "messages": [{"content": ""}]}, None),
    ],
    ids=[
        "late-one-last",
        "late-one-first",
        "late-one-as-text-and-code",
        "late-one-as-code",
        "late-one-besides",
        "older-one-as-text-and-code",
        "code-as-written",
        "code-and-text",
        "code-alone",
        "text-alone",
        "unknown-status",
        "waiting-with-a-message",
        "no-code-in-it",
        "empty-text",
    ],
)
def test_the_code_is_that_of_the_newest_message_to_the_present_number(
    answer: dict[str, Any], code: str | None
) -> None:
    service = Scripted(queues={"poll": [answer]})
    got = service.run(receive_code(job(), 180))
    assert got.code == code
    assert got.text is None or "99999" not in got.text
    assert (service.count("cancel"), service.count("confirm")) == (0, 1)
    assert bool(got.warnings) is (code is None)


def test_a_late_message_for_another_number_is_no_code_and_the_number_is_given_back() -> None:
    answer = received(LATE_TEXT, code="99999", full_text=LATE_TEXT["content"])
    service = Scripted(queues={"poll": [answer, answer]})
    with pytest.raises(NoCodeReceived) as caught:
        service.run(receive_code(job(), 180))
    assert caught.value.cancelled
    assert service.refunded == service.orders["o1"].price


@pytest.mark.parametrize(
    "order",
    [{"messages": []}, {"messages": [{"content": "Telegram code 22222"}]}],
    ids=["without-text", "with-text"],
)
def test_a_poll_that_says_only_that_an_sms_came_has_the_order_read(order: dict[str, Any]) -> None:
    service = Scripted(
        queues={
            "poll": [{"status": "received"}],
            "get": [{"order_id": "o1", "status": "received"} | order],
        }
    )
    got = service.run(receive_code(job(), 180))
    assert got.code == ("22222" if order["messages"] else None)
    assert got.warnings == (() if order["messages"] else ("the SMS has no text",))
    assert service.count("cancel") == 0


def test_a_second_code_is_another_than_the_first() -> None:
    old, new = {"content": "Telegram code 11111"}, {"content": "Telegram code 22222"}
    service = Scripted(
        queues={
            "poll": [
                received(old, code="11111", full_text=old["content"]),
                received(old, code="11111", full_text=old["content"]),
                received(new, old, code="11111"),  # newest first, and the code of the other
            ]
        }
    )
    present = opened(service)
    assert service.run(wait(present, 180)).code == "11111"
    assert service.run(wait(present, 180)).code == "22222"
    with pytest.raises(NoCodeReceived, match="no further SMS"):
        service.run(wait(present, 180))


@pytest.mark.parametrize(
    "again",
    [{"code": "11111"}, received({"content": "Telegram code 11111"}, code="11111")],
    ids=["again", "with-its-text-now"],
)
def test_a_code_without_its_text_is_told_once(again: dict[str, Any]) -> None:
    service = Scripted(queues={"poll": [{"code": "11111"}, again, again, {"code": "22222"}]})
    present = opened(service)
    assert service.run(wait(present, 180)).code == "11111"
    assert service.run(wait(present, 180)).code == "22222"


def opened(service: Scripted, **terms: Any) -> Job:
    from x402sms.virtualsms.opening import open_job  # noqa: PLC0415

    present = job(**terms)
    service.run(open_job(present))
    return present


def test_a_rental_tells_each_message_once_until_it_is_over() -> None:
    one, two = {"content": "one"}, {"content": "two"}
    service = Scripted(
        queues={
            "poll": [
                received(one, full_text="one"),
                received(two),
                received(one, two),
                OrderExpired("over"),
                OrderExpired("over"),
            ],
            "get": [{"order_id": "o1", "status": "completed", "messages": [one, two]}] * 2,
        }
    )
    present = opened(service, rental_hours=4)
    told = []
    for _ in range(4):
        told += contents(service.run(next_messages(present, 600)))
    assert told == ["one", "two"]


def test_a_message_that_only_the_ended_order_has_is_told_once() -> None:
    one, two = {"content": "one"}, {"content": "two"}
    service = Scripted(
        lambda service, effect: OrderExpired("over"),
        queues={"poll": [received(one), OrderExpired("over")]},
    )
    service.queues["buy"] = [service.order().shown()]
    service.queues["availability"] = [[{"country": "GB", "price": "0.15"}]]
    service.queues["get"] = [{"order_id": "o1", "status": "completed", "messages": [one, two]}]
    present = opened(service, rental_hours=4)
    told = [contents(service.run(next_messages(present, 600))) for _ in range(4)]
    assert told == [["one"], ["two"], [], []]


def test_messages_of_an_order_nothing_is_known_of_are_listened_to() -> None:
    service = Scripted(sms_after=10)
    service.order()
    unknown = job(rental_hours=1)
    unknown.order = Order(order_id="o1", status="waiting")
    assert contents(service.run(next_messages(unknown, 60))) == ["Telegram code 12345 for o1"]
    assert service.run(next_messages(unknown, 60)) == []
    assert service.count("get") == 1


def test_messages_that_come_fast_are_polled_for_every_five_seconds() -> None:
    service = Scripted(queues={"poll": [received({"content": str(n)}) for n in range(5)]})
    present = opened(service, rental_hours=4)
    for n in range(5):
        assert contents(service.run(next_messages(present, 600))) == [str(n)]
    assert service.times_of("poll") == [0, 5, 10, 15, 20]


def test_a_poll_that_was_refused_and_may_be_paid_is_asked_again_under_its_intent() -> None:
    service = Scripted(queues={"poll": [paid_for(RateLimited("slow down", retry_after=10))]})
    present = opened(service, rental_hours=4)
    service.run(next_messages(present, 400))
    intents = [getattr(effect, "intent", None) for effect in service.effects if _polls(effect)]
    assert intents == [None, RECEIPT.intent, None, None]


def _polls(effect: Any) -> bool:
    return hasattr(effect, "call") and effect.call.path.endswith("/sms")
