from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.virtualsms.strategies import json_values, texts
from x402sms import errors
from x402sms.virtualsms.problems import problem_to_error

NOW = datetime(2026, 11, 1, 10, 0, 0, tzinfo=UTC)
TYPES = [
    (400, "validation", errors.ValidationFailed),
    (401, "unauthorized", errors.Unauthorized),
    (402, "insufficient-balance", errors.InsufficientBalance),
    (404, "service-not-found", errors.ServiceNotFound),
    (404, "country-not-found", errors.CountryNotFound),
    (404, "order-not-found", errors.OrderNotFound),
    (409, "order-already-confirmed", errors.OrderAlreadyConfirmed),
    (410, "order-expired", errors.OrderExpired),
    (429, "rate-limited", errors.RateLimited),
    (503, "no-stock", errors.NoStock),
]


def said(
    status: int,
    body: object = b"",
    headers: dict[str, str] | None = None,
    now: datetime | None = None,
) -> errors.APIError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return problem_to_error(status, headers or {}, raw, now=now)


@pytest.mark.parametrize(("status", "kind", "error"), TYPES)
def test_every_type_of_the_reference_has_its_error(
    status: int, kind: str, error: type[errors.APIError]
) -> None:
    problem = {"type": f"https://virtualsms.io/errors/{kind}", "title": "T", "status": status}
    raised = said(status, problem)
    assert type(raised) is error
    assert raised.type == kind
    assert raised.status_code == status
    assert raised.problem == problem


@pytest.mark.parametrize(("_status", "kind", "error"), TYPES)
@pytest.mark.parametrize("form", ["{}", "/errors/{}/", "https://h/e/{}?a=/b#/c", "HTTPS://H/E/{}"])
def test_the_last_segment_of_the_type_decides_whatever_the_status(
    _status: int, kind: str, error: type[errors.APIError], form: str
) -> None:
    assert type(said(418, {"type": form.format(kind)})) is error
    assert type(said(418, {"type": form.format(kind.replace("-", "_").upper())})) is error


def test_a_problem_is_read_whole() -> None:
    raised = said(
        402,
        {
            "type": "https://virtualsms.io/errors/insufficient-balance",
            "title": "Insufficient balance",
            "status": 402,
            "detail": "Balance $0.05 < required $0.18",
            "instance": "/api/v2/orders",
            "required": 0.18,
        },
    )
    assert str(raised) == "Insufficient balance: Balance $0.05 < required $0.18 (HTTP 402)"
    assert raised.title == "Insufficient balance"
    assert raised.detail == "Balance $0.05 < required $0.18"
    assert raised.instance == "/api/v2/orders"
    assert raised.problem is not None
    assert raised.problem["required"] == Decimal("0.18")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, errors.ValidationFailed),
        (401, errors.Unauthorized),
        (402, errors.InsufficientBalance),
        (409, errors.OrderAlreadyConfirmed),
        (410, errors.OrderExpired),
        (425, errors.CooldownActive),
        (429, errors.RateLimited),
        (500, errors.ServerError),
        (502, errors.ServerError),
        (503, errors.ServerError),
        (599, errors.ServerError),
        (403, errors.APIError),
        (302, errors.APIError),
        (600, errors.APIError),
        (0, errors.APIError),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        {"type": "about:blank"},
        {"type": "https://example.com/errors/brand-new"},
        {"type": 5},
        {"error": "something"},
        b"something",
        b"<html><body>something</body></html>",
        [1, 2],
    ],
)
def test_without_a_known_type_the_status_decides(
    status: int, error: type[errors.APIError], body: object
) -> None:
    raised = said(status, body)
    assert type(raised) is error
    assert f"(HTTP {status})" in str(raised)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": "bad country"}, "bad country (HTTP 400)"),
        ({"message": "bad country"}, "bad country (HTTP 400)"),
        ({"error": "oh", "message": "bad country"}, "oh: bad country (HTTP 400)"),
        ({"error": {"message": "bad country"}}, "bad country (HTTP 400)"),
        ({"error": {"code": 3}}, "Bad Request (HTTP 400)"),
        ({"title": "Oh"}, "Oh (HTTP 400)"),
        ({"detail": "bad country"}, "bad country (HTTP 400)"),
        ({"detail": [{"msg": "bad"}]}, "Bad Request (HTTP 400)"),
        (b"bad\r\n country", "bad country (HTTP 400)"),
        (b"", "Bad Request (HTTP 400)"),
        (b"\n <!DOCTYPE html><p>bad", "Bad Request (HTTP 400)"),
        (b"[1]", "Bad Request (HTTP 400)"),
        (b"\xff\x00", "\N{REPLACEMENT CHARACTER} (HTTP 400)"),
    ],
)
def test_the_message_is_a_sentence_whatever_the_form(body: object, message: str) -> None:
    assert str(said(400, body)) == message


