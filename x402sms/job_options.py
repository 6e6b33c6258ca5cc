"""What a job on a client may be told: read, checked, and made into its terms."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypedDict

from x402sms.limits import Amount
from x402sms.money import parse_usdc, to_usdc
from x402sms.protocol.labels import checked_labels
from x402sms.virtualsms.calls import labels_for
from x402sms.virtualsms.effects import Bought, Event, Swapped
from x402sms.virtualsms.ending import DEFAULT_HOLD
from x402sms.virtualsms.job import Terms
from x402sms.virtualsms.models import Order, OrderStatus

LONGEST_INTENT = 190  # of a job: its later numbers add to it
_OF_A_LATER_NUMBER = re.compile(r"#[0-9]+\Z")
SWAPS = 1  # where somebody is told of the new number
NUMBERS = 3


class JobOptions(TypedDict, total=False):
    """What a job may be told beside its service and ceiling.

    `country`: a code or a name; else wherever it is cheapest. `max_swaps`: how often a silent
    number is swapped, each time after `swap_after` seconds (120) of silence. `max_numbers`: how
    many numbers may be bought, one after the other. Both are 1 and 3 where `on_number` or
    `on_event` tells somebody of a new number, else 0 and 1: a number that nobody hears of is of
    no use. `max_total` (USDC): by default another number is bought only after the one before is
    known to be cancelled; with it, also where that is not known, as long as all that may be lost
    stays within it. `pattern`: a regular expression whose group `code`, or first group, or whole
    match is the code. `intent`: names the job, and finds its order again after a crash.
    `rental_hours`: rent the number; leaving the job keeps it. `on_number` gets each number,
    `on_event` everything that happens (see `virtualsms.effects.Event`). `labels` say in the ledger
    what the job is for, beside its service and country: `{"campaign": "signup-test"}`.
    """

    country: str | None
    max_swaps: int | None
    max_numbers: int | None
    max_total: Amount | None
    swap_after: float
    pattern: str | re.Pattern[str] | None
    intent: str | None
    rental_hours: int | None
    on_number: Callable[[str], None] | None
    on_event: Callable[[Event], None] | None
    labels: Mapping[str, str] | None


@dataclass(frozen=True)
class Wanted:
    """A job's terms, whether an earlier run may be gone on with, and who watches."""

    terms: Terms
    resume: bool
    watch: Callable[[Event], None]
    order: Order | None = None  # that is there already
    labels: Mapping[str, str] = field(default_factory=dict)


def wanted(service: str, max_price: Amount, options: JobOptions) -> Wanted:
    """Raises ValueError and TypeError for what cannot be right, before anything is sent."""
    if unknown := options.keys() - JobOptions.__annotations__.keys():
        raise TypeError(f"no such option of a job: {', '.join(sorted(unknown))}")
    on_number, on_event = options.get("on_number"), options.get("on_event")
    heard = on_number is not None or on_event is not None
    swaps, numbers = options.get("max_swaps"), options.get("max_numbers")
    total, pattern = options.get("max_total"), options.get("pattern")
    intent = options.get("intent")
    terms = Terms(
        service=service,
        max_price=to_usdc(parse_usdc(max_price)),
        intent=secrets.token_hex(16) if intent is None else _intent(intent),
        country=options.get("country"),
        max_swaps=_count("max_swaps", SWAPS if heard else 0, swaps, least=0),
        max_numbers=_count("max_numbers", NUMBERS if heard else 1, numbers, least=1),
        max_total=None if total is None else to_usdc(parse_usdc(total)),
        swap_after=checked_seconds("swap_after", options.get("swap_after", DEFAULT_HOLD)),
        pattern=_compiled(pattern) if isinstance(pattern, str) else pattern,
        rental_hours=options.get("rental_hours"),
    )

    def watch(event: Event) -> None:
        if on_event is not None:
            on_event(event)
        if on_number is not None and isinstance(event, Bought | Swapped):
            on_number(event.order.phone_number or "")

    labels = _labels(options.get("labels") or {}, service)
    return Wanted(terms, intent is not None, watch, labels=labels)


def _labels(labels: Mapping[str, str], service: str) -> Mapping[str, str]:
    """Of calls that do not know better, with room for what those know that do."""
    checked_labels({"service": "any", "country": "any"} | checked_labels(labels))
    return {**labels, **labels_for(service=str(service).strip().lower())}


def _intent(intent: str) -> str:
    if not isinstance(intent, str) or not 0 < len(intent) <= LONGEST_INTENT:
        raise ValueError(f"the intent of a job is text of 1 to {LONGEST_INTENT} characters")
    if _OF_A_LATER_NUMBER.search(intent):
        raise ValueError(
            f"an intent that ends like {intent[-20:]!r} names a later number of another job: leave "
            "out the # and the digits"
        )
    return intent


def checked_seconds(name: str, seconds: float) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{name} is a number of seconds")
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{name} is a number of seconds, at least 0")
    return seconds


def _compiled(pattern: str) -> re.Pattern[str]:
    from x402sms.virtualsms.codes import compile_pattern  # noqa: PLC0415  as where it is used

    return compile_pattern(pattern)


def inbox_of(order_id: str) -> Wanted:
    """No job: only the messages of an order."""
    terms = Terms(service="", max_price=Decimal(0), intent="", rental_hours=1)
    order = Order(order_id=order_id, status=OrderStatus.WAITING)
    return Wanted(terms, resume=False, watch=lambda event: None, order=order)


def _count(name: str, default: int, given: int | None, *, least: int) -> int:
    count = default if given is None else given
    if isinstance(count, bool) or not isinstance(count, int) or count < least:
        raise ValueError(f"{name} is a whole number, at least {least}")
    return count
