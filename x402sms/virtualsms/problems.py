"""What the service answers when it says no -> the error to raise.

RFC 7807 problem documents as the reference has them, and what was seen besides: `{"error": ...}`,
plain text, an HTML page. Nothing an answer holds can make this raise.
"""

from __future__ import annotations

import email.utils
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Any

from x402sms.errors import (
    APIError,
    CooldownActive,
    CountryNotFound,
    HostNotServing,
    InsufficientBalance,
    NoStock,
    NotFound,
    OrderAlreadyConfirmed,
    OrderExpired,
    OrderNotFound,
    RateLimited,
    ServerError,
    ServiceNotFound,
    Unauthorized,
    UnreadableResponse,
    ValidationFailed,
)
from x402sms.text import one_line
from x402sms.virtualsms.reading import parse_json

MAX_RETRY_AFTER = 3600  # a server that says "come back next year" does not get to stop a program

_MAX_PROBLEM_BYTES = 1024 * 1024
_MAX_TEXT = 300

_BY_TYPE: dict[str, type[APIError]] = {
    "validation": ValidationFailed,
    "unauthorized": Unauthorized,
    "insufficient-balance": InsufficientBalance,
    "service-not-found": ServiceNotFound,
    "country-not-found": CountryNotFound,
    "order-not-found": OrderNotFound,
    "order-already-confirmed": OrderAlreadyConfirmed,
    "order-expired": OrderExpired,
    "rate-limited": RateLimited,
    "no-stock": NoStock,
}
_BY_STATUS: dict[int, type[APIError]] = {
    400: ValidationFailed,
    401: Unauthorized,
    402: InsufficientBalance,
    404: NotFound,
    409: OrderAlreadyConfirmed,
    410: OrderExpired,
    425: CooldownActive,
    429: RateLimited,
}
# The live v1 answers carry no type, only a sentence.
_NOT_FOUND_WORDS: tuple[tuple[str, type[APIError]], ...] = (
    ("no replacement", NoStock),  # a swap with no other number left
    ("order not found", OrderNotFound),
    ("service not found", ServiceNotFound),
    ("country not found", CountryNotFound),
)
_HOLD_PERIOD = re.compile(r"hold period|within \d+ seconds of purchase", re.ASCII | re.IGNORECASE)
_PLEASE_WAIT = re.compile(r"\bwait (\d{1,9}) ?s(?:ec|\b)", re.ASCII | re.IGNORECASE)
# What web frameworks answer for a path they do not serve, in JSON too.
_NO_ROUTE = (
    r"(?:(?:404:? ?)?(?:(?:the )?(?:page|route|path|url|resource) )?not found[.!]?"
    r"|cannot (?:get|post) .*|no route .*)"
)
_NO_SUCH_ROUTE = re.compile(f"{_NO_ROUTE}(?:: {_NO_ROUTE})?", re.ASCII | re.IGNORECASE)
_HTML = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml)\b", re.ASCII | re.IGNORECASE)


def problem_to_error(
    status_code: int, headers: Mapping[str, str], body: bytes, *, now: datetime | None = None
) -> APIError:
    """The error for an answer that is no success; the caller raises it.

    The problem's `type` decides, and the status code where there is no type we know. The message
    is one sentence of at most about 300 characters, with nothing unprintable in it.
    `retry_after` is in whole seconds, 0 to 3600, from the body or `Retry-After`; a date there is
    understood only with `now`. The host is not known here: for HostNotServing, add it.
    """
    problem = _object(body)
    title = _field(problem, "title")
    detail = _field(problem, "detail")
    kind = _kind(_field(problem, "type"))
    said = ": ".join(part for part in (title, detail) if part) or _informal(problem)
    text = said or _plain_text(body)
    error = _class_for(status_code, kind, problem, text)
    if error is HostNotServing:
        text = "the API does not seem to live at this address: it knows no such path"
    return error(
        f"{one_line(text or _phrase(status_code), _MAX_TEXT)} (HTTP {status_code})",
        status_code=status_code,
        type=kind,
        title=title,
        detail=detail,
        instance=_field(problem, "instance"),
        problem=problem or None,
        retry_after=_retry_after(problem, headers, text, now),
    )


