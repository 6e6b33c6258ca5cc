"""Names people write for services and countries."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

_MOST = 3
_ALIASES = {
    "uk": "GB",
    "great britain": "GB",
    "britain": "GB",
    "england": "GB",
    "usa": "US",
    "america": "US",
    "united states of america": "US",
    "uae": "AE",
    "holland": "NL",
    "korea": "KR",
    "czech republic": "CZ",
    "turkiye": "TR",
    "türkiye": "TR",
}
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


def find(text: str, known: Sequence[tuple[str, str]]) -> str:
    """The id that `text` is, or is the name of; upper and lower case are the same here.

    `known` are pairs of id and name. Raises LookupError whose args are what may be meant, as
    `id (name)`: several where the name is that of several, near ones where it is nobody's.
    """
    wanted = _folded(text)
    ids = [identifier for identifier, _ in known if _folded(identifier) == wanted]
    named = [identifier for identifier, name in known if _folded(name) == wanted]
    found = list(dict.fromkeys(ids or named))
    if len(found) == 1:
        return found[0]
    names = dict(known)
    meant = found[:_MOST] or suggest(text, known)
    raise LookupError(*(f"{identifier} ({names[identifier]})" for identifier in meant))


def matches(text: str, identifier: str, name: str) -> bool:
    """Whether `text` is part of the id or the name, upper and lower case being the same."""
    wanted = _folded(text)
    return wanted in _folded(identifier) or wanted in _folded(name)


def normalise_country(text: str) -> str:
    """A two-letter code in upper case; any other text only without outer spaces.

    `uk`, `USA` and other widely used names are codes too. Raises ValueError for nothing at all
    and for numbers: a calling code and an ISO 3166-1 numeric code look alike, so neither is taken.
    """
    country = text.strip()
    if not country:
        raise ValueError("no country was given: write its two-letter code, such as GB")
    if country.lstrip("+").isdigit():
        raise ValueError(
            f"{country[:40]!r} is a number: write the country's two-letter code "
            "(ISO 3166-1 alpha-2), such as GB"
        )
    alias = _ALIASES.get(country.casefold())
    if alias is not None:
        return alias
    return country.upper() if is_iso2(country) else country


def is_iso2(text: str) -> bool:
    """Whether `text` has the form of an ISO 3166-1 alpha-2 code: two ASCII letters."""
    return len(text) == 2 and text.isascii() and text.isalpha()


def _folded(text: str) -> str:
    return text[:_LONGEST].strip().casefold()
