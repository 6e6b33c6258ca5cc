"""What can go wrong, by name and probability, and the repeatable chance that decides when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random

from x402sms.errors import ConfigError
from x402sms.sandbox.endpoints import TARGETS

# In the order in which they are asked about, as far as they befall one and the same request.
FAULTS = {
    "drop-before": "the connection is closed before the request is processed",
    "rate-limit": "429 with Retry-After, asked or paid; nothing settles",
    "error-500": "a problem document with status 500; nothing settles",
    "html-502-before": "an HTML page with status 502; nothing settles",
    "no-stock": "asking for a number is answered 503, before any payment",
    "wrong-price": "the challenge asks ten times the price, and is paid at that",
    "stock-ends": "between the challenge and the payment the last number goes: 503, unsettled",
    "sms-beats-cancel": "the SMS arrives as the order is cancelled; the cancel is refused",
    "swap-none": "a swap finds no other number: 404",
    "confirm-fails": "confirming is answered 500, unsettled",
    "unknown-status": "an order is shown with a status that nobody has heard of",
    "reorder": "messages are listed newest first; a poll hands out the oldest",
    "duplicate": "the request is processed twice, with the same payment; the second answer counts",
    "slow": "the answer is held back for slow_seconds",
    "drop-after-settle": "processed and settled; the connection is closed without an answer",
    "html-502": "processed and settled; an HTML page with status 502 instead of the answer",
    "plain-error": "processed and settled; a line of text with status 500 instead of the answer",
    "truncate": "the answer ends in the middle of its body, and the connection with it",
}

# What befalls a webhook: in the same schedule, but of no request and so of no route.
WEBHOOK_FAULTS = {
    "webhook-lost": "an event is never delivered",
    "webhook-forged": "before the right one comes one with a wrong signature",
    "webhook-stale": "the timestamp is hours old, and nothing newer comes",
    "webhook-duplicate": "the same event is delivered twice, each time with its own delivery id",
    "webhook-reorder": "an event is held back until after the next one",
}
ALL_FAULTS = FAULTS | WEBHOOK_FAULTS


@dataclass(frozen=True)
class Fault:
    """One entry of a schedule. `probability` is of each request that it could befall.

    `route` aims it at one endpoint (`POST /orders/{order_id}/cancel`), `paid` at the requests
    that carry a payment (True) or none (False); `times` is how often it happens at most.
    Raises ConfigError for what is no such fault.
    """

    name: str
    probability: float = 1.0
    route: str | None = None
    times: int | None = None
    paid: bool | None = None

    def __post_init__(self) -> None:
        if self.name not in ALL_FAULTS:
            raise ConfigError(f"no fault {self.name[:60]!r}: there are {', '.join(ALL_FAULTS)}")
        if not 0 <= self.probability <= 1:
            raise ConfigError(f"fault {self.name}: a probability is between 0 and 1")
        if self.route is not None and self.route not in TARGETS:
            known = ", ".join(TARGETS)
            raise ConfigError(f"fault {self.name}: no route {self.route[:60]!r}: there are {known}")
        if self.name in WEBHOOK_FAULTS and (self.route, self.paid) != (None, None):
            raise ConfigError(f"fault {self.name}: it befalls webhooks, and no route of the API")
        if self.times is not None and self.times < 0:
            raise ConfigError(f"fault {self.name}: times is not negative")

    @classmethod
    def parse(cls, text: str) -> Fault:
        """`NAME=P` or `NAME@METHOD /path=P`."""
        target, equals, probability = text.rpartition("=")
        try:
            chance = float(probability)
        except ValueError:
            chance = -1.0
        if not equals or not 0 <= chance <= 1:
            raise ConfigError(f"fault {text[:100]!r} is not NAME=P with P between 0 and 1")
        return cls.aimed(target, chance)

    @classmethod
    def aimed(cls, target: str, probability: float) -> Fault:
        """`NAME` or `NAME@METHOD /path`."""
        name, _, route = target.partition("@")
        return cls(name, probability, route or None)

    def could_befall(self, route: str | None, *, paid: bool) -> bool:
        return self.route in {None, route} and self.paid in {None, paid}


FaultsGiven = Mapping[str, float] | Iterable[Fault]


def faults_of(given: FaultsGiven) -> tuple[Fault, ...]:
    """Faults as they are given: by name and probability, or as Fault objects."""
    if isinstance(given, Mapping):
        return tuple(Fault.aimed(target, chance) for target, chance in given.items())
    return tuple(given)


class Schedule:
    """The faults in force. The same seed and the same requests meet the same faults.

    `struck` counts by name what has happened since they were set.
    """

    def __init__(self, faults: tuple[Fault, ...], seed: int) -> None:
        self._seed = seed
        self.set(faults)

    def set(self, faults: tuple[Fault, ...]) -> None:
        """Put these in the place of all others; the chance begins anew."""
        self.faults = faults
        self.struck: Counter[str] = Counter()
        # Each entry draws from its own: another one more does not shift what it draws.
        self._chance = [
            Random(f"{self._seed}/{fault.name}/{fault.route}/{fault.paid}")  # noqa: S311
            for fault in faults
        ]
        self._left = [fault.times for fault in faults]

    def strikes(self, name: str, route: str | None, *, paid: bool) -> bool:
        """Whether the fault befalls this request. To be asked once for each that it could."""
        for index, fault in enumerate(self.faults):
            if fault.name != name or not fault.could_befall(route, paid=paid):
                continue
            drawn = self._chance[index].random()
            left = self._left[index]
            if drawn < fault.probability and left != 0:
                self._left[index] = None if left is None else left - 1
                self.struck[name] += 1
                return True
        return False


@dataclass(frozen=True)
class Call:
    """A request as faults see it: which endpoint, and whether it carries a payment.

    One with an API key (`rest`) counts as paid: it is processed and answered at once.
    """

    route: str | None
    paid: bool
    rest: bool
    schedule: Schedule

    def strikes(self, fault: str) -> bool:
        return self.schedule.strikes(fault, self.route, paid=self.paid)
