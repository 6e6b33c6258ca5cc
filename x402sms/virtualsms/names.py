"""Names people write for services and countries."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST = 3
_LONGEST = 100  # difflib is quadratic in the length of what it compares


def suggest(text: str, known: Iterable[tuple[str, str]]) -> list[str]:
    """At most three ids, nearest first, whose id or name resembles `text`.

    `known` are pairs of id and name: `suggest("telegrm", [("telegram", "Telegram")])` is
    `["telegram"]`. Upper and lower case are the same here.
    """
    ids_by_name: dict[str, list[str]] = {}
    for identifier, name in known:
        for candidate in {_folded(identifier), _folded(name)}:
            ids_by_name.setdefault(candidate, []).append(identifier)
    # An id owns at most two of the candidates, so twice as many matches name enough ids.
    near = difflib.get_close_matches(_folded(text), ids_by_name, n=2 * _MOST)
    ids = (identifier for name in near for identifier in ids_by_name[name])
    return list(dict.fromkeys(ids))[:_MOST]


def matches(text: str, identifier: str, name: str) -> bool:
    """Whether `text` is part of the id or the name, upper and lower case being the same."""
    wanted = _folded(text)
    return wanted in _folded(identifier) or wanted in _folded(name)


def normalise_country(text: str) -> str:
    """A two-letter code in upper case, `uk` as `GB`; any other text only without outer spaces.

    Raises ValueError for nothing at all and for numbers: a calling code and an ISO 3166-1
    numeric code look alike, so neither is taken.
    """
    country = text.strip()
    if not country:
        raise ValueError("no country was given: write its two-letter code, such as GB")
    if country.lstrip("+").isdigit():
        raise ValueError(
            f"{country[:40]!r} is a number: write the country's two-letter code "
            "(ISO 3166-1 alpha-2), such as GB"
        )
    if not is_iso2(country):
        return country
    code = country.upper()
    return "GB" if code == "UK" else code


def is_iso2(text: str) -> bool:
    """Whether `text` has the form of an ISO 3166-1 alpha-2 code: two ASCII letters."""
    return len(text) == 2 and text.isascii() and text.isalpha()


def _folded(text: str) -> str:
    return text[:_LONGEST].strip().casefold()
