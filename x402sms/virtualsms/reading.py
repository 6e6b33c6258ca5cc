"""Bytes of an answer -> JSON values -> models. What does not fit raises UnreadableResponse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from x402sms.errors import UnreadableResponse
from x402sms.text import one_line, refuse_deep_json, whole_pairs

MAX_BODY_BYTES = 16 * 1024 * 1024  # the list of 2,500 services is well below 1 MiB

# RFC 8259, section 6: software agrees on numbers no larger than an IEEE 754 double. Beyond that
# an innocent-looking 1e999999999 becomes a gigabyte when someone prints it.
_MAX_NUMBER_CHARS = 400
_MAX_EXPONENT = 400

_MAX_DEPTH = 100

_M = TypeVar("_M", bound=BaseModel)


def parse_json(body: bytes, *, limit: int = MAX_BODY_BYTES) -> Any:
    """The JSON value of a body in UTF-8; numbers with a point or exponent are Decimal.

    Raises UnreadableResponse for a body over `limit` bytes, for what is not JSON, for NaN and
    Infinity, for numbers no double could hold and for more than 100 levels of nesting.
    """
    if len(body) > limit:
        raise UnreadableResponse(f"the answer is larger than {limit} bytes")
    try:
        text = body.decode("utf-8-sig")
        refuse_deep_json(text, _MAX_DEPTH)
        return json.loads(
            text,
            parse_float=_decimal,
            parse_int=_integer,
            parse_constant=_no_constant,
            object_pairs_hook=_whole_keys if "\\ud" in text.lower() else None,
        )
    except ValueError as error:
        reason = one_line(str(error), 100)
        raise UnreadableResponse(
            f"the answer is not the JSON that was expected ({reason}); it begins with "
            f"{one_line(body[:200].decode('utf-8', 'replace'), 60)!r}"
        ) from None


def read(model: type[_M], body: Any, *, at: str = "") -> _M:
    """`body` as a `model`, or UnreadableResponse that names the first field that does not fit.

    `at` is where in the answer `body` was, such as `data[3]`.
    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        # Without input and context: an error never quotes what the service sent in full.
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = _path(at, first["loc"]) or "the whole body"
        reason = one_line(first["msg"].removeprefix("Value error, "), 200)
        raise unreadable(body, f"no readable {model.__name__}: {field}: {reason}") from None


def unreadable(body: Any, reason: str) -> UnreadableResponse:
    """The error for `body`; its `problem` is the body, so that an order's id is not lost."""
    return UnreadableResponse(
        f"the answer is not what the API reference describes: {reason}",
        problem=body if isinstance(body, Mapping) else None,
    )


def _path(at: str, location: tuple[int | str, ...]) -> str:
    for part in location:
        if isinstance(part, int):
            at += f"[{part}]"
        else:
            at += f".{part}" if at else part
    return at


def _decimal(text: str) -> Decimal:
    _refuse_long(text)
    try:
        value = Decimal(text)
    except ArithmeticError:  # an exponent beyond what even Decimal can hold
        raise ValueError("a number out of range") from None
    if not value.is_finite() or abs(value.adjusted()) > _MAX_EXPONENT:
        raise ValueError("a number out of range")
    return value


def _integer(text: str) -> int:
    _refuse_long(text)
    return int(text)


def _refuse_long(text: str) -> None:
    if len(text) > _MAX_NUMBER_CHARS:
        raise ValueError("a number out of range")


def _whole_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """No name with half a surrogate pair: an answer must not be unreadable for such a field."""
    return {whole_pairs(key): value for key, value in pairs}


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
