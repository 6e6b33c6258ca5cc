from __future__ import annotations

import pytest

from tests.buyer import COLOURS, Colour


@pytest.fixture(autouse=True)
def _no_real_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a payment is presented again the transport waits, in real time."""
    monkeypatch.setattr("x402sms.paying.RETRY_PAUSES", (0, 0, 0))


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> Colour:
    colour: Colour = request.param
    return colour
