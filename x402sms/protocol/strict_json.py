"""JSON from a stranger: bounded in size and depth, no key twice, no NaN."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from x402sms.text import refuse_deep_json

MAX_DEPTH = 32

_ENCODER = json.JSONEncoder(separators=(",", ":"))  # json.dumps would make one each time


def loads(text: str) -> Any:
    """The value of a JSON text. Raises ValueError that says what is wrong with it."""
    refuse_deep_json(text, MAX_DEPTH)
    try:
        return json.loads(
            text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_float=_finite
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at character {error.pos})") from None


def dumps(value: Mapping[str, Any]) -> bytes:
    return _ENCODER.encode(value).encode("ascii")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:40]!r} appears twice")
    return found


def _finite(text: str) -> float:
    """A number that is echoed, never counted with: money comes in strings."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number out of range")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
