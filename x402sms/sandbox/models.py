"""What goes in and out as JSON. Amounts are USDC as decimal strings, moments ISO 8601 in UTC."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    WithJsonSchema,
)

from x402sms.sandbox.endpoints import TARGETS
from x402sms.sandbox.faults import ALL_FAULTS

Item = TypeVar("Item")


def moment(unix: float) -> str:
    text = datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


class ProblemOut(BaseModel):
    type: str
    title: str
    status: int
    detail: str
    instance: str


class PageOut(BaseModel, Generic[Item]):
    data: list[Item]
    page: int
    per_page: int
    total: int


class ServiceOut(BaseModel):
    id: str
    name: str
    category: str


class CountryOut(BaseModel):
    iso2: str
    name: str
    in_stock: bool


class CountryOffer(BaseModel):
    """A service in one country."""

    country: str
    price: str
    stock: int


class ServiceOffer(BaseModel):
    """One service of a country."""

    service: str
    price: str
    stock: int


class ProfileOut(BaseModel):
    """A caller is a wallet, or an account: that has an address for mail, and no wallet."""

    email: str | None
    balance: str
    plan: Literal["x402", "prepaid"]
    wallet: str | None


class BalanceOut(BaseModel):
    balance: str
    currency: Literal["USDC", "USD"]


class StatsOut(BaseModel):
    lifetime_orders: int
    lifetime_spend: str
    lifetime_refunds: str
    active_orders: int
    sms_received: int


class TransactionOut(BaseModel):
    """A wallet makes payments, an account purchases and deposits; only a payment is on a chain."""

    id: str
    type: Literal["payment", "refund", "purchase", "deposit"]
    amount: str
    currency: Literal["USDC", "USD"]
    created_at: str
    order_id: str | None
    method: str
    path: str
    transaction: str | None


class CreateOrderIn(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    service: str = Field(min_length=1, max_length=100)
    country: str = Field(min_length=1, max_length=100)
    rental_hours: Literal[4, 24, 72, 168, 720] | None = None


class ExtendIn(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    hours: StrictInt = Field(ge=1, le=720)


def _number(value: object) -> object:
    """What was written as a number: as JSON is usually read, it may be a float by now."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("Input should be a number")
    return Decimal(repr(value)) if isinstance(value, float) else value


class TopUpIn(BaseModel):
    """`amount_usd` is a number with at most two decimals, from 2 to 10,000."""

    model_config = ConfigDict(extra="forbid")

    amount_usd: Annotated[
        Decimal,
        BeforeValidator(_number),
        Field(ge=2, le=10_000, decimal_places=2),
        WithJsonSchema({"type": "number", "minimum": 2, "maximum": 10_000}),
    ]
    metadata: dict[str, Any] | None = None
    api_key: str | None = Field(default=None, max_length=300)

    @classmethod
    def exact(cls, body: bytes) -> TopUpIn:
        """Read without a float, so that an amount that is too fine is never rounded away."""
        return cls.model_validate(json.loads(body, parse_float=Decimal))


class TopUpOut(BaseModel):
    """`balance_usd` is what the account holds now, a decimal string; `endpoints` are URLs."""

    api_key: str
    balance_usd: str
    user_id: str
    endpoints: dict[str, str]


class MessageOut(BaseModel):
    """`phone_number` is the one it was sent to: a late one may be for a swapped-out number."""

    sender: str
    content: str
    received_at: str
    phone_number: str


class RulesOut(BaseModel):
    cancel_cooldown_seconds: int
    swap_cooldown_seconds: int


class OrderOut(BaseModel):
    order_id: str
    phone_number: str
    previous_number: str | None
    service: str
    country: str
    price: str
    status: str
    created_at: str
    expires_at: str
    cancel_available_at: str
    swap_available_at: str
    rules: RulesOut
    rental_hours: int | None
    rental_until: str | None
    sms_received: bool
    messages: list[MessageOut]


class OrderRow(BaseModel):
    """An order in a list: the service names four of its fields differently there."""

    id: str
    service_id: str
    country_id: str
    price_charged: str
    phone_number: str
    status: str
    created_at: str
    expires_at: str


class SmsOut(BaseModel):
    status: str
    code: str | None
    full_text: str | None
    messages: list[MessageOut]


class EndedOut(BaseModel):
    """A cancelled order or a released rental."""

    success: Literal[True]
    order_id: str
    status: str
    refund_amount: str


class FundIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    address: str
    # A string, or a whole number: JSON's other numbers are floats.
    amount: str | StrictInt


class DeliverIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str
    sender: str | None = None
    code: str | None = None
    to_previous: bool = False


class FaultModel(BaseModel):
    """As `faults.Fault`."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(json_schema_extra={"enum": [*ALL_FAULTS]})
    probability: float = Field(default=1.0, ge=0, le=1)
    route: str | None = Field(default=None, json_schema_extra={"enum": [*TARGETS, None]})
    times: int | None = Field(default=None, ge=0)
    paid: bool | None = None


class FaultsOut(BaseModel):
    """The faults in force, and by name how often each has happened since they were set."""

    faults: list[FaultModel]
    struck: dict[str, int]


class StockIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    service: str
    country: str
    stock: StrictInt = Field(ge=0, le=10**6)


class PriceIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    service: str
    country: str
    price: str | StrictInt


class BooksOut(BaseModel):
    """What a wallet or an account paid, and what of it was paid back."""

    paid_atomic: str
    refunded_atomic: str


class AdvanceIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    seconds: float = Field(ge=0, le=10**10)
    chain: bool = False


class PaymentOut(BaseModel):
    payer: str
    pay_to: str
    amount_atomic: str
    nonce: str
    transaction: str
    method: str
    path: str
    order_id: str | None
    settled_at: str
    refunded_atomic: str


class DeliveryOut(BaseModel):
    """`attempts` at posting it: the status of each answer, null where there was none."""

    headers: dict[str, str]
    attempts: list[int | None]


class WebhookOut(BaseModel):
    """An event, its body as it is signed, and how it was delivered so far."""

    id: str
    type: str
    account_id: str
    created_at: str
    body: str
    deliveries: list[DeliveryOut]


class AtomicOut(BaseModel):
    amount_atomic: str


class ControlOrderOut(OrderOut):
    owner: str


class ClockOut(BaseModel):
    """`now` is the orders' time, `chain_now` the payments'; Unix seconds."""

    now: int
    chain_now: int
