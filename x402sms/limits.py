"""May this offer be paid? Pure: the ceilings are checked here, the budgets by the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from x402sms.errors import ConfigError, SpendLimitExceeded
from x402sms.money import format_usdc, parse_usdc, to_usdc
from x402sms.protocol.eip3009 import SHORTEST_WINDOW
from x402sms.protocol.keccak import checksum_address
from x402sms.protocol.types import Offer

Amount = str | int | Decimal

# The ledger adds up in 64-bit integers; 9 * 10^12 USDC is more than there will ever be.
MOST_ATOMIC = 2**63 - 1
LONGEST_WINDOW = 3600

_SECONDS = {"per_hour": 3600, "per_day": 86_400, "total": None}
_OF_WORKER = "worker_"


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `cap_atomic` over the last `seconds` (None: ever), to `pay_to` (None: anyone).

    With `of_worker`, only what the same worker promised counts.
    """

    name: str
    cap_atomic: int
    seconds: int | None = None
    pay_to: str | None = None
    of_worker: bool = False

    def exceeded(self, amount_atomic: int, spent_atomic: int, intent: str) -> SpendLimitExceeded:
        """The error for paying `amount_atomic` on top of what counts as spent already."""
        return _exceeded(self.name, amount_atomic, self.cap_atomic, spent_atomic, intent)


@dataclass(frozen=True)
class SpendLimits:
    """What a wallet may spend. Amounts are USDC as str, int or Decimal; None is no limit.

    `per_call` is the ceiling of one payment; `per_hour` and `per_day` are rolling; `total` is for
    the life of the ledger: all count one payer on one network. `worker_per_hour`, `worker_per_day`
    and `worker_total` count only what the same worker of a fleet promised, beside those. `pay_to`
    names the recipients that may be paid: an address, several, or a mapping from address to the
    total each may get. `authorization_ttl` (seconds) bounds how long a signature stays good.
    Everything promised and not proven void counts as spent.

    Raises ConfigError for an amount, address or ttl that cannot be meant.
    """

    per_call: Amount | None = "1.00"
    per_hour: Amount | None = None
    per_day: Amount | None = "10.00"
    total: Amount | None = None
    pay_to: str | Iterable[str] | Mapping[str, Amount | None] | None = None
    authorization_ttl: int = 300
    worker_per_hour: Amount | None = None
    worker_per_day: Amount | None = None
    worker_total: Amount | None = None
    budgets: tuple[Budget, ...] = field(init=False, repr=False, compare=False)
    _per_call_atomic: int = field(init=False, repr=False, compare=False)
    _recipients: Mapping[str, int | None] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ttl = self.authorization_ttl
        if type(ttl) is not int or not SHORTEST_WINDOW <= ttl <= LONGEST_WINDOW:
            raise ConfigError(
                f"authorization_ttl is {ttl!r}: it must be {SHORTEST_WINDOW} to {LONGEST_WINDOW} "
                "seconds"
            )
        per_call = _atomic("per_call", self.per_call)
        recipients = _recipients(self.pay_to)
        rolling = (
            Budget(prefix + name, cap, seconds, of_worker=prefix == _OF_WORKER)
            for prefix in ("", _OF_WORKER)
            for name, seconds in _SECONDS.items()
            if (cap := _atomic(prefix + name, getattr(self, prefix + name))) is not None
        )
        by_recipient = (
            Budget("pay_to", cap, pay_to=address)
            for address, cap in (recipients or {}).items()
            if cap is not None
        )
        object.__setattr__(self, "budgets", (*rolling, *by_recipient))
        object.__setattr__(self, "_per_call_atomic", MOST_ATOMIC if per_call is None else per_call)
        object.__setattr__(self, "_recipients", recipients)

    def check_worker(self, worker: str) -> None:
        """Raise ConfigError if there is a limit of each worker and `worker` names none."""
        limits = [budget.name for budget in self.budgets if budget.of_worker]
        if limits and not worker:
            raise ConfigError(
                f"the limit {limits[0]} is one of each worker, and this one has no name: give it "
                "one with worker=... or X402SMS_WORKER"
            )

    def check(self, offer: Offer, *, intent: str, max_amount_atomic: int | None = None) -> None:
        """Raise SpendLimitExceeded if this one payment is too large or goes to a stranger.

        `max_amount_atomic` is the ceiling of this request alone.
        """
        if max_amount_atomic is not None and offer.amount_atomic > max_amount_atomic:
            raise _exceeded("max_amount", offer.amount_atomic, max_amount_atomic, None, intent)
        if offer.amount_atomic > self._per_call_atomic:
            raise _exceeded("per_call", offer.amount_atomic, self._per_call_atomic, None, intent)
        if self._recipients is not None and offer.pay_to not in self._recipients:
            raise SpendLimitExceeded(
                f"nothing signed: the server asks to be paid at {offer.pay_to}, which is not "
                "among the recipients you allow; if it should be, add it with "
                "SpendLimits(pay_to=...) or X402SMS_PAY_TO",
                limit="pay_to",
                intent=intent,
                amount=offer.amount,
            )


