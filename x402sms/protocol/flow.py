"""One paid call as a state machine: a generator that yields effects and is sent their results.

A driver (`transport.py`) performs each effect and sends the result back, or *throws the failure*
in: so this flow sees a time-out on the paid request and writes it down. Sync and async differ in
their drivers only.

    the intent is known and open: present the same payment again
    the route was paid before: pay ahead, as it was (`Prepay`); a 402 says what it costs now
    Send(no payment) ─ not a 402, or no challenge in it → pass through
      └ 402 → ReadBody → parse → select → check the limits → Reserve → Sign → Send(payment)
          unclear end: the same again, a bounded number of times → CheckChain ┘
          Record: settled | refused | unknown

Whatever happens, all that is ever signed for one intent has one nonce.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any, assert_never

from x402sms.errors import (
    AlreadyPaid,
    ClockSkew,
    LedgerError,
    PaymentError,
)
from x402sms.money import to_usdc
from x402sms.protocol.ahead import Asked, Latest, attempt_ahead, is_for_next_time
from x402sms.protocol.attempt import make_attempt
from x402sms.protocol.effects import (
    Answer,
    CheckChain,
    Effect,
    NeverSent,
    Now,
    Payer,
    Purchase,
    Recall,
    Record,
    Remember,
    Reserve,
    Send,
    Settle,
    Sign,
    Sleep,
    Stored,
)
from x402sms.protocol.eip3009 import intent_nonce
from x402sms.protocol.quote import PAYMENT_REQUIRED, parse_quote, read_quote
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
    judge,
    lost,
    not_delivered_error,
    refusal_error,
    refused,
    unknown_error,
    void_error,
)
from x402sms.protocol.wire import encode_payment

# Facilitators refuse what expires within about 6 s.
LAST_SECONDS = 8
# How often, and seconds apart, an RPC is asked for a settlement that it may not have seen yet.
_CHAIN_PAUSES = (0.5, 1.0, 2.0)

Flow = Generator[Effect, Any, Receipt | None]
Paid = Generator[Effect, Any, Receipt]


def pay(payer: Payer, purchase: Purchase) -> Flow:
    """The flow of one call. Returns the receipt, or None where nothing had to be paid.

    Raises ChallengeError, InsecureOrigin, ClockSkew, NoAcceptableOffer, SpendLimitExceeded,
    IntentConflict with nothing signed; PaymentRefused and PaymentUnknown after the payment was
    sent; AlreadyPaid where it is settled and the server does not answer again.
    """
    try:
        return (yield from _pay(payer, purchase))
    except PaymentError as error:
        if error.intent is None:  # not every place that refuses knows it
            error.intent = purchase.intent
        raise


def _pay(payer: Payer, purchase: Purchase) -> Flow:
    earlier = yield from _recall(payer, purchase)
    if earlier is not None:
        receipt = yield from _resume(payer, purchase, earlier)
        if receipt is not None:
            return receipt
    else:
        receipt = yield from _pay_ahead(payer, purchase)
        if receipt is not None:
            return receipt
    answer: Answer = yield Send(None)
    quote = yield from read_quote(answer, purchase.fingerprint)
    challenge = None if quote is None else parse_quote(quote)
    if challenge is None:
        return None
    now: int = yield Now()
    latest = Latest(make_attempt(payer, purchase, challenge, answer, now), quote)
    yield Reserve(latest.attempt)
    receipt = yield from _present(payer, purchase, latest, sent_before=earlier is not None)
    settled = receipt.state is PaymentState.SETTLED  # an offer that nobody took is no price
    if settled and is_for_next_time(payer, purchase, latest.attempt):
        yield Remember(purchase.route, latest.quote)
    return receipt


def _pay_ahead(payer: Payer, purchase: Purchase) -> Flow:
    """Pay with the first request, as `ahead.py` has it. None: ask first."""
    attempt = yield from attempt_ahead(payer, purchase)
    if attempt is None:
        return None
    latest = Latest(attempt, ahead=True)
    try:
        receipt = yield from _present(payer, purchase, latest, sent_before=False)
    except PaymentError:
        yield Remember(purchase.route, None)  # the next call asks first
        raise
    settled = receipt.state is PaymentState.SETTLED
    if latest.anew or not settled:
        # Forgotten: it is free now, or the server takes its offers only as answers.
        priced = settled and latest.moved and is_for_next_time(payer, purchase, latest.attempt)
        yield Remember(purchase.route, latest.quote if priced else None)
    risked = to_usdc(attempt.authorization.amount_atomic) if latest.anew else None
    return replace(receipt, prepaid=not latest.anew, risked=risked)


def _recall(payer: Payer, purchase: Purchase) -> Generator[Effect, Any, Stored | None]:
    """What was promised under this intent for this very request, if that is not void."""
    if not purchase.intent_given:
        return None
    nonce = intent_nonce(payer.network, payer.address, purchase.intent)
    stored: Stored | None = yield Recall(nonce)
    if stored is None or stored.state is PaymentState.VOID:
        return None
    # The intent of something else is refused where it would be signed for: not every request
    # with it has to be paid (a redirect after the payment, say).
    return stored if stored.attempt.fingerprint == purchase.fingerprint else None


def _resume(payer: Payer, purchase: Purchase, stored: Stored) -> Flow:
    """Go on with a payment that was promised before. None: sign anew, under the same nonce."""
    attempt = stored.attempt
    if stored.state is PaymentState.SETTLED:
        return (yield from _ask_again(payer, attempt, stored.receipt))
    now: int = yield Now()
    if now + LAST_SECONDS <= attempt.authorization.valid_before:
        yield Reserve(attempt)
        return (yield from _present(payer, purchase, Latest(attempt), sent_before=True))
    receipt = yield from _prove(attempt, (yield CheckChain(attempt)))
    if receipt is not None and receipt.state is PaymentState.SETTLED:
        return (yield from _ask_again(payer, attempt, receipt))
    return None


def _ask_again(payer: Payer, attempt: Attempt, receipt: Receipt) -> Paid:
    """Show a payment that has settled once more: a server that replays gives its answer."""
    payment = encode_payment(attempt, (yield Sign(attempt.authorization)))
    for pause in (0, *payer.pauses):
        if pause:
            yield Sleep(pause)
        _, answer, _ = yield from _send_payment(attempt, payment, sent=True)
        if answer is not None and answer.status < 400:
            return receipt
        if answer is not None and answer.status < 500:
            break
    raise not_delivered_error(attempt, receipt)


def _present(payer: Payer, purchase: Purchase, latest: Latest, *, sent_before: bool) -> Paid:
    """Sign, and send until the end is clear. Whatever interrupts it leaves a row that says so."""
    attempt = latest.attempt
    try:
        payment = yield from _sign(attempt)
    except GeneratorExit:
        raise
    except BaseException:
        if not sent_before:
            never = Outcome(PaymentState.VOID, "it was not signed", never_sent=True)
            yield from _write_down(attempt, never)
        raise
    try:
        return (
            yield from _presentations(payer, purchase, latest, payment, sent_before=sent_before)
        )
    except (GeneratorExit, PaymentError, NeverSent):
        raise
    except BaseException as error:
        interrupted = Outcome(PaymentState.UNKNOWN, f"interrupted ({type(error).__name__})")
        yield from _write_down(attempt, interrupted)
        raise


def _presentations(
    payer: Payer,
    purchase: Purchase,
    latest: Latest,
    payment: tuple[str, str],
    *,
    sent_before: bool,
) -> Paid:
    pauses = iter(payer.pauses)
    attempt, sent = latest.attempt, sent_before
    # Whether one of its presentations may have settled: then a refusal proves nothing.
    doubt = sent_before
    while True:
        verdict, answer, failure = yield from _send_payment(attempt, payment, sent=sent)
        sent = True
        if verdict.next is Next.HAND_OVER:
            return (yield from _hand_over(attempt, verdict.outcome, doubt=doubt))
        asked = None
        if answer is not None and answer.status == PAYMENT_REQUIRED:
            asked = yield from _second_challenge(answer, purchase)
            if asked is not None and verdict.outcome.reason == UNEXPLAINED:
                verdict = refused(answer.status, asked.challenge.error)
        doubt = doubt or verdict.outcome.state is PaymentState.UNKNOWN
        if asked is not None and not latest.anew:
            try:
                again = yield from _terms_now(payer, purchase, latest, asked)
                if again is not None:
                    payment = yield from _sign(again)
                    attempt = again
                    continue
            except AlreadyPaid:
                raise
            except (PaymentError, LedgerError, ClockSkew) as error:
                # Nothing was signed for the new terms, but for the old ones something was.
                state = verdict.outcome.state
                asks = "again" if isinstance(error, ClockSkew) else "for something else now"
                why = Outcome(state, f"it asks {asks}, and {error}")
                verdict = Verdict(why, Next.REFUSE)
                raise (yield from _conclude(attempt, verdict, doubt=doubt)) from error
        pause = next(pauses, None)
        if verdict.next is not Next.AGAIN or not (yield from _wait(attempt, pause)):
            raise (yield from _conclude(attempt, verdict, doubt=doubt)) from failure


def _sign(attempt: Attempt) -> Generator[Effect, Any, tuple[str, str]]:
    return encode_payment(attempt, (yield Sign(attempt.authorization)))


def _send_payment(
    attempt: Attempt, payment: tuple[str, str], *, sent: bool
) -> Generator[Effect, Any, tuple[Verdict, Answer | None, Exception | None]]:
    """The verdict, with the answer or what kept it from coming. `sent`: it may be out already."""
    try:
        answer: Answer = yield Send(payment)
    except NeverSent as error:
        if not sent:
            never = Outcome(PaymentState.VOID, "no connection", never_sent=True)
            yield from _write_down(attempt, never)
            raise
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        return lost(cause), None, cause
    except Exception as error:  # noqa: BLE001  whatever the network does: the money is out
        return lost(error), None, error
    return judge(attempt, answer), answer, None


def _terms(attempt: Attempt) -> tuple[int, str]:
    return attempt.authorization.amount_atomic, attempt.authorization.pay_to


def _terms_now(
    payer: Payer, purchase: Purchase, latest: Latest, asked: Asked
) -> Generator[Effect, Any, Attempt | None]:
    """The same purchase at the terms that the server asks now, under the same nonce, reserved.

    None where they are the old ones, and those did answer a challenge (did not go ahead of it).
    The old authorization and the new one cannot both settle.
    """
    attempt = latest.attempt
    now: int = yield Now()
    try:
        again = make_attempt(payer, purchase, asked.challenge, asked.answer, now)
    except ClockSkew:
        if latest.ahead:
            raise
        return None  # it passed a moment ago: this is another machine's clock
    old, new = attempt.authorization, again.authorization
    moved = _terms(attempt) != _terms(again)
    if not moved and not latest.ahead:
        return None
    # Until the later of the two ends: what we say of the purchase has one `valid_before`.
    until = max(old.valid_before, new.valid_before)
    again = replace(again, authorization=replace(new, valid_before=until))
    yield Reserve(again)
    latest.attempt, latest.quote, latest.anew, latest.moved = again, asked.quote, True, moved
    return again


def _wait(attempt: Attempt, pause: float | None) -> Generator[Effect, Any, bool]:
    """Wait before the next presentation; False where there is to be none."""
    if pause is None:
        return False
    now: int = yield Now()
    if now + pause + LAST_SECONDS > attempt.authorization.valid_before:
        return False
    yield Sleep(pause)
    return True


def _hand_over(attempt: Attempt, outcome: Outcome, *, doubt: bool) -> Paid:
    """The answer is there: write down what it says, once the chain has been asked if it can be."""
    if outcome.state is not PaymentState.SETTLED:
        if doubt:  # an earlier presentation may have settled
            outcome = replace(outcome, state=PaymentState.UNKNOWN)
        if outcome.state is PaymentState.UNKNOWN:
            proven = yield from _prove(attempt, (yield CheckChain(attempt)))
            if proven is not None:
                return proven
        return (yield from _write_down(attempt, outcome))
    found: OnChain | None = yield CheckChain(attempt, outcome.transaction)
    for pause in _CHAIN_PAUSES:
        if not isinstance(found, OnChainUnused):
            break
        yield Sleep(pause)  # an RPC may be a block behind; one that is down keeps nobody waiting
        found = yield CheckChain(attempt, outcome.transaction)
    if found is None:
        return (yield from _write_down(attempt, outcome))
    if isinstance(found, OnChainSettled):
        return (yield from _settle(attempt, found))
    doubted = f"the server says settled in {outcome.transaction}, the chain: {_shown(found)}"
    return (yield from _write_down(attempt, Outcome(PaymentState.UNKNOWN, doubted)))


def _conclude(
    attempt: Attempt, verdict: Verdict, *, doubt: bool
) -> Generator[Effect, Any, PaymentError]:
    """No answer to hand over. The error to raise, once the chain was asked and all is written.

    The chain is asked after a refusal too: a resource server whose facilitator settled and then
    timed out says that it did not.
    """
    found: OnChain | None = yield CheckChain(attempt)
    receipt = yield from _prove(attempt, found)
    if receipt is not None and receipt.state is PaymentState.SETTLED:
        return not_delivered_error(attempt, receipt)
    if receipt is not None:
        return void_error(attempt, receipt.reason or UNEXPLAINED)
    reason = verdict.outcome.reason or UNEXPLAINED
    if isinstance(found, OnChainUnread):
        reason += f"; the chain {_shown(found)}"
        doubt = doubt or verdict.next is not Next.REFUSE
    state = PaymentState.UNKNOWN if doubt else PaymentState.REFUSED
    yield from _write_down(attempt, Outcome(state, reason))
    return unknown_error(attempt, reason) if doubt else refusal_error(attempt, reason)


def _prove(attempt: Attempt, found: OnChain | None) -> Flow:
    """What the chain proves of it, written down: settled or void. None where it proves nothing."""
    if isinstance(found, OnChainSettled):
        return (yield from _settle(attempt, found))
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


def _settle(attempt: Attempt, found: OnChainSettled) -> Paid:
    try:
        receipt: Receipt = yield Settle(attempt, found)
    except LedgerError:
        receipt = attempt.receipt(Outcome(PaymentState.SETTLED, None, found.transaction))
        amount = to_usdc(found.amount_atomic)
        return replace(receipt, amount=amount, pay_to=found.pay_to, verified=True)
    return receipt


def _write_down(attempt: Attempt, outcome: Outcome) -> Paid:
    """Record the outcome. Where the ledger fails now, the row still says `reserved`, which counts
    as spent: that is no reason to lose the answer, or the error, that is being handed on."""
    try:
        receipt: Receipt = yield Record(attempt, outcome)
    except LedgerError:
        return attempt.receipt(outcome)
    return receipt


def _second_challenge(answer: Answer, purchase: Purchase) -> Generator[Effect, Any, Asked | None]:
    """The challenge that answers a payment. Whatever is wrong with it: None."""
    try:
        quote = yield from read_quote(answer, purchase.fingerprint)
        challenge = None if quote is None else parse_quote(quote)
        return None if quote is None or challenge is None else Asked(answer, quote, challenge)
    except Exception:  # noqa: BLE001  the refusal is what matters, and that is known already
        return None