def _class_for(
    status_code: int, kind: str | None, problem: Mapping[str, Any], text: str
) -> type[APIError]:
    if kind in _BY_TYPE:
        return _BY_TYPE[kind]
    if _is_cooldown(status_code, problem, text):
        return CooldownActive
    if status_code == 404:
        return _class_for_404(kind, problem, text)
    if 500 <= status_code <= 599:
        return ServerError
    return _BY_STATUS.get(status_code, APIError)


def _is_cooldown(status_code: int, problem: Mapping[str, Any], text: str) -> bool:
    if status_code >= 500:
        return False
    return bool(_HOLD_PERIOD.search(text)) or (
        status_code != 429 and _seconds(problem.get("seconds_remaining")) is not None
    )


def _class_for_404(kind: str | None, problem: Mapping[str, Any], text: str) -> type[APIError]:
    for words, error in _NOT_FOUND_WORDS:
        if words in text.lower():
            return error
    says_nothing = not text or _NO_SUCH_ROUTE.fullmatch(text) is not None
    if not problem or (kind is None and says_nothing):
        return HostNotServing
    return NotFound


def _object(body: bytes) -> dict[str, Any]:
    """The JSON object of the body, or an empty one."""
    try:
        value = parse_json(body, limit=_MAX_PROBLEM_BYTES)
    except UnreadableResponse:
        return {}
    return value if isinstance(value, dict) else {}


def _field(problem: Mapping[str, Any], name: str) -> str | None:
    value = problem.get(name)
    return one_line(value, _MAX_TEXT) or None if isinstance(value, str) else None


def _kind(type_uri: str | None) -> str | None:
    """The last segment of a problem's type: `https://.../errors/no-stock` -> `no-stock`."""
    if type_uri is None or type_uri.lower() == "about:blank":  # RFC 7807: "nothing more to say"
        return None
    path = re.split(r"[?#]", type_uri, maxsplit=1)[0].rstrip("/")
    return path.rpartition("/")[2].lower().replace("_", "-") or None


def _informal(problem: Mapping[str, Any]) -> str:
    """The sentence in `{"error": ...}`, `{"message": ...}` or `{"error": {"message": ...}}`."""
    nested = problem.get("error")
    inner = nested if isinstance(nested, dict) else {}
    # Some frameworks put the status' phrase in `error` and the sentence in `message`.
    said = [_field(problem, "error"), _field(problem, "message"), _field(inner, "message")]
    return ": ".join(dict.fromkeys(part for part in said if part))


def _plain_text(body: bytes) -> str:
    """A body that is neither JSON nor HTML, as one line."""
    start = body[: 4 * _MAX_TEXT].decode("utf-8", "replace")
    if _HTML.match(start):
        return ""
    text = one_line(start, _MAX_TEXT)
    return "" if text[:1] in ("{", "[") else text


def _phrase(status_code: int) -> str:
    try:
        return HTTPStatus(status_code).phrase
    except ValueError:
        return "the service refused"


def _retry_after(
    problem: Mapping[str, Any], headers: Mapping[str, str], text: str, now: datetime | None
) -> int | None:
    wait = _PLEASE_WAIT.search(text)
    header = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    found = (
        _seconds(problem.get("seconds_remaining")),
        _seconds(problem.get("retry_after")),
        _seconds(header.strip()),
        _seconds_until(header, now),
        _seconds(wait[1] if wait else None),
    )
    return next((seconds for seconds in found if seconds is not None), None)


def _seconds(value: object) -> int | None:
    """Whole seconds, 0 to MAX_RETRY_AFTER; None for what is no such number."""
    if isinstance(value, str):
        if not re.fullmatch(r"[0-9]{1,400}", value, re.ASCII):
            return None
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or value < 0:
        return None
    return MAX_RETRY_AFTER if value > MAX_RETRY_AFTER else math.ceil(value)


def _seconds_until(http_date: str, now: datetime | None) -> int | None:
    if now is None:
        return None
    try:
        date = email.utils.parsedate_to_datetime(http_date)
        # RFC 9110: an HTTP-date is in GMT, whether or not it says so.
        left = _in_utc(date) - _in_utc(now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return _seconds(max(0, math.ceil(left.total_seconds())))


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
