"""The code in an SMS.

The service says what it takes for the code, and for some texts it is wrong: it takes the first
four to eight digits. Here every run of characters that could be a code gets points for its
shape and for the words near it, and the best is taken if it is good enough.

A text is a stranger's: no more than LOOKED_AT characters of it are looked at, and the
expressions here cannot backtrack far. The words are in `code_words`.
"""
# ruff: noqa: RUF001  the punctuation of other scripts is meant

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from x402sms.text import one_line
from x402sms.virtualsms.code_shapes import LETTER, Shape, any_of, folded_text, plain_text, shapes
from x402sms.virtualsms.code_words import (
    BARGAIN,
    CODE,
    NO_CODE,
    NUMBER,
    OTHER,
    PURPOSE,
    TYPE_IT,
    UNTIL,
    Words,
)

if TYPE_CHECKING:
    from x402sms.virtualsms.models import Sms, SmsResult

LOOKED_AT: Final = 2_000
LONGEST_PATTERN: Final = 200
GOOD_ENOUGH: Final = 50
SURE: Final = 80  # enough to doubt what the service says,
CLEARLY: Final = 30  # if it is so far ahead of any other


@dataclass(frozen=True)
class Candidate:
    """What may be the code, in how many points' opinion, and where in the plain text it starts."""

    code: str
    score: int
    start: int


def find_code(text: str, *, pattern: str | re.Pattern[str] | None = None) -> str | None:
    """The code in the text of one SMS, as it is typed, or None if nothing in it looks like one.

    `123-456` and `123 456` come out as `123456`; so does Google's `G-123456`, whose form has the
    `G-` already. Digits of any script come out as 0-9; a code with letters stays as it is.
    Codes have four to eight characters, and one of them is a digit.

    `pattern`, a regular expression, decides alone if it is given: its group `code`, else its
    first group that took part, else the whole match; the first match, only stripped. Raises
    ValueError if it is not one (see `compile_pattern`).
    """
    if pattern is not None:
        return _matched(compile_pattern(pattern) if isinstance(pattern, str) else pattern, text)
    best = next(iter(candidates(text)), None)
    return best.code if best is not None and best.score >= GOOD_ENOUGH else None


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """The pattern for `find_code`, compiled. Raises ValueError if it is over-long or not one.

    How long it takes on a text is the caller's own affair.
    """
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"a pattern has at most {LONGEST_PATTERN} characters, not {len(pattern)}")
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        shown = one_line(pattern, 60)
        raise ValueError(f"the pattern {shown!r} is no regular expression: {error}") from None


def _matched(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text[:LOOKED_AT])
    if match is None:
        return None
    if "code" in pattern.groupindex:
        found = match["code"]
    elif pattern.groups:
        found = next((group for group in match.groups() if group is not None), None)
    else:
        found = match[0]
    return (found or "").strip() or None


def newest(messages: Sequence[Sms]) -> Sms | None:
    """The message received last, None if there is none.

    The service lists the oldest first, so of equally old ones it is the last. One without
    `received_at` counts as received together with the one listed before it that has one.
    """
    latest: Sms | None = None
    at = received = datetime.min.replace(tzinfo=UTC)
    for message in messages:
        received = message.received_at or received
        if received >= at:
            latest, at = message, received
    return latest


def text_of(result: SmsResult) -> str | None:
    """The text that counts: the answer's own, else that of the newest message."""
    if result.text:
        return result.text
    message = newest(result.messages)
    return message.content if message is not None else None


def code_of(result: SmsResult, *, pattern: str | re.Pattern[str] | None = None) -> str | None:
    """The code of the service's answer, None if it has none.

    With a pattern: what it finds in `text_of(result)`, and nothing else. Without: the service's
    own `code`, else what `find_code` finds in that text. Raises ValueError for a bad pattern.
    """
    said = (result.code or "").strip()
    if pattern is None and said:
        return said
    return find_code(text_of(result) or "", pattern=pattern)


def doubt(code: str, text: str | None) -> str | None:
    """A sentence for a warning if `text` clearly holds another code than the service says."""
    best, *others = candidates(text or "") or [Candidate("", 0, 0)]
    rival = max((other.score for other in others if other.code != best.code), default=0)
    if best.score < SURE or best.score - rival < CLEARLY:
        return None
    said = re.sub(r"^g-(?=[0-9])|[\s-]", "", plain_text(code[:LOOKED_AT]).strip().lower())
    if said == best.code.replace("-", "").lower():
        return None
    return f"the service read the code as {one_line(code, 40)}; its text reads as {best.code}"


def candidates(text: str) -> list[Candidate]:
    """Everything in the text that has the shape of a code, best first; what is not is left out.

    Of those with equal points the first comes first. Few are good enough (GOOD_ENOUGH).
    """
    plain = plain_text(text[:LOOKED_AT])
    folded = folded_text(plain)
    shaped = list(shapes(plain, folded))
    context = _Context(plain, folded, shaped)
    found = [Candidate(each.code, context.points(each), each.start) for each in shaped]
    return sorted(found, key=lambda each: (-each.score, each.start))


def _words(words: Words, *, begins_word: bool = False) -> re.Pattern[str]:
    """Matches a stem to the end of its word, in scripts that end words, or a whole word."""
    boundary = "(?<![a-z\u0370-\u052f])" if begins_word else ""
    stems, whole = any_of(words.stems), any_of(words.words or words.stems)
    return re.compile(
        rf"{boundary}(?:{stems})[a-z\u0370-\u07ff]*+|(?<!{LETTER})(?:{whole})(?!{LETTER})"
    )


