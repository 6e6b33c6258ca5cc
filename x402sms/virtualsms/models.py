"""What the service answers, typed.

Every model is frozen and keeps fields it does not know: they are attributes too, and all of them
are in `model_extra`. Money is Decimal USDC, never a float; instants are aware and in UTC. The
vendor's sources disagree on names and forms; what was seen is accepted and comes out in one form.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from x402sms.virtualsms.values import (
    Amount,
    Flag,
    Identifier,
    Instant,
    Iso2,
    Phone,
    Price,
    Text,
    count_and_presence,
    moderate,
    none_is_empty,
    well_formed,
)

T = TypeVar("T")


class OrderStatus(StrEnum):
    """Where an order stands: the reference's states, and the others that were seen.

    An order may carry a status that is not listed here; it is then a plain str.
    """

    CREATED = "created"
    WAITING = "waiting"
    RECEIVED = "received"
    CONFIRMED = "confirmed"
    SWAPPED = "swapped"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    # Not in the reference, but seen.
    PENDING = "pending"
    SMS_RECEIVED = "sms_received"  # another word for received
    COMPLETED = "completed"  # another word for confirmed
    FAILED = "failed"


def _status(value: object) -> OrderStatus | str:
    if not isinstance(value, str):
        raise ValueError("a status is text")
    try:
        return OrderStatus(value.strip().lower())
    except ValueError:
        return str(well_formed(value))


Status = Annotated[OrderStatus | str, PlainValidator(_status)]

CONFIRMED_STATUSES = frozenset({OrderStatus.CONFIRMED, OrderStatus.COMPLETED})
# An order is confirmed, by the caller or by itself, only after its SMS has arrived.
SMS_STATUSES = CONFIRMED_STATUSES | {OrderStatus.RECEIVED, OrderStatus.SMS_RECEIVED}
FINAL_STATUSES = CONFIRMED_STATUSES | {
    OrderStatus.CANCELLED,
    OrderStatus.EXPIRED,
    OrderStatus.FAILED,
}


class Wire(BaseModel):
    """The base of all models: frozen, and unknown fields survive in `model_extra`."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Service(Wire):
    """A service whose SMS can be received. `id` is what calls take: `wa`, `telegram`."""

    id: Identifier = Field(validation_alias=AliasChoices("id", "service_id"))
    name: Text
    category: Text | None = None


class _Stocked(Wire):
    """Stock comes as a count, as yes or no, or as a band (`low_stock`).

    `stock` is the count where it is known, `in_stock` whether there is any, and `raw_stock` what
    the service wrote. A row that says nothing about stock counts as in stock: the service
    names it, and asking for a number that is not there costs nothing.
    """

    stock: int | None = None
    in_stock: bool = True
    raw_stock: int | bool | str | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_stock(cls, data: object) -> object:
        if not isinstance(data, Mapping):
            return data
        raw = data.get("stock") if data.get("stock") is not None else data.get("in_stock")
        raw = well_formed(data.get("raw_stock", raw))  # our own dump, read again, has raw_stock
        if isinstance(raw, Decimal) and moderate(raw) and raw == int(raw):
            raw = int(raw)
        count, available = count_and_presence(raw)
        said = data.get("in_stock")
        if isinstance(said, bool):
            available = said
        return {**data, "stock": count, "in_stock": available, "raw_stock": raw}


class Country(_Stocked):
    """A country with numbers. `iso2` is ISO 3166-1 alpha-2, in upper case."""

    iso2: Iso2
    name: Text


class Offer(_Stocked):
    """A price in USDC for a service in a country, and its stock.

    A row that leaves out the service or the country that was asked for gets it from the call.
    """

    service: Identifier | None = Field(
        default=None, validation_alias=AliasChoices("service", "service_id")
    )
    country: Iso2 | None = Field(
        default=None, validation_alias=AliasChoices("country", "country_id", "iso2")
    )
    price: Price


class Profile(Wire):
    """The account. `balance` is in USDC; one that is only a wallet may have no `email`."""

    email: Text | None = None
    balance: Amount
    plan: Text | None = None


class Balance(Wire):
    """The account's balance, and its currency as the service writes it."""

    balance: Amount
    currency: Text


