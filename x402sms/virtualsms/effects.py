"""What the job asks its driver for, and what it tells whoever watches. Values only.

The job (`verification.py`) is a generator of these effects. A driver performs each one and sends
the result back, or throws the failure in.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from x402sms.virtualsms.calls import Call
from x402sms.virtualsms.models import Offer, Order


@dataclass(frozen=True, slots=True)
class Make:
    """Make a call. Result: what it parses to. `intent`: of the same call, made before."""

    call: Call[Any]
    intent: str | None = None


@dataclass(frozen=True, slots=True)
class Buy:
    """Buy an order; one that was paid for while its answer was lost is found. Result: Order.

    `purchase` says what is bought, whatever country `call` names: all the tries for one number
    are one purchase, with one nonce, so at most one of them can settle.
    """

    call: Call[Order]
    intent: str
    purchase: str
    max_price: Decimal  # USDC: above it nothing is signed


@dataclass(frozen=True, slots=True)
class Recall:
    """What the ledger has under an intent. Result: Earlier, or None.

    `purchase` is what it should have bought, as in Buy.
    """

    intent: str
    purchase: str


@dataclass(frozen=True, slots=True)
class Earlier:
    """A purchase of an earlier run: the order it is known to have brought, and its state."""

    order_id: str | None
    state: str
    fits: bool = True  # it bought what was asked for


@dataclass(frozen=True, slots=True)
class Now:
    """Result: seconds on a clock that never goes back."""


@dataclass(frozen=True, slots=True)
class UnixTime:
    """Result: this machine's Unix time in seconds, to compare with the service's instants."""


@dataclass(frozen=True, slots=True)
class Sleep:
    seconds: float


@dataclass(frozen=True, slots=True)
class CheckMail:
    """What webhooks told of an order so far. Result: tuple of Sms. Costs nothing."""

    order_id: str


@dataclass(frozen=True, slots=True)
class Spent:
    """Result: Decimal USDC that this job's calls promised and that is not known to be void."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The cheapest offer under the ceiling, about to be bought."""

    offer: Offer


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Nothing was bought there after all; the next cheapest country is tried."""

    country: str
    reason: str


@dataclass(frozen=True, slots=True)
class Bought:
    """The number to hand over: `order.phone_number`. `resumed`: an earlier run bought it."""

    order: Order
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """A poll, or a wait for a webhook, begins.

    The job gives up in `seconds`, and swaps a silent number in `swap_in`.
    """

    seconds: float
    swap_in: float | None = None


@dataclass(frozen=True, slots=True)
class Swapped:
    """Another number to hand over, for the same order."""

    order: Order


@dataclass(frozen=True, slots=True)
class Paused:
    """Something is tried again in so many seconds."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """The SMS is there. `code` is None where none can be found in `text`."""

    code: str | None
    text: str | None


@dataclass(frozen=True, slots=True)
class HeldBack:
    """The order cannot be cancelled yet; that is tried in so many seconds."""

    order_id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The order is cancelled. `refund` in USDC, None where neither order nor answer says."""

    order_id: str
    refund: Decimal | None


@dataclass(frozen=True, slots=True)
class NotCancelled:
    """The order ended otherwise (expired), or is left open. Its refund is unknown."""

    order_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Confirmed:
    order_id: str


Event = (
    Chosen
    | LeftOut
    | Bought
    | Waiting
    | Swapped
    | Paused
    | Received
    | HeldBack
    | Cancelled
    | NotCancelled
    | Confirmed
)


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell whoever watches. Result: None."""

    event: Event


Effect = Make | Buy | Recall | Now | UnixTime | Sleep | CheckMail | Spent | Announce
Step = Generator[Effect, Any, Any]
