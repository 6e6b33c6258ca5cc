"""The same job after a crash: the client is thrown away, the ledger's file and the intent stay."""

from __future__ import annotations

from collections.abc import Generator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.buyer import Colour
from tests.job.accounts import audited
from tests.job.scene import BUY, CANCEL, LOOK, Moment, Scene, always, staged
from x402sms.errors import IntentConflict, NoCodeReceived
from x402sms.protocol.types import Attempt, Outcome, Receipt
from x402sms.virtualsms.effects import Bought

PRICES = {"US": "0.10", "GB": "0.12", "DE": "0.20"}


class Crash(BaseException):
    """The process is gone: what it was about to do is not done."""


def _crash() -> None:
    raise Crash


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    return str(tmp_path / "ledger.db")


def _again(scene: Scene) -> None:
    """Another process, with the same ledger."""
    scene.leave()
    scene.enter()


def _bought_and_crashed(scene: Scene) -> None:
    """A block that is entered and never left."""
    scene.entered(scene.job(intent="job-1"))
    _again(scene)


def _numbers(scene: Scene) -> list[str]:
    return [order.phone_number for order in scene.sandbox.state.orders.all()][::-1]


def test_a_crash_after_the_purchase_gets_the_same_order_and_its_code(
    colour: Colour, ledger: str
) -> None:
    with staged(colour, only=PRICES, ledger=ledger) as scene:
        _bought_and_crashed(scene)
        scene.sandbox.advance(40)
        scene.at(
            Moment(LOOK, "after"),
            lambda: scene.sandbox.deliver_sms(scene.order_ids[0], "Your code is 424242"),
        )
        ended = scene.receive(intent="job-1")
        assert ended.code is not None
        assert (ended.code.code, ended.code.order_id) == ("424242", scene.order_ids[0])
        [bought] = ended.told(Bought)
        assert (bought.resumed, [bought.order.phone_number]) == (True, _numbers(scene))
        assert (scene.paid(BUY), scene.orders) == (1, ["confirmed"])
        audited(scene)


def test_a_code_that_came_while_nobody_was_there_is_returned_without_a_poll(
    colour: Colour, ledger: str
) -> None:
    with staged(colour, only=PRICES, ledger=ledger, sms_after=30) as scene:
        _bought_and_crashed(scene)
        scene.sandbox.advance(60)
        ended = scene.receive(intent="job-1")
        assert ended.code is not None
        assert ended.code.text == f"Your Telegram code is {ended.code.code}"
        assert (scene.paid(BUY), scene.orders) == (1, ["confirmed"])
        audited(scene)


def _not_written(attempt: Attempt, outcome: Outcome) -> Generator[None, None, Receipt]:
    yield from ()
    return attempt.receipt(outcome)


