"""What holds of every course of the flow: told from the effects alone, not from the flow's words.

A course is the effects in their order, each with its result or with what was thrown in its place.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from tests.protocol.parts import WALLET, Played, Said, unb64
from x402sms.errors import (
    AlreadyPaid,
    PaymentError,
    PaymentRefused,
    PaymentUnknown,
    X402SMSError,
)
from x402sms.money import to_usdc
from x402sms.protocol.effects import (
    CheckChain,
    Effect,
    NeverSent,
    Payer,
    Record,
    Remember,
    Reserve,
    Send,
    Settle,
    Sign,
    Stored,
)
from x402sms.protocol.eip3009 import Authorization, intent_nonce
from x402sms.protocol.networks import BASE
from x402sms.protocol.types import (
    OnChainCancelled,
    OnChainUnused,
    Outcome,
    PaymentState,
    Receipt,
)

NONCE = intent_nonce(BASE, WALLET.address, "invoice-7")
_SETTLEMENT = ("payment-response", "x-payment-response")


def denies(said: object) -> bool:
    """Whether an answer to a payment claims that the payment was not taken."""
    if not isinstance(said, Said):
        return isinstance(said, NeverSent)
    if "nonce_already_used" in _all_text(said):
        return False
    claims = [value for name, value in said.headers if name.lower() in _SETTLEMENT]
    if claims:
        return _says_failed(claims[0])
    kinds = [value for name, value in said.headers if name.lower() == "content-type"]
    problem = any("problem" in kind for kind in kinds)
    return 400 <= said.status < 500 or (said.status >= 500 and problem)


def _says_failed(claim: str) -> bool:
    try:
        return unb64(claim)["success"] is False
    except ValueError:
        return False


def _all_text(said: Said) -> str:
    texts = [said.body.decode("latin-1")]
    for _, value in said.headers:
        try:
            texts.append(base64.b64decode(value, validate=True).decode("latin-1"))
        except ValueError:
            texts.append(value)
    return " ".join(texts)


@dataclass(frozen=True)
class Course:
    """One call, and the promise under its intent that was open before it began (if one was)."""

    played: Played
    recalled: Stored | None = None

    @property
    def steps(self) -> list[tuple[Effect, object]]:
        driver = self.played.driver
        return list(zip(driver.effects, driver.results, strict=True))

    @property
    def open_before(self) -> bool:
        return self.recalled is not None and not self.recalled.state.is_final

    def paid_sends(self) -> list[tuple[int, object]]:
        return [
            (index, result)
            for index, (effect, result) in enumerate(self.steps)
            if isinstance(effect, Send) and effect.payment is not None
        ]

    def left(self, before: int | None = None) -> list[object]:
        """What came back of each presentation that may have left this machine."""
        return [
            result
            for index, result in self.paid_sends()
            if not isinstance(result, NeverSent) and (before is None or index < before)
        ]

    def promised(self, before: int | None = None) -> list[Authorization]:
        """All that the server may hold: what was signed and sent, and what was before."""
        promised = [self.recalled.attempt.authorization] if self.recalled is not None else []
        for index, result in self.paid_sends():
            if not isinstance(result, NeverSent) and (before is None or index < before):
                promised.append(self._signed_last(index))
        return promised

    def _signed_last(self, before: int) -> Authorization:
        return [e.authorization for e, _ in self.steps[:before] if isinstance(e, Sign)][-1]

    def settled_before(self, index: int) -> bool:
        """Whether it was known as settled by then."""
        known = self.recalled is not None and self.recalled.state is PaymentState.SETTLED
        return known or any(isinstance(effect, Settle) for effect, _ in self.steps[:index])

    def in_doubt(self) -> bool:
        return self.open_before or not all(denies(result) for result in self.left())


def assert_lawful(played: Played, by: Payer, recalled: Stored | None = None) -> None:
    course = Course(played, recalled)
    _assert_one_nonce_and_each_promise_reserved(course)
    _assert_sends_are_bounded_and_carry_what_was_signed(course, by)
    _assert_records_say_no_more_than_is_known(course)
    _assert_it_ends_in_an_answer_or_a_documented_error(course)
    _assert_the_last_word_in_the_ledger_is_the_one_told(course)


def _assert_one_nonce_and_each_promise_reserved(course: Course) -> None:
    reserved: list[Authorization] = []
    for index, (effect, result) in enumerate(course.steps):
        if isinstance(effect, Reserve) and not isinstance(result, BaseException):
            reserved.append(effect.attempt.authorization)
        if isinstance(effect, Sign):
            assert effect.authorization.nonce == NONCE
            again = course.recalled is not None and course.settled_before(index)
            if again and course.recalled is not None:
                assert effect.authorization == course.recalled.attempt.authorization
            else:
                assert effect.authorization in reserved


def _assert_sends_are_bounded_and_carry_what_was_signed(course: Course, by: Payer) -> None:
    sends = course.paid_sends()
    assert len(sends) <= 1 + len(by.pauses) + 1  # ... of which one at another price
    unpaid = [
        index for index, (effect, _) in enumerate(course.steps) if effect == Send(payment=None)
    ]
    assert len(unpaid) <= 1
    for index, _ in sends:
        assert all(before < index for before in unpaid)
        effect = course.steps[index][0]
        assert isinstance(effect, Send)
        assert effect.payment is not None
        message = json.loads(base64.b64decode(effect.payment[1], validate=True))
        signed = course._signed_last(index)
        assert message["payload"]["authorization"] == wire(signed)


def wire(authorization: Authorization) -> dict[str, Any]:
    return {
        "from": authorization.payer,
        "to": authorization.pay_to,
        "value": str(authorization.amount_atomic),
        "validAfter": str(authorization.valid_after),
        "validBefore": str(authorization.valid_before),
        "nonce": "0x" + authorization.nonce.hex(),
    }


def _assert_records_say_no_more_than_is_known(course: Course) -> None:
    chain: list[object] = []
    for index, (effect, result) in enumerate(course.steps):
        if isinstance(effect, CheckChain):
            chain.append(result)
        if isinstance(effect, Settle):
            assert effect.found is chain[-1]
        if isinstance(effect, Record) and effect.outcome.state is PaymentState.SETTLED:
            assert chain
            assert set(chain) == {None}, "settled on the server's word, against the chain's"
        if isinstance(effect, Record) and effect.outcome.state is PaymentState.VOID:
            if course.left(index) or course.open_before:
                assert _is_shown(effect.outcome, chain[-1] if chain else None)
            if isinstance(result, Receipt) and result.state is PaymentState.VOID and chain:
                assert _proves_void(chain[-1], course.promised(index))


def _is_shown(outcome: Outcome, shown: object) -> bool:
    """Whether that it is void is what the chain shows. The ledger knows of all that was signed:
    whether the chain's time is past the end of the last is for it to say."""
    if isinstance(shown, OnChainUnused):
        return outcome.chain_time == shown.chain_time
    return isinstance(shown, OnChainCancelled) and outcome.nonce_burnt