def _exceeded(
    limit: str, amount_atomic: int, allowed_atomic: int, spent_atomic: int | None, intent: str
) -> SpendLimitExceeded:
    over = amount_atomic + (spent_atomic or 0) - allowed_atomic
    already = "" if spent_atomic is None else f", with {format_usdc(spent_atomic)} already promised"
    return SpendLimitExceeded(
        f"nothing signed: {format_usdc(amount_atomic)} USDC is {format_usdc(over)} over the limit "
        f"{limit} of {format_usdc(allowed_atomic)}{already}; {_HOW_TO_RAISE[limit]}",
        limit=limit,
        allowed=to_usdc(allowed_atomic),
        spent=None if spent_atomic is None else to_usdc(spent_atomic),
        intent=intent,
        amount=to_usdc(amount_atomic),
    )


_HOW_TO_RAISE = {
    "max_amount": "the ceiling was set for this request alone (max_amount, max_price)",
    "pay_to": "raise it with SpendLimits(pay_to={address: amount})",
} | {
    name: f"raise it with SpendLimits({name}=...) or X402SMS_MAX_{name.upper()}"
    for name in ("per_call", *_SECONDS, *(_OF_WORKER + name for name in _SECONDS))
}


def _atomic(name: str, amount: Amount | None) -> int | None:
    if amount is None:
        return None
    try:
        atomic = parse_usdc(amount)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"the limit {name}: {error}") from None
    if atomic > MOST_ATOMIC:
        raise ConfigError(f"the limit {name} is more USDC than there is; None means no limit")
    return atomic


def _recipients(
    pay_to: str | Iterable[str] | Mapping[str, Amount | None] | None,
) -> dict[str, int | None] | None:
    if pay_to is None:
        return None
    if isinstance(pay_to, str):
        pay_to = (pay_to,)
    try:
        caps = dict(pay_to.items()) if isinstance(pay_to, Mapping) else dict.fromkeys(pay_to)
    except TypeError:
        raise ConfigError(f"the limit pay_to is {pay_to!r}: {_PAY_TO_TAKES}") from None
    recipients: dict[str, int | None] = {}
    for address, cap in caps.items():
        recipient = _recipient(address)
        if recipient in recipients:
            raise ConfigError(f"the limit pay_to names {recipient} twice, with a cap each")
        recipients[recipient] = _atomic("pay_to", cap)
    return recipients


_PAY_TO_TAKES = "it takes an address, several, or a mapping from address to amount"


def _recipient(address: object) -> str:
    if not isinstance(address, str):
        raise ConfigError(f"the limit pay_to holds {address!r}: {_PAY_TO_TAKES}")
    try:
        return checksum_address(address)
    except ValueError as error:
        raise ConfigError(f"the limit pay_to holds {address[:60]!r}, {error}") from None
