"""429, 425 and hold periods: the job waits as long as it is told to, and no longer than it may."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.buyer import Colour
from tests.job.accounts import closed, exact
from tests.job.scene import (
    BUY,
    CANCEL,
    CONFIRM,
    OFFERS,
    POLL,
    SWAP,
    Moment,
    always,
    once,
    staged,
)
from x402sms.errors import NoCodeReceived, RateLimited
from x402sms.virtualsms.effects import Bought, HeldBack, Paused, Swapped

PRICES = {"US": "0.10", "GB": "0.12"}


@pytest.mark.parametrize("paid", [False, True], ids=["when asked", "to the payment"])
@pytest.mark.parametrize("route", [OFFERS, BUY, POLL, CONFIRM])
def test_a_429_is_waited_out_and_the_same_payment_made_again(
    route: str, paid: bool, colour: Colour
) -> None:
    fault = once("rate-limit", route, paid=paid)
    with staged(colour, only=PRICES, sms_after=30, faults=[fault]) as scene:
        ended = scene.receive()
        assert ended.code is not None
        [paused] = ended.told(Paused)
        assert paused.reason == "the service limits the rate"
        assert scene.clock.slept[0] == paused.seconds >= 1  # what Retry-After says, at least
        assert scene.paid(route) == 1
        exact(scene, ended)


@pytest.mark.parametrize("paid", [False, True], ids=["when asked", "to the payment"])
@pytest.mark.parametrize("route", [SWAP, CANCEL])
def test_a_429_to_a_swap_or_a_cancel_is_waited_out(route: str, paid: bool, colour: Colour) -> None:
    with staged(colour, only=PRICES, faults=[once("rate-limit", route, paid=paid)]) as scene:
        ended = scene.receive(max_swaps=1)
        assert isinstance(ended.error, NoCodeReceived)
        assert ended.error.cancelled is True
        assert Paused(1, "the service limits the rate") in ended.told(Paused)
        assert (scene.paid(SWAP), scene.paid(CANCEL)) == (1, 1)
        exact(scene, ended)


def test_a_429_that_never_ends_is_waited_out_within_the_deadline_only(colour: Colour) -> None:
    with staged(colour, only=PRICES, faults=[always("rate-limit", OFFERS)]) as scene:
        began = scene.sandbox.now()
        ended = scene.receive()
        assert isinstance(ended.error, RateLimited)
        assert 100 < scene.sandbox.now() - began <= 180
        assert (scene.sent(BUY), scene.orders) == (0, [])
        exact(scene, ended)


def test_a_429_to_every_poll_ends_with_a_cancel(colour: Colour) -> None:
    with staged(colour, only=PRICES, faults=[always("rate-limit", POLL)]) as scene:
        ended = scene.receive(timeout=180)
        assert isinstance(ended.error, NoCodeReceived | RateLimited)
        assert f"the order {scene.order_ids[0]} is cancelled, 0.10 USDC refunded" in ended.said
        assert scene.orders == ["cancelled"]
        closed(scene, ended)


def test_a_service_that_allows_few_requests_is_given_the_time_it_wants(colour: Colour) -> None:
    with staged(colour, only=PRICES, sms_after=30, rate_limit=1) as scene:
        ended = scene.receive(timeout=600)
        assert ended.code is not None
        assert ended.told(Paused)
        assert scene.paid(BUY) == 1
        exact(scene, ended)


def test_an_order_is_cancelled_when_its_cooldown_is_over_and_not_tried_before(
    colour: Colour,
) -> None:
    with staged(colour, only=PRICES) as scene:
        ended = scene.receive(timeout=60)
        assert isinstance(ended.error, NoCodeReceived)
        [held] = ended.told(HeldBack)
        assert held.seconds == pytest.approx(60, abs=1)
        assert scene.sent(CANCEL) == 1  # no 425 was asked for
        assert ended.error.refunded == Decimal("0.10")
        exact(scene, ended)


@pytest.mark.parametrize("skew", [-25, 25], ids=["our clock is behind", "our clock is ahead"])
def test_a_clock_of_ours_that_is_off_asks_for_no_425(skew: float, colour: Colour) -> None:
    with staged(colour, only=PRICES, skew=skew) as scene:
        ended = scene.receive(timeout=60)
        assert isinstance(ended.error, NoCodeReceived)
        assert ended.error.cancelled is True
        assert [exchange.status for exchange in scene.wire if exchange.route == CANCEL] == [
            402,
            200,
        ]
        exact(scene, ended)


def test_a_425_is_waited_out_for_as_long_as_it_says(colour: Colour) -> None:
    """The cooldown grew after the order was bought: what the order said is not true any more."""
    with staged(colour, only=PRICES) as scene:
        orders = scene.sandbox.state.orders

        def longer() -> None:
            orders.cooldown = 200

        scene.at(Moment(CANCEL, "before", paid=False), longer)
        ended = scene.receive(timeout=60)
        assert isinstance(ended.error, NoCodeReceived)
        assert [round(held.seconds) for held in ended.told(HeldBack)] == [60, 80]
        statuses = [exchange.status for exchange in scene.wire if exchange.route == CANCEL]
        assert statuses == [402, 425, 402, 200]
        assert (ended.error.cancelled, scene.orders) == (True, ["cancelled"])
        closed(scene, ended)


def test_a_hold_period_of_a_swap_is_waited_out_for_as_long_as_it_says(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        orders = scene.sandbox.state.orders

        def longer() -> None:
            orders.cooldown = 150

        scene.at(Moment(SWAP, "before", paid=False), longer)
        ended = scene.receive(max_swaps=1, timeout=400)
        assert isinstance(ended.error, NoCodeReceived)
        bought = scene.wire[3].at
        swaps = [exchange for exchange in scene.wire if exchange.route == SWAP and exchange.paid]
        assert [exchange.status for exchange in swaps] == [400, 200]
        assert [round(exchange.at - bought) for exchange in swaps] == [120, 150]
        assert len(ended.told(Swapped)) == 1
        assert scene.orders == ["cancelled"]
        closed(scene, ended)


def test_the_cancel_comes_before_the_order_expires(colour: Colour) -> None:
    with staged(colour, only=PRICES, order_seconds=150, cooldown=149) as scene:
        ended = scene.receive(timeout=60)
        [bought] = ended.told(Bought)
        assert isinstance(ended.error, NoCodeReceived)
        assert bought.order.expires_at is not None
        first = next(exchange for exchange in scene.wire if exchange.route == CANCEL)
        assert first.at < bought.order.expires_at.timestamp()
        assert scene.orders == ["cancelled"]
        closed(scene, ended)
