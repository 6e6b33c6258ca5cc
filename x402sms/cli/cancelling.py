"""`x402sms payments cancel`: burn the nonce of a payment that hangs, for gas paid in ETH."""

import re
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from x402sms.cli.asking import agreed, can_ask
from x402sms.cli.command import command
from x402sms.cli.failures import utc
from x402sms.cli.options import LEDGER_AND_CHAIN, PaymentArgument, Yes
from x402sms.cli.output import Output
from x402sms.cli.payments import find
from x402sms.cli.receipts import path_of, payment_document
from x402sms.cli.reconciling import ask_chain
from x402sms.cli.run import Run
from x402sms.errors import CannotCancel, ChainUnreadable, ConfigError
from x402sms.money import usdc

if TYPE_CHECKING:
    from x402sms.chain import CancelEstimate
    from x402sms.ledger import Payment
    from x402sms.reconcile import Finding

_ETH = re.compile(r"[0-9]{1,9}(\.[0-9]{1,18})?|\.[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Cancelled:
    """`transaction` is the cancellation's, None where none was needed; then `why` says so."""

    payment: "Payment"
    transaction: str | None
    why: str

    def document(self) -> dict[str, Any]:
        return {
            "cancelled": True,
            "transaction": self.transaction,
            "why": self.why,
            "payment": payment_document(self.payment),
        }


def register(group: typer.Typer) -> None:
    command(
        group,
        "cancel",
        show=_show,
        options=LEDGER_AND_CHAIN,
        example="x402sms payments cancel 0x3f9a…c41d\n"
        "x402sms payments cancel signup-test-7 --yes --max-cost 0.00001",
    )(cancel)


def cancel(
    run: Run,
    intent_or_nonce: PaymentArgument,
    *,
    yes: Yes = False,
    max_cost: Annotated[
        str | None,
        typer.Option(metavar="ETH", help="The most that the gas may cost; else what is shown."),
    ] = None,
) -> Cancelled:
    """Make sure that a payment which hangs can never settle: burn its nonce on the chain.

    Costs gas, in ETH of your wallet: it says how much and asks first. Waiting until the payment
    has expired costs nothing.
    """
    agreed_to = None if max_cost is None else _wei(max_cost)
    _ = run.chain
    payment = _hanging(run, intent_or_nonce)
    before = _proof(run, payment)
    if before is not None:
        return before
    cost = run.chain.estimate_cancel(run.wallet.address)
    most = cost.needs if agreed_to is None else agreed_to
    _tell(run.out, payment, cost)
    cost.fee_within(most)  # nobody is asked for what cannot be done
    _ask(cost, min(most, cost.needs), yes=yes)
    try:
        sent = run.chain.cancel(run.wallet, payment.nonce, max_cost_wei=most)
    except (CannotCancel, ChainUnreadable):
        meanwhile = _proof(run, payment, told=False)
        if meanwhile is None:
            raise
        return meanwhile
    why = f"cancelled in transaction {sent.transaction}"
    void = run.ledger.void(payment, why, nonce_burnt=True, now=int(time.time()))
    return Cancelled(void, sent.transaction, why)


def _hanging(run: Run, intent_or_nonce: str) -> "Payment":
    """The payment that is meant, if this wallet can cancel it."""
    found = find(run, intent_or_nonce)
    network = run.settings.network
    here = [payment for payment in found if payment.network == network.caip2]
    own = [payment for payment in here if payment.payer == run.wallet.address]
    if len(own) > 1:
        raise ConfigError("several payments are meant: give the whole nonce of one")
    if own:
        return own[0]
    if here:
        raise ConfigError(
            f"that payment is of the wallet {here[0].payer}, and only its key can cancel it; this "
            f"wallet is {run.wallet.address}"
        )
    raise ConfigError(
        f"that payment is on the network {found[0].network}, not on {network.name}: set "
        "X402SMS_NETWORK or --network, and an RPC of that network"
    )


def _proof(run: Run, payment: "Payment", *, told: bool = True) -> Cancelled | None:
    """What the chain proves of it by now, written down; None while it can still settle.

    Raises CannotCancel where it is settled, ChainUnreadable (if `told`) where nothing is known.
    """
    from x402sms.reconcile import Verdict

    if payment.state == "void":
        return Cancelled(payment, None, f"void already: {payment.reason}")
    findings = ask_chain(run, only=[payment]).findings
    finding: Finding | None = findings[0] if findings else None
    if finding is None or finding.verdict is Verdict.SETTLED:
        settled = payment if finding is None else finding.payment
        raise CannotCancel(
            f"nothing cancelled: the payment of {usdc(settled.amount)} USDC settled, in "
            f"transaction {settled.transaction}; the ledger has it so"
        )
    if finding.verdict is Verdict.VOID:
        return Cancelled(finding.payment, None, finding.why)
    if finding.verdict is Verdict.UNREAD and told:
        raise ChainUnreadable(finding.why)
    return None


def _tell(out: Output, payment: "Payment", cost: "CancelEstimate") -> None:
    out.step("promised", f"{usdc(payment.amount)} USDC to {payment.pay_to}")
    out.step("for", f"{payment.method} {path_of(payment.url)}, intent {payment.intent}")
    out.step("settleable", f"until {utc(payment.settleable_until)}")
    out.step("gas", f"{cost.gas} units, at most {cost.needs_eth:f} ETH")
    out.step("paid by", f"{cost.gas_payer}, which has {cost.has_eth:f} ETH")


def _ask(cost: "CancelEstimate", most: int, *, yes: bool) -> None:
    from x402sms.chain import to_eth

    if yes:
        return
    if not can_ask():
        raise ConfigError(
            f"nothing sent: a cancellation costs up to {to_eth(most):f} ETH, and there is no "
            "terminal to ask you on; --yes agrees to it"
        )
    if not agreed(f"Cancel it, for at most {to_eth(most):f} ETH of {cost.gas_payer}?"):
        raise ConfigError("nothing sent: you said no")


def _wei(eth: str) -> int:
    """Raises ValueError."""
    if not _ETH.fullmatch(eth.strip()):
        raise ValueError(f"--max-cost is an amount of ETH such as 0.00001, not {eth[:40]!r}")
    return int(Decimal(eth.strip()).scaleb(18))


def _show(out: Output, cancelled: Cancelled) -> None:
    out.fields(
        (
            ("state", cancelled.payment.state),
            ("because", cancelled.why),
            ("transaction", cancelled.transaction),
            ("nonce", cancelled.payment.nonce),
        )
    )
    out.note("Nothing was debited, and nothing can be any more.")
