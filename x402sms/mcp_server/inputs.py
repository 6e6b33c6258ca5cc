"""What each tool takes. The descriptions are for the agent that fills it in."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from x402sms.mcp_server.values import MaxPrice
from x402sms.virtualsms.calls import MAX_LONG_POLL_SECONDS

# Most agents give up on a tool after a minute, and with that the order is cancelled.
DEFAULT_WAIT = 45
LONGEST_JOB = 1800  # seconds

Service = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        description="A service's id, such as telegram or whatsapp; list_services finds it.",
    ),
]
Country = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        description="A country's two-letter code (ISO 3166-1 alpha-2), such as GB.",
    ),
]
OrderId = Annotated[
    str,
    Field(min_length=1, max_length=200, description="The order's id, as create_order gave it."),
]
Ceiling = Annotated[
    MaxPrice,
    Field(
        description='The most it may cost, in USDC, as text: "0.30". Above it nothing is bought. '
        "Ask the user before you raise it."
    ),
]
Intent = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=190,
        description="A name of your own for this purchase, such as signup-test-7. Give the same "
        "one when you try again after an error or a lost answer: it is never paid twice.",
    ),
]
Limit = Annotated[int, Field(ge=1, le=200, description="At most so many rows.")]
Page = Annotated[int, Field(ge=1, le=100_000, description="Which page; the first is 1.")]
Wait = Annotated[
    int,
    Field(
        ge=0,
        le=MAX_LONG_POLL_SECONDS,
        description="How many seconds this call may take; keep it below your own time-out.",
    ),
]
RentalHours = Annotated[
    int | None,
    Field(
        ge=1,
        le=10_000,
        description="Rent the number for so many hours (4, 24, 72, 168 or 720) instead of buying "
        "it for one SMS. A rental is kept, whatever comes.",
    ),
]


class Arguments(BaseModel):
    """The base of all: nothing that is not declared, and nothing turned into another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Nothing(Arguments):
    """No arguments."""


class Search(Arguments):
    search: Annotated[
        str | None,
        Field(max_length=200, description="Only those whose id or name contains this text."),
    ] = None
    limit: Limit = 50


class OfService(Arguments):
    service: Service


class OffersOfService(OfService):
    limit: Limit = 50


class OffersInCountry(Arguments):
    country: Country
    search: Annotated[
        str | None, Field(max_length=200, description="Only services whose id contains this text.")
    ] = None
    limit: Limit = 50


class Paged(Arguments):
    page: Page = 1
    limit: Limit = 20


class OrdersPage(Paged):
    status: Annotated[
        str | None,
        Field(
            max_length=50,
            description="Only orders of this status: waiting, received, confirmed, cancelled, "
            "expired, ...",
        ),
    ] = None


class OfOrder(Arguments):
    order_id: OrderId


class CreateOrder(Arguments):
    service: Service
    country: Country
    max_price: Ceiling
    rental_hours: RentalHours = None
    intent: Intent = None


class WaitForSms(OfOrder):
    timeout_seconds: Wait = DEFAULT_WAIT


class ExtendRental(OfOrder):
    hours: Annotated[int, Field(ge=1, le=10_000, description="So many more hours.")]
    max_price: Annotated[
        MaxPrice | None,
        Field(
            description='The most it may cost, in USDC, as text: "0.30". Needed over x402. With an '
            "API key leave it out, after asking the user: the price is told only afterwards."
        ),
    ] = None
    intent: Intent = None


class ReceiveCode(Arguments):
    """Either `service` and `max_price` (start), or `job_id` (wait)."""

    service: Service | None = None
    max_price: Ceiling | None = None
    country: Annotated[
        Country | None,
        Field(description="Start: only a number of this country; else the cheapest anywhere."),
    ] = None
    timeout_seconds: Annotated[
        int,
        Field(
            ge=10,
            le=LONGEST_JOB,
            description="Start: the job gives up after so many seconds and cancels the order for "
            "its refund, whether you wait or not.",
        ),
    ] = 300
    max_swaps: Annotated[
        int,
        Field(
            ge=0,
            le=5,
            description="Start: how often a silent number may be changed, free of charge. Only if "
            "you can give the new number to whoever sends the code.",
        ),
    ] = 0
    rental_hours: RentalHours = None
    intent: Intent = None
    job_id: Annotated[
        str | None,
        Field(max_length=50, description="Wait: the job_id of the start. Nothing is bought."),
    ] = None
    wait_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=MAX_LONG_POLL_SECONDS,
            description="Wait: return after so many seconds even if no SMS has come; the job goes "
            "on. Keep it below your own time-out: giving up on this call cancels the order.",
        ),
    ] = DEFAULT_WAIT

    @model_validator(mode="after")
    def _either(self) -> Self:
        starts = self.service is not None or self.max_price is not None
        if starts == (self.job_id is not None):
            raise ValueError("give service and max_price to start a job, or job_id to wait for one")
        if starts and (self.service is None or self.max_price is None):
            missing = "service" if self.service is None else "max_price"
            raise ValueError(f"to start a job give {missing} too")
        return self


def schema_of(model: type[BaseModel], *, output: bool = False) -> dict[str, Any]:
    """The JSON Schema of a model; of what it takes, or of what it gives."""
    schema = model.model_json_schema(mode="serialization" if output else "validation")
    _tidy(schema)
    schema.pop("description", None)  # our docstrings are not for agents
    return schema


def _tidy(node: Any) -> None:
    """pydantic names every field twice, and describes what may be left out one level too deep."""
    if isinstance(node, dict):
        if isinstance(node.get("title"), str):
            del node["title"]
        for option in node.get("anyOf", ()):
            if "description" in option:
                node.setdefault("description", option.pop("description"))
        for value in node.values():
            _tidy(value)
    elif isinstance(node, list):
        for value in node:
            _tidy(value)
