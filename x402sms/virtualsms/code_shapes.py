"""What in the text of an SMS has the shape of a code, whatever stands near it.

The text is first made plain, then all that is certainly no code is taken out: links, dates,
phone numbers, amounts of money, masked numbers. No expression here can backtrack far.
"""
# ruff: noqa: RUF001  the letters of other scripts are meant

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from x402sms.virtualsms.code_words import (
    CODE,
    CURRENCY_CODES,
    CURRENCY_WORDS,
    UNIT,
    listed,
)

# --- The text, made plain.


def plain_text(text: str) -> str:
    """With digits, dashes, spaces and Latin letters in ASCII, whatever their script or width."""
    return "".join(map(_plain_character, unicodedata.normalize("NFC", text)))


@lru_cache(maxsize=4_096)
def _plain_character(character: str) -> str:
    category = unicodedata.category(character)
    if category in {"Cf", "Me"} or character == "\ufe0f":  # bidi marks, the box of a keycap
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category == "Pd" or character == "\N{MINUS SIGN}":
        return "-"
    if category == "Zs":
        return " "
    narrow = unicodedata.normalize("NFKC", character)
    return narrow if len(narrow) == 1 and narrow.isascii() and narrow.isalpha() else character


_NO_DECOMPOSITION = {
    "đ": "d", "ı": "i", "ł": "l", "ø": "o", "ς": "σ",
    "\N{ARABIC LETTER YEH}": "\N{ARABIC LETTER FARSI YEH}",
    "\N{ARABIC LETTER ALEF MAKSURA}": "\N{ARABIC LETTER FARSI YEH}",
    "\N{ARABIC LETTER KAF}": "\N{ARABIC LETTER KEHEH}",
}  # fmt: skip


@lru_cache(maxsize=4_096)
def _folded_character(character: str) -> str:
    base, *marks = list(unicodedata.normalize("NFD", character))
    if any(unicodedata.category(mark) != "Mn" for mark in marks):
        return character  # a Korean syllable, not an accent
    lower = base.lower()
    return _NO_DECOMPOSITION.get(lower, lower)


def folded_text(plain: str) -> str:
    """In lower case and without accents; as many characters as `plain`."""
    return "".join(map(_folded_character, plain))


# --- What is a number and no code, whatever stands near it.

LETTER = r"[^\W\d_]"


def any_of(table: str) -> str:
    """The table's entries as alternatives, folded as the texts are."""
    entries = (folded_text(plain_text(entry)) for entry in listed(table))
    return "|".join(sorted(map(re.escape, entries), key=len, reverse=True))


_AMOUNT = r"(?:[0-9]{1,3}(?:[ .,'][0-9]{3}){1,4}|[0-9]{1,12})(?:[.,][0-9]{1,2})?"
_SIGN = r"[$€£¥₹₽₺₫₩₴₱฿₦₪]"


def _money(currency: str, letter: str) -> str:
    """An amount with a currency at one side: of "45 EUR 4821" and "4821 EUR 45", 45."""
    return (
        rf"(?<![0-9])(?<![0-9] )(?<!{letter})(?:{currency})\s?{_AMOUNT}(?![0-9A-Za-z])"
        rf"|(?<![0-9A-Za-z]){_AMOUNT}\s?(?:{currency})(?!{letter})(?!\s?[0-9])"
    )


_WEB_OTP = re.compile(r"@[A-Za-z0-9.-]{3,253}+ #([A-Za-z0-9]{4,12})(?![A-Za-z0-9])")
_PLAIN_NOISE = [
    _WEB_OTP,
    re.compile(r"(?<!\S)[A-Za-z0-9+/]{11}\s*+\Z"),  # an Android app's hash ends the text
    re.compile(_money("|".join(listed(CURRENCY_CODES)), "[A-Za-z]")),
]
_FOLDED_NOISE = [
    re.compile(expression)
    for expression in (
        r"(?:https?://|www\.)[!-~]++",
        r"(?<![a-z0-9.-])(?:[a-z0-9-]{1,63}+\.){1,8}+[a-z]{2,24}/[!-~]*+",
        r"(?<![a-z0-9.-])(?:[a-z0-9-]{1,63}\.){1,8}(?:com|net|org|io|app)(?![a-z0-9])",
        r"(?<![a-z0-9._-])[a-z0-9._-]{1,64}+@[a-z0-9.-]{1,253}+",
        # Phone numbers that say so; others by the lengths of their groups, below.
        r"\+[0-9](?:[ ().-]{0,2}[0-9]){6,15}",
        r"\([0-9]{2,5}\)[ -]?[0-9]{2}[0-9 -]{3,12}",
        # Times, dates, versions, account numbers with a bank after the stroke.
        r"(?<![0-9])[0-9]{1,2}:[0-9]{2}(?![0-9])(?::[0-9]{2})?",
        r"(?<![0-9-])[0-9]{4}(?:-[0-9]{1,2}){2}(?![0-9-])",
        r"(?<![0-9-])[0-9]{1,2}(?:-[0-9]{1,2}){2}(?:[0-9]{2})?(?![0-9-])",
        r"(?<![0-9])[0-9]++(?:/[0-9]++)++",
        r"(?<![0-9])[0-9]++(?:\.[0-9]++){2,}+",
        # What is masked; but *123456* is only bold.
        r"[*•●]++[ -]?[0-9]++(?![0-9*])|(?<![0-9])[0-9]++[*•●]{2}",
        r"(?<![a-z0-9])x{1,16}+-?[0-9]++(?![a-z])",
        r"(?<![0-9])[0-9]++(?:\.\.++|…|x{2,16}+)[0-9]++",
        # Percentages, thousands, decimals, money, quantities. In "4821,5 min" a comma is a comma.
        r"(?<![0-9])[0-9]++(?:[.,][0-9]++)?+ ?[%٪](?![a-z])",
        r"(?<![0-9])[0-9]{1,3}(?:[.,][0-9]{3})++(?![0-9])",
        r"(?<![0-9])[0-9]++[.,][0-9]{1,2}(?![0-9])(?! ?(?:min|мин|хв|分|분|phut|นาที))",
        _money(_SIGN, "[$]"),
        _money(any_of(CURRENCY_WORDS), LETTER),
        rf"(?<![0-9a-z])[0-9]++ ?(?:{any_of(UNIT)})(?![0-9a-zа-я])",
    )
]


