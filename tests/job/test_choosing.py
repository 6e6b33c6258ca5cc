"""What is bought, and where: services, countries, ceilings, stock and prices that move."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.buyer import Colour
from tests.job.accounts import closed, exact
from tests.job.scene import (
    BUY,
    COUNTRIES,
    OFFERS,
    SERVICES,
    Moment,
    Scene,
    always,
    once,
    staged,
)
from x402sms.errors import CountryNotFound, NoStock, ServiceNotFound, SpendLimitExceeded
from x402sms.sandbox.words import Service
from x402sms.virtualsms.effects import Bought, Chosen, LeftOut

PRICES = {"US": "0.10", "GB": "0.12", "DE": "0.20"}
ASKED = Moment(BUY, "before", paid=False)
PAYS = Moment(BUY, "before")


def _countries(scene: Scene) -> list[str]:
    return [order.country.iso2 for order in scene.sandbox.state.orders.all()][::-1]


def test_every_offer_above_the_ceiling_raises_with_the_cheapest_price(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:
        ended = scene.receive(max_price="0.09")
        assert isinstance(ended.error, SpendLimitExceeded)
        assert (ended.error.limit, ended.error.amount, ended.error.allowed) == (
            "max_price",
            Decimal("0.10"),
            Decimal("0.09"),
        )
        assert "nothing bought: the cheapest number for telegram costs 0.10 USDC (US)" in ended.said
        assert "raise it with max_price (--max-price)" in ended.said
        assert (scene.sent(BUY), scene.orders, ended.events) == (0, [], [])
        exact(scene, ended)


@pytest.mark.parametrize("dear", ["price", "wrong-price"])
def test_a_402_above_the_ceiling_is_not_signed(dear: str, colour: Colour) -> None:
    faults = [always("wrong-price", BUY)] if dear == "wrong-price" else []
    with staged(colour, only={"US": "0.10"}, faults=faults) as scene:
        if dear == "price":
            scene.at(ASKED, lambda: scene.sandbox.set_price("telegram", "US", "0.31"))
        ended = scene.receive(intent="job-1")
        assert isinstance(ended.error, SpendLimitExceeded)
        assert "nothing bought" in ended.said
        assert (scene.sent(BUY), scene.paid(BUY), scene.orders) == (0, 0, [])
        assert "job-1" not in {row.intent for row in scene.rows}
        assert [event.country for event in ended.told(LeftOut)] == ["US"]
        exact(scene, ended)


@pytest.mark.parametrize("paid", [False, True], ids=["503 when asked", "503 to the payment"])
def test_no_stock_leaves_that_country_out_for_the_next_cheapest(paid: bool, colour: Colour) -> None:
    fault = "stock-ends" if paid else "no-stock"
    with staged(colour, only=PRICES, sms_after=30, faults=[once(fault, BUY, paid=paid)]) as scene:
        ended = scene.receive()
        assert ended.code is not None
        assert [event.offer.country for event in ended.told(Chosen)] == ["US", "GB"]
        assert [event.country for event in ended.told(LeftOut)] == ["US"]
        assert (_countries(scene), scene.paid(BUY)) == (["GB"], 1)
        assert ended.code.order.country == "GB"
        exact(scene, ended)


def test_stock_that_ends_in_one_country_after_another_leaves_each_out(colour: Colour) -> None:
    """They are one purchase; what one of them says of it is still not in doubt."""
    faults = [once("stock-ends", BUY, times=2)]
    with staged(colour, only=PRICES, sms_after=30, faults=faults) as scene:
        ended = scene.receive()
        assert ended.code is not None, ended.said
        assert [event.country for event in ended.told(LeftOut)] == ["US", "GB"]
        assert (_countries(scene), scene.paid(BUY)) == (["DE"], 1)
        closed(scene, ended)


def test_no_stock_anywhere_buys_nothing_and_says_so(colour: Colour) -> None:
    with staged(colour, only=PRICES, faults=[always("no-stock", BUY)]) as scene:
        ended = scene.receive()
        assert isinstance(ended.error, NoStock)
        assert "3 tried, nothing bought" in ended.said
        assert [event.country for event in ended.told(LeftOut)] == ["US", "GB", "DE"]
        assert (scene.sent(BUY), scene.orders) == (0, [])
        exact(scene, ended)


def test_no_stock_in_the_country_asked_for_takes_no_other(colour: Colour) -> None:
    with staged(colour, only={**PRICES, "FR": "0.05"}) as scene:
        scene.sandbox.set_stock("telegram", "FR", 0)
        ended = scene.receive(country="france")
        assert isinstance(ended.error, NoStock)
        assert "in FR" in ended.said
        assert "nothing was bought" in ended.said
        assert scene.orders == []
        exact(scene, ended)


@pytest.mark.parametrize("paid", [False, True], ids=["before the 402", "before the payment"])
def test_a_price_that_went_up_but_is_under_the_ceiling_is_paid(paid: bool, colour: Colour) -> None:
    with staged(colour, only=PRICES, sms_after=30) as scene:
        moment = PAYS if paid else ASKED
        scene.at(moment, lambda: scene.sandbox.set_price("telegram", "US", "0.25"))
        ended = scene.receive()
        assert ended.code is not None
        assert ended.code.price == Decimal("0.25")
        assert (_countries(scene), scene.paid(BUY)) == (["US"], 1)
        exact(scene, ended)


@pytest.mark.parametrize("paid", [False, True], ids=["before the 402", "before the payment"])
def test_a_price_that_went_over_the_ceiling_is_not_paid_but_the_next_cheapest(
    paid: bool, colour: Colour
) -> None:
    with staged(colour, only=PRICES, sms_after=30) as scene:
        moment = PAYS if paid else ASKED
        scene.at(moment, lambda: scene.sandbox.set_price("telegram", "US", "0.31"))
        ended = scene.receive()
        assert ended.code is not None
        assert [event.country for event in ended.told(LeftOut)] == ["US"]
        assert (_countries(scene), scene.paid(BUY)) == (["GB"], 1)
        exact(scene, ended)


def test_prices_that_move_at_each_challenge_are_paid_once(colour: Colour) -> None:
    with staged(colour, only=PRICES, sms_after=30, price_drift=1) as scene:
        ended = scene.receive()
        assert ended.code is not None
        assert scene.paid(BUY) == 1
        exact(scene, ended)


@pytest.mark.parametrize("written", ["telegram", "Telegram", "TELEGRAM", " telegram "])
def test_a_service_is_written_in_any_case(written: str, colour: Colour) -> None:
    with staged(colour, only=PRICES, sms_after=30) as scene:
        ended = scene.receive(written)
        assert ended.code is not None
        assert (scene.paid(OFFERS), scene.paid(SERVICES)) == (1, 0)
        exact(scene, ended)


def test_a_service_is_found_by_its_name(colour: Colour) -> None:
    with staged(colour, sms_after=30) as scene:
        service = next(each for each in scene.sandbox.state.catalogue.services if " " in each.name)
        scene.only(PRICES, service.id)
        ended = scene.receive(service.name.upper())
        assert ended.code is not None
        assert ended.code.order.service == service.id
        closed(scene, ended)


def test_an_unknown_service_stops_before_paying_for_a_number_with_near_names(
    colour: Colour,
) -> None:
    with staged(colour) as scene:
        ended = scene.receive("telegrm")
        assert isinstance(ended.error, ServiceNotFound)
        assert "nothing was bought" in ended.said
        assert "telegram (Telegram)" in ended.said
        assert (scene.sent(BUY), scene.orders) == (0, [])
        closed(scene, ended)


def test_an_ambiguous_service_stops_before_paying_for_a_number_with_those_meant(
    colour: Colour,
) -> None:
    with staged(colour) as scene:
        catalogue = scene.sandbox.state.catalogue
        twins = tuple(Service(f"pigeon-{n}", "Pigeon Post", "chat") for n in (1, 2))
        catalogue.services = (*catalogue.services, *twins)
        ended = scene.receive("Pigeon Post")
        assert isinstance(ended.error, ServiceNotFound)
        assert "pigeon-1 (Pigeon Post), pigeon-2 (Pigeon Post)" in ended.said
        assert (scene.sent(BUY), scene.orders) == (0, [])
        closed(scene, ended)


@pytest.mark.parametrize(
    ("written", "code", "lists"),
    [
        ("GB", "GB", 0),
        ("gb", "GB", 0),
        ("uk", "GB", 0),
        ("UK", "GB", 0),
        ("England", "GB", 0),
        ("germany", "DE", 1),
        ("United Kingdom", "GB", 1),
    ],
)
def test_a_country_is_written_as_people_do(
    written: str, code: str, lists: int, colour: Colour
) -> None:
    with staged(colour, only=PRICES, sms_after=30) as scene:
        ended = scene.receive(country=written)
        assert ended.code is not None
        assert ended.code.order.country == code
        assert (_countries(scene), scene.paid(COUNTRIES)) == ([code], lists)
        exact(scene, ended)


@pytest.mark.parametrize("number", ["44", "+49", "840"])
def test_a_country_written_as_a_number_is_refused_before_anything_is_paid(
    number: str, colour: Colour
) -> None:
    with staged(colour, only=PRICES) as scene:
        ended = scene.receive(country=number)
        assert isinstance(ended.error, ValueError)
        assert "two-letter code" in ended.said
        assert (scene.wire, scene.rows) == ([], [])


def test_an_unknown_country_stops_before_paying_for_a_number_with_near_names(
    colour: Colour,
) -> None:
    with staged(colour, only=PRICES) as scene:
        ended = scene.receive(country="Germny")
        assert isinstance(ended.error, CountryNotFound)
        assert "DE (Germany)" in ended.said
        assert "nothing was bought" in ended.said
        assert scene.sent(BUY) == 0
        exact(scene, ended)


def test_the_number_is_handed_over_before_the_first_poll(colour: Colour) -> None:
    with staged(colour, only=PRICES, sms_after=30) as scene:
        told: list[tuple[str, int]] = []
        ended = scene.receive(on_number=lambda number: told.append((number, len(scene.wire))))
        assert ended.code is not None
        assert told == [(ended.code.phone_number, 4)]
        assert [event.order.phone_number for event in ended.told(Bought)] == [told[0][0]]
