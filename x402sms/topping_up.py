"""From a wallet to an API key: what a top-up asks for, and what becomes of its answer.

The answer holds a key that was paid for: it is kept before anything else is done with it, and a
store that fails does not cost it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from x402sms.api_keys import ApiKey, store_key
from x402sms.config import Settings
from x402sms.errors import ConfigError
from x402sms.money import parse_usdc
from x402sms.virtualsms import calls
from x402sms.virtualsms.calls import Call
from x402sms.virtualsms.models import Deposit

ATOMIC_PER_USD = 10**6


@dataclass(frozen=True, slots=True)
class TopUp:
    """What a top-up brought. `api_key` is not shown by repr; `Client(api_key=...)` takes it.

    `amount` was paid, `balance` is the account's now; both in USDC. `kept_in` says where the key
    is stored, None where it was not; `warning` says why not, or what else is odd. `endpoints` is
    what the service says of where the key works: told, never followed.
    """

    api_key: str = field(repr=False)
    amount: Decimal
    balance: Decimal | None
    user_id: str | None
    kept_in: str | None
    warning: str | None = None
    endpoints: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class TopUpRequest:
    """`key` is of the account that is added to, None for a new one."""

    call: Call[Deposit] = field(repr=False)
    amount: Decimal
    key: ApiKey | None


def ask(
    settings: Settings,
    amount: str | int | Decimal,
    key: ApiKey | None,
    metadata: Mapping[str, str] | None,
) -> TopUpRequest:
    """Raises ValueError for an amount that cannot be."""
    whole, rest = divmod(parse_usdc(amount), ATOMIC_PER_USD)
    if rest:
        raise ValueError("a top-up is a whole number of USD")
    shown = None if key is None else key.reveal()
    return TopUpRequest(
        calls.topup(settings.topup_url, whole, shown, metadata), Decimal(whole), key
    )


def keep(settings: Settings, asked: TopUpRequest, deposit: Deposit, *, store: bool) -> TopUp:
    """Raises nothing: the money is spent, and the key is in what this returns."""
    known = asked.key
    text = deposit.api_key or ("" if known is None else known.reveal())
    kept_in, warning = None, None
    if not text:
        warning = "the service took the payment and gave no key: ask it, with the receipt"
    elif store:
        try:
            kept_in = store_key(settings.rest_url, ApiKey(text))
        except Exception as error:  # noqa: BLE001  whatever it is, the key is paid for
            known_to_us = isinstance(error, ConfigError | OSError)
            warning = f"the key is not stored: {error if known_to_us else type(error).__name__}"
    if known is not None and deposit.api_key not in (None, known.reveal()):
        warning = "the service answered with another key than the one that was to be topped up"
    return TopUp(
        api_key=text,
        amount=asked.amount,
        balance=deposit.balance,
        user_id=deposit.user_id,
        kept_in=kept_in,
        warning=warning,
        endpoints=deposit.endpoints,
    )
