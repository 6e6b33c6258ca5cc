"""500 random fault schedules of each colour.

The seed is the property tests', unless X402SMS_JOB_SEED gives another.
"""

from __future__ import annotations

import os
import time

import pytest

from tests.buyer import COLOURS, Colour
from tests.job.schedules import Plan, Tally, run

SCHEDULES = 500  # of each colour
PARTS = 5


@pytest.fixture(scope="module")
def seed(pytestconfig: pytest.Config) -> str:
    return os.environ.get("X402SMS_JOB_SEED") or str(pytestconfig.option.hypothesis_seed)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_code_or_every_refundable_cent_back_whatever_goes_wrong(
    part: int, colour: Colour, seed: str
) -> None:
    tally, began = Tally(), time.perf_counter()
    for number in range(part, SCHEDULES, PARTS):
        plan = Plan.of(f"{seed}/{number}")
        try:
            run(plan, colour, tally)
        except BaseException as error:
            error.add_note(f"{plan}, {colour}; again with --hypothesis-seed={seed}")
            raise
    print(f"\n{tally}; {time.perf_counter() - began:.1f} s; seed {seed}")  # noqa: T201
    assert sum(tally.ended.values()) == SCHEDULES // PARTS
    assert tally.ended["Code"] > 0
    assert sum(tally.next_steps.values()) <= SCHEDULES // PARTS // 10
