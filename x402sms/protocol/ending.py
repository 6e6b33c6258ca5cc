"""How a presentation ends: what is asked of the chain, what is written down, what is raised.

Each of these is a part of the flow (`flow.py`): a generator of effects.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any, assert_never

from x402sms.errors import LedgerError, PaymentError
from x402sms.money import to_usdc
from x402sms.protocol.effects import CheckChain, Effect, Record, Settle, Sleep
from x402sms.protocol.types import (
    Attempt,
    OnChain,
    OnChainCancelled,
    OnChainSettled,
    OnChainUnread,
    OnChainUnused,
    Outcome,
    PaymentState,
    Receipt,
)
from x402sms.protocol.verdict import (
    UNEXPLAINED,
    Next,
    Verdict,
    not_delivered_error,
    refusal_error,
    unknown_error,
    void_error,
)

# How often, and seconds apart, an RPC is asked for a settlement that it may not have seen yet.
_CHAIN_PAUSES = (0.5, 1.0, 2.0)

Flow = Generator[Effect, Any, Receipt | None]
Paid = Generator[Effect, Any, Receipt]


def hand_over(attempt: Attempt, outcome: Outcome, *, doubt: bool) -> Paid:
    """The answer is there: write down what it says, once the chain has been asked if it can be."""
    if outcome.state is not PaymentState.SETTLED:
        if doubt:  # an earlier presentation may have settled
            outcome = replace(outcome, state=PaymentState.UNKNOWN)
        if outcome.state is PaymentState.UNKNOWN:
            proven = yield from prove(attempt, (yield CheckChain(attempt)))
            if proven is not None:
                return proven
        return (yield from write_down(attempt, outcome))
    found: OnChain | None = yield CheckChain(attempt, outcome.transaction)
    for pause in _CHAIN_PAUSES:
        if not isinstance(found, OnChainUnused):
            break
        yield Sleep(pause)  # an RPC may be a block behind; one that is down keeps nobody waiting
        found = yield CheckChain(attempt, outcome.transaction)
    if found is None:
        return (yield from write_down(attempt, outcome))
    if isinstance(found, OnChainSettled):
        return (yield from settle(attempt, found))
    doubted = f"the server says settled in {outcome.transaction}, the chain: {_shown(found)}"
    return (yield from write_down(attempt, Outcome(PaymentState.UNKNOWN, doubted)))


def conclude(
    attempt: Attempt, verdict: Verdict, *, doubt: bool
) -> Generator[Effect, Any, PaymentError]:
    """No answer to hand over. The error to raise, once the chain was asked and all is written.

    The chain is asked after a refusal too: a resource server whose facilitator settled and then
    timed out says that it did not.
    """
    found: OnChain | None = yield CheckChain(attempt)
    receipt = yield from prove(attempt, found)
    if receipt is not None and receipt.state is PaymentState.SETTLED:
        return not_delivered_error(attempt, receipt)
    if receipt is not None:
        return void_error(attempt, receipt.reason or UNEXPLAINED)
    reason = verdict.outcome.reason or UNEXPLAINED
    if isinstance(found, OnChainUnread):
        reason += f"; the chain {_shown(found)}"
        doubt = doubt or verdict.next is not Next.REFUSE
    state = PaymentState.UNKNOWN if doubt else PaymentState.REFUSED
    yield from write_down(attempt, Outcome(state, reason))
    return unknown_error(attempt, reason) if doubt else refusal_error(attempt, reason)


def prove(attempt: Attempt, found: OnChain | None) -> Flow:
    """What the chain proves of it, written down: settled or void. None where it proves nothing."""
    if isinstance(found, OnChainSettled):
        return (yield from settle(attempt, found))
    if isinstance(found, OnChainCancelled):
        void = Outcome(PaymentState.VOID, _shown(found), nonce_burnt=True)
    elif isinstance(found, OnChainUnused):
        # The ledger knows until when the last of the purchase's authorizations can settle.
        void = Outcome(PaymentState.VOID, f"expired: {_shown(found)}", chain_time=found.chain_time)
    else:
        return None
    try:
        receipt: Receipt = yield Record(attempt, void)
    except LedgerError:
        return None
    return receipt if receipt.state is PaymentState.VOID else None


def _shown(found: OnChainCancelled | OnChainUnused | OnChainUnread) -> str:
    match found:
        case OnChainCancelled():
            return f"cancelled in {found.transaction}"
        case OnChainUnused():
            return f"unused at the chain's time {found.chain_time}"
        case OnChainUnread():
            return f"could not be read ({found.why})"
        case _:
            assert_never(found)


def settle(attempt: Attempt, found: OnChainSettled) -> Paid:
    try:
        receipt: Receipt = yield Settle(attempt, found)
    except LedgerError:
        receipt = attempt.receipt(Outcome(PaymentState.SETTLED, None, found.transaction))
        amount = to_usdc(found.amount_atomic)
        return replace(receipt, amount=amount, pay_to=found.pay_to, verified=True)
    return receipt


def write_down(attempt: Attempt, outcome: Outcome) -> Paid:
    """Record the outcome. Where the ledger fails now, the row still says `reserved`, which counts
    as spent: that is no reason to lose the answer, or the error, that is being handed on."""
    try:
        receipt: Receipt = yield Record(attempt, outcome)
    except LedgerError:
        return attempt.receipt(outcome)
    return receipt