def test_an_unknown_status_still_has_a_message() -> None:
    assert str(said(799)) == "the service refused (HTTP 799)"


# 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"404 page not found",
        b"Cannot GET /api/v2/services",
        b"<html><title>order not found</title></html>",
        b"{",
        {},
        [],
        "not found",
        {"detail": "Not Found"},
        {"error": "Not found."},
        {"message": "Cannot GET /api/v2/services", "error": "Not Found"},
        {"message": "no Route matched with those values"},
        {"statusCode": 404},
        {"type": "about:blank", "title": "Not Found"},
    ],
)
def test_a_404_that_knows_no_such_path_means_the_api_is_not_there(body: object) -> None:
    raised = said(404, body)
    assert type(raised) is errors.HostNotServing
    assert "does not seem to live at this address" in str(raised)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"error": "Order not found"}, errors.OrderNotFound),
        (b"Order not found", errors.OrderNotFound),
        ({"message": "Service not found: telegrm"}, errors.ServiceNotFound),
        ({"error": "country not found"}, errors.CountryNotFound),
        ({"error": "No replacement available"}, errors.NoStock),
        ({"error": "that number is gone"}, errors.NotFound),
        ({"type": "https://virtualsms.io/errors/brand-new"}, errors.NotFound),
        ({"type": "https://virtualsms.io/errors/brand-new", "title": "Not Found"}, errors.NotFound),
    ],
)
def test_a_404_about_a_thing_says_which(body: object, error: type[errors.APIError]) -> None:
    assert type(said(404, body)) is error


# Waiting


@pytest.mark.parametrize(
    ("status", "body", "seconds"),
    [
        (
            425,
            {"error": "Cannot cancel within 120 seconds of purchase. Please wait 118 seconds."},
            118,
        ),
        (425, b"Cannot cancel within 120 seconds of purchase. Please wait 118 seconds.", 118),
        (
            400,
            {"error": "Cannot cancel within 120 seconds of purchase. Please wait 118 seconds."},
            118,
        ),
        (400, {"error": "Number is in its hold period", "seconds_remaining": 87}, 87),
        (429, {"error": "Number is in its hold period", "seconds_remaining": 87}, 87),
        (409, {"error": "too early", "seconds_remaining": "87"}, 87),
        (403, {"error": "hold period"}, None),
        (425, b"", None),
    ],
)
def test_a_hold_period_is_a_cooldown_and_says_how_long(
    status: int, body: object, seconds: int | None
) -> None:
    raised = said(status, body)
    assert type(raised) is errors.CooldownActive
    assert raised.retry_after == seconds


def test_a_rate_limit_that_counts_seconds_is_no_cooldown() -> None:
    raised = said(429, {"error": "slow down", "seconds_remaining": 5})
    assert type(raised) is errors.RateLimited
    assert raised.retry_after == 5