_CODE = _words(CODE)
_PURPOSE = _words(PURPOSE)
_TYPE_IT = _words(TYPE_IT)
_OTHER = _words(OTHER, begins_word=True)
_NO_CODE = _words(NO_CODE)
_UNTIL = _words(UNTIL)
_BARGAIN = _words(BARGAIN)
_SENTENCE_END = re.compile(r"[!?。！？।؟۔]|\.(?=\s)|\n\n")
# A number before this one is the word's, and "Dear customer," has none.
_NOT_OF_IT = re.compile(rf"[0-9,،、\N{{FULLWIDTH COMMA}}]|{_SENTENCE_END.pattern}")
_NOT_SAYING = re.compile(  # "order number 7" says no more than "order 7"
    rf"(?<!{LETTER})(?:{any_of(NUMBER.words)})(?!{LETTER})"
    rf"|{any_of(NUMBER.stems)}|[\W\d_]"
)
_NEAR = ((4, 60), (12, 50), (25, 40), (45, 25), (80, 10))
_Span = tuple[int, int]


def _spans(words: re.Pattern[str], text: str) -> list[_Span]:
    return [match.span() for match in words.finditer(text)]


class _Context:
    """The words of a text, and how near they are to what has the shape of a code."""

    def __init__(self, plain: str, folded: str, shapes: Sequence[Shape]) -> None:
        self.plain, self.folded = plain, folded
        no_codes = _spans(_NO_CODE, folded)
        inside = {at for span in no_codes for at in range(*span)}
        self.never = {*no_codes, *_spans(_UNTIL, folded)}
        self.others = sorted([*_spans(_OTHER, folded), *self.never], key=_end)
        self.codes = [span for span in _spans(_CODE, folded) if span[0] not in inside]
        self.purposes = _spans(_PURPOSE, folded)
        self.commands = _spans(_TYPE_IT, folded)
        self.bargain = _BARGAIN.search(folded) is not None
        # Where the rivals start: what could take a word that stands before another candidate.
        self.rivals = sorted(shape.start for shape in shapes)
        self.penalty = {shape: self._of_another(shape) for shape in shapes}
        self.rivals = sorted(shape.start for shape in shapes if self.penalty[shape] < 50)

    def points(self, shape: Shape) -> int:
        before = max(self._before(self.codes, shape), self._before(self.purposes, shape) // 2)
        after = max(self._after(self.codes, shape), self._after(self.purposes, shape) // 2)
        near = max(before, after) + min(before, after) // 4
        if self.rivals == [shape.start]:
            near = max(near, 30 if self.codes else 20 if self.purposes else 0)
        near += self._asked_for(shape) + self._alone(shape)
        return shape.points + near - self.penalty[shape] - (30 if self.bargain else 0)

    def _before(self, words: Sequence[_Span], shape: Shape) -> int:
        word = _last_before(words, shape.start)
        return self._nearness(word[1], shape.start) if word else 0

    def _after(self, words: Sequence[_Span], shape: Shape) -> int:
        at = bisect_left(words, (shape.end, 0))
        if at == len(words):
            return 0
        start, end = words[at]
        purpose = _last_before(self.purposes, start)  # a verification code: one word
        if purpose and shape.end <= purpose[0] and start - purpose[1] <= 1:
            start = purpose[0]
        next_one = bisect_left(self.rivals, end)
        belongs_to_next = next_one < len(self.rivals) and self.rivals[next_one] - end <= 6
        return self._nearness(shape.end, start) // (2 if belongs_to_next else 1)

    def _nearness(self, start: int, end: int) -> int:
        """The points for a word that this much lies between it and the candidate."""
        points = next((points for most, points in _NEAR if end - start <= most), 0)
        if points and _SENTENCE_END.search(self.folded, start, end):
            points = points * 4 // 10
        rivals_between = bisect_left(self.rivals, end) - bisect_left(self.rivals, start)
        return points // 2 if rivals_between else points

    def _asked_for(self, shape: Shape) -> int:
        command = _last_before(self.commands, shape.start)
        gap = shape.start - command[1] if command else LOOKED_AT
        return 25 if gap <= 3 else 10 if gap <= 12 else 0

    def _alone(self, shape: Shape) -> int:
        """At the start, on a line of its own, or the whole text."""
        start = self.plain.rfind("\n", 0, shape.start) + 1
        end = (self.plain.find("\n", shape.end) + 1 or len(self.plain) + 1) - 1
        beside = self.plain[start : shape.start] + self.plain[shape.end : end]
        if re.search(r"\w", beside.removeprefix("G-")):
            return 10 if shape.start == 0 else 0
        rest = self.plain[:start] + self.plain[end:]
        return 30 if re.search(r"\w", rest) else 50

    def _of_another(self, shape: Shape) -> int:
        """What a word such as `order` before it takes away, if no word for a code is nearer."""
        word, code = _last_before(self.others, shape.start), _last_before(self.codes, shape.start)
        if word is None or (code is not None and code[1] >= word[1]):
            return 0
        gap = self.folded[word[1] : shape.start]
        if len(gap) > 25 or _NOT_OF_IT.search(gap):
            return 0
        said = len(_NOT_SAYING.sub("", gap))
        linked = (said > 0 or ":" in gap) and word not in self.never
        # "The code for your order is 4821" against "order 4821"
        if linked and code is not None and self._nearness(code[1], shape.start) >= 25:
            return 10
        return 60 if said == 0 else 50 if said <= 5 else 30 if len(gap) <= 12 else 20


def _last_before(words: Sequence[_Span], start: int) -> _Span | None:
    at = bisect_right(words, start, key=_end) - 1
    return words[at] if at >= 0 else None


def _end(span: _Span) -> int:
    return span[1]
