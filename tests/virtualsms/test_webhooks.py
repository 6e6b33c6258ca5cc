"""Webhooks, verified and read: nothing is accepted that the secret did not sign, and nothing
that is received raises anything but the documented errors."""

from __future__ import annotations

import json
import re
import time
import traceback
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.webhooks.parts import NOW, SECRET, body_of, document, signature
from x402sms.errors import ConfigError, WebhookSignatureError, WebhookUnreadable
from x402sms.virtualsms.models import OrderStatus
from x402sms.virtualsms.webhooks import (
    KINDS,
    MAX_EVENT_BYTES,
    BalanceDeposited,
    BalanceLow,
    Event,
    OrderCancelled,
    OrderSwapped,
    SmsReceived,
    UnknownEvent,
    parse_event,
)
from x402sms.webhooks import verify_signature

BODY = body_of()
RIGHT = signature(BODY)

# The signature


def accepts(body: Any, header: Any, secret: Any = SECRET, **more: Any) -> bool:
    try:
        verify_signature(body, header, secret, **more)
    except WebhookSignatureError:
        return False
    return True


@pytest.mark.parametrize("header", [RIGHT, f"sha256={RIGHT}"], ids=["bare", "with its name"])
@pytest.mark.parametrize("secret", [SECRET, SECRET.encode()], ids=["text", "bytes"])
def test_a_signature_is_accepted_in_both_forms(header: str, secret: str | bytes) -> None:
    assert accepts(BODY, header, secret)
    assert accepts(bytearray(BODY), header, secret)


REFUSED: dict[str, Any] = {
    "none": None,
    "empty": "",
    "another body's": signature(b"{}"),
    "another secret's": signature(BODY, "another"),
    "cut": RIGHT[:-1],
    "longer": RIGHT + "0",
    "one digit off": ("0" if RIGHT[0] != "0" else "1") + RIGHT[1:],
    "twice": f"{RIGHT},{RIGHT}",
    "in upper case": RIGHT.upper(),
    "with a space": f" {RIGHT}",
    "with a line": f"{RIGHT}\n",
    "of another hash": f"sha512={RIGHT}",
    "named twice": f"sha256=sha256={RIGHT}",
    "in another script": RIGHT[:-1] + "\u0661",
    "no hex": "g" * 64,
    "bytes": RIGHT.encode(),
}


@pytest.mark.parametrize("header", REFUSED.values(), ids=REFUSED)
def test_anything_else_is_refused(header: Any) -> None:
    assert not accepts(BODY, header)


def test_it_is_of_the_raw_bytes_and_not_of_what_they_mean() -> None:
    assert not accepts(json.dumps(json.loads(BODY), indent=1).encode(), RIGHT)


@pytest.mark.parametrize("secret", ["", b"", "  ", "\n", None])
def test_an_empty_secret_accepts_nothing(secret: Any) -> None:
    with pytest.raises(ConfigError, match="X402SMS_WEBHOOK_SECRET"):
        verify_signature(BODY, signature(BODY), secret)


@pytest.mark.parametrize("secret", ["a", "x" * 500, "ключ", "caf\udce9", "\ud800"])
def test_any_other_secret_is_one(secret: str) -> None:
    with pytest.raises(WebhookSignatureError):
        verify_signature(BODY, RIGHT, secret)


def test_a_body_that_is_text_already_is_a_mistake() -> None:
    with pytest.raises(TypeError):
        accepts(BODY.decode(), RIGHT)


AGES: dict[str, tuple[Any, bool]] = {
    "now": (str(NOW), True),
    "as a number": (NOW, True),
    "just in time": (str(NOW - 300), True),
    "a clock ahead": (str(NOW + 300), True),
    "stale": (str(NOW - 301), False),
    "of tomorrow": (str(NOW + 301), False),
    "in milliseconds": (str(NOW * 1000), False),
    "negative": ("-5", False),
    "empty": ("", False),
    "a fraction": (f"{NOW}.5", False),
    "a word": ("now", False),
    "of 400 digits": ("9" * 400, False),
    "larger than a float": (10**400, False),
    "yes": (True, False),
    "in another script": ("\u0661\u0667", False),
}


@pytest.mark.parametrize(("timestamp", "good"), AGES.values(), ids=AGES)
def test_a_timestamp_is_within_its_tolerance(timestamp: Any, good: bool) -> None:
    assert accepts(BODY, RIGHT, timestamp=timestamp, now=NOW) is good


def test_without_a_now_it_is_this_machines() -> None:
    assert accepts(BODY, RIGHT, timestamp=int(time.time()))
    assert not accepts(BODY, RIGHT, timestamp=int(time.time()) - 1000)
    assert accepts(BODY, RIGHT, timestamp=int(time.time()) - 1000, tolerance=2000)


