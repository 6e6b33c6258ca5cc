"""What an answer to a payment says of the money, and the errors that tell it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any

from x402sms.errors import AlreadyPaid, ChallengeError, PaymentRefused, PaymentUnknown
from x402sms.money import format_usdc, to_usdc
from x402sms.protocol.effects import Answer
from x402sms.protocol.eip3009 import Authorization
from x402sms.protocol.networks import find_network
from x402sms.protocol.quote import PAYMENT_REQUIRED
from x402sms.protocol.types import Attempt, Outcome, PaymentState, Receipt, SettlementResponse
from x402sms.protocol.wire import parse_settlement
from x402sms.text import one_line

UNEXPLAINED = "unexplained"

# x402's codes for what another try of the same payment cannot change.
_FOR_GOOD = ("insufficient", "invalid", "unsupported", "network_mismatch")
# ... and for a nonce that is used already: by us, for only we can sign with it.
_USED = "nonce_already_used"


class Next(Enum):
    """What to do after an answer."""

    HAND_OVER = auto()  # it is the answer to the request, whatever it says of the money
    REFUSE = auto()  # the server says no, and would say so again
    ASK_CHAIN = auto()  # it says that the nonce is used: only the chain knows for what
    AGAIN = auto()  # unclear: present the same payment once more


@dataclass(frozen=True, slots=True)
class Verdict:
    outcome: Outcome
    next: Next


def judge(attempt: Attempt, answer: Answer) -> Verdict:
    """An answer to a request that carried the attempt's payment."""
    try:
        settlement = parse_settlement(answer.headers)
    except ChallengeError as error:
        unreadable = Outcome(PaymentState.UNKNOWN, f"its settlement header is unreadable: {error}")
        return Verdict(unreadable, _after(answer.status))
    if settlement is None:
        return _without_settlement(answer)
    if not settlement.success:
        return refused(answer.status, settlement.error_reason)
    mismatch = _mismatch(attempt.authorization, settlement)
    if answer.status == PAYMENT_REQUIRED:
        mismatch = "it says settled and asks for payment again"
    if mismatch:
        outcome = Outcome(PaymentState.UNKNOWN, f"its settlement is not ours: {mismatch}")
        return Verdict(outcome, _after(answer.status))
    settled = Outcome(PaymentState.SETTLED, None, settlement.transaction)
    return Verdict(settled, Next.HAND_OVER)


def refused(status: int, reason: str | None) -> Verdict:
    """The server says it did not take the payment, for that reason."""
    said = one_line(reason or UNEXPLAINED)
    used = _USED in said
    outcome = Outcome(PaymentState.UNKNOWN if used else PaymentState.REFUSED, said)
    if status != PAYMENT_REQUIRED:
        return Verdict(outcome, Next.HAND_OVER)
    if used:
        return Verdict(outcome, Next.ASK_CHAIN)
    return Verdict(outcome, Next.REFUSE if said.startswith(_FOR_GOOD) else Next.AGAIN)


def lost(error: Exception) -> Verdict:
    """No answer came."""
    outcome = Outcome(PaymentState.UNKNOWN, f"the answer was lost ({type(error).__name__})")
    return Verdict(outcome, Next.AGAIN)


def refusal_error(attempt: Attempt, reason: str) -> PaymentRefused:
    authorization = attempt.authorization
    return PaymentRefused(
        f"the server did not take the payment of {_amount(authorization)}: {reason}."
        f"{_advice(authorization, reason)} It says nothing was debited; the authorization can "
        f"still settle until {_until(authorization)} and counts against your budgets, and it is "
        "not replaced by another",
        reason=reason,
        **_promised(attempt),
    )


def void_error(attempt: Attempt, reason: str) -> PaymentRefused:
    return PaymentRefused(
        f"the payment of {_amount(attempt.authorization)} for {attempt.method} {attempt.url} did "
        f"not happen and cannot any more: {reason}. Nothing was debited",
        reason=reason,
        **_promised(attempt),
    )


def unknown_error(attempt: Attempt, why: str) -> PaymentUnknown:
    authorization = attempt.authorization
    return PaymentUnknown(
        f"the payment of {_amount(authorization)} for {attempt.method} {attempt.url} was sent and "
        f"its end is not known: {why}. It can settle until {_until(authorization)} and counts as "
        "spent. Try again only with the same intent, "
        f"{attempt.intent!r}: then it cannot be paid twice. To find out what became of it: "
        f"`x402sms payments reconcile {authorization.nonce_hex}`",
        **_promised(attempt),
    )


def not_delivered_error(attempt: Attempt, receipt: Receipt) -> AlreadyPaid:
    return AlreadyPaid(
        f"{_amount(attempt.authorization)} for {attempt.method} {attempt.url} is paid, in "
        f"transaction {receipt.transaction}, and the server does not give the answer again. "
        "Nothing more was signed; look for what it bought, or show the server this transaction",
        receipt=receipt,
    )


def _without_settlement(answer: Answer) -> Verdict:
    status = answer.status
    if status == PAYMENT_REQUIRED:
        return refused(status, None)
    said = f"answered {status} without a settlement"
    problem = "problem" in (answer.headers.get("content-type") or "").lower()
    if 400 <= status < 500 or (problem and status >= 500):
        # Resource servers settle on success only, and this one answers on purpose (RFC 7807 is
        # no proxy's page): a claim that nothing settled.
        return Verdict(Outcome(PaymentState.REFUSED, said), Next.HAND_OVER)
    return Verdict(Outcome(PaymentState.UNKNOWN, said), _after(status))


def _after(status: int) -> Next:
    """Of an answer that does not settle anything: is it at least what was asked for?"""
    return Next.AGAIN if status == PAYMENT_REQUIRED or status >= 500 else Next.HAND_OVER


def _mismatch(authorization: Authorization, settlement: SettlementResponse) -> str | None:
    if find_network(settlement.network) is not authorization.network:
        return f"it is on {one_line(settlement.network, 40)}"
    if settlement.payer is not None and settlement.payer.lower() != authorization.payer.lower():
        return f"it was paid by {one_line(settlement.payer, 42)}"
    if settlement.amount_atomic not in (None, authorization.amount_atomic):
        return f"its amount is {settlement.amount_atomic} atomic units"
    return None


def _promised(attempt: Attempt) -> dict[str, Any]:
    authorization = attempt.authorization
    return {
        "intent": attempt.intent,
        "amount": to_usdc(authorization.amount_atomic),
        "nonce": authorization.nonce_hex,
        "valid_before": authorization.valid_before,
    }


def _advice(authorization: Authorization, reason: str) -> str:
    if "insufficient" in reason:
        return (
            f" The wallet {authorization.payer} has less than that in USDC on "
            f"{authorization.network.title}: send USDC to it."
        )
    if "valid_before" in reason or "valid_after" in reason:
        return " Is this machine's clock right?"
    return ""


def _amount(authorization: Authorization) -> str:
    return f"{format_usdc(authorization.amount_atomic)} USDC"


def _until(authorization: Authorization) -> str:
    return datetime.fromtimestamp(authorization.valid_before, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
