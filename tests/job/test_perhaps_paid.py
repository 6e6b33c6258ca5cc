"""A number that may be paid for and is not to be found: the error says how much, and what next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.buyer import Colour
from tests.job.accounts import audited
from tests.job.scene import BUY, LIST, Scene, always, lost, staged
from x402sms.errors import APIError, PaymentUnknown, X402SMSError

PRICES = {"US": "0.10"}
AFTER = ("drop-after-settle", "html-502", "plain-error", "truncate")


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    return str(tmp_path / "ledger.db")


def _created(scene: Scene) -> X402SMSError:
    with pytest.raises(X402SMSError) as caught:
        scene.wait_for(lambda: scene.client.orders.create("telegram", "US", intent="job-1"))
    return caught.value


def _received(scene: Scene) -> X402SMSError:
    ended = scene.receive(intent="job-1")
    assert isinstance(ended.error, X402SMSError)
    return ended.error


BUYERS = {"orders.create": _created, "a job": _received}


@pytest.mark.parametrize("fault", AFTER)
@pytest.mark.parametrize("bought", BUYERS.values(), ids=BUYERS)
def test_it_says_the_amount_the_intent_and_the_command(
    bought: Callable[[Scene], X402SMSError], fault: str, colour: Colour, ledger: str
) -> None:
    faults = [always(fault, BUY, paid=True), always("drop-before", LIST)]
    with staged(colour, only=PRICES, faults=faults, ledger=ledger) as scene:
        error = bought(scene)
        assert isinstance(error, APIError | PaymentUnknown), repr(error)
        [note] = [each for each in error.__notes__ if "`x402sms recover`" in each]
        assert "0.10 USDC" in note
        assert "'job-1'" in note
        assert scene.paid(BUY) == 1
        audited(scene)


@pytest.mark.parametrize("bought", BUYERS.values(), ids=BUYERS)
def test_it_says_so_where_the_list_can_be_read_and_it_is_not_there(
    bought: Callable[[Scene], X402SMSError], colour: Colour, ledger: str
) -> None:
    faults = [always("html-502-before", BUY, paid=True)]
    with staged(colour, only=PRICES, faults=faults, ledger=ledger) as scene:
        error = bought(scene)
        said = "\n".join([str(error), *error.__notes__])
        assert "0.10 USDC" in said
        assert "'job-1'" in said
        assert "`x402sms recover`" in said
        assert scene.paid(LIST) >= 1
        assert (scene.paid(BUY), scene.orders) == (0, [])


@pytest.mark.parametrize("bought", BUYERS.values(), ids=BUYERS)
def test_what_was_not_paid_for_is_not_said_to_be(
    bought: Callable[[Scene], X402SMSError], colour: Colour
) -> None:
    with staged(colour, only=PRICES, faults=[always("no-stock", BUY)]) as scene:
        error = bought(scene)
        assert not [each for each in getattr(error, "__notes__", ()) if "may have been" in each]
        assert scene.sent(BUY) == 0


def test_the_same_again_finds_the_order_and_so_the_note_is_right(
    colour: Colour, ledger: str
) -> None:
    with staged(colour, only=PRICES, ledger=ledger) as scene:
        scene.change(BUY, lost)
        scene.change(LIST, lost)
        _created(scene)
        scene.changes.clear()
        order = scene.wait_for(lambda: scene.client.orders.create("telegram", "US", intent="job-1"))
        assert [order.order_id] == scene.order_ids
        assert scene.paid(BUY) == 1
