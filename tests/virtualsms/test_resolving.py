"""From what people write to what is offered; nothing is bought on the way."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.virtualsms.scripted import Scripted
from x402sms.errors import CountryNotFound, NoStock, ServiceNotFound, SpendLimitExceeded
from x402sms.virtualsms.models import Offer
from x402sms.virtualsms.names import find
from x402sms.virtualsms.resolving import affordable, find_country, find_offers, no_stock

SERVICES = [("telegram", "Telegram"), ("wa", "WhatsApp"), ("line", "LINE"), ("naver-line", "LINE")]


def offer(country: str | None, price: str = "0.10", **more: Any) -> Offer:
    return Offer.model_validate({"country": country, "price": price} | more)


@pytest.mark.parametrize(
    ("written", "paid"),
    [
        ("telegram", ["availability"]),
        (" TELEGRAM ", ["availability"]),
        ("Tele gram", None),
        ("telegram/", None),
    ],
)
def test_an_id_costs_one_call_and_what_is_none_is_looked_for_by_name(
    written: str, paid: list[str] | None
) -> None:
    service = Scripted()
    if paid is None:
        with pytest.raises(ServiceNotFound, match=r"nothing was bought\. Did you mean telegram"):
            service.run(find_offers(written, until=60))
    else:
        found, offers = service.run(find_offers(written, until=60))
        assert (found, len(offers)) == ("telegram", 3)
        assert [name for _, name, _ in service.calls] == paid


def test_a_name_that_is_no_id_costs_two_calls_more() -> None:
    service = Scripted(queues={"services": [[{"id": "telegram", "name": "The Messenger"}]]})
    found, _ = service.run(find_offers("the messenger", until=60))
    assert found == "telegram"
    assert [name for _, name, _ in service.calls] == ["availability", "services", "availability"]


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("LINEE", "line"),
        ("zzzz", "`x402sms services` lists all"),
        ("Line Messenger " * 12, "`x402sms services`"),
    ],
)
def test_an_unknown_service_is_refused_with_what_may_be_meant(written: str, says: str) -> None:
    rows = [{"id": identifier, "name": name} for identifier, name in SERVICES]
    with pytest.raises(ServiceNotFound, match=says):
        Scripted(queues={"services": [rows]}).run(find_offers(written, until=60))


@pytest.mark.parametrize("odd", ["a/b", "", "..", "x" * 300, "a\nb", "50%"])
def test_a_service_whose_id_no_call_can_name_is_not_found(odd: str) -> None:
    service = Scripted(queues={"services": [[{"id": odd, "name": "The Messenger"}]]})
    with pytest.raises(ServiceNotFound, match="nothing was bought"):
        service.run(find_offers("The Messenger", until=60))


@pytest.mark.parametrize("written", ["", "  ", "x" * 201, "a\x00b", "a..b"])
def test_what_cannot_be_a_service_is_refused_before_anything_is_sent(written: str) -> None:
    service = Scripted()
    with pytest.raises(ValueError, match="a service"):
        service.run(find_offers(written, until=60))
    assert not service.calls


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("telegram", "telegram"),
        ("Whatsapp", "wa"),
        ("LINE", "line"),
        ("naver-line", "naver-line"),
    ],
)
def test_an_id_comes_before_a_name(written: str, found: str) -> None:
    assert find(written, SERVICES) == found


def test_a_name_of_several_is_refused_with_all_of_them() -> None:
    several = [("a", "Line"), ("b", "line"), ("a", "Line")]
    with pytest.raises(LookupError) as caught:
        find("LINE", several)
    assert caught.value.args == ("a (Line)", "b (line)")


@pytest.mark.parametrize(
    ("written", "iso2", "calls"),
    [
        ("GB", "GB", 0),
        ("gb", "GB", 0),
        ("uk", "GB", 0),
        ("Holland", "NL", 0),
        (" de ", "DE", 0),
        ("germany", "DE", 1),
        ("United Kingdom", "GB", 1),
    ],
)
def test_a_country_is_a_code_or_a_name(written: str, iso2: str, calls: int) -> None:
    service = Scripted()
    assert service.run(find_country(written, until=60)) == iso2
    assert len(service.calls) == calls


@pytest.mark.parametrize(
    ("written", "says"),
    [("germny", "Did you mean DE"), ("zzzz", "`x402sms countries` lists all"), ("X", "countries")],
)
def test_an_unknown_country_is_refused_with_what_may_be_meant(written: str, says: str) -> None:
    with pytest.raises(CountryNotFound, match=says):
        Scripted().run(find_country(written, until=60))


@pytest.mark.parametrize("written", ["44", "+44", "826", "0", ""])
def test_a_number_is_no_country(written: str) -> None:
    service = Scripted()
    with pytest.raises(ValueError, match="two-letter code"):
        service.run(find_country(written, until=60))
    assert not service.calls


def test_the_cheapest_comes_first_and_of_equals_the_one_with_more() -> None:
    offers = (
        offer("US", "0.20"),
        offer("DE", "0.10", stock=1),
        offer("GB", "0.10", stock=9),
        offer("FR", "0.10", stock=9),
        offer("IT", "0.31"),
    )
    found = affordable(offers, "telegram", None, Decimal("0.30"))
    assert [each.country for each in found] == ["FR", "GB", "DE", "US"]


@pytest.mark.parametrize(
    ("row", "there"),
    [
        ({"stock": 5}, True),
        ({"stock": 0}, False),
        ({"stock": True}, True),
        ({"stock": False}, False),
        ({"stock": "low_stock"}, True),
        ({"stock": "Out of stock"}, False),
        ({"in_stock": False, "stock": 5}, False),
        ({}, True),
        ({"country": None}, False),
        ({"country": ""}, False),
        ({"country": "12"}, False),
        ({"country": "GBR"}, False),
        ({"country": "G/"}, False),
        ({"country": "ÖÖ"}, False),
        ({"country": "UK"}, True),
        ({"price": "0"}, True),
        ({"price": "0.300001"}, False),
    ],
    ids=str,
)
def test_only_what_can_be_bought_is_offered(row: dict[str, Any], there: bool) -> None:
    body = {"country": "GB", "price": "0.10"} | row
    offers = (Offer.model_validate(body),)
    if there:
        assert affordable(offers, "telegram", None, Decimal("0.30")) == list(offers)
    else:
        with pytest.raises((NoStock, SpendLimitExceeded)):
            affordable(offers, "telegram", None, Decimal("0.30"))


def test_one_country_alone_is_taken_where_it_was_asked_for() -> None:
    offers = (offer("DE"), offer("GB", "0.20"))
    assert affordable(offers, "telegram", "GB", Decimal("0.30")) == [offers[1]]
    with pytest.raises(NoStock, match="in FR now; nothing was bought"):
        affordable(offers, "telegram", "FR", Decimal("0.30"))


def test_where_all_are_dearer_the_cheapest_is_named() -> None:
    with pytest.raises(SpendLimitExceeded, match=r"costs 0\.10 USDC \(DE\)") as caught:
        affordable((offer("GB", "0.20"), offer("DE")), "telegram", None, Decimal("0.05"))
    assert (caught.value.amount, caught.value.allowed) == (Decimal("0.10"), Decimal("0.05"))


@pytest.mark.parametrize("country", [None, "GB"])
@pytest.mark.parametrize("tried", [0, 2])
def test_no_stock_says_where_and_what_to_do(country: str | None, tried: int) -> None:
    said = str(no_stock("telegram", country, tried))
    assert (country or "anywhere") in said
    assert "nothing" in said.replace("nothing bought", "nothing was bought")
    assert ("2 tried" in said) is bool(tried)