def test_a_fresh_timestamp_does_not_make_up_for_a_wrong_signature() -> None:
    assert not accepts(BODY, signature(b""), timestamp=NOW, now=NOW)


@pytest.mark.parametrize("body", [BODY, "text"], ids=["wrong signature", "wrong type"])
def test_no_traceback_shows_the_secret_or_the_right_signature(body: Any) -> None:
    with pytest.raises((WebhookSignatureError, TypeError)) as caught:
        verify_signature(body, signature(b"other"), SECRET)
    whole = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [frame for frame in whole.stack if "tests" not in frame.filename]
    assert ours
    for frame in ours:
        assert SECRET not in str(frame.locals)
        assert RIGHT not in str(caught.value)
        assert RIGHT not in str(frame.locals)


# Events


@pytest.mark.parametrize("kind", KINDS)
def test_each_type_of_both_vocabularies_has_its_model(kind: str) -> None:
    event = parse_event(body_of(type=kind))
    assert type(event) is KINDS[kind]
    assert (event.type, event.account_id) == (kind, "acc_1")
    assert event.created_at == datetime.fromtimestamp(NOW, UTC)
    balance = isinstance(event, BalanceLow | BalanceDeposited)
    assert event.order_id == (None if balance else "ord_1")


def test_an_sms_is_read_whole() -> None:
    event = parse_event(body_of(7))
    assert isinstance(event, SmsReceived)
    sms = event.sms
    assert (sms.content, sms.received_at) == ("Your Telegram code is 00007", event.created_at)
    assert sms.model_extra == {"phone_number": "+447700900101", "code": "00007"}


def test_what_the_reference_does_not_name_is_kept() -> None:
    event = parse_event(body_of(version=3, data={"carrier": "x", "price": "0.10"}))
    assert event.model_extra == {"version": 3}
    assert isinstance(event, SmsReceived)
    assert event.data.model_extra == {"carrier": "x"}
    assert event.data.price == Decimal("0.10")


def test_other_words_for_the_same_are_read() -> None:
    event = parse_event(
        json.dumps(
            {
                "event_id": 5,
                "type": " SMS.Received ",
                "created_at": NOW,
                "data": {"id": 9, "service_id": "wa", "country_id": "gb", "text": "hi"},
            }
        ).encode()
    )
    assert isinstance(event, SmsReceived)
    assert (event.id, event.order_id, event.data.full_text) == ("5", "9", "hi")
    assert (event.data.service, event.data.country) == ("wa", "GB")


def test_the_other_events_say_what_they_know() -> None:
    swapped = parse_event(body_of(type="order.swapped", data={"previous_number": "447700900100"}))
    cancelled = parse_event(
        body_of(type="order.cancelled", data={"refund_amount": 0.1, "status": "cancelled"})
    )
    deposited = parse_event(
        b'{"id": "e", "type": "balance.deposited", "data": {"amount_usd": 5, "balance": "7.10"}}'
    )
    assert isinstance(swapped, OrderSwapped)
    assert swapped.data.previous_number == "+447700900100"
    assert isinstance(cancelled, OrderCancelled)
    assert cancelled.data.refund_amount == Decimal("0.1")
    assert cancelled.data.status is OrderStatus.CANCELLED
    assert isinstance(deposited, BalanceDeposited)
    assert (deposited.data.amount, deposited.data.balance) == (Decimal(5), Decimal("7.10"))


@pytest.mark.parametrize("data", [None, {"a": [1, {"b": 2}]}, [1], "text", 7])
def test_an_unknown_type_keeps_its_data(data: Any) -> None:
    raw = {"id": "evt_1", "type": "number.renewed", "data": data}
    event = parse_event(json.dumps(raw).encode())
    assert isinstance(event, UnknownEvent)
    assert (event.type, event.data, event.order_id) == ("number.renewed", data, None)