def _without_noise(plain: str, folded: str) -> str:
    """`plain` with NUL over what only looks like a code."""
    left = list(plain)
    noise = [match for each in _PLAIN_NOISE for match in each.finditer(plain)]
    noise += [match for each in _FOLDED_NOISE for match in each.finditer(folded)]
    for match in noise:
        left[match.start() : match.end()] = "\0" * (match.end() - match.start())
    return "".join(left)


# --- What has the shape of a code.


@dataclass(frozen=True)
class Shape:
    """What could be a code, where it stands, and the points for its shape alone."""

    code: str
    start: int
    end: int
    points: int


_LENGTH_POINTS = {4: 20, 5: 25, 6: 30, 7: 15, 8: 20}
_SPACED = {(3, 3), (4, 4), (2, 2, 2)}
_DASHED = {(3, 3), (4, 4)}
_NUMBERS = re.compile(
    r"(?<![A-Za-z0-9])[0-9]++(?![A-Za-z])"
    r"(?:(?:-[0-9]++(?![A-Za-z]))++|(?: [0-9]++(?![A-Za-z-]))*+)"
)
_PREFIX = re.compile(r"(?<![A-Za-z0-9])[A-Z]{1,2}-\Z")  # Google's G-
_MIXED = re.compile(
    r"(?<![A-Za-z0-9\0])(?<![0-9]-)"
    r"(?:[A-Z0-9]{3,5}-[A-Z0-9]{3,5}(?![A-Za-z0-9-])|[A-Za-z0-9]++(?!-[A-Z0-9]))"
)
_LETTER_AND_DIGIT = re.compile(r"(?=[0-9]*+[A-Za-z])[A-Za-z]*+[0-9]")
_GLUED = re.compile(rf"(?i:{any_of(CODE.stems)}|{any_of(CODE.words)})[A-Za-z]*+([0-9]{{4,8}})")
_YEAR = re.compile(r"(?:19|20)[0-9]{2}")


def shapes(plain: str, folded: str) -> Iterator[Shape]:
    """All in the text that could be a code."""
    for match in _WEB_OTP.finditer(plain):
        yield Shape(match[1], *match.span(1), 150)
    text = _without_noise(plain, folded)
    for match in _NUMBERS.finditer(text):
        yield from _in_numbers(match)
    for match in _MIXED.finditer(text):
        yield from _in_mixed(match)


def _in_numbers(match: re.Match[str]) -> Iterator[Shape]:
    """One code, in groups or whole, or some of several numbers."""
    code, dashed = re.sub("[ -]", "", match[0]), "-" in match[0]
    lengths = tuple(map(len, re.split("[ -]", match[0])))
    bonus = 30 if _PREFIX.search(match.string[max(0, match.start() - 4) : match.start()]) else 0
    singles = set(lengths) == {1} and 4 <= len(code) <= 8
    if singles or lengths in (_DASHED if dashed else _SPACED):
        yield Shape(code, *match.span(), bonus + (40 if lengths == (3, 3) else 20))
        return
    phone = len(code) >= 9 and (len(lengths) > 2 or (len(lengths) == 2 and code[0] == "0"))
    if dashed or phone:
        return
    crowded = 20 if sum(length >= 3 for length in lengths) > 1 else 0
    for number in re.finditer("[0-9]+", match[0]):
        points = _LENGTH_POINTS.get(len(number[0]))
        if points is not None:
            points += bonus - crowded - (30 if _YEAR.fullmatch(number[0]) else 0)
            start, end = (match.start() + at for at in number.span())
            yield Shape(number[0], start, end, points)


def _in_mixed(match: re.Match[str]) -> Iterator[Shape]:
    """Letters and digits, such as `AB12CD`; of `OTP123456` only the digits."""
    code = match[0]
    if not any(map(_LETTER_AND_DIGIT.match, code.split("-"))):
        return
    glued = _GLUED.fullmatch(code)
    if glued:
        yield Shape(glued[1], match.start() + glued.start(1), match.end(), 80)
    elif 4 <= len(code) <= 8 or "-" in code:
        one_case = code in (code.upper(), code.lower())
        yield Shape(code, *match.span(), 10 if one_case and len(code) > 4 else 0)
