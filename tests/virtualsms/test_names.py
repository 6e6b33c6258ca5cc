from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from x402sms.virtualsms.names import matches, normalise_country, suggest

SERVICES = [
    ("telegram", "Telegram"),
    ("wa", "WhatsApp"),
    ("instagram", "Instagram"),
    ("uber", "Uber"),
    ("ubereats", "Uber Eats"),
]
COUNTRIES = [("DE", "Germany"), ("GB", "United Kingdom"), ("US", "United States")]


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("telegrm", "telegram"),
        ("TELEGRAM ", "telegram"),
        ("whatsap", "wa"),
        ("uber eats", "ubereats"),
    ],
)
def test_a_misspelt_service_finds_the_right_one(text: str, nearest: str) -> None:
    assert suggest(text, SERVICES)[0] == nearest


def test_a_country_is_found_by_its_name() -> None:
    assert suggest("germny", COUNTRIES) == ["DE"]


@pytest.mark.parametrize("text", ["", "zzzzzz"])
def test_nothing_near_suggests_nothing(text: str) -> None:
    assert suggest(text, SERVICES) == []


def test_services_of_one_name_are_all_suggested_up_to_three() -> None:
    assert suggest("line", [(f"x{n}", "Line") for n in range(5)]) == ["x0", "x1", "x2"]


@pytest.mark.parametrize(
    ("text", "found"), [("GRAM", True), ("whats", True), ("wa", True), ("viber", False), ("", True)]
)
def test_a_search_looks_for_a_part_of_the_id_or_the_name(text: str, found: bool) -> None:
    assert any(matches(text, identifier, name) for identifier, name in SERVICES) is found


@settings(deadline=None)
@given(st.text(), st.lists(st.tuples(st.text(), st.text()), max_size=10))
def test_at_most_three_known_ids_are_suggested_once_each(
    text: str, known: list[tuple[str, str]]
) -> None:
    found = suggest(text, known)
    assert len(found) <= 3
    assert len(set(found)) == len(found)
    assert set(found) <= {identifier for identifier, _ in known}


@pytest.mark.parametrize(
    ("text", "country"),
    [
        ("us", "US"),
        (" De\n", "DE"),
        ("uk", "GB"),
        ("UK", "GB"),
        ("gb", "GB"),
        ("Germany", "Germany"),
        (" united kingdom ", "united kingdom"),
    ],
)
def test_a_two_letter_code_is_in_upper_case(text: str, country: str) -> None:
    assert normalise_country(text) == country


@pytest.mark.parametrize("text", ["826", "+44", "44", "٤٤", "1" * 500])
def test_a_number_is_no_country(text: str) -> None:
    with pytest.raises(ValueError, match="two-letter code") as caught:
        normalise_country(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["", " \n"])
def test_nothing_is_no_country(text: str) -> None:
    with pytest.raises(ValueError, match="no country was given"):
        normalise_country(text)