@pytest.mark.parametrize("replays", [True, False], ids=["it replays", "it replays nothing"])
def test_a_crash_between_the_payment_and_its_answer_finds_the_order(
    replays: bool, colour: Colour, ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with staged(colour, only=PRICES, ledger=ledger, sms_after=200) as scene:
        scene.at(Moment(BUY, "after"), _crash)
        with monkeypatch.context() as patch:
            # A process that is killed writes nothing down and undoes nothing.
            patch.setattr("x402sms.virtualsms.opening._find_again", lambda *_: iter(()))
            patch.setattr("x402sms.protocol.ending.write_down", _not_written)
            patch.setattr("x402sms.protocol.presenting.write_down", _not_written)
            crashed = scene.receive(intent="job-1")
        assert isinstance(crashed.error, Crash)
        _again(scene)
        if not replays:
            scene.sandbox.state.gate._answers.clear()
        assert str(scene.row_of("job-1").state) == "reserved"
        ended = scene.receive(intent="job-1")
        assert ended.code is not None
        assert ended.code.order_id == scene.order_ids[0]
        assert (scene.paid(BUY), len(scene.orders)) == (1, 1)
        audited(scene)


def test_the_country_that_is_cheapest_by_then_does_not_matter(colour: Colour, ledger: str) -> None:
    """All countries that one number is tried in are one purchase."""
    faults = [always("drop-before", BUY, paid=True)]
    with staged(colour, only=PRICES, ledger=ledger, faults=faults, sms_after=30) as scene:
        assert scene.receive(intent="job-1").code is None
        _again(scene)
        scene.sandbox.set_faults({})
        scene.sandbox.set_price("telegram", "DE", "0.05")
        ended = scene.receive(intent="job-1")
        assert ended.code is not None
        assert (scene.paid(BUY), len(scene.orders)) == (1, 1)
        audited(scene)


def test_a_cancelled_order_is_not_gone_on_with_but_a_new_number_bought(
    colour: Colour, ledger: str
) -> None:
    with staged(colour, only=PRICES, ledger=ledger) as scene:
        assert isinstance(scene.receive(intent="job-1").error, NoCodeReceived)
        assert scene.orders == ["cancelled"]
        _again(scene)
        scene.at(
            Moment(BUY, "after"),
            lambda: scene.at(
                Moment("GET /orders/{order_id}/sms"),
                lambda: scene.sandbox.deliver_sms(scene.order_ids[-1], "Your code is 424242"),
            ),
        )
        ended = scene.receive(intent="job-1")
        assert ended.code is not None
        assert ended.code.code == "424242"
        assert scene.orders == ["cancelled", "confirmed"]
        bought = {row.intent: row.delivered for row in scene.rows if row.delivered}
        assert bought == dict(zip(["job-1", "job-1#2"], scene.order_ids, strict=True))
        audited(scene)


def test_a_third_run_goes_on_with_the_second_number(colour: Colour, ledger: str) -> None:
    with staged(colour, only=PRICES, ledger=ledger) as scene:
        scene.receive(intent="job-1")
        _bought_and_crashed(scene)
        assert scene.orders == ["cancelled", "waiting"]
        ended = scene.receive(intent="job-1")
        assert isinstance(ended.error, NoCodeReceived)
        assert [bought.resumed for bought in ended.told(Bought)] == [True]
        assert (scene.paid(BUY), scene.orders) == (2, ["cancelled", "cancelled"])
        audited(scene)


def test_an_order_whose_refund_is_not_known_is_not_followed_by_another(
    colour: Colour, ledger: str
) -> None:
    with staged(colour, only=PRICES, ledger=ledger, order_seconds=400) as scene:
        _bought_and_crashed(scene)
        scene.sandbox.advance(500)
        ended = scene.receive(intent="job-1")
        assert isinstance(ended.error, NoCodeReceived)
        assert "whose refund is not known, so no other number was bought" in ended.said
        assert "max_total" in ended.said
        assert (scene.paid(BUY), scene.orders) == (1, ["expired"])

        allowed = scene.receive(intent="job-1", max_total="0.50")
        assert isinstance(allowed.error, NoCodeReceived)
        assert (scene.paid(BUY), scene.orders) == (2, ["expired", "cancelled"])
        audited(scene)


def test_an_order_left_open_by_a_failed_cancel_is_gone_on_with(colour: Colour, ledger: str) -> None:
    faults = [always("drop-before", CANCEL, paid=True)]
    with staged(colour, only=PRICES, ledger=ledger, faults=faults) as scene:
        assert isinstance(scene.receive(intent="job-1").error, NoCodeReceived)
        assert scene.orders == ["waiting"]
        _again(scene)
        scene.sandbox.set_faults({})
        ended = scene.receive(intent="job-1", timeout=180)
        assert isinstance(ended.error, NoCodeReceived)
        assert (ended.error.cancelled, ended.error.refunded) == (True, Decimal("0.10"))
        assert (scene.paid(BUY), scene.orders) == (1, ["cancelled"])
        audited(scene)


def test_the_intent_of_something_else_is_refused(colour: Colour, ledger: str) -> None:
    with staged(colour, only=PRICES, ledger=ledger) as scene:
        scene.only(PRICES, "whatsapp")
        faults = [always("drop-before", BUY, paid=True)]
        scene.sandbox.set_faults(faults)
        assert scene.receive(intent="job-1").code is None
        scene.sandbox.set_faults({})
        ended = scene.receive("whatsapp", intent="job-1")
        assert isinstance(ended.error, IntentConflict)
        assert scene.orders == []


def test_two_jobs_without_an_intent_are_two_purchases(colour: Colour, ledger: str) -> None:
    with staged(colour, only=PRICES, ledger=ledger, sms_after=30) as scene:
        first, second = scene.receive(), scene.receive()
        assert first.code is not None
        assert second.code is not None
        assert first.intent != second.intent
        assert first.code.order_id != second.code.order_id
        assert scene.orders == ["confirmed", "confirmed"]
        audited(scene)
