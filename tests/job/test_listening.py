"""While the number is listened to: swaps, late messages, messages without a code."""

from __future__ import annotations

import pytest

from tests.buyer import Colour
from tests.job.accounts import closed, exact
from tests.job.scene import CANCEL, CONFIRM, LOOK, POLL, SWAP, Moment, Scene, always, once, staged
from x402sms.errors import NoCodeReceived
from x402sms.virtualsms.effects import Bought, Cancelled, Confirmed, Received, Swapped, Waiting

PRICES = {"US": "0.10", "GB": "0.12"}


def _delivers(scene: Scene, text: str, **more: object) -> None:
    scene.sandbox.deliver_sms(scene.order_ids[-1], text, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("swaps", [1, 2])
def test_no_sms_by_the_swap_point_swaps_at_most_max_swaps_announcing_each_number(
    swaps: int, colour: Colour
) -> None:
    with staged(colour, only=PRICES) as scene:
        numbers: list[str] = []
        ended = scene.receive(max_swaps=swaps, timeout=600, on_number=numbers.append)
        assert isinstance(ended.error, NoCodeReceived)
        assert scene.paid(SWAP) == len(ended.told(Swapped)) == swaps
        assert len(set(numbers)) == len(numbers) == swaps + 1
        [order] = scene.sandbox.state.orders.all()
        assert numbers[-1] == order.phone_number
        bought = scene.wire[3].at
        swapped = [e.at - bought for e in scene.wire if e.route == SWAP and e.paid]
        assert swapped == [pytest.approx(120 * (n + 1), abs=1) for n in range(swaps)]
        assert [e.status for e in scene.wire if e.route == SWAP and e.paid] == [200] * swaps
        assert scene.orders == ["cancelled"]
        exact(scene, ended)


def test_an_sms_to_the_new_number_is_the_code(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        scene.at(Moment(SWAP, "after"), lambda: _delivers(scene, "Your Telegram code is 55512"))
        ended = scene.receive(max_swaps=1)
        assert ended.code is not None
        [swapped] = ended.told(Swapped)
        assert (ended.code.code, ended.code.phone_number) == ("55512", swapped.order.phone_number)
        assert swapped.order.phone_number != ended.told(Bought)[0].order.phone_number
        assert ended.code.order.previous_number == ended.told(Bought)[0].order.phone_number
        exact(scene, ended)


def test_nobody_is_told_so_nothing_is_swapped(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        job = scene.job()
        with pytest.raises(NoCodeReceived):
            scene.wait_for(lambda: job.receive(300))
        assert (scene.paid(SWAP), scene.orders) == (0, ["cancelled"])


@pytest.mark.parametrize("none", ["swap-none", "no stock"])
def test_a_swap_404_cancels(none: str, colour: Colour) -> None:
    faults = [always("swap-none", SWAP)] if none == "swap-none" else []
    with staged(colour, only={"US": "0.10"}, faults=faults) as scene:
        scene.at(Moment(SWAP, "before"), lambda: scene.sandbox.set_stock("telegram", "US", 0))
        ended = scene.receive(max_swaps=2)
        assert isinstance(ended.error, NoCodeReceived)
        assert ended.error.cancelled is True
        assert (scene.paid(SWAP), ended.told(Swapped)) == (0, [])
        assert scene.sent(SWAP) == 1
        assert scene.orders == ["cancelled"]
        closed(scene, ended)


def test_a_swap_404_cancels_and_the_next_number_is_bought(colour: Colour) -> None:
    faults = [always("swap-none", SWAP)]
    with staged(colour, only=PRICES, faults=faults) as scene:
        ended = scene.receive(max_swaps=1, max_numbers=2)
        assert isinstance(ended.error, NoCodeReceived)
        assert [bought.order.country for bought in ended.told(Bought)] == ["US", "GB"]
        assert scene.orders == ["cancelled", "cancelled"]
        assert len(ended.told(Cancelled)) == 2
        closed(scene, ended)


def test_an_sms_that_comes_as_it_is_swapped_is_the_code(colour: Colour) -> None:
    """The swap is refused, since the order has received one: its own number's."""
    with staged(colour, only=PRICES) as scene:
        scene.at(Moment(SWAP, "before"), lambda: _delivers(scene, "Your Telegram code is 90210"))
        ended = scene.receive(max_swaps=1)
        assert ended.code is not None
        assert ended.code.code == "90210"
        assert ended.told(Swapped) == []
        assert scene.orders == ["confirmed"]
        closed(scene, ended)


def test_a_late_sms_for_the_swapped_out_number_is_not_taken(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:

        def late_then_right() -> None:
            _delivers(scene, "Your Telegram code is 11111", to_previous=True)
            scene.at(
                Moment(POLL, "before"), lambda: _delivers(scene, "Your Telegram code is 22222")
            )

        scene.at(Moment(SWAP, "after"), lambda: scene.at(Moment(POLL), late_then_right))
        ended = scene.receive(max_swaps=1, timeout=400)
        assert ended.code is not None
        assert (ended.code.code, ended.code.text) == ("22222", "Your Telegram code is 22222")
        assert [event.code for event in ended.told(Received)] == ["22222"]
        closed(scene, ended)


@pytest.mark.parametrize("numbers", [1, 2], ids=["one number", "or another"])
def test_a_late_sms_for_the_swapped_out_number_and_no_other_is_no_code(
    numbers: int, colour: Colour
) -> None:
    """The service counts it as received, and refuses to cancel: that is said."""
    with staged(colour, only=PRICES) as scene:
        scene.at(
            Moment(SWAP, "after"),
            lambda: _delivers(scene, "Your Telegram code is 11111", to_previous=True),
        )
        ended = scene.receive(max_swaps=1, max_numbers=numbers, timeout=400)
        [order_id] = scene.order_ids  # its refund is not sure, so there is no other number
        assert isinstance(ended.error, NoCodeReceived)
        assert ended.error.cancelled is False
        assert ended.error.refunded == 0
        assert f"the order {order_id} could NOT be cancelled" in ended.said
        assert "an SMS came for the number that it had before a swap" in ended.said
        assert ended.told(Received) == []
        closed(scene, ended)


def test_a_late_sms_is_not_taken_where_the_answer_to_the_swap_was_lost(colour: Colour) -> None:
    """The order that is looked at has the new number, and a message for the old one."""
    with staged(colour, only=PRICES, faults=[always("truncate", SWAP, paid=True)]) as scene:
        scene.at(
            Moment(LOOK, "before"),
            lambda: _delivers(scene, "Your Telegram code is 11111", to_previous=True),
        )
        ended = scene.receive(max_swaps=1, timeout=400)
        assert isinstance(ended.error, NoCodeReceived)
        assert "an SMS came for the number that it had before a swap" in ended.said
        assert len(ended.told(Swapped)) == 1
        closed(scene, ended)


def test_a_late_sms_newer_than_the_right_one_is_not_taken(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:

        def right_then_late() -> None:
            _delivers(scene, "Your Telegram code is 22222")
            scene.sandbox.advance(1)
            _delivers(scene, "Your Telegram code is 11111", to_previous=True)

        scene.at(Moment(SWAP, "after"), lambda: scene.at(Moment(POLL), right_then_late))
        ended = scene.receive(max_swaps=1, timeout=400)
        assert ended.code is not None
        assert (ended.code.code, ended.code.text) == ("22222", "Your Telegram code is 22222")
        assert scene.orders == ["confirmed"]
        exact(scene, ended)


TEXTS = {
    "a welcome": ("Welcome to Telegram! Open the app to go on.", None),
    "a link": ("Follow https://t.me/login/abc to sign in", None),
    "with spaces": ("Telegram code 123 456", "123456"),
    "a decoy": ("Account 98765432: code 5521", "5521"),
}


@pytest.mark.parametrize(("text", "code"), TEXTS.values(), ids=TEXTS)
def test_an_sms_without_a_code_is_returned_as_text_and_never_cancelled(
    text: str, code: str | None, colour: Colour
) -> None:
    with staged(colour, only=PRICES) as scene:
        found = code or ""
        scene.at(
            Moment(POLL, "before"),
            # What the service takes for the code is left out where there is none.
            lambda: scene.sandbox.deliver_sms(scene.order_ids[-1], text, code=found),
        )
        ended = scene.receive()
        assert ended.code is not None
        assert (ended.code.text, ended.code.code) == (text, code)
        assert (scene.sent(CANCEL), scene.paid(CONFIRM)) == (0, 1)
        assert scene.orders == ["confirmed"]
        if code is None:
            assert ended.code.warnings == ("no code can be found in the text",)
        exact(scene, ended)


def test_a_pattern_of_ones_own_finds_the_code(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        scene.at(
            Moment(POLL, "before"),
            lambda: scene.sandbox.deliver_sms(scene.order_ids[-1], "Ref 7781, key zebra-77"),
        )
        ended = scene.receive(pattern=r"key (?P<code>[a-z]+-\d+)")
        assert ended.code is not None
        assert ended.code.code == "zebra-77"
        exact(scene, ended)


@pytest.mark.parametrize("fault", ["reorder", "unknown-status"])
def test_odd_answers_do_not_hide_the_code(fault: str, colour: Colour) -> None:
    with staged(colour, only=PRICES, sms_after=30, faults={fault: 1.0}) as scene:
        ended = scene.receive()
        assert ended.code is not None
        assert ended.code.text == f"Your Telegram code is {ended.code.code}"
        exact(scene, ended)


def test_the_newest_of_several_messages_is_the_code(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:

        def several() -> None:
            _delivers(scene, "Your Telegram code is 11111")
            scene.sandbox.advance(5)
            _delivers(scene, "Your Telegram code is 22222")

        scene.at(Moment(POLL, "before"), several)
        ended = scene.receive()
        assert ended.code is not None
        assert ended.code.code == "22222"
        exact(scene, ended)


def test_what_is_announced_of_a_job_that_goes_well(colour: Colour) -> None:
    with staged(colour, only=PRICES, sms_after=200) as scene:
        ended = scene.receive(max_swaps=1, timeout=400)
        assert ended.code is None or ended.code.code
        assert [type(event).__name__ for event in ended.events] == [
            "Chosen", "Bought", "Waiting", "Swapped", "Waiting", "Waiting", "Received", "Confirmed",
        ]  # fmt: skip
        waiting = ended.told(Waiting)
        assert (round(waiting[0].seconds), round(waiting[0].swap_in or 0)) == (400, 120)
        assert ended.told(Confirmed) == [Confirmed(scene.order_ids[0])]
        exact(scene, ended)


def test_a_swap_is_one_more_chance_and_no_more_money(colour: Colour) -> None:
    with staged(colour, only=PRICES, faults=[once("drop-before", POLL)]) as scene:
        ended = scene.receive(max_swaps=1)
        assert isinstance(ended.error, NoCodeReceived)
        assert scene.paid(SWAP) == 1
        closed(scene, ended)
