"""A job that is told by webhooks: it ends as it did, on fewer paid polls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.buyer import Colour
from tests.job import schedules
from tests.job.accounts import closed, exact
from tests.job.scene import CANCEL, POLL, SLEEP, SWAP, Moment, Result, Scene, always, staged
from tests.job.schedules import Plan, Tally
from x402sms.errors import EventStoreError, NoCodeReceived, WebhookSignatureError
from x402sms.sandbox import Fault, InProcessSandbox
from x402sms.sandbox.faults import WEBHOOK_FAULTS
from x402sms.virtualsms.effects import Bought, Paused, Received, Swapped
from x402sms.virtualsms.models import Sms
from x402sms.webhooks import SIGNATURE_HEADER, EventStore, parse_event, verify_signature

PRICES = {"US": "0.10", "GB": "0.12"}
POLL_COST = Decimal("0.002")  # USDC


class Postman:
    """A mailbox: whatever the sandbox has posted by then is delivered before anybody looks."""

    def __init__(self, sandbox: InProcessSandbox) -> None:
        self._sandbox = sandbox
        self.store = EventStore(":memory:")
        self.delivered = 0
        self.duplicates = 0
        self.forged = 0

    def messages(self, order_id: str) -> list[Sms]:
        deliveries = self._sandbox.webhooks()
        for webhook in deliveries[self.delivered :]:
            self.delivered += 1
            try:
                verify_signature(
                    webhook.body, webhook.headers[SIGNATURE_HEADER], self._sandbox.webhook_secret
                )
            except WebhookSignatureError:
                self.forged += 1
                continue
            self.duplicates += not self.store.add(parse_event(webhook.body), webhook.body)
        return self.store.messages(order_id)


@contextmanager
def told(colour: Colour, **options: Any) -> Iterator[tuple[Scene, Postman]]:
    """A scene whose client has a mailbox."""
    with staged(colour, **{"only": PRICES, **options}) as scene:
        postman = Postman(scene.sandbox)
        scene.client.mailbox = postman
        with postman.store:
            yield scene, postman


def _delivers(scene: Scene, text: str, **more: Any) -> None:
    scene.sandbox.deliver_sms(scene.order_ids[-1], text, **more)


# seconds until the number, and the one it is swapped for, have their SMS
SCHEDULES: dict[str, dict[str, Any]] = {
    "at once": {"sms_after": 0},
    "after a while": {"sms_after": 45},
    "just before the swap": {"sms_after": 117},
    "live words": {"sms_after": 45, "vocabulary": "live"},
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_the_same_schedule_ends_in_the_same_code_on_fewer_paid_polls(
    schedule: Mapping[str, Any], colour: Colour
) -> None:
    job: dict[str, Any] = {"max_swaps": 1, "timeout": 300}
    with staged(colour, only=PRICES, **schedule) as scene:
        polling = scene.receive(**job)
        polls = scene.paid(POLL)
        exact(scene, polling)
    with told(colour, **schedule) as (scene, _):
        listening = scene.receive(**job)
        assert (scene.paid(POLL), polls) == (0, 1)
        assert scene.orders == ["confirmed"]
        exact(scene, listening)
    assert polling.code is not None
    assert listening.code is not None
    assert (listening.code.code, listening.code.text) == (polling.code.code, polling.code.text)
    assert listening.cost == polling.cost - POLL_COST


def test_a_code_that_comes_after_the_swap_costs_one_poll_in_place_of_two(colour: Colour) -> None:
    def run(scene: Scene) -> Result:
        def later() -> None:
            scene.at(SLEEP, lambda: _delivers(scene, "Your Telegram code is 55512"))
            scene.at(Moment(POLL), lambda: _delivers(scene, "Your Telegram code is 55512"))

        scene.at(Moment(SWAP, "after"), later)
        return scene.receive(max_swaps=1)

    with staged(colour, only=PRICES) as scene:
        polling, polls = run(scene), scene.paid(POLL)
    with told(colour) as (scene, _):
        listening = run(scene)
        assert (scene.paid(POLL), polls) == (1, 2)
        [swapped] = listening.told(Swapped)
        exact(scene, listening)
    assert polling.code is not None
    assert listening.code is not None
    assert listening.code.code == polling.code.code == "55512"
    assert listening.code.phone_number == swapped.order.phone_number


def test_it_ends_within_a_second_of_the_event(colour: Colour) -> None:
    with told(colour, sms_after=40) as (scene, _):
        ended = scene.receive()
        bought = next(each.at for each in scene.wire if each.route == "POST /orders" and each.paid)
        assert ended.code is not None
        assert scene.wire[-1].at - bought <= 41


def test_a_lost_webhook_loses_no_code(colour: Colour) -> None:
    with told(colour, sms_after=30, faults={"webhook-lost": 1.0}) as (scene, postman):
        ended = scene.receive(max_swaps=1)
        assert ended.code is not None
        assert (postman.delivered, scene.paid(POLL), scene.paid(SWAP)) == (0, 1, 0)
        exact(scene, ended)


@pytest.mark.parametrize("fault", ["webhook-duplicate", "webhook-reorder", "webhook-forged"])
def test_what_may_befall_a_webhook_leaves_the_right_code(fault: str, colour: Colour) -> None:
    with told(colour, sms_after=30, faults={fault: 1.0}) as (scene, postman):
        ended = scene.receive(max_swaps=1)
        [order] = scene.sandbox.state.orders.all()
        assert ended.code is not None
        assert ended.code.code == order.messages[-1].code
        assert len(ended.told(Received)) == 1
        assert postman.duplicates == (fault == "webhook-duplicate")
        assert postman.forged == (fault == "webhook-forged")
        exact(scene, ended)


def test_a_silent_number_costs_one_short_poll_before_it_is_given_up(colour: Colour) -> None:
    with told(colour) as (scene, _):
        ended = scene.receive(timeout=180)
        assert isinstance(ended.error, NoCodeReceived)
        assert ended.error.cancelled is True
        assert scene.paid(POLL) == 1
        [poll] = [each.at for each in scene.wire if each.route == POLL and each.paid]
        bought = next(each.at for each in scene.wire if each.route == "POST /orders" and each.paid)
        assert poll - bought == pytest.approx(180, abs=2)
        exact(scene, ended)


def test_a_late_sms_for_the_swapped_out_number_is_not_taken(colour: Colour) -> None:
    with told(colour) as (scene, _):

        def late_then_right() -> None:
            _delivers(scene, "Your Telegram code is 11111", to_previous=True)
            scene.at(SLEEP, lambda: _delivers(scene, "Your Telegram code is 22222"))

        scene.at(Moment(SWAP, "after"), lambda: scene.at(SLEEP, late_then_right))
        ended = scene.receive(max_swaps=1, timeout=400)
        assert ended.code is not None
        assert [event.code for event in ended.told(Received)] == ["22222"]
        closed(scene, ended)


def test_an_sms_that_beats_the_cancel_is_the_code(colour: Colour) -> None:
    with told(colour, faults=[always("sms-beats-cancel", CANCEL)]) as (scene, _):
        ended = scene.receive(timeout=150)
        assert ended.code is not None
        assert scene.orders == ["confirmed"]
        closed(scene, ended)


def test_a_pattern_is_looked_for_in_the_text_of_the_event(colour: Colour) -> None:
    with told(colour) as (scene, _):
        scene.at(SLEEP, lambda: _delivers(scene, "Ref 7781, key zebra-77"))
        ended = scene.receive(pattern=r"key (?P<code>[a-z]+-\d+)")
        assert ended.code is not None
        assert (ended.code.code, scene.paid(POLL)) == ("zebra-77", 0)
        exact(scene, ended)


def test_a_rental_yields_each_message_once_as_its_event_comes(colour: Colour) -> None:
    with told(colour) as (scene, _):
        texts = [f"Notice {number}: your parcel is on its way" for number in range(3)]

        def each_in_turn(left: list[str]) -> None:
            if left:
                _delivers(scene, left[0])
                scene.at(SLEEP, lambda: each_in_turn(left[1:]))

        scene.at(SLEEP, lambda: each_in_turn(texts))
        job = scene.job(rental_hours=4)
        scene.entered(job)
        assert [sms.content for sms in scene.messages(job, 60)] == texts
        assert scene.paid(POLL) == 1  # before it is over
        scene.left(job)


def test_a_resumed_job_takes_what_was_told_meanwhile(colour: Colour) -> None:
    with told(colour) as (scene, postman):
        job = scene.job(intent="signup-7")
        scene.entered(job)
        _delivers(scene, "Your Telegram code is 70707")
        postman.messages("any")
        ended = scene.receive(intent="signup-7")
        assert ended.code is not None
        assert ended.code.code == "70707"
        [bought] = ended.told(Bought)
        assert (bought.resumed, scene.paid(POLL)) == (True, 0)


class Broken:
    def messages(self, order_id: str) -> list[Sms]:
        raise EventStoreError("the disk is full")


@pytest.mark.parametrize("after", [0, 3], ids=["at once", "later"])
def test_a_mailbox_that_fails_is_told_of_and_polls_take_its_place(
    after: int, colour: Colour
) -> None:
    with told(colour, sms_after=60) as (scene, postman):
        looks: list[str] = []

        class Failing(Broken):
            def messages(self, order_id: str) -> list[Sms]:
                looks.append(order_id)
                if len(looks) <= after:
                    return postman.messages(order_id)
                return super().messages(order_id)

        scene.client.mailbox = Failing()
        ended = scene.receive()
        assert ended.code is not None
        assert len(looks) == after + 1
        assert scene.paid(POLL) == 1
        [paused] = ended.told(Paused)
        assert paused.reason in ended.code.warnings
        assert "webhooks cannot be read" in paused.reason
        exact(scene, ended)


def test_a_code_or_every_refundable_cent_back_whatever_goes_wrong(
    colour: Colour, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    """The job's own random schedules, with webhooks that are lost, doubled, late and forged."""

    @contextmanager
    def with_webhooks(colour: Colour, **options: Any) -> Iterator[Scene]:
        with told(colour, **options) as (scene, _):
            yield scene

    monkeypatch.setattr(schedules, "staged", with_webhooks)
    seed, tally = pytestconfig.option.hypothesis_seed, Tally()
    befalls = tuple(Fault(name, 0.3) for name in WEBHOOK_FAULTS)
    for number in range(8):
        plan = Plan.of(f"webhooks/{seed}/{number}")
        plan = replace(plan, faults=(*plan.faults, *befalls))
        try:
            schedules.run(plan, colour, tally)
        except BaseException as error:
            error.add_note(f"{plan}, {colour}; again with --hypothesis-seed={seed}")
            raise
    assert tally.ended["Code"] > 0
