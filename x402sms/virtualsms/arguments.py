"""Arguments of calls, checked before anything is sent. What cannot be right raises ValueError."""

from __future__ import annotations

from urllib.parse import quote

from x402sms.virtualsms.names import is_iso2, normalise_country

_MAX_PART_CHARS = 200
_UNSAFE_IN_PATH = ("/", "\\", "?", "#", "%", "..")


def at_least_one(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is a whole number, at least 1")
    return value


def country_code(country: str) -> str:
    """Sent only as a two-letter code: a call that buys should not be paid for a wrong name."""
    code = normalise_country(one_part("a country", country))
    if not is_iso2(code):
        raise ValueError(
            f"{code[:40]!r} is no country code: write its two letters (ISO 3166-1 alpha-2)"
        )
    return code


def one_part(what: str, value: str) -> str:
    """`value` without outer spaces, or ValueError if it could change the path it goes into."""
    if not isinstance(value, str):
        raise ValueError(f"{what} is text")
    text = value.strip()
    if not text or text == "." or len(text) > _MAX_PART_CHARS or not text.isprintable():
        raise ValueError(f"{what} is not empty, one line and at most {_MAX_PART_CHARS} characters")
    for unsafe in _UNSAFE_IN_PATH:
        if unsafe in text:
            raise ValueError(f"{text[:40]!r} is not {what}: {unsafe!r} cannot be part of it")
    return text


def encoded(part: str) -> str:
    return quote(part, safe="")
