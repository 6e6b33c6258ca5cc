"""Values as they go to an agent: money as text, instants as ISO 8601, a stranger's text bounded."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)

from x402sms.money import usdc
from x402sms.text import one_line

LONGEST_NAME = 200
LONGEST_SMS = 1000

_AMOUNT = r"^-?[0-9]+(\.[0-9]+)?$"


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _name(value: object) -> object:
    return one_line(value, LONGEST_NAME) if isinstance(value, str) else value


def _sms(value: object) -> object:
    return one_line(value, LONGEST_SMS) if isinstance(value, str) else value


Usdc = Annotated[
    Decimal,
    PlainSerializer(usdc, return_type=str),
    WithJsonSchema(
        {"type": "string", "pattern": _AMOUNT, "description": "A decimal as text, in USDC."}
    ),
]
Instant = Annotated[
    datetime,
    PlainSerializer(_instant, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Name = Annotated[str, BeforeValidator(_name)]
SmsText = Annotated[str, BeforeValidator(_sms)]

# What an agent writes for an amount: text, since a JSON number would be read as a float.
MaxPrice = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9]{1,12}(\.[0-9]{1,6})?$")]


class Value(BaseModel):
    """What is shown: exactly the fields it declares, so that it fits its schema."""

    model_config = ConfigDict(frozen=True, extra="forbid")
