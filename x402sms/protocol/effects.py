"""What the paid call asks its driver to do, and the values it works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from x402sms.protocol.eip3009 import Authorization
from x402sms.protocol.networks import Network
from x402sms.protocol.types import (
    Attempt,
    Offer,
    OnChainSettled,
    Outcome,
    PaymentState,
    Receipt,
)
from x402sms.protocol.wire import Headers


class Prepay(StrEnum):
    """Whether a call pays with its first request, by the last offer of its route.

    AUTO: what only reads, and costs at most a cent. ALWAYS: whatever was paid for before.
    """

    NEVER = "never"
    AUTO = "auto"
    ALWAYS = "always"


class Limits(Protocol):
    """What the flow needs of `SpendLimits`."""

    @property
    def authorization_ttl(self) -> int: ...

    def check(self, offer: Offer, *, intent: str, max_amount_atomic: int | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Payer:
    """Who pays, where, and within what. `max_clock_skew` is in seconds, None to not look.

    `pauses` are the seconds before the same payment is presented again after an unclear end:
    their number bounds how often. `worker` is who of a fleet this is, "" without one.
    """

    address: str
    network: Network
    limits: Limits
    max_clock_skew: int | None
    pauses: tuple[float, ...] = ()
    prepay: Prepay = Prepay.NEVER
    worker: str = ""


@dataclass(frozen=True, slots=True)
class Purchase:
    """What is bought: one logical request, however often it is sent.

    `url` is without its query; `fingerprint` covers all of the request; `private` is False for
    plain http to another machine; `takes_seconds` is how long the request itself may take.
    `intent_given` is False for an intent made up just now, which no ledger can know. `route` names
    all that has one price: method, origin, path, and what else sets it. `labels` say what it is
    for, and change nothing of what it is.
    """

    intent: str
    method: str
    url: str
    fingerprint: str
    private: bool
    takes_seconds: int
    max_amount_atomic: int | None = None
    intent_given: bool = False
    route: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class Quote:
    """A challenge as it came: to be parsed, checked and paid as if it came now.

    `headers` are those that a challenge is read from, `body` is decoded; both are bounded. `bought`
    is the fingerprint of the request that it answered.
    """

    headers: tuple[tuple[str, str], ...]
    body: bytes
    bought: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What the ledger knows of an intent."""

    attempt: Attempt
    state: PaymentState
    receipt: Receipt


class NeverSent(Exception):
    """Thrown into the flow when a request failed before a byte of it left (no connection)."""


@dataclass(frozen=True, slots=True)
class Recall:
    """Look the nonce up in the ledger. Result: Stored, or None."""

    nonce: bytes


@dataclass(frozen=True, slots=True)
class Remembered:
    """The quote of a route that was last paid. Result: Quote, or None."""

    route: str


@dataclass(frozen=True, slots=True)
class Remember:
    """Keep what a route was paid by; None: forget it. Result: None."""

    route: str
    quote: Quote | None


@dataclass(frozen=True, slots=True)
class Send:
    """Send the request, with the payment header (name, value) or without. Result: Answer."""

    payment: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class ReadBody:
    """Read the last answer's body, still encoded, to the end or the bound, and close it.

    Result: bytes, or None where it is larger.
    """


@dataclass(frozen=True, slots=True)
class Now:
    """Result: Unix seconds, int."""


@dataclass(frozen=True, slots=True)
class Sleep:
    seconds: float


@dataclass(frozen=True, slots=True)
class Reserve:
    """Store the attempt durably and count it against the budgets. Result: None."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Sign:
    """Result: 65 bytes r‖s‖v."""

    authorization: Authorization


@dataclass(frozen=True, slots=True)
class Record:
    """Write down what became of the attempt. Result: its Receipt."""

    attempt: Attempt
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class CheckChain:
    """Ask the chain, beginning with `transaction` where a server named one.

    Result: OnChain, or None where no RPC is configured.
    """

    attempt: Attempt
    transaction: str | None = None


@dataclass(frozen=True, slots=True)
class Settle:
    """Write down what the chain itself shows. Result: the verified Receipt."""

    attempt: Attempt
    found: OnChainSettled


Effect = (
    Recall
    | Remembered
    | Remember
    | Send
    | ReadBody
    | Now
    | Sleep
    | Reserve
    | Sign
    | Record
    | CheckChain
    | Settle
)