def _proves_void(shown: object, promised: list[Authorization]) -> bool:
    if isinstance(shown, OnChainUnused):
        return shown.chain_time > max(each.valid_before for each in promised)
    return isinstance(shown, OnChainCancelled)


def _assert_it_ends_in_an_answer_or_a_documented_error(course: Course) -> None:
    error, thrown = course.played.error, course.played.driver.results
    if error is None:
        last = [step for step, _ in course.steps if not isinstance(step, Remember)][-1]
        assert isinstance(last, Send | Record | Settle) or not course.left()
        return
    # A StopIteration that is thrown into a generator comes out as the cause of a RuntimeError.
    was_thrown = any(each is error or each is error.__cause__ for each in thrown)
    assert was_thrown or isinstance(error, X402SMSError)
    if isinstance(error, PaymentError):
        assert error.intent == "invoice-7"
    if not course.left() or not isinstance(error, Exception):
        return
    # "Nothing was sent", "nothing was signed" would not be true any more.
    assert isinstance(error, PaymentRefused | PaymentUnknown | AlreadyPaid)
    assert error.nonce == "0x" + NONCE.hex()
    promised = course.promised()
    assert error.valid_before is not None
    if isinstance(error, PaymentUnknown):
        assert error.valid_before >= max(each.valid_before for each in promised)
    if not isinstance(error, AlreadyPaid):
        signed = [effect.authorization for effect, _ in course.steps if isinstance(effect, Sign)]
        assert error.amount in {to_usdc(each.amount_atomic) for each in signed}


def _assert_the_last_word_in_the_ledger_is_the_one_told(course: Course) -> None:
    sends = course.paid_sends()
    if not sends:
        return
    last, played = sends[-1][0], course.played
    told = PaymentState.SETTLED if isinstance(played.error, AlreadyPaid) else None
    if played.receipt is not None:
        told = played.receipt.state
    if course.settled_before(last):
        assert told is PaymentState.SETTLED or not isinstance(played.error, Exception)
        return
    written = [_state(*step) for step in course.steps[last:] if is_written(step[0])]
    assert written, "sent, and nothing written down"
    match played.error:
        case None | AlreadyPaid():
            assert written[-1] is told
        case PaymentRefused():
            assert written[-1] in (PaymentState.REFUSED, PaymentState.VOID)
        case PaymentUnknown():
            assert written[-1] is PaymentState.UNKNOWN
        case NeverSent():
            assert written[-1] is PaymentState.VOID
        case _ if isinstance(course.steps[-1][0], Remember):
            pass  # interrupted after all was written
        case _:
            assert written[-1] is PaymentState.UNKNOWN
    if written[-1] is PaymentState.REFUSED:
        assert not course.in_doubt(), "called refused, and may have settled"


def is_written(effect: Effect) -> bool:
    return isinstance(effect, Record | Settle)


def _state(effect: Effect, result: object) -> PaymentState:
    """What the ledger has after that."""
    if isinstance(result, Receipt):
        return result.state
    return effect.outcome.state if isinstance(effect, Record) else PaymentState.SETTLED
