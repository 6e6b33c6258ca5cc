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
from typing import Any

from x402sms.errors import PaymentError
from x402sms.money import to_usdc
from x402sms.protocol.ahead import Latest, attempt_ahead, is_for_next_time
from x402sms.protocol.attempt import make_attempt
from x402sms.protocol.effects import (
    Answer,
    CheckChain,
    Effect,
    Now,
    Payer,
    Purchase,
    Recall,
    Remember,
    Reserve,
    Send,
    Sleep,
    Stored,
)
from x402sms.protocol.eip3009 import intent_nonce
from x402sms.protocol.ending import Flow, Paid, prove
from x402sms.protocol.presenting import LAST_SECONDS, present, send_payment, sign_payment
from x402sms.protocol.quote import parse_quote, read_quote
from x402sms.protocol.types import Attempt, PaymentState, Receipt
from x402sms.protocol.verdict import not_delivered_error


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
    receipt = yield from present(payer, purchase, latest, sent_before=earlier is not None)
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
        receipt = yield from present(payer, purchase, latest, sent_before=False)
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
        return (yield from present(payer, purchase, Latest(attempt), sent_before=True))
    receipt = yield from prove(attempt, (yield CheckChain(attempt)))
    if receipt is not None and receipt.state is PaymentState.SETTLED:
        return (yield from _ask_again(payer, attempt, receipt))
    return None


def _ask_again(payer: Payer, attempt: Attempt, receipt: Receipt) -> Paid:
    """Show a payment that has settled once more: a server that replays gives its answer."""
    payment = yield from sign_payment(attempt)
    for pause in (0, *payer.pauses):
        if pause:
            yield Sleep(pause)
        _, answer, _ = yield from send_payment(attempt, payment, sent=True)
        if answer is not None and answer.status < 400:
            return receipt
        if answer is not None and answer.status < 500:
            break
    raise not_delivered_error(attempt, receipt)
