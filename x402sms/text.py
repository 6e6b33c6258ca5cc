"""A stranger's text, made safe to show and to parse. A leaf: imports nothing of ours."""

from __future__ import annotations

import re

_STRING_OR_BRACKET = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)


def one_line(text: str, limit: int = 200) -> str:
    """`text` fit for a message or a terminal: one line, nothing invisible, at most `limit`."""
    spaced = " ".join(text[: limit * 4].split())
    shown = "".join(character for character in spaced if character.isprintable())
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def whole_pairs(text: str) -> str:
    """Half a surrogate pair (a text that was cut inside an emoji) becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def refuse_deep_json(text: str, most: int) -> None:
    """Raise ValueError if JSON nests deeper than `most` levels; run it before parsing.

    Counted here and not left to RecursionError: py_ecc, which web3 brings along, raises the
    interpreter's limit so far on import that json overflows the stack and kills the process.
    """
    if text.count("{") + text.count("[") <= most:
        return
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        if token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
        if depth > most:
            raise ValueError(f"nested deeper than {most} levels")
