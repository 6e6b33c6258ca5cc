"""The values of x402, as they are after parsing: frozen, checked, in our units.

Names follow the x402 specification, in snake_case. `amount_atomic` is an int of 10^-6 USDC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from x402sms.money import to_usdc
from x402sms.protocol.eip3009 import Authorization
from x402sms.protocol.networks import Network


class Dialect(StrEnum):
    """The three ways a server writes a challenge; also the order in which one wins."""

    V2 = "v2"
    V1 = "v1"
    HEADER = "header"


@dataclass(frozen=True, slots=True)
class PaymentRequirements:
    """One entry of `accepts`. `raw` is the entry as received, to be echoed verbatim."""

    scheme: str
    network: str
    amount_atomic: int
    asset: str
    pay_to: str
    max_timeout_seconds: int | None
    transfer_method: str | None
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PaymentRequired:
    """A 402 challenge. `resource` and `extensions` (v2) are echoed in the answer."""

    dialect: Dialect
    accepts: tuple[PaymentRequirements, ...]
    error: str | None = None
    resource: Mapping[str, Any] | None = None
    extensions: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """The one entry that was selected: what is checked against the limits is what is signed."""

    network: Network
    amount_atomic: int
    pay_to: str
    max_timeout_seconds: int | None
    challenge: PaymentRequired
    requirements: PaymentRequirements

    @property
    def amount(self) -> Decimal:
        """In USDC."""
        return to_usdc(self.amount_atomic)


@dataclass(frozen=True, slots=True)
class SettlementResponse:
    """What the settlement header of an answer claims."""

    success: bool
    transaction: str
    network: str
    payer: str | None = None
    error_reason: str | None = None
    amount_atomic: int | None = None


class PaymentState(StrEnum):
    """What is known of a payment. All but `VOID` count against the budgets.

    `RESERVED` is on disk before the signature exists; a process that dies there may have sent it.
    `REFUSED` is the server's claim: the authorization can still settle until `valid_before`.
    """

    RESERVED = "reserved"
    SETTLED = "settled"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    VOID = "void"

    @property
    def is_final(self) -> bool:
        return self in (PaymentState.SETTLED, PaymentState.VOID)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A payment about to be signed: what the ledger stores before the signature exists.

    `fingerprint` identifies what is bought (method, origin, path, query, body); `url` is for
    people, without the query. `template` is the payment message but for its payload. `worker` is
    who of a fleet buys it, `labels` say what it is for.
    """

    intent: str
    authorization: Authorization
    method: str
    url: str
    fingerprint: str
    dialect: Dialect
    template: Mapping[str, Any]
    worker: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def receipt(self, outcome: Outcome) -> Receipt:
        """What is known of it, where no ledger could be asked."""
        authorization = self.authorization
        return Receipt(
            intent=self.intent,
            amount=to_usdc(authorization.amount_atomic),
            network=authorization.network.name,
            payer=authorization.payer,
            pay_to=authorization.pay_to,
            nonce=authorization.nonce_hex,
            valid_before=authorization.valid_before,
            transaction=outcome.transaction,
            state=outcome.state,
            method=self.method,
            url=self.url,
            reason=outcome.reason,
            worker=self.worker,
            labels=self.labels,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt, as far as is known, and why we think so.

    `never_sent`: void because this process did not send it (another may have). `chain_time`: void
    because it was unused then, which proves something only of authorizations that had ended.
    """

    state: PaymentState
    reason: str | None = None
    transaction: str | None = None
    never_sent: bool = False
    chain_time: int | None = None
    nonce_burnt: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a call cost, and all that is needed to find its payment on the chain.

    `amount` is in USDC; `network` is the v1 name; `valid_before` is Unix time in seconds;
    `transaction` is the hash the server gave. `verified` is True once the chain itself was asked:
    a settled receipt that is not verified rests on the server's word. `prepaid` is None where the
    price was asked first (and of a call that raised); True where this payment went with the first
    request, whatever its `state`; False where that was not taken, and `risked` (USDC) is what it
    offered then, under the same nonce. `worker` is who of a fleet paid, `labels` say what for.
    """

    intent: str
    amount: Decimal
    network: str
    payer: str
    pay_to: str
    nonce: str
    valid_before: int
    transaction: str | None
    state: PaymentState
    method: str
    url: str
    verified: bool = False
    reason: str | None = None
    prepaid: bool | None = None
    risked: Decimal | None = None
    worker: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class OnChainSettled:
    """`AuthorizationUsed` and the `Transfer` beside it, in one receipt that succeeded."""

    transaction: str
    pay_to: str
    amount_atomic: int


@dataclass(frozen=True, slots=True)
class OnChainCancelled:
    """`AuthorizationCanceled`: the nonce is burnt and nothing was paid."""

    transaction: str


@dataclass(frozen=True, slots=True)
class OnChainUnused:
    """The nonce was unused when the chain's own time was `chain_time` (Unix seconds)."""

    chain_time: int


@dataclass(frozen=True, slots=True)
class OnChainUnread:
    """The chain could not be read. It is never "unused"."""

    why: str


OnChain = OnChainSettled | OnChainCancelled | OnChainUnused | OnChainUnread
