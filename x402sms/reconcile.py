"""The ledger against the chain: settle what is open by proof, rebuild what was lost."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, assert_never

from x402sms.ledger.base import NOT_KNOWN, Ledger, Payment
from x402sms.ledger.lease import Lease, Leases
from x402sms.protocol.networks import Network, find_network
from x402sms.protocol.types import (
    OnChain,
    OnChainCancelled,
    OnChainSettled,
    OnChainUnread,
    OnChainUnused,
    PaymentState,
)

if TYPE_CHECKING:
    from x402sms.chain import Chain, UsedAuthorization

REBUILT_INTENT = "rebuilt:{nonce}"


class Verdict(StrEnum):
    """What the chain proves of a payment, or that it proves nothing.

    `OPEN` was not used so far and can still settle. `UNREAD` could not be asked. `CONTRADICTED`
    is a verified row for which the chain now shows another transaction: it stays, and counts.
    """

    SETTLED = "settled"
    VOID = "void"
    OPEN = "open"
    UNREAD = "unread"
    CONTRADICTED = "contradicted"

    @property
    def is_proof(self) -> bool:
        return self in (Verdict.SETTLED, Verdict.VOID)


@dataclass(frozen=True, slots=True)
class Finding:
    """One payment, as the ledger has it now, what is known of it, and why.

    `changed` says whether the ledger had it otherwise, or not at all.
    """

    payment: Payment
    verdict: Verdict
    why: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What was looked at, oldest first. `returned`: leases that are over, by what the chain has."""

    findings: tuple[Finding, ...]
    returned: tuple[Lease, ...] = ()

    @property
    def all_proven(self) -> bool:
        """Whether there is proof of each payment that was looked at."""
        return all(finding.verdict.is_proof for finding in self.findings)

    @property
    def changed(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.changed]

    def of(self, verdict: Verdict) -> list[Finding]:
        return [finding for finding in self.findings if finding.verdict is verdict]


def reconcile(
    ledger: Ledger,
    chain_for: Callable[[Network], Chain | None],
    *,
    now: int,
    only: Collection[str] | None = None,
) -> Report:
    """Ask the chain about every payment that it has not proven yet, and write what it proves.

    Those are the reserved, refused and unknown ones, and the settled ones that rest on a server's
    word. What is not proven stays as it is and counts as spent: the report says why. `chain_for`
    gives the chain of a network, None where no RPC is configured for it, and is asked once each;
    `now` is written into the rows. `only`: just the payments with these nonces.

    Raises ConfigError where an RPC is on another chain, LedgerError.
    """
    open_payments = [
        payment
        for payment in ledger.payments()
        if not is_proven(payment) and (only is None or payment.nonce in only)
    ]
    chain_of = cache(chain_for)
    findings = [_ask(ledger, payment, chain_of, now) for payment in reversed(open_payments)]
    return Report(tuple(findings))


def rebuild(ledger: Ledger, chain: Chain, payer: str, *, from_block: int, now: int) -> Report:
    """Make the ledger say of `payer` what the chain says of it from that block on.

    Needs nothing but the chain's events. A nonce that the ledger does not have gets a settled row
    of its own, whose intent and call are not known; a row that says otherwise is corrected, what
    is bought kept. No budget is asked: what is paid is paid. Running it again changes nothing.
    A lease whose every payment has settled by then or never can is returned.
    Raises ChainUnreadable, LedgerError; what was written until then is right.
    """
    leases: Leases | None = getattr(ledger, "leases", None)  # only where workers share a ledger
    chain_time = chain.now()  # before its events are read
    used = chain.used_authorizations(payer, from_block=from_block)
    report = Report(tuple(_rebuild(ledger, chain.network, each, now) for each in used))
    if leases is None or not report.all_proven:
        return report
    returned = leases.return_proven(
        network=chain.network.caip2,
        payer=payer,
        covered_from=chain.block_time(from_block),
        chain_time=chain_time,
    )
    return replace(report, returned=tuple(returned))


def is_proven(payment: Payment) -> bool:
    """Whether nothing can change any more, and that by proof."""
    if payment.state is PaymentState.SETTLED:
        return payment.verified
    return payment.state is PaymentState.VOID


