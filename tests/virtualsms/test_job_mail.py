"""The job's generators where webhooks tell of what comes: each branch, without a service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.virtualsms.scripted import COOLDOWN, Scripted, job
from x402sms.errors import NoCodeReceived
from x402sms.virtualsms.effects import CheckMail, Paused, Received, Sleep, Swapped, Waiting
from x402sms.virtualsms.job import Job
from x402sms.virtualsms.listening import LAST_POLL, MAIL_INTERVAL
from x402sms.virtualsms.models import Sms
from x402sms.virtualsms.opening import open_job
from x402sms.virtualsms.verification import next_messages, receive_code, wait

Mail = Callable[[Scripted], tuple[Sms, ...]]


def sms(content: str = "", **more: Any) -> Sms:
    return Sms.model_validate({"content": content, **more})


def told(service: Scripted, mail: Mail, **terms: Any) -> Job:
    """A job with a mailbox that brings `mail`."""
    service.mail = lambda order_id: mail(service)
    present = job(**terms)
    present.mail = True
    return present


def from_second(seconds: float, *messages: Sms) -> Mail:
    return lambda service: messages if service.now >= seconds else ()


def test_the_code_of_an_event_counts_as_the_services_own() -> None:
    service = Scripted()
    present = told(service, from_second(30, sms("Ref 98765432: 5521", code="55-21")))
    code = service.run(receive_code(present, 180))
    assert (code.code, code.text) == ("55-21", "Ref 98765432: 5521")
    assert (service.count("poll"), service.count("confirm")) == (0, 1)
    assert service.now == pytest.approx(30, abs=MAIL_INTERVAL)


def test_without_one_it_is_found_in_the_text() -> None:
    service = Scripted()
    present = told(service, from_second(30, sms("Your Telegram code is 5521")))
    assert service.run(receive_code(present, 180)).code == "5521"


def test_a_code_without_its_text_is_told_once_however_its_text_comes_after_it() -> None:
    service = Scripted()
    service.mail = lambda order_id: (sms(code="5521"),)
    present = job(rental_hours=4)
    present.mail = True
    service.run(open_job(present))
    assert service.run(wait(present, 60)).code == "5521"
    service.mail = lambda order_id: (sms(code="5521"), sms("your code is 5521", code="5521"))
    assert service.run(next_messages(present, 60)) == []
    assert len(service.told(Received)) == 1


def test_an_event_that_says_nothing_of_its_sms_is_followed_by_one_poll() -> None:
    service = Scripted(sms_after=30)
    present = told(service, from_second(40, sms()))
    assert service.run(receive_code(present, 180)).code == "12345"
    assert service.times_of("poll") == [pytest.approx(40, abs=MAIL_INTERVAL)]


def test_where_that_poll_finds_nothing_it_waits_on_and_looks_once_more_at_the_end() -> None:
    service = Scripted()
    present = told(service, from_second(40, sms()))
    with pytest.raises(NoCodeReceived):
        service.run(receive_code(present, 180))
    assert service.times_of("poll") == [pytest.approx(40, abs=1), pytest.approx(178, abs=1)]


@pytest.mark.parametrize(
    ("timeout", "polls"), [(0, []), (0.5, []), (1, [1]), (4, [2]), (180, [2]), (3600, [2])]
)
def test_a_number_that_stays_silent_costs_one_short_poll(timeout: float, polls: list[int]) -> None:
    service = Scripted(limit=10_000)
    with pytest.raises(NoCodeReceived):
        service.run(receive_code(told(service, from_second(9999)), timeout))
    lengths = [call.long_poll_seconds for _, name, call in service.calls if name == "poll"]
    assert lengths == polls
    assert service.orders["o1"].status == "cancelled"


def test_each_number_has_its_own_poll_before_it_is_swapped_or_given_up() -> None:
    service = Scripted()
    with pytest.raises(NoCodeReceived):
        service.run(receive_code(told(service, from_second(9999), max_swaps=1), 300))
    assert service.times_of("poll") == [COOLDOWN - LAST_POLL, 300 - LAST_POLL]
    assert len(service.told(Swapped)) == 1
    first, second, *_ = service.told(Waiting)
    assert (first.swap_in, second.swap_in) == (COOLDOWN, LAST_POLL)


def test_a_message_for_a_number_that_was_swapped_away_is_not_told() -> None:
    service = Scripted()
    old = {"phone_number": "+44770090010199"}
    present = told(service, from_second(10, sms("Telegram code 11111", code="11111", **old)))
    with pytest.raises(NoCodeReceived):
        service.run(receive_code(present, 60))
    assert service.told(Received) == []


def test_an_older_message_that_is_delivered_late_keeps_its_own_code() -> None:
    first = sms("First 1111", code="1111", received_at="2026-11-01T10:00:00Z")
    second = sms("Second 2222", code="2222", received_at="2026-11-01T10:01:00Z")
    service = Scripted()
    present = told(service, from_second(0, second), rental_hours=4)
    service.run(open_job(present))
    assert service.run(wait(present, 60)).code == "2222"
    service.mail = lambda order_id: (first, second)
    code = service.run(wait(present, 60))
    assert (code.code, code.text) == ("1111", "First 1111")


@pytest.mark.parametrize("code", [None, "", 5521, ["5521"]], ids=repr)
def test_a_mailbox_of_ones_own_may_say_anything_for_a_code(code: object) -> None:
    service = Scripted()
    present = told(service, from_second(5, sms("Your code is 77001", code=code)))
    assert service.run(receive_code(present, 60)).code == "77001"


@pytest.mark.parametrize("error", [OSError("disk"), ValueError("x\x1b[31m"), RuntimeError()])
def test_a_mailbox_that_fails_is_not_asked_again(error: Exception) -> None:
    def fails(service: Scripted) -> tuple[Sms, ...]:
        raise error

    service = Scripted(sms_after=60)
    code = service.run(receive_code(told(service, fails), 180))
    assert code.code == "12345"
    assert sum(isinstance(effect, CheckMail) for effect in service.effects) == 1
    [paused] = service.told(Paused)
    assert code.warnings == (paused.reason,)
    assert paused.reason.isprintable()
    assert service.count("poll") == 1


def test_a_job_without_a_mailbox_looks_at_none() -> None:
    service = Scripted(sms_after=60)
    service.run(receive_code(job(), 180))
    assert not [effect for effect in service.effects if isinstance(effect, CheckMail)]


def test_it_looks_twice_a_second_and_sleeps_between() -> None:
    service = Scripted()
    service.run(receive_code(told(service, from_second(10, sms("code 12345"))), 180))
    looks = [effect for effect in service.effects if isinstance(effect, CheckMail)]
    pauses = [effect.seconds for effect in service.effects if isinstance(effect, Sleep)]
    assert len(looks) == 21
    assert pauses == [MAIL_INTERVAL] * 20
