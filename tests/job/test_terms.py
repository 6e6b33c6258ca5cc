"""What cannot be right is refused before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from tests.buyer import Colour
from tests.job.scene import Scene, staged
from x402sms.errors import NoCodeReceived

PRICES = {"US": "0.10", "GB": "0.12"}


def _asked(scene: Scene, way: str, **options: Any) -> Any:
    options = {"max_price": "0.30", **options}
    if way == "verification":
        return scene.client.verification("telegram", **options)
    return scene.wait_for(lambda: scene.client.receive_code("telegram", **options))


WAYS = ("verification", "receive_code")

INTENTS = ["a#2", "a#1", "job#12", "#3", "a#2#2", "a" * 191, "a" * 300, ""]


@pytest.mark.parametrize("intent", INTENTS, ids=lambda intent: f"{intent[:6]!r} of {len(intent)}")
@pytest.mark.parametrize("way", WAYS)
def test_an_intent_that_another_job_may_come_to_use_is_refused(
    way: str, intent: str, colour: Colour
) -> None:
    with staged(colour, only=PRICES) as scene:
        with pytest.raises(ValueError, match="intent"):
            _asked(scene, way, intent=intent)
        assert (scene.wire, scene.rows) == ([], [])


@pytest.mark.parametrize("intent", ["a#", "a#b", "#2a", "a2", "a#2 ", "a" * 190])
def test_other_intents_are_none_of_its_later_numbers(intent: str, colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        ended = scene.receive(intent=intent, max_numbers=2, timeout=600)
        assert isinstance(ended.error, NoCodeReceived)
        bought = [row.intent for row in scene.rows if row.delivered]
        assert bought == [intent, f"{intent}#2"]


UNKNOWN = [{"county": "GB"}, {"max_totl": "0.1"}, {"Country": "GB"}, {"hold": 1, "country": "GB"}]


@pytest.mark.parametrize("options", UNKNOWN, ids=lambda options: next(iter(options)))
@pytest.mark.parametrize("way", WAYS)
def test_an_option_that_there_is_not_is_refused(
    way: str, options: dict[str, Any], colour: Colour
) -> None:
    with staged(colour, only=PRICES) as scene:
        with pytest.raises(TypeError, match=next(iter(options))):
            _asked(scene, way, **options)
        assert (scene.wire, scene.rows) == ([], [])


def test_how_long_to_wait_is_no_option_of_a_verification(colour: Colour) -> None:
    """It is said to `wait`."""
    with staged(colour, only=PRICES) as scene, pytest.raises(TypeError, match="timeout"):
        scene.client.verification("telegram", max_price="0.30", timeout=5)


TIMES = {
    "inf": (math.inf, ValueError),
    "-inf": (-math.inf, ValueError),
    "nan": (math.nan, ValueError),
    "negative": (-5, ValueError),
    "a little negative": (-0.001, ValueError),
    "text": ("60", TypeError),
    "None": (None, TypeError),
    "complex": (1j, TypeError),
}


@pytest.mark.parametrize(("seconds", "error"), TIMES.values(), ids=TIMES)
@pytest.mark.parametrize("way", WAYS)
def test_swap_after_is_a_finite_number_of_seconds(
    way: str, seconds: Any, error: type[Exception], colour: Colour
) -> None:
    with staged(colour, only=PRICES) as scene:
        with pytest.raises(error, match="swap_after"):
            _asked(scene, way, swap_after=seconds)
        assert (scene.wire, scene.rows) == ([], [])


@pytest.mark.parametrize(("seconds", "error"), TIMES.values(), ids=TIMES)
def test_the_timeout_of_a_whole_job_is_a_finite_number_of_seconds(
    seconds: Any, error: type[Exception], colour: Colour
) -> None:
    with staged(colour, only=PRICES) as scene:
        with pytest.raises(error, match="timeout"):
            _asked(scene, "receive_code", timeout=seconds)
        assert (scene.wire, scene.rows) == ([], [])


LISTENING: dict[str, Callable[[Scene, Any, Any], Any]] = {
    "wait": lambda scene, job, seconds: scene.wait_for(lambda: job.wait(seconds)),
    "messages": lambda scene, job, seconds: scene.messages(job, seconds),
}


@pytest.mark.parametrize(("seconds", "error"), TIMES.values(), ids=TIMES)
@pytest.mark.parametrize("listen", LISTENING.values(), ids=LISTENING)
def test_the_timeout_of_a_wait_is_a_finite_number_of_seconds(
    listen: Callable[[Scene, Any, Any], Any],
    seconds: Any,
    error: type[Exception],
    colour: Colour,
) -> None:
    with staged(colour, only=PRICES) as scene:
        job = scene.job()
        scene.entered(job)
        sent = len(scene.wire)
        with pytest.raises(error, match="timeout"):
            listen(scene, job, seconds)
        assert (len(scene.wire), scene.orders) == (sent, ["waiting"])


@pytest.mark.parametrize("seconds", [0, 0.0, 0.5, 1])
def test_no_time_at_all_is_a_time(seconds: float, colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        ended = scene.receive(timeout=seconds, swap_after=0)
        assert isinstance(ended.error, NoCodeReceived)
        assert scene.orders == ["cancelled"]


# --- once


BEGINNINGS: dict[str, Callable[[Scene, Any], Any]] = {
    "enter": lambda scene, job: scene.entered(job),
    "receive": lambda scene, job: scene.wait_for(lambda: job.receive(60)),
}


@pytest.mark.parametrize("second", BEGINNINGS.values(), ids=[f"then {name}" for name in BEGINNINGS])
@pytest.mark.parametrize("first", BEGINNINGS.values(), ids=BEGINNINGS)
def test_a_job_begins_once(
    first: Callable[[Scene, Any], Any], second: Callable[[Scene, Any], Any], colour: Colour
) -> None:
    with staged(colour, only=PRICES, sms_after=30) as scene:
        job = scene.job()
        first(scene, job)
        before = len(scene.wire), scene.orders
        with pytest.raises(RuntimeError):
            second(scene, job)
        assert (len(scene.wire), scene.orders) == before


def test_a_block_that_was_left_is_not_entered_again(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        job = scene.job()
        scene.entered(job)
        scene.left(job)
        assert scene.orders == ["cancelled"]
        before = len(scene.wire)
        with pytest.raises(RuntimeError):
            scene.entered(job)
        assert (len(scene.wire), scene.orders) == (before, ["cancelled"])


def test_a_job_that_was_refused_by_its_timeout_may_still_begin(colour: Colour) -> None:
    with staged(colour, only=PRICES, sms_after=30) as scene:
        job = scene.job()
        with pytest.raises(ValueError, match="timeout"):
            scene.wait_for(lambda: job.receive(-1))
        assert scene.wait_for(lambda: job.receive(60)).code is not None
