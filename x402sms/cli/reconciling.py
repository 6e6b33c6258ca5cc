"""`x402sms payments reconcile|rebuild`: the ledger against the chain. Nothing is sent."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from x402sms.cli.command import command
from x402sms.cli.failures import HOST, UNKNOWN
from x402sms.cli.leases import lease_document
from x402sms.cli.options import LEDGER_AND_CHAIN
from x402sms.cli.output import Output
from x402sms.cli.payments import find
from x402sms.cli.receipts import counted, path_of, payment_document, short
from x402sms.cli.run import Run
from x402sms.money import usdc

if TYPE_CHECKING:
    from x402sms.ledger import Payment
    from x402sms.ledger.lease import Lease
    from x402sms.reconcile import Finding, Report, Verdict


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What the chain said of each payment that was asked about, oldest first."""

    findings: "Sequence[Finding]"

    @property
    def unproven(self) -> "list[Finding]":
        return [finding for finding in self.findings if not finding.verdict.is_proof]

    @property
    def exit_code(self) -> int:
        """8 where the chain could not be read at all, 5 where an end is still unknown."""
        if not self.unproven:
            return 0
        return HOST if all(each.verdict == "unread" for each in self.findings) else UNKNOWN

    def document(self) -> dict[str, Any]:
        return {
            "proven": len(self.findings) - len(self.unproven),
            "unproven": len(self.unproven),
            "payments": [finding_document(finding) for finding in self.findings],
        }


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What the chain has of a wallet, oldest first."""

    payer: str
    from_block: int
    findings: "Sequence[Finding]"
    returned: "Sequence[Lease]" = ()

    @property
    def added(self) -> "list[Finding]":
        from x402sms.ledger.base import NOT_KNOWN

        return [each for each in self._changed if each.payment.fingerprint == NOT_KNOWN]

    @property
    def corrected(self) -> "list[Finding]":
        from x402sms.ledger.base import NOT_KNOWN

        return [each for each in self._changed if each.payment.fingerprint != NOT_KNOWN]

    @property
    def _changed(self) -> "list[Finding]":
        return [finding for finding in self.findings if finding.changed]

    @property
    def total(self) -> Decimal:
        return sum((finding.payment.amount for finding in self.findings), Decimal(0))

    @property
    def exit_code(self) -> int:
        return 0 if all(finding.verdict.is_proof for finding in self.findings) else UNKNOWN

    def document(self) -> dict[str, Any]:
        return {
            "payer": self.payer,
            "from_block": self.from_block,
            "on_chain": len(self.findings),
            "added": len(self.added),
            "corrected": len(self.corrected),
            "total": self.total,
            "leases_returned": [lease_document(lease) for lease in self.returned],
            "payments": [finding_document(finding) for finding in self.findings],
        }


def register(group: typer.Typer) -> None:
    command(
        group,
        "reconcile",
        show=_show_reconciled,
        options=LEDGER_AND_CHAIN,
        status=lambda reconciled: reconciled.exit_code,
        example="x402sms payments reconcile --rpc-url http://127.0.0.1:8545\n"
        "x402sms payments reconcile signup-test-7",
    )(reconcile)
    command(
        group,
        "rebuild",
        show=_show_rebuilt,
        options=LEDGER_AND_CHAIN,
        status=lambda rebuilt: rebuilt.exit_code,
        example="x402sms payments rebuild --from-block 31000000",
    )(rebuild)


def reconcile(
    run: Run,
    intent_or_nonce: Annotated[
        str | None,
        typer.Argument(metavar="[INTENT_OR_NONCE]", help="Only this payment; else every open one."),
    ] = None,
) -> Reconciled:
    """Ask the chain what became of each payment that is not proven yet.

    Needs an RPC, no wallet. Exit status 0: all proven; 5: some outcome is still unknown; 8: the
    chain could not be read.
    """
    if intent_or_nonce is None:
        return Reconciled(ask_chain(run).findings)
    _ = run.chain  # said before the ledger is searched
    meant = find(run, intent_or_nonce)
    found = {each.payment.nonce: each for each in ask_chain(run, only=meant).findings}
    return Reconciled([found.get(each.nonce) or _proven_before(each) for each in meant])


def rebuild(
    run: Run,
    *,
    from_block: Annotated[int, typer.Option(min=0, metavar="N", help="The first block to read.")],
    address: Annotated[
        str | None, typer.Option(metavar="0x...", help="Whose payments; else your wallet's.")
    ] = None,
) -> Rebuilt:
    """Make the ledger whole from the chain's events alone.

    What the ledger lacks is added, what it has otherwise is corrected; running it again changes
    nothing. Intents are not on the chain: a row that is added has none you would know. Leases of
    workers that are lost are returned, once the chain shows all that was paid from them.
    """
    from x402sms.protocol.keccak import checksum_address
    from x402sms.reconcile import rebuild as rebuild_from

    chain = run.chain
    payer = checksum_address(address) if address else run.wallet.address
    run.out.note(f"reading what {payer} paid on {chain.network.title} since block {from_block}")
    report = rebuild_from(run.ledger, chain, payer, from_block=from_block, now=int(time.time()))
    return Rebuilt(payer, from_block, report.findings, report.returned)


def ask_chain(run: Run, only: "Sequence[Payment] | None" = None) -> "Report":
    """The open payments, or those of `only` that are open, settled or void by proof."""
    from x402sms.reconcile import reconcile as settle_open

    _ = run.chain  # where no RPC is named that is an error, and not an unread chain
    nonces = None if only is None else {payment.nonce for payment in only}
    return settle_open(run.ledger, run.chain_for, now=int(time.time()), only=nonces)


def finding_document(finding: "Finding") -> dict[str, Any]:
    return {
        **payment_document(finding.payment),
        "verdict": finding.verdict,
        "why": finding.why,
        "changed": finding.changed,
    }


def show_findings(out: Output, findings: "Sequence[Finding]") -> None:
    out.table(
        ("call", "USDC", "nonce", "chain", "why"),
        ((*_what(each.payment), str(each.verdict), each.why) for each in findings),
    )


def _what(payment: "Payment") -> tuple[object, ...]:
    from x402sms.ledger.base import NOT_KNOWN

    known = payment.method != NOT_KNOWN
    call = f"{payment.method} {path_of(payment.url)}" if known else "(not known)"
    return call, payment.amount, short(payment.nonce)


def _proven_before(payment: "Payment") -> "Finding":
    from x402sms.reconcile import Finding, Verdict

    if payment.state == "settled":
        why = f"proven before: settled in transaction {payment.transaction}"
        return Finding(payment, Verdict.SETTLED, why, changed=False)
    return Finding(payment, Verdict.VOID, f"proven before: {payment.reason}", changed=False)


def _show_reconciled(out: Output, reconciled: Reconciled) -> None:
    findings = reconciled.findings
    if not findings:
        out.note("nothing to ask: what became of every payment in this ledger is proven")
        return
    show_findings(out, findings)
    out.note(_summary(findings))


def _summary(findings: "Sequence[Finding]") -> str:
    counts: dict[Verdict, int] = {}
    for finding in findings:
        counts[finding.verdict] = counts.get(finding.verdict, 0) + 1
    said = ", ".join(f"{count} {_MEANINGS[verdict]}" for verdict, count in counts.items())
    return f"{counted(findings, 'payment')}: {said}"


_MEANINGS = {
    "settled": "proven settled",
    "void": "proven void",
    "open": "open: can still settle, counts as spent",
    "unread": "not known: the chain was not read, counts as spent",
    "contradicted": "contradicted by the chain, counts as spent",
}


def _show_rebuilt(out: Output, rebuilt: Rebuilt) -> None:
    show_findings(
        out, [each for each in rebuilt.findings if each.changed or not each.verdict.is_proof]
    )
    out.fields(
        (
            ("payer", rebuilt.payer),
            (
                "on the chain",
                f"{counted(rebuilt.findings, 'payment')}, {usdc(rebuilt.total)} USDC",
            ),
            ("added", str(len(rebuilt.added))),
            ("corrected", str(len(rebuilt.corrected))),
            ("leases returned", str(len(rebuilt.returned)) if rebuilt.returned else None),
        )
    )
