from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from x402sms.money import UINT256_MAX, format_usdc, parse_atomic, parse_usdc, to_usdc


@pytest.mark.parametrize(
    ("amount", "atomic"),
    [
        ("0", 0),
        ("0.0", 0),
        ("0.05", 50_000),
        ("0.000001", 1),
        ("1", 1_000_000),
        ("1.5", 1_500_000),
        ("123456789.654321", 123_456_789_654_321),
        (0, 0),
        (7, 7_000_000),
        (Decimal("0.25"), 250_000),
        (Decimal("0.2500000000"), 250_000),
        (Decimal("1E+3"), 1_000_000_000),
        (Decimal("1e-6"), 1),
        (Decimal("-0"), 0),
        (Decimal("-0.00"), 0),
        (Decimal("100"), 100_000_000),
    ],
)
def test_an_amount_of_usdc_is_read_exactly(amount: str | int | Decimal, atomic: int) -> None:
    assert parse_usdc(amount) == atomic


@pytest.mark.parametrize(
    "amount",
    [
        "",
        " ",
        "1_000",
        " 7 ",
        "7\n",
        "1e3",
        "1E-2",
        "-1",
        "-0",
        "+1",
        "\uff11",
        "\u0661",
        "1\u00b2",
        "0x1",
        ".5",
        "5.",
        "1,5",
        "1.0.0",
        "01",
        "00.5",
        "0.0000001",
        "0.0000010",
        "NaN",
        "Infinity",
        "$1",
        "1 USDC",
        "9" * 72,
        "9" * 73,
        pytest.param("9" * 5000, id="5000 digits"),
        "1\0",
        -1,
        10**72,
        pytest.param(10**5000, id="an int of 5000 digits"),
        Decimal("-0.01"),
        Decimal("0.0000001"),
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        Decimal("-Infinity"),
        Decimal("1E+100"),
        Decimal("1E+999999"),
        Decimal("1E-999999"),
    ],
)
def test_what_is_no_plain_amount_is_refused(amount: str | int | Decimal) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_usdc(amount)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("amount", [0.05, 1.0, True, False, None, b"1", [], 1j])
def test_a_float_is_never_an_amount(amount: object) -> None:
    with pytest.raises(TypeError, match="never a float"):
        parse_usdc(amount)  # type: ignore[arg-type]


def test_the_largest_amount_is_a_uint256() -> None:
    assert parse_usdc(to_usdc(UINT256_MAX)) == UINT256_MAX
    with pytest.raises(ValueError, match="uint256"):
        parse_usdc(to_usdc(UINT256_MAX + 1))


@pytest.mark.parametrize("atomic", [0, 1, 10, 10_000, UINT256_MAX])
def test_atomic_units_are_read_in_their_one_spelling(atomic: int) -> None:
    assert parse_atomic(str(atomic)) == atomic


@pytest.mark.parametrize(
    "text",
    ["", " 7 ", "1_000", "1e3", "-5", "-0", "+5", "007", "1.0", "\uff11", "\u0661", "0x1", "7\n"],
)
def test_atomic_units_in_another_spelling_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="plain ASCII digits"):
        parse_atomic(text)


@pytest.mark.parametrize("text", [str(UINT256_MAX + 1), "9" * 78])
def test_atomic_units_beyond_uint256_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="uint256"):
        parse_atomic(text)


@pytest.mark.parametrize(
    ("atomic", "places", "text"),
    [
        (0, 2, "0.00"),
        (50_000, 2, "0.05"),
        (500, 2, "0.0005"),
        (1, 2, "0.000001"),
        (1_500_000, 2, "1.50"),
        (1_500_000, 0, "1.5"),
        (2_000_000, 0, "2"),
        (2_000_000, 6, "2.000000"),
        (-10_000, 2, "-0.01"),
        (UINT256_MAX, 2, f"{UINT256_MAX // 10**6}.{UINT256_MAX % 10**6:06}"),
    ],
)
def test_amounts_are_written_for_people(atomic: int, places: int, text: str) -> None:
    assert format_usdc(atomic, places=places) == text


def test_the_decimal_of_atomic_units_has_six_places() -> None:
    assert str(to_usdc(250_000)) == "0.250000"
    assert str(to_usdc(-1)) == "-0.000001"
    assert str(to_usdc(0)) == "0.000000"


@settings(deadline=None)
@given(st.integers(0, UINT256_MAX))
def test_nothing_is_lost_on_the_way_there_and_back(atomic: int) -> None:
    assert parse_usdc(to_usdc(atomic)) == atomic
    assert parse_usdc(format_usdc(atomic)) == atomic
    assert parse_atomic(str(atomic)) == atomic
    assert to_usdc(atomic).scaleb(6) == atomic or atomic > 10**27  # scaleb rounds beyond 28 digits


@settings(deadline=None)
@given(st.text(max_size=30) | st.from_regex(r"[-+]?[0-9_., e]{0,20}", fullmatch=True))
def test_any_text_is_an_amount_or_a_value_error(text: str) -> None:
    for read in (parse_usdc, parse_atomic):
        try:
            value = read(text)
        except ValueError:
            continue
        assert 0 <= value <= UINT256_MAX
        assert text.isascii()


@settings(deadline=None)
@given(st.decimals())
def test_any_decimal_is_its_exact_amount_or_a_value_error(amount: Decimal) -> None:
    try:
        atomic = parse_usdc(amount)
    except ValueError:
        return
    assert amount == to_usdc(atomic)