def _or_none(value: object, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


def _object_or_empty(value: object) -> object:
    return value if isinstance(value, dict) else {}


class Deposit(Wire):
    """What a top-up brought: a key of the account that it went to, and that account's balance.

    Everything is optional, and what cannot be read is as if it were not there: the answer is paid
    for, and the key in it must not be lost for what stands beside it.
    """

    api_key: Text | None = Field(default=None, repr=False)
    balance: Annotated[Amount | None, WrapValidator(_or_none)] = Field(
        default=None, validation_alias=AliasChoices("balance_usd", "balance")
    )
    user_id: Annotated[Identifier | None, WrapValidator(_or_none)] = None
    endpoints: Annotated[dict[str, Any], BeforeValidator(_object_or_empty)] = Field(
        default_factory=dict, repr=False
    )


class Stats(Wire):
    """How many orders the account ever made, and what it spent on them in USDC."""

    lifetime_orders: int
    lifetime_spend: Amount


class Transaction(Wire):
    """A row of the account's ledger. The reference names no field, so every one may be None.

    `amount` keeps the service's sign.
    """

    id: Identifier | None = None
    type: Text | None = None
    amount: Amount | None = None
    currency: Text | None = None
    description: Text | None = None
    order_id: Identifier | None = None
    created_at: Instant | None = None


class Sms(Wire):
    """One message, as it arrived."""

    sender: Identifier | None = None
    content: Text = Field(validation_alias=AliasChoices("content", "full_text", "text"))
    received_at: Instant | None = None


class Rules(Wire):
    """How many seconds after the purchase (or the last swap) cancel and swap are refused."""

    cancel_cooldown_seconds: int | None = None
    swap_cooldown_seconds: int | None = None


Messages = Annotated[tuple[Sms, ...], BeforeValidator(none_is_empty)]


class Order(Wire):
    """A number that was bought, and what became of it.

    `price` is in USDC, `phone_number` in E.164 with `+`. `status` is an OrderStatus, or the
    service's own word if it is none of them. What an answer leaves out is None.
    """

    order_id: Identifier = Field(validation_alias=AliasChoices("order_id", "id"))
    status: Status
    phone_number: Phone | None = None
    service: Identifier | None = Field(
        default=None, validation_alias=AliasChoices("service", "service_id")
    )
    country: Iso2 | None = Field(
        default=None, validation_alias=AliasChoices("country", "country_id")
    )
    price: Price | None = Field(
        default=None, validation_alias=AliasChoices("price", "price_charged")
    )
    created_at: Instant | None = None
    expires_at: Instant | None = None
    cancel_available_at: Instant | None = None
    swap_available_at: Instant | None = None
    rental_until: Instant | None = None
    previous_number: Phone | None = None
    rules: Rules | None = None
    sms_received: Flag = False
    messages: Messages = ()

    @property
    def has_sms(self) -> bool:
        """Whether an SMS has arrived; from then on a cancel is refused."""
        return self.status in SMS_STATUSES or self.sms_received or bool(self.messages)

    @property
    def is_final(self) -> bool:
        """Whether nothing more can happen to it: confirmed, cancelled, expired or failed.

        A swapped order is not final: it waits again, under its new number.
        """
        return self.status in FINAL_STATUSES


class SmsResult(Wire):
    """The answer to waiting for an SMS. `text` is the wire's `full_text`.

    `code` is what the service takes for the code; it is wrong for some texts. An answer without
    a status is `received` if it carries a message, else `waiting`.
    """

    status: Status
    code: Identifier | None = None
    text: Text | None = Field(default=None, validation_alias=AliasChoices("full_text", "text"))
    messages: Messages = ()

    @model_validator(mode="before")
    @classmethod
    def _infer_status(cls, data: object) -> object:
        if not isinstance(data, Mapping) or data.get("status") is not None:
            return data
        arrived = any(data.get(key) for key in ("code", "full_text", "text", "messages"))
        return {**data, "status": OrderStatus.RECEIVED if arrived else OrderStatus.WAITING}

    @property
    def has_sms(self) -> bool:
        """Whether this answer carries an SMS, or says that one arrived."""
        return self.status in SMS_STATUSES or bool(self.code or self.text or self.messages)


class Cancellation(Wire):
    """The answer to a cancel. `refund_amount` is in USDC, None where the answer does not say."""

    success: bool
    status: Status
    refund_amount: Price | None = None


class Page(BaseModel, Generic[T]):
    """One page of a list.

    `next_page` is the number to ask for next, with the same `per_page`; None after the last.
    `total` is how many rows there are on all pages, if the service said.
    """

    model_config = ConfigDict(frozen=True)

    items: tuple[T, ...]
    page: int = 1
    per_page: int = 50
    next_page: int | None = None
    total: int | None = None
