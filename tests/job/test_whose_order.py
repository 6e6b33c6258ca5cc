"""An intent is one purchase: what it bought is gone on with only where that is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.buyer import Colour
from tests.job.accounts import audited
from tests.job.scene import BUY, POLL, SERVICES, Scene, staged, with_fields
from x402sms.errors import IntentConflict, NoCodeReceived
from x402sms.virtualsms.effects import Bought

PRICES = {"US": "0.10", "GB": "0.12"}


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    return str(tmp_path / "ledger.db")


def _entered_and_gone(scene: Scene, service: str = "telegram", **options: Any) -> None:
    scene.entered(scene.job(service, intent="job-1", **{"max_price": "30", **options}))
    scene.leave()
    scene.enter()


# What the first job bought -> what the second wants.
OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "another service": ({}, {"service": "whatsapp"}),
    "one country where any would do": ({}, {"country": "US"}),
    "any country where it was one": ({"country": "US"}, {}),
    "another country": ({"country": "US"}, {"country": "GB"}),
    "a rental": ({}, {"rental_hours": 24}),
    "no rental": ({"rental_hours": 24}, {}),
    "more hours": ({"rental_hours": 24}, {"rental_hours": 72}),
}


@pytest.mark.parametrize(("bought", "wanted"), OTHERS.values(), ids=OTHERS)
def test_an_intent_that_bought_something_else_is_refused_before_anything_is_paid(
    bought: dict[str, Any], wanted: dict[str, Any], colour: Colour, ledger: str
) -> None:
    with staged(colour, only=PRICES, ledger=ledger) as scene:
        scene.only(PRICES, "whatsapp")
        _entered_and_gone(scene, **bought)
        before = len(scene.sandbox.payments())
        wanted = {"service": "telegram", "max_price": "30", **wanted}
        ended = scene.receive(intent="job-1", timeout=60, **wanted)
        assert isinstance(ended.error, IntentConflict), repr(ended.error)
        assert ended.error.intent == "job-1"
        assert ended.events == []
        assert scene.orders == ["waiting"]
        assert len(scene.sandbox.payments()) - before == scene.paid(SERVICES) <= 1
        audited(scene)


ELSEWHERE: dict[str, dict[str, Any]] = {
    "another service": {"service": "whatsapp"},
    "another country": {"country": "GB"},
    "a rental": {"rental_hours": 24},
}


@pytest.mark.parametrize("wanted", ELSEWHERE.values(), ids=ELSEWHERE)
def test_an_order_that_no_job_bought_is_not_taken_for_another_kind(
    wanted: dict[str, Any], colour: Colour, ledger: str
) -> None:
    with staged(colour, only=PRICES, ledger=ledger) as scene:
        scene.only(PRICES, "whatsapp")
        scene.wait_for(lambda: scene.client.orders.create("telegram", "US", intent="job-1"))
        wanted = {"service": "telegram", "max_price": "30", **wanted}
        ended = scene.receive(intent="job-1", timeout=60, **wanted)
        assert isinstance(ended.error, IntentConflict), repr(ended.error)
        assert (scene.paid(BUY), scene.orders, ended.told(Bought)) == (1, ["waiting"], [])


# Written differently, and the same.
SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the service in another case": ({}, {"service": " TELEGRAM "}),
    "the country in another case": ({"country": "GB"}, {"country": "gb"}),
    "the country by another code": ({"country": "GB"}, {"country": "uk"}),
    "the country by its name": ({"country": "England"}, {"country": "GB"}),
    "another ceiling": ({}, {"max_price": "0.50"}),
}


@pytest.mark.parametrize(("bought", "wanted"), SAME.values(), ids=SAME)
def test_the_same_written_differently_is_gone_on_with(
    bought: dict[str, Any], wanted: dict[str, Any], colour: Colour, ledger: str
) -> None:
    with staged(colour, only=PRICES, ledger=ledger) as scene:
        _entered_and_gone(scene, **bought)
        ended = scene.receive(intent="job-1", timeout=60, **{"service": "telegram", **wanted})
        assert [event.resumed for event in ended.told(Bought)] == [True], repr(ended.error)
        assert (scene.paid(BUY), scene.orders) == (1, ["cancelled"])
        audited(scene)


def test_a_service_by_its_name_goes_on_with_what_was_bought_by_its_id(
    colour: Colour, ledger: str
) -> None:
    with staged(colour, ledger=ledger) as scene:
        service = next(each for each in scene.sandbox.state.catalogue.services if " " in each.name)
        scene.only(PRICES, service.id)
        _entered_and_gone(scene, service.id)
        ended = scene.receive(service.name, intent="job-1", timeout=60)
        assert [event.resumed for event in ended.told(Bought)] == [True], repr(ended.error)
        assert scene.paid(BUY) == 1


# --- a rental that is over


@pytest.mark.parametrize("how", ["released", "over"])
def test_a_rental_that_is_over_is_not_gone_on_with(how: str, colour: Colour, ledger: str) -> None:
    with staged(colour, only=PRICES, ledger=ledger) as scene:
        job = scene.job(intent="job-1", rental_hours=24, max_price="30")
        scene.entered(job)
        if how == "released":
            scene.wait_for(job.release)
        else:
            scene.sandbox.advance(25 * 3600)
        scene.leave()
        scene.enter()
        ended = scene.receive(intent="job-1", rental_hours=24, max_price="30", timeout=60)
        assert isinstance(ended.error, NoCodeReceived), repr(ended.error)
        assert ended.told(Bought) == []
        assert scene.order_ids[0] in ended.said
        assert (scene.paid(BUY), scene.sent(POLL)) == (1, 0)
        audited(scene)


def test_a_rental_that_runs_is_gone_on_with(colour: Colour, ledger: str) -> None:
    with staged(colour, only=PRICES, ledger=ledger) as scene:
        _entered_and_gone(scene, rental_hours=24)
        job = scene.job(intent="job-1", rental_hours=24, max_price="30")
        scene.entered(job)
        assert job.order.order_id == scene.order_ids[0]
        assert scene.paid(BUY) == 1


# --- a number of another country


@pytest.mark.parametrize(
    ("asked", "got", "warned"),
    [("GB", "DE", True), ("uk", "DE", True), ("uk", "GB", False), (None, "DE", False)],
)
def test_a_number_of_another_country_than_asked_for_is_a_warning(
    asked: str | None, got: str, warned: bool, colour: Colour
) -> None:
    with staged(colour, only=PRICES, sms_after=30) as scene:
        scene.change(BUY, with_fields(country=got))
        ended = scene.receive(country=asked)
        assert ended.code is not None
        if warned:
            [warning] = ended.code.warnings
            assert "GB" in warning
            assert "DE" in warning
        else:
            assert ended.code.warnings == ()
