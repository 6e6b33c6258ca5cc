from __future__ import annotations

import json
import sys
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.virtualsms.strategies import json_values
from x402sms.errors import UnreadableResponse
from x402sms.text import one_line, whole_pairs
from x402sms.virtualsms import calls
from x402sms.virtualsms.reading import parse_json


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"price": 0.18}', {"price": Decimal("0.18")}),
        (b"[0.1, 1e3, 7]", [Decimal("0.1"), Decimal("1E+3"), 7]),
        (b"\xef\xbb\xbf{}", {}),
        (b'"\xd0\xba"', "к"),
        (b"null", None),
    ],
)
def test_json_is_read_with_exact_numbers(body: bytes, value: object) -> None:
    assert parse_json(body) == value


def test_a_number_with_a_point_is_a_decimal_and_never_a_float() -> None:
    assert type(parse_json(b"0.1")) is Decimal


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"<html>",
        b"\xff\xfe",
        b'{"a": NaN}',
        b"Infinity",
        b"-Infinity",
        b"1e999",
        b"1e-999",
        b"1e99999999999999999999",
        b"1" * 401,
        b"0." + b"1" * 400,
        b"1" * 5000,
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"{} {}",
        b"[" * 101 + b"]" * 101,
        b'"' + b'\\"' * 200_000,
    ],
    ids=lambda body: body[:12].decode("ascii", "replace") + f"({len(body)})",
)
def test_what_is_not_sound_json_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableResponse) as caught:
        parse_json(body)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "body",
    [b"[" * 100 + b"]" * 100, b"[" + b"[]," * 500 + b"[]]", b'["' + b"[{" * 500 + b'\\"[[["]'],
    ids=["deep", "wide", "brackets in a string"],
)
def test_depth_is_counted_and_not_brackets(body: bytes) -> None:
    assert isinstance(parse_json(body), list)


def test_depth_is_bounded_also_where_the_recursion_limit_is_not() -> None:
    """Importing web3 sets the limit so high that json would overflow the C stack."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 1_000_000))
    try:
        with pytest.raises(UnreadableResponse, match="nested deeper than"):
            parse_json(b"[" * 1_000_000)
    finally:
        sys.setrecursionlimit(before)


def test_a_body_over_the_limit_is_not_even_looked_at() -> None:
    with pytest.raises(UnreadableResponse, match="larger than 4 bytes"):
        parse_json(b"[1,2]", limit=4)


def test_parse_json_is_offered_next_to_the_calls() -> None:
    assert calls.parse_json is parse_json


@settings(deadline=None)
@given(st.binary())
def test_random_bytes_are_json_or_unreadable(body: bytes) -> None:
    try:
        parse_json(body)
    except UnreadableResponse as error:
        message = str(error)
    else:
        return
    assert message.isprintable()


def _whole(pairs: list[tuple[str, object]]) -> dict[str, object]:
    return {whole_pairs(name): value for name, value in pairs}


@settings(deadline=None)
@given(json_values)
def test_json_that_was_written_is_read_back(value: object) -> None:
    written = json.dumps(value, default=str)
    assert parse_json(written.encode()) == json.loads(written, object_pairs_hook=_whole)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\n\tb", "a b"),
        ("red\x1b[31m", "red[31m"),
        ("\u202ereversed", "reversed"),
        ("x" * 11, "x" * 9 + "…"),
        ("x" * 10, "x" * 10),
        ("\ud83d", ""),
    ],
)
def test_text_for_people_is_one_short_printable_line(text: str, shown: str) -> None:
    assert one_line(text, 10) == shown


def test_a_name_with_half_a_surrogate_pair_does_not_make_an_answer_unreadable() -> None:
    assert parse_json(b'{"\\ud83d": 1, "ok": "\\ud83d\\ude00"}') == {
        "\ufffd": 1,
        "ok": "\U0001f600",
    }
