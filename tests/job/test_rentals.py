"""A rented number is listened to as often as one likes, and kept."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from tests.buyer import Colour
from tests.job.accounts import audited
from tests.job.scene import BUY, CANCEL, CONFIRM, POLL, SWAP, Moment, Scene, once, staged
from x402sms.errors import NoCodeReceived, SpendLimitExceeded
from x402sms.virtualsms.effects import Bought

PRICES = {"US": "0.10", "GB": "0.12"}


def _sends(scene: Scene, *texts: str) -> None:
    for text in texts:
        scene.sandbox.advance(1)
        scene.sandbox.deliver_sms(scene.order_ids[0], text)


def _rented(scene: Scene, **options: Any) -> Any:
    job = scene.job(rental_hours=24, **options)
    scene.entered(job)
    return job


def test_a_rental_is_waited_on_several_times_and_each_code_told_once(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        job = _rented(scene)
        codes = []
        for code in ("111111", "222222", "333333"):
            scene.at(Moment(POLL), partial(_sends, scene, f"Your code is {code}"))
            codes.append(scene.wait_for(lambda: job.wait(timeout=180)))
        assert [code.code for code in codes] == ["111111", "222222", "333333"]
        with pytest.raises(
            NoCodeReceived, match=r"no further SMS within 60 s; the number .* is kept"
        ):
            scene.wait_for(lambda: job.wait(timeout=60))
        scene.left(job)
        assert scene.orders == ["received"]
        assert (scene.paid(BUY), scene.sent(CANCEL), scene.sent(SWAP), scene.sent(CONFIRM)) == (
            1,
            0,
            0,
            0,
        )
        books = audited(scene)
        assert job.cost == books.paid


def test_messages_are_told_without_repeats(colour: Colour) -> None:
    with staged(colour, only=PRICES, faults={"reorder": 0.5}) as scene:
        job = _rented(scene)
        _sends(scene, "Your code is 111111", "Your code is 222222")
        scene.at(Moment(POLL), lambda: None)
        first = scene.messages(job, 30)
        _sends(scene, "Your code is 333333")
        second = scene.messages(job, 30)
        texts = [message.content for message in (*first, *second)]
        assert sorted(texts) == [f"Your code is {n}" for n in ("111111", "222222", "333333")]
        scene.left(job)
        assert scene.orders == ["received"]


def test_the_same_text_twice_is_two_messages(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        job = _rented(scene)
        _sends(scene, "Your code is 111111", "Your code is 111111")
        assert len(scene.messages(job, 30)) == 2


def test_a_silent_rental_is_kept_as_it_is_left(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        job = _rented(scene)
        with pytest.raises(NoCodeReceived, match="is kept") as ended:
            scene.wait_for(lambda: job.wait(timeout=180))
        assert ended.value.cancelled is False
        scene.left(job)
        assert (scene.orders, scene.sent(CANCEL)) == (["waiting"], 0)
        scene.left(job, RuntimeError("whatever happens in the block"))
        assert scene.orders == ["waiting"]


def test_a_rental_is_extended_and_released(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        job = _rented(scene)
        before = job.order.expires_at
        scene.wait_for(lambda: job.extend(4))
        assert (job.order.expires_at - before).total_seconds() == 4 * 3600
        scene.wait_for(job.release)
        assert job.order.status == "completed"
        assert scene.orders == ["completed"]
        scene.left(job)
        books = audited(scene)
        assert books.idle == 0
        assert job.cost == books.paid
        # The number, 24 and 4 hours, the offers and the release.
        assert books.paid == Decimal("0.10") + 28 * Decimal("0.005") + 2 * Decimal("0.001")


def test_an_extension_above_the_ceiling_is_not_paid(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        job = _rented(scene)
        with pytest.raises(SpendLimitExceeded):
            scene.wait_for(lambda: job.extend(100))
        assert audited(scene).paid == job.cost


def test_an_extension_whose_answer_is_lost_once_is_paid_once(colour: Colour) -> None:
    extend = "POST /orders/{order_id}/extend"
    with staged(colour, only=PRICES, faults=[once("drop-after-settle", extend)]) as scene:
        job = _rented(scene)
        scene.wait_for(lambda: job.extend(4))
        assert scene.paid(extend) == 1
        assert audited(scene).paid == job.cost


def test_the_messages_of_an_order_are_listened_to_by_its_id(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        _rented(scene)
        [order_id] = scene.order_ids
        _sends(scene, "Your code is 111111", "Your code is 222222")
        orders = scene.client.orders
        if colour == "sync":
            texts = [message.content for message in orders.messages(order_id, 30)]
        else:

            async def collect() -> list[str]:
                return [message.content async for message in orders.messages(order_id, 30)]

            texts = scene.wait_for(collect)
        assert texts == ["Your code is 111111", "Your code is 222222"]
        assert scene.orders == ["received"]


def test_a_rental_is_found_again_by_its_intent(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        events: list[object] = []
        _rented(scene, intent="rent-1")
        again = _rented(scene, intent="rent-1", on_event=events.append)
        assert [type(event) for event in events] == [Bought]
        assert again.order.order_id == scene.order_ids[0]
        assert scene.paid(BUY) == 1


def test_receive_code_keeps_a_rental(colour: Colour) -> None:
    with staged(colour, only=PRICES, sms_after=30) as scene:
        ended = scene.receive(rental_hours=24)
        assert ended.code is not None
        assert scene.orders == ["received"]
        assert audited(scene).paid == ended.cost
