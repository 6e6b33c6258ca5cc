"""The service's webhooks: is it signed, and what does it tell? Pure.

`X-VirtualSMS-Signature` is HMAC-SHA256 over the raw body, in lower-case hex, bare or after
`sha256=`. An event is `{id, type, created_at, account_id, data}`; the vendor's sources have two
vocabularies of types, and both are read.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AliasChoices, Field, StringConstraints

from x402sms.errors import (
    ConfigError,
    UnreadableResponse,
    WebhookSignatureError,
    WebhookUnreadable,
)
from x402sms.virtualsms.models import Sms, Status, Wire
from x402sms.virtualsms.reading import parse_json, read, unreadable
from x402sms.virtualsms.values import Amount, Identifier, Instant, Iso2, Phone, Price, Text

SIGNATURE_HEADER = "X-VirtualSMS-Signature"
TIMESTAMP_HEADER = "X-VirtualSMS-Timestamp"
MAX_EVENT_BYTES = 64 * 1024  # an event is one message: the longest SMS is 1,530 characters
TOLERANCE = 300  # seconds

_SIGNATURE = re.compile(r"(?:sha256=)?([0-9a-f]{64})", re.ASCII)
_TIMESTAMP = re.compile(r"[0-9]{1,18}", re.ASCII)
_LONGEST_NAME = 200  # characters of an id, or of a type

_BOUNDED = StringConstraints(min_length=1, max_length=_LONGEST_NAME)
Name = Annotated[Identifier, _BOUNDED]


def verify_signature(
    body: bytes,
    header: str | None,
    secret: str | bytes,
    *,
    timestamp: str | int | None = None,
    tolerance: int = TOLERANCE,
    now: float,
) -> None:
    """Raise WebhookSignatureError unless `header` is the signature of these bytes.

    `body` is what came over the wire, before anything parsed it. With a `timestamp` (Unix
    seconds, of `X-VirtualSMS-Timestamp`) it must also be within `tolerance` seconds of `now`. The
    signature does not cover that header, so it stops no replay by itself: what does is to keep
    the ids of events, and to refuse those whose signed `created_at` is older than what is kept.

    Raises ConfigError for an empty secret, and TypeError for a body that is text already.
    """
    try:
        complaint = _complaint(memoryview(body), header, secret)  # of text: TypeError
    finally:
        del secret  # a traceback that shows locals must not show it
    if complaint is None and timestamp is not None:
        complaint = _age_complaint(timestamp, tolerance, now)
    if complaint is not None:
        raise WebhookSignatureError(f"{complaint}: the webhook is not to be believed")


def refuse_empty_secret(secret: str | bytes | None) -> None:
    """Raise ConfigError where there is none: anybody can sign with that."""
    empty = not secret or not secret.strip()
    del secret
    if empty:
        raise ConfigError(
            "the secret of the webhooks is empty: set X402SMS_WEBHOOK_SECRET to the one that the "
            "service shows for your endpoint. Nothing is accepted without it"
        )


def _complaint(body: memoryview, header: str | None, secret: str | bytes) -> str | None:
    refuse_empty_secret(secret)
    if header is None:
        return f"there is no {SIGNATURE_HEADER}"
    match = _SIGNATURE.fullmatch(header) if isinstance(header, str) else None
    if match is None:
        return f"{SIGNATURE_HEADER} is malformed"
    expected = hmac.new(_key(secret), body, "sha256").digest()
    right = hmac.compare_digest(expected, bytes.fromhex(match[1]))
    return None if right else f"{SIGNATURE_HEADER} is not of this body and secret"


def _key(secret: str | bytes) -> bytes:
    if isinstance(secret, bytes):
        return secret
    try:  # as the environment has it: it need not be UTF-8
        return secret.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return secret.encode("utf-8", "surrogatepass")


def _age_complaint(timestamp: str | int, tolerance: int, now: float) -> str | None:
    if isinstance(timestamp, str):
        seconds = int(timestamp) if _TIMESTAMP.fullmatch(timestamp) else None
    else:
        seconds = timestamp if isinstance(timestamp, int) else None
    if seconds is None or isinstance(timestamp, bool):
        return f"{TIMESTAMP_HEADER} is malformed"
    # Compared as integers: an int may be larger than any float.
    if abs(int(now) - seconds) > tolerance:
        return f"{TIMESTAMP_HEADER} is more than {tolerance} s away from this machine's clock"
    return None


class Event(Wire):
    """What any event has. `id` is the same in every delivery of it, `type` as it was written."""

    id: Name = Field(validation_alias=AliasChoices("id", "event_id"))
    type: Annotated[Text, _BOUNDED]
    created_at: Instant | None = None
    account_id: Identifier | None = None

    @property
    def order_id(self) -> str | None:
        """The order it is about; None of an account's."""
        return None