def test_a_server_that_fails_in_a_hold_period_failed() -> None:
    assert type(said(500, {"error": "hold period"})) is errors.ServerError


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("17", 17),
        (" 17 ", 17),
        ("0", 0),
        ("86400", 3600),
        ("9" * 300, 3600),
        ("9" * 5000, None),
        ("-5", None),
        ("1.5", None),
        ("1_0", None),
        ("\u0661\u0667", None),
        ("soon", None),
        ("", None),
        ("Sun, 01 Nov 2026 10:00:17 GMT", 17),
        ("Sun, 01 Nov 2026 10:00:17 -0000", 17),
        ("Sun, 01 Nov 2026 12:00:17 +0200", 17),
        ("Sun, 01 Nov 2026 09:00:00 GMT", 0),
        ("Sun, 01 Nov 2099 10:00:00 GMT", 3600),
        ("Sun, 41 Nov 2026 10:00:00 GMT", None),
        ("Sun, 01 Nov 99999999999999999999 10:00:00 GMT", None),
    ],
)
@pytest.mark.parametrize("name", ["Retry-After", "retry-after"])
def test_retry_after_is_seconds_or_a_date_and_never_more_than_an_hour(
    name: str, header: str, seconds: int | None
) -> None:
    assert said(429, b"", {"X": "1", name: header}, NOW).retry_after == seconds


def test_a_date_says_nothing_without_a_clock() -> None:
    assert said(503, b"", {"Retry-After": "Sun, 01 Nov 2026 10:00:17 GMT"}).retry_after is None


def test_a_clock_without_a_zone_is_taken_as_utc() -> None:
    headers = {"Retry-After": "Sun, 01 Nov 2026 10:00:17 GMT"}
    assert said(503, b"", headers, NOW.replace(tzinfo=None)).retry_after == 17


@pytest.mark.parametrize(
    ("field", "seconds"),
    [(87, 87), (86.2, 87), (True, None), (-1, None), (10**9, 3600), (None, None), ([1], None)],
)
def test_seconds_in_the_body_are_rounded_up_and_bounded(field: object, seconds: int | None) -> None:
    assert said(429, {"seconds_remaining": field}).retry_after == seconds
    assert said(429, {"retry_after": field}).retry_after == seconds


def test_the_body_knows_better_than_the_header() -> None:
    assert said(425, {"seconds_remaining": 87}, {"Retry-After": "5"}).retry_after == 87


# Hostile


@pytest.mark.parametrize(
    "body",
    [
        b"x" * 5_000_000,
        b'{"detail": "' + b"x" * 500_000 + b'"}',
        b'{"detail": "' + b"x" * 2_000_000 + b'"}',
        b"[" * 500_000,
        {"title": "t" * 5000, "detail": "d" * 5000, "type": "y" * 5000, "instance": "i" * 5000},
    ],
    ids=["text", "long detail", "huge problem", "deep", "long fields"],
)
def test_a_huge_body_does_not_end_up_in_the_message(body: object) -> None:
    raised = said(500, body)
    assert len(str(raised)) < 330
    for value in (raised.title, raised.detail, raised.type, raised.instance):
        assert value is None or len(value) <= 300


def test_control_characters_do_not_reach_a_terminal() -> None:
    raised = said(400, {"title": "a\x1b[2Jb", "detail": "c\u202ed\x00\ud83d"})
    assert str(raised) == "a[2Jb: cd (HTTP 400)"
    assert (raised.title, raised.detail) == ("a[2Jb", "cd")


@settings(deadline=None)
@given(
    st.integers(0, 999),
    st.dictionaries(texts | st.just("Retry-After"), texts, max_size=3),
    st.binary(max_size=200),
    st.none() | st.datetimes() | st.datetimes(timezones=st.just(UTC)),
)
def test_no_answer_makes_it_raise(
    status: int, headers: dict[str, str], body: bytes, now: datetime | None
) -> None:
    check(problem_to_error(status, headers, body, now=now))


FIELDS = st.sampled_from(
    ("type", "title", "detail", "error", "message", "seconds_remaining", "retry_after", "instance")
)


@settings(deadline=None)
@given(st.integers(300, 599), st.dictionaries(FIELDS, json_values))
def test_no_problem_document_makes_it_raise(status: int, problem: dict[str, Any]) -> None:
    check(problem_to_error(status, {}, json.dumps(problem, default=str).encode()))


def check(raised: errors.APIError) -> None:
    assert isinstance(raised, errors.APIError)
    assert str(raised).isprintable()
    assert len(str(raised)) < 330
    assert raised.retry_after is None or 0 <= raised.retry_after <= 3600