UNREADABLE: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "a text": b'"evt"',
    "null": b"null",
    "not UTF-8": b'{"id": "\xff"}',
    "no id": b'{"type": "order.confirmed", "data": {"order_id": "o"}}',
    "an empty id": b'{"id": "", "type": "x"}',
    "a long id": json.dumps({"id": "x" * 201, "type": "x"}).encode(),
    "a list for an id": b'{"id": [], "type": "x"}',
    "no type": b'{"id": "evt_1"}',
    "a number for a type": b'{"id": "evt_1", "type": 5}',
    "no data": b'{"id": "evt_1", "type": "order.confirmed"}',
    "no order": b'{"id": "evt_1", "type": "order.sms_received", "data": {}}',
    "a time that is none": body_of(created_at="soon"),
    "an infinite amount": b'{"id":"e","type":"balance.low","data":{"balance":Infinity}}',
    "a huge amount": b'{"id":"e","type":"balance.low","data":{"balance":1e999999999}}',
    "too deep": b'{"id":"e","type":"x","data":' + b"[" * 200 + b"]" * 200 + b"}",
    "deep enough to break a parser": b"[" * 60_000,
    "too large": json.dumps({"id": "e", "type": "x", "data": "x" * MAX_EVENT_BYTES}).encode(),
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_event_is_one_documented_error(body: bytes) -> None:
    with pytest.raises(WebhookUnreadable) as caught:
        parse_event(body)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_events_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(parse_event(BODY), "id", "other")  # noqa: B010  mypy sees the mistake


# Whatever comes

ODD = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\x00", b"\xff", b"\xc3", b"null", b"true",
    b"-", b"1e999", b"NaN", b"\\ud800", b"\\u0000", b"\x1b[31m", b"9" * 30, b"\xef\xbb\xbf",
)  # fmt: skip
MUTATIONS = 10_000


def mutated(chance: Random, raw: bytes) -> bytes:
    """`raw` with a few bytes changed, cut out, doubled or put in."""
    changed = bytearray(raw)
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(5):
            case 0:
                changed[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                changed[at : at + chance.randrange(30)] = b""
            case 2:
                changed[at:at] = chance.choice(ODD)
            case 3:
                changed[at:at] = changed[at : at + chance.randrange(40)]
            case _:
                changed[at : at + 4] = chance.choice(ODD)
    return bytes(changed)


def tried(body: bytes, header: str | None, timestamp: str | None) -> bool:
    """Whether it was accepted; all that may be raised was."""
    accepted = accepts(body, header, timestamp=timestamp, now=NOW)
    right = (header or "").removeprefix("sha256=") == signature(body)
    fresh = timestamp is None or (
        re.fullmatch("[0-9]{1,18}", timestamp, re.ASCII) is not None
        and abs(int(timestamp) - NOW) <= 300
    )
    assert accepted == (right and fresh)
    try:
        event = parse_event(body)
    except WebhookUnreadable:
        return accepted
    used(event)
    return accepted


def used(event: Event) -> None:
    """Nothing that is done with an event later can fail."""
    assert 0 < len(event.id) <= 200
    assert 0 < len(event.type) <= 200
    repr(event).encode()
    event.model_dump()
    if isinstance(event, SmsReceived):
        assert event.sms.content == (event.data.full_text or "")


def test_10_000_mutated_webhooks_raise_nothing_else_and_none_is_accepted_falsely(
    pytestconfig: pytest.Config,
) -> None:
    chance = Random(pytestconfig.option.hypothesis_seed)  # noqa: S311  repeatable, not secret
    bodies = [body_of(number, type=kind) for number, kind in enumerate([*KINDS, "x.y"])]
    accepted = 0
    for _ in range(MUTATIONS):
        whole = chance.choice(bodies)
        body = mutated(chance, whole)
        signed = signature(chance.choice([body, body, whole]))
        header = chance.choice([signed, signed, f"sha256={signed}", None])
        if header is not None and chance.random() < 0.4:
            header = mutated(chance, header.encode()).decode("latin-1")
        timestamp = chance.choice([None, str(NOW), str(NOW - chance.randrange(1000))])
        if timestamp is not None and chance.random() < 0.2:
            timestamp = mutated(chance, timestamp.encode()).decode("latin-1")
        accepted += tried(body, header, timestamp)
    assert MUTATIONS / 10 < accepted < MUTATIONS


@given(st.binary(max_size=300), st.text(max_size=80), st.none() | st.text(max_size=20))
def test_random_bytes_and_headers_are_refused(body: bytes, header: str, timestamp: str) -> None:
    assert not tried(body, header, timestamp)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
NAMES = st.sampled_from(sorted({*document(), *document()["data"], "price", "amount", "text"}))


@given(
    st.sampled_from([*KINDS, "x"]),
    st.dictionaries(NAMES, VALUES, max_size=4),
    st.dictionaries(NAMES, VALUES, max_size=4),
)
def test_whatever_json_stands_in_an_event_it_is_read_or_refused(
    kind: str, envelope: dict[str, Any], data: dict[str, Any]
) -> None:
    raw = document(type=kind)
    raw["data"] |= data
    body = json.dumps(raw | envelope).encode()
    try:
        event = parse_event(body)
    except WebhookUnreadable:
        return
    used(event)
