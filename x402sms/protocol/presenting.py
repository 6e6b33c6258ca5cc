"""A payment, presented until its end is clear: signed, sent, and sent again after an unclear end.

A part of the flow (`flow.py`): a generator of effects.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from x402sms.errors import AlreadyPaid, ClockSkew, LedgerError, PaymentError
from x402sms.protocol.ahead import Asked, Latest
from x402sms.protocol.attempt import make_attempt
from x402sms.protocol.effects import (
    Answer,
    Effect,
    NeverSent,
    Now,
    Payer,
    Purchase,
    Reserve,
    Send,
    Sign,
    Sleep,
)
from x402sms.protocol.ending import Paid, conclude, hand_over, write_down
from x402sms.protocol.quote import PAYMENT_REQUIRED, parse_quote, read_quote
from x402sms.protocol.types import Attempt, Outcome, PaymentState
from x402sms.protocol.verdict import UNEXPLAINED, Next, Verdict, judge, lost, refused
from x402sms.protocol.wire import encode_payment

# Facilitators refuse what expires within about 6 s.
LAST_SECONDS = 8


def present(payer: Payer, purchase: Purchase, latest: Latest, *, sent_before: bool) -> Paid:
    """Sign, and send until the end is clear. Whatever interrupts it leaves a row that says so."""
    attempt = latest.attempt
    try:
        payment = yield from sign_payment(attempt)
    except GeneratorExit:
        raise
    except BaseException:
        if not sent_before:
            never = Outcome(PaymentState.VOID, "it was not signed", never_sent=True)
            yield from write_down(attempt, never)
        raise
    try:
        return (
            yield from _presentations(payer, purchase, latest, payment, sent_before=sent_before)
        )
    except (GeneratorExit, PaymentError, NeverSent):
        raise
    except BaseException as error:
        interrupted = Outcome(PaymentState.UNKNOWN, f"interrupted ({type(error).__name__})")
        yield from write_down(attempt, interrupted)
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
        verdict, answer, failure = yield from send_payment(attempt, payment, sent=sent)
        sent = True
        if verdict.next is Next.HAND_OVER:
            return (yield from hand_over(attempt, verdict.outcome, doubt=doubt))
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
                    payment = yield from sign_payment(again)
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
                raise (yield from conclude(attempt, verdict, doubt=doubt)) from error
        pause = next(pauses, None)
        if verdict.next is not Next.AGAIN or not (yield from _wait(attempt, pause)):
            raise (yield from conclude(attempt, verdict, doubt=doubt)) from failure


def sign_payment(attempt: Attempt) -> Generator[Effect, Any, tuple[str, str]]:
    return encode_payment(attempt, (yield Sign(attempt.authorization)))


def send_payment(
    attempt: Attempt, payment: tuple[str, str], *, sent: bool
) -> Generator[Effect, Any, tuple[Verdict, Answer | None, Exception | None]]:
    """The verdict, with the answer or what kept it from coming. `sent`: it may be out already."""
    try:
        answer: Answer = yield Send(payment)
    except NeverSent as error:
        if not sent:
            never = Outcome(PaymentState.VOID, "no connection", never_sent=True)
            yield from write_down(attempt, never)
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


def _second_challenge(answer: Answer, purchase: Purchase) -> Generator[Effect, Any, Asked | None]:
    """The challenge that answers a payment. Whatever is wrong with it: None."""
    try:
        quote = yield from read_quote(answer, purchase.fingerprint)
        challenge = None if quote is None else parse_quote(quote)
        return None if quote is None or challenge is None else Asked(answer, quote, challenge)
    except Exception:  # noqa: BLE001  the refusal is what matters, and that is known already
        return None
