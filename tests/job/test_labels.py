"""Every call of a job says in the ledger what the job is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.buyer import Colour
from tests.job.scene import BUY, CONFIRM, POLL, ROADS, Road, staged
from x402sms.errors import ConfigError
from x402sms.protocol.labels import labels_of

CAMPAIGN = {"campaign": "signup-test"}
BOUGHT = {"service": "telegram", "country": "US"}


@pytest.mark.parametrize("road", ROADS)
def test_a_job_says_what_it_is_for(road: Road, colour: Colour) -> None:
    with staged(colour, only={"US": "0.10"}, road=road, sms_after=1) as scene:
        ended = scene.receive(labels=CAMPAIGN)
        assert ended.code is not None
        texts = [*(row.labels for row in scene.rows), *(row.labels for row in scene.charges)]
        told = [labels_of(text) for text in texts]
        assert all(labels["campaign"] == "signup-test" for labels in told)
        assert [labels for labels in told if labels == BOUGHT | CAMPAIGN]
        if road == "x402":
            by_route = {exchange.route for exchange in scene.wire if exchange.paid}
            assert {BUY, POLL, CONFIRM} <= by_route
            # Once it has a number, each of its calls is for that one.
            of_orders = [row for row in scene.rows if "/orders" in row.url]
            assert {row.labels for row in of_orders} == {of_orders[0].labels}
            assert labels_of(of_orders[0].labels) == BOUGHT | CAMPAIGN


def test_a_job_that_is_gone_on_with_says_it_of_its_first_call(
    colour: Colour, tmp_path: Path
) -> None:
    with staged(colour, only={"US": "0.10"}, ledger=str(tmp_path / "payments.db")) as scene:
        scene.entered(scene.job(intent="job-1"))
        scene.leave()
        scene.enter()
        known = len(scene.rows)
        scene.receive(intent="job-1", timeout=1)
        first, *others = (labels_of(row.labels) for row in scene.rows[known:])
        assert first == {"service": "telegram"}
        assert all(labels == BOUGHT for labels in others)


@pytest.mark.parametrize(
    "labels",
    [{"Campaign": "x"}, {f"name_{number}": "x" for number in range(7)}],
    ids=["not a name", "no room for service and country"],
)
def test_labels_that_cannot_be_are_refused_before_anything_is_sent(
    labels: Any, colour: Colour
) -> None:
    with staged(colour, only={"US": "0.10"}) as scene:
        with pytest.raises(ConfigError, match="label"):
            scene.job(labels=labels)
        assert scene.wire == []