def _ask(
    ledger: Ledger, payment: Payment, chain_for: Callable[[Network], Chain | None], now: int
) -> Finding:
    network = find_network(payment.network)
    if network is None or network.usdc != payment.asset:
        return _unread(payment, f"{payment.asset} on {payment.network} is no USDC that we know")
    chain = chain_for(network)
    if chain is None:
        return _unread(payment, f"no RPC of {network.title} is configured")
    found = chain.look_up(
        payment.payer,
        payment.nonce,
        signed_at=payment.first_at,
        transaction=payment.transaction,
    )
    return _conclude(ledger, payment, found, now)


def _conclude(ledger: Ledger, payment: Payment, found: OnChain, now: int) -> Finding:
    match found:
        case OnChainSettled():
            return _settle(ledger, payment, found, now)
        case OnChainCancelled():
            why = f"cancelled in transaction {found.transaction}"
            return _void(ledger, payment, why, nonce_burnt=True, now=now)
        case OnChainUnused(chain_time=time) if time > payment.settleable_until:
            why = f"expired: still unused when the chain's time was {_utc(time)}"
            return _void(ledger, payment, why, nonce_burnt=False, now=now)
        case OnChainUnused():
            why = f"not settled so far; it can be until {_utc(payment.settleable_until)}"
            return Finding(payment, Verdict.OPEN, why, changed=False)
        case OnChainUnread():
            return _unread(payment, found.why)
        case _:
            assert_never(found)


def _settle(ledger: Ledger, payment: Payment, found: OnChainSettled, now: int) -> Finding:
    settled = ledger.settle_from_chain(payment, found, now=now)
    why = f"settled in transaction {found.transaction}"
    return Finding(settled, Verdict.SETTLED, why, changed=settled != payment)


def _void(ledger: Ledger, payment: Payment, why: str, *, nonce_burnt: bool, now: int) -> Finding:
    if payment.state is PaymentState.SETTLED:
        why = f"the server said settled in {payment.transaction}, but on the chain it is {why}"
    row = ledger.void(payment, why, nonce_burnt=nonce_burnt, now=now)
    if row.state is not PaymentState.VOID:
        return Finding(row, Verdict.OPEN, "it changed meanwhile: ask again", changed=row != payment)
    return Finding(row, Verdict.VOID, why, changed=row != payment)


def _unread(payment: Payment, why: str) -> Finding:
    return Finding(payment, Verdict.UNREAD, why, changed=False)


def _rebuild(ledger: Ledger, network: Network, used: UsedAuthorization, now: int) -> Finding:
    row = _row(network, used, now)
    why = f"settled in transaction {used.transaction}"
    if ledger.insert_settled(row):
        return Finding(row, Verdict.SETTLED, why, changed=True)
    payment = ledger.get(network=row.network, payer=row.payer, nonce=row.nonce)
    assert payment is not None  # noqa: S101  rows are never deleted
    if not (payment.state is PaymentState.SETTLED and payment.verified):
        found = OnChainSettled(used.transaction, used.pay_to, used.amount_atomic)
        return _settle(ledger, payment, found, now)
    if _money(payment) != _money(row):
        why += f", but the ledger has {payment.transaction} for it, as if the chain had said so"
        return Finding(payment, Verdict.CONTRADICTED, why, changed=False)
    return Finding(payment, Verdict.SETTLED, why, changed=False)


def _money(payment: Payment) -> tuple[str, int, str | None]:
    return payment.pay_to, payment.amount_atomic, payment.transaction


def _row(network: Network, used: UsedAuthorization, now: int) -> Payment:
    return Payment(
        intent=REBUILT_INTENT.format(nonce=used.nonce),
        fingerprint=NOT_KNOWN,
        method=NOT_KNOWN,
        url=NOT_KNOWN,
        network=network.caip2,
        asset=network.usdc,
        payer=used.payer,
        pay_to=used.pay_to,
        amount_atomic=used.amount_atomic,
        valid_after=used.block_time,  # of its window, only that this moment was within it
        valid_before=used.block_time,
        nonce=used.nonce,
        dialect=NOT_KNOWN,
        template="{}",
        state=PaymentState.SETTLED,
        reason="rebuilt from the chain",
        transaction=used.transaction,
        verified=True,
        reserved_atomic=used.amount_atomic,
        first_at=used.block_time,
        settleable_until=used.block_time,
        created_at=used.block_time,
        updated_at=now,
    )


def _utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
