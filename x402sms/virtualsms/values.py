"""Single values as the service writes them -> as the models hold them.

Money is Decimal USDC, never a float; instants are aware and in UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator

from x402sms.text import whole_pairs

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MILLISECONDS = 10**11  # as seconds this is the year 5138: such a number is milliseconds
_PLAIN_AMOUNT = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?", re.ASCII)
_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_MAX_DIGITS = 80
_MAX_EXPONENT = 40
_PHONE_PUNCTUATION = str.maketrans("", "", " -().\u00a0")
_E164 = re.compile(r"\+?([1-9][0-9]{5,14})", re.ASCII)
_EMPTY_BANDS = frozenset({"out_of_stock", "out", "sold_out", "unavailable", "none", "no", "false"})
_NO_WORDS = frozenset({"", "0", "false", "no"})


def _amount(value: object) -> Decimal:
    """A Decimal from a JSON number or a plain string. A float has lost the amount already."""
    if isinstance(value, str) and _PLAIN_AMOUNT.fullmatch(value):
        return Decimal(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = Decimal(value)
    if not isinstance(value, Decimal):
        raise ValueError("an amount is a decimal number or a plain string such as '0.18'")
    if not moderate(value) or len(value.as_tuple().digits) > _MAX_DIGITS:
        raise ValueError("an amount out of range")
    return value


def _price(value: object) -> Decimal:
    amount = _amount(value)
    if amount < 0:
        raise ValueError("a price is not negative")
    return amount


def _instant(value: object) -> datetime:
    """An aware datetime in UTC from ISO 8601 (naive: UTC) or an epoch in s or ms."""
    try:
        moment = _moment(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC)
    except (OverflowError, ValueError):
        raise ValueError("not a date and time in ISO 8601 or Unix time") from None


def _moment(value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        text = value.strip().upper()  # RFC 3339 also allows a lower-case t and z
        if not _INTEGER.fullmatch(text):
            return datetime.fromisoformat(text)
        value = int(text)
    if isinstance(value, Decimal) and moderate(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError
    if abs(value) >= _FIRST_MILLISECONDS:
        return _EPOCH + timedelta(milliseconds=value)
    return _EPOCH + timedelta(seconds=value)


def moderate(value: Decimal) -> bool:
    return value.is_finite() and abs(value.adjusted()) <= _MAX_EXPONENT


def well_formed(value: object) -> object:
    """Half a surrogate pair (a server that cuts a text inside an emoji) becomes U+FFFD."""
    if isinstance(value, str):
        return whole_pairs(value)
    return value


def _identifier(value: object) -> object:
    """An id is text; some answers write it as a number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return well_formed(value)


def _iso2(value: object) -> object:
    text = _identifier(value)
    return text.strip().upper() if isinstance(text, str) else text


def _phone(value: object) -> object:
    """E.164 with `+`. A number written in no way we know is kept: it may have been paid for."""
    text = _identifier(value)
    if not isinstance(text, str):
        return text
    match = _E164.fullmatch(text.translate(_PHONE_PUNCTUATION))
    return f"+{match[1]}" if match else text


def _flag(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().lower() not in _NO_WORDS
    return bool(value)


def none_is_empty(value: object) -> object:
    return () if value is None else value


def count_and_presence(raw: object) -> tuple[int | None, bool]:
    """The count, where one is known, and whether there is any stock."""
    if raw is None or isinstance(raw, bool):
        return None, raw is not False
    if isinstance(raw, str):
        band = raw.strip().lower()
        if not _INTEGER.fullmatch(band):
            return None, re.sub(r"[\s-]+", "_", band) not in _EMPTY_BANDS
        raw = int(band)
    if not isinstance(raw, int):
        raise ValueError("stock is a count, a yes or no, or a band such as 'low_stock'")
    return max(raw, 0), raw > 0


Amount = Annotated[Decimal, BeforeValidator(_amount)]
Price = Annotated[Decimal, BeforeValidator(_price)]
Instant = Annotated[datetime, BeforeValidator(_instant)]
Text = Annotated[str, BeforeValidator(well_formed)]
Identifier = Annotated[str, BeforeValidator(_identifier)]
Iso2 = Annotated[str, BeforeValidator(_iso2)]
Phone = Annotated[str, BeforeValidator(_phone)]
Flag = Annotated[bool, BeforeValidator(_flag)]