class OrderData(Wire):
    """Of an order. `phone_number` is its present one; money in USDC."""

    order_id: Name = Field(validation_alias=AliasChoices("order_id", "id"))
    phone_number: Phone | None = None
    previous_number: Phone | None = None
    service: Identifier | None = Field(
        default=None, validation_alias=AliasChoices("service", "service_id")
    )
    country: Iso2 | None = Field(
        default=None, validation_alias=AliasChoices("country", "country_id")
    )
    status: Status | None = None
    price: Price | None = None
    refund_amount: Price | None = None


class SmsData(OrderData):
    """Of an SMS. `code` is what the service takes for the code; it is wrong for some texts."""

    code: Identifier | None = None
    full_text: Text | None = Field(
        default=None, validation_alias=AliasChoices("full_text", "text", "content")
    )
    sender: Identifier | None = None
    received_at: Instant | None = None


class BalanceData(Wire):
    """Of the account's balance, in USDC where `currency` does not say otherwise."""

    amount: Amount | None = Field(
        default=None, validation_alias=AliasChoices("amount", "amount_usd")
    )
    balance: Amount | None = Field(
        default=None, validation_alias=AliasChoices("balance", "balance_usd")
    )
    currency: Text | None = None


class _OfAnOrder(Event):
    data: OrderData

    @property
    def order_id(self) -> str | None:
        return self.data.order_id


class SmsReceived(_OfAnOrder):
    """`order.sms_received`, `sms.received`: an SMS came."""

    data: SmsData

    @property
    def sms(self) -> Sms:
        """The message, with the event's `code` and `phone_number` beside it (in `model_extra`).

        `content` is empty where the event has no text.
        """
        told = self.data
        return Sms.model_validate(
            {
                "sender": told.sender,
                "content": told.full_text or "",
                "received_at": told.received_at,
                "phone_number": told.phone_number,
                "code": told.code,
            }
        )


class OrderConfirmed(_OfAnOrder):
    """`order.confirmed`: the charge is final."""


class OrderCancelled(_OfAnOrder):
    """`order.cancelled`: it was cancelled, and refunded."""


class OrderSwapped(_OfAnOrder):
    """`order.swapped`: the order has another number."""


class OrderExpired(_OfAnOrder):
    """`order.expired`: its window has passed; whether that is refunded is not documented."""


class BalanceDeposited(Event):
    """`balance.deposited`: money came to the account."""

    data: BalanceData = BalanceData()


class BalanceLow(Event):
    """`balance.low`: the account runs out."""

    data: BalanceData = BalanceData()


class UnknownEvent(Event):
    """Any other type, with its data as it came."""

    data: Any = None


KINDS: dict[str, type[Event]] = {
    "order.sms_received": SmsReceived,
    "order.confirmed": OrderConfirmed,
    "order.cancelled": OrderCancelled,
    "order.swapped": OrderSwapped,
    "balance.deposited": BalanceDeposited,
    # Not in the reference, but seen.
    "sms.received": SmsReceived,
    "order.expired": OrderExpired,
    "balance.low": BalanceLow,
}


def parse_event(body: bytes) -> Event:
    """The event of a body whose signature was verified. A type nobody knows is an UnknownEvent.

    Raises WebhookUnreadable for more than 64 KiB, for what is no JSON, and for what is no event:
    without `id` or `type`, or of a known type without what that needs.
    """
    try:
        value = parse_json(bytes(body), limit=MAX_EVENT_BYTES)
        if not isinstance(value, Mapping):
            raise unreadable(value, "an event is a JSON object")
        kind = value.get("type")
        known = KINDS.get(kind.strip().lower()) if isinstance(kind, str) else None
        return read(known or UnknownEvent, value)
    except UnreadableResponse as error:
        raise WebhookUnreadable(f"no event can be read from a webhook: {error}") from None
