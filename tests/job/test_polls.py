"""Each poll is a paid call: how many a job may make."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from tests.buyer import Colour
from tests.job.accounts import exact
from tests.job.scene import POLL, Scene, staged
from x402sms.errors import NoCodeReceived

PRICES = {"US": "0.10", "GB": "0.12"}
OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "with on_number": {"on_number": lambda number: None},
    "with on_event": {"on_event": lambda event: None},
    "one number, no swap": {"max_swaps": 0, "max_numbers": 1},
    "three swaps allowed": {"max_swaps": 3},
}


def _silent(scene: Scene, timeout: float, **options: Any) -> NoCodeReceived:
    job = scene.job(**options)
    with pytest.raises(NoCodeReceived) as ended:
        scene.wait_for(lambda: job.receive(timeout))
    return ended.value


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("hurried", [False, True], ids=["polls are held", "polls end at once"])
def test_a_job_of_180_s_without_an_sms_pays_for_at_most_3_polls(
    hurried: bool, options: dict[str, Any], colour: Colour
) -> None:
    with staged(colour, only=PRICES, hurried=hurried) as scene:
        ended = _silent(scene, 180, **options)
        assert 1 <= scene.paid(POLL) <= 3
        assert ended.cancelled is True
        assert "waiting" not in scene.orders


def test_a_wait_of_180_s_costs_one_poll(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        ended = scene.receive(timeout=180)
        assert isinstance(ended.error, NoCodeReceived)
        assert (scene.paid(POLL), ended.cost) == (1, Decimal("0.004"))
        exact(scene, ended)


@pytest.mark.parametrize("hurried", [False, True], ids=["polls are held", "polls end at once"])
@pytest.mark.parametrize("timeout", [7, 60, 300, 600])
def test_two_polls_are_never_under_5_s_apart(timeout: int, hurried: bool, colour: Colour) -> None:
    with staged(colour, only=PRICES, hurried=hurried) as scene:
        _silent(scene, timeout, max_swaps=2, max_numbers=2)
        polls = [exchange.at for exchange in scene.wire if exchange.route == POLL and exchange.paid]
        assert all(later - earlier >= 5 for earlier, later in pairwise(polls))
        assert len(polls) <= 4 + timeout / 60  # each of 4 numbers begins with one


def test_a_poll_is_as_long_as_it_may_be_and_its_authorization_outlives_it(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        _silent(scene, 200)
        [first, *_] = [row for row in scene.rows if row.url.endswith("/sms")]
        assert first.valid_before - first.created_at > 180
