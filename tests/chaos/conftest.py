"""Chance, but the same chance again: one seed for a run, told by each test that fails."""

from __future__ import annotations

import logging
import os
import secrets
import sys

import pytest

_VARIABLE = "X402_CHAOS_SEED"
_RUN = os.environ.get(_VARIABLE) or str(secrets.randbelow(2**32))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """For all that this test leaves to chance. pytest shows what is written here on failure."""
    sys.stdout.write(f"the same chance again: {_VARIABLE}={_RUN}\n")
    return f"{_RUN}:{request.node.name}"


@pytest.fixture(autouse=True)
def _quiet_facilitator(caplog: pytest.LogCaptureFixture) -> None:
    """The official one warns of each replay, at length; here they are hundreds."""
    caplog.set_level(logging.CRITICAL, logger="x402")
