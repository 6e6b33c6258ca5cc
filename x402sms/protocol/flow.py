"""One paid call as a state machine: a generator that yields effects and is sent their results.

A driver (`transport.py`) performs each effect and sends the result back, or *throws the failure*
in: so this flow sees a time-out on the paid request and writes it down. Sync and async differ in
their drivers only.

    Send(no payment) ─ not a 402, or no challenge in it → pass through
      └ 402 → ReadBody → parse → select → check the limits → Reserve → Sign → Send(payment)
                                                  Record: settled | refused | unknown ┘
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from x402sms.errors import (
    ChallengeError,
    ClockSkew,
    InsecureOrigin,
    LedgerError,
    PaymentError,
    PaymentRefused,
    PaymentUnknown,
)
from x402sms.money import format_usdc, to_usdc
from x402sms.protocol import strict_json
from x402sms.protocol.body import decode
from x402sms.protocol.eip3009 import Authorization, intent_nonce, validity_window
from x402sms.protocol.networks import Network, find_network
from x402sms.protocol.selection import select
from x402sms.protocol.types import (
    Attempt,
    Offer,
    Outcome,
    PaymentRequired,
    PaymentState,
    Receipt,
    SettlementResponse,
)
from x402sms.protocol.wire import Headers, encode_payment, parse_challenge, parse_settlement
from x402sms.text import one_line

PAYMENT_REQUIRED = 402


class Limits(Protocol):
    """What the flow needs of `SpendLimits`."""

    @property
    def authorization_ttl(self) -> int: ...

    def check(self, offer: Offer, *, intent: str, max_amount_atomic: int | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Payer:
    """Who pays, where, and within what. `max_clock_skew` is in seconds, None to not look."""

    address: str
    network: Network
    limits: Limits
    max_clock_skew: int | None


@dataclass(frozen=True, slots=True)
class Purchase:
    """What is bought: one logical request, however often it is sent.

    `url` is without its query; `fingerprint` covers all of the request; `private` is False for
    plain http to another machine; `takes_seconds` is how long the request itself may take.
    """

    intent: str
    method: str
    url: str
    fingerprint: str
    private: bool
    takes_seconds: int
    max_amount_atomic: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Headers


class NeverSent(Exception):
    """Thrown into the flow when a request failed before a byte of it left (no connection)."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send the request, with the payment header (name, value) or without. Result: Answer."""

    payment: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class ReadBody:
    """Read the last answer's body, still encoded, to the end or the bound, and close it.

    Result: bytes, or None where it is larger.
    """


@dataclass(frozen=True, slots=True)
class Now:
    """Result: Unix seconds, int."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """Store the attempt durably and count it against the budgets. Result: None."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Sign:
    """Result: 65 bytes r‖s‖v."""

    authorization: Authorization


@dataclass(frozen=True, slots=True)
class Record:
    """Write down what became of the attempt. Result: its Receipt."""

    attempt: Attempt
    outcome: Outcome


Effect = Send | ReadBody | Now | Reserve | Sign | Record
Flow = Generator[Effect, Any, Receipt | None]


def pay(payer: Payer, purchase: Purchase) -> Flow:
    """The flow of one call. Returns the receipt, or None where nothing had to be paid.

    Raises ChallengeError, InsecureOrigin, ClockSkew, NoAcceptableOffer, SpendLimitExceeded with
    nothing signed; PaymentRefused and PaymentUnknown after the payment was sent.
    """
    answer: Answer = yield Send(None)
    try:
        challenge = yield from _challenge(answer)
        if challenge is None:
            return None
        now: int = yield Now()
        attempt, offer = _attempt(payer, purchase, challenge, answer, now)
        yield Reserve(attempt)
        payment = yield from _sign(attempt, offer)
    except PaymentError as error:
        error.intent = purchase.intent  # not every place that refuses knows it
        raise
    answer = yield from _send_payment(attempt, payment)
    outcome = _judge(attempt, answer)
    receipt = yield from _write_down(attempt, outcome)
    if answer.status != PAYMENT_REQUIRED:
        return receipt
    if outcome.reason is None:  # v1 says why in the body; the row is safe already
        outcome = Outcome(outcome.state, (yield from _claimed_reason(answer)))
        yield from _write_down(attempt, outcome)
    raise _refusal(attempt, outcome)


def _challenge(answer: Answer) -> Generator[Effect, Any, PaymentRequired | None]:
    """What the answer asks for, None where it asks for no payment: the caller gets it as it is."""
    headers = answer.headers
    if answer.status != PAYMENT_REQUIRED or not (
        headers.has_challenge() or headers.may_carry_challenge_body()
    ):
        return None
    body: bytes | None = yield ReadBody()
    return parse_challenge(headers, challenge_body(headers, body))


def challenge_body(headers: Headers, body: bytes | None) -> bytes:
    """The body as far as it can hold a challenge; None is one beyond the bound.

    Raises ChallengeError where it might hold one and cannot be read.
    """
    if not headers.may_carry_challenge_body():
        return b""  # a page for people beside a challenge in a header
    try:
        if body is None:
            raise ValueError("is larger than a challenge may be (64 KiB)")
        return decode(body, headers.get("content-encoding") or "")
    except ValueError as error:
        if headers.has_challenge():
            return b""  # the header's challenge stands by itself
        raise ChallengeError(str(error), field="body") from None


def _attempt(
    payer: Payer, purchase: Purchase, challenge: PaymentRequired, answer: Answer, now: int
) -> tuple[Attempt, Offer]:
    """Check everything, then build the one object that is stored and signed."""
    if not purchase.private:
        raise InsecureOrigin(
            f"nothing signed: {purchase.url} asks for a payment over plain http, where anyone on "
            "the way can change the price and take the answer; use https (http is paid only on "
            "this machine's loopback)",
            intent=purchase.intent,
        )
    offer = select(challenge, payer.network)
    payer.limits.check(offer, intent=purchase.intent, max_amount_atomic=purchase.max_amount_atomic)
    _check_clock(payer.max_clock_skew, answer.headers.date(), now)
    valid_after, valid_before = validity_window(
        now,
        asked=offer.max_timeout_seconds,
        needed=purchase.takes_seconds,
        longest=payer.limits.authorization_ttl,
    )
    authorization = Authorization(
        network=offer.network,
        payer=payer.address,
        pay_to=offer.pay_to,
        amount_atomic=offer.amount_atomic,
        valid_after=valid_after,
        valid_before=valid_before,
        nonce=intent_nonce(offer.network, payer.address, purchase.intent),
    )
    attempt = Attempt(
        intent=purchase.intent,
        authorization=authorization,
        method=purchase.method,
        url=purchase.url,
        fingerprint=purchase.fingerprint,
        dialect=challenge.dialect,
        requirements=strict_json.dumps(offer.requirements.raw).decode("ascii"),
    )
    return attempt, offer


def _check_clock(max_skew: int | None, server_time: int | None, now: int) -> None:
    """A clock that is off signs a window that is over, or one far longer than was meant."""
    if max_skew is None or server_time is None or abs(now - server_time) <= max_skew:
        return
    seconds = now - server_time
    minutes, rest = divmod(abs(seconds), 60)
    raise ClockSkew(
        f"nothing signed: this machine's clock is {minutes} min {rest} s "
        f"{'ahead of' if seconds > 0 else 'behind'} the server's, and a payment is signed for a "
        "window of time; set this clock (timedatectl set-ntp true), or pass max_clock_skew=None "
        "if it is the server's that is wrong",
        seconds=seconds,
    )


def _sign(attempt: Attempt, offer: Offer) -> Generator[Effect, Any, tuple[str, str]]:
    try:
        signature: bytes = yield Sign(attempt.authorization)
        return encode_payment(offer, attempt.authorization, signature)
    except GeneratorExit:
        raise
    except BaseException:
        yield from _write_down(attempt, Outcome(PaymentState.VOID, "never sent: it was not signed"))
        raise


def _send_payment(attempt: Attempt, payment: tuple[str, str]) -> Generator[Effect, Any, Answer]:
    try:
        answer: Answer = yield Send(payment)
    except GeneratorExit:
        raise
    except NeverSent:
        yield from _write_down(attempt, Outcome(PaymentState.VOID, "never sent: no connection"))
        raise
    except BaseException as error:
        what = type(error).__name__
        yield from _write_down(attempt, Outcome(PaymentState.UNKNOWN, f"no answer: {what}"))
        if not isinstance(error, Exception):
            raise  # cancelled, or Ctrl-C: the row is written, the caller's wish is done
        raise _unknown(attempt, f"the answer was lost ({what})") from error
    return answer


def _write_down(attempt: Attempt, outcome: Outcome) -> Generator[Effect, Any, Receipt]:
    """Record the outcome. Where the ledger fails now, the row still says `reserved`, which counts
    as spent: that is no reason to lose the answer, or the error, that is being handed on."""
    try:
        receipt: Receipt = yield Record(attempt, outcome)
    except LedgerError:
        return attempt.receipt(outcome)
    return receipt


def _judge(attempt: Attempt, answer: Answer) -> Outcome:
    """What the answer to a paid request says of the money."""
    try:
        settlement = parse_settlement(answer.headers)
    except ChallengeError as error:
        return Outcome(PaymentState.UNKNOWN, f"its settlement header is unreadable: {error}")
    if settlement is None:
        return _without_settlement(answer.status)
    if not settlement.success:
        return Outcome(PaymentState.REFUSED, one_line(settlement.error_reason or "unexplained"))
    mismatch = _mismatch(attempt.authorization, settlement)
    if answer.status == PAYMENT_REQUIRED:
        mismatch = "it says settled and asks for payment again"
    if mismatch:
        return Outcome(PaymentState.UNKNOWN, f"its settlement is not ours: {mismatch}")
    return Outcome(PaymentState.SETTLED, None, settlement.transaction)


def _without_settlement(status: int) -> Outcome:
    if status == PAYMENT_REQUIRED:
        return Outcome(PaymentState.REFUSED)
    # Resource servers settle on success only, so a client error is a claim that nothing settled.
    claims_refusal = 400 <= status < 500
    state = PaymentState.REFUSED if claims_refusal else PaymentState.UNKNOWN
    return Outcome(state, f"answered {status} without a settlement")


def _mismatch(authorization: Authorization, settlement: SettlementResponse) -> str | None:
    if find_network(settlement.network) is not authorization.network:
        return f"it is on {one_line(settlement.network, 40)}"
    if settlement.payer is not None and settlement.payer.lower() != authorization.payer.lower():
        return f"it was paid by {one_line(settlement.payer, 42)}"
    if settlement.amount_atomic not in (None, authorization.amount_atomic):
        return f"its amount is {settlement.amount_atomic} atomic units"
    return None


def _claimed_reason(answer: Answer) -> Generator[Effect, Any, str]:
    """The `error` of a challenge that answers a payment. Whatever is wrong with it: no reason."""
    try:
        body: bytes | None = yield ReadBody()
        challenge = parse_challenge(answer.headers, challenge_body(answer.headers, body))
    except Exception:  # noqa: BLE001  whatever the network does: the refusal is what matters
        challenge = None
    return one_line((challenge and challenge.error) or "unexplained")


def _refusal(attempt: Attempt, outcome: Outcome) -> PaymentError:
    if outcome.state is PaymentState.UNKNOWN:
        return _unknown(attempt, outcome.reason or "unexplained")
    authorization = attempt.authorization
    reason = outcome.reason or "unexplained"
    return PaymentRefused(
        f"the server did not take the payment of {_amount(authorization)}: {reason}."
        f"{_advice(authorization, reason)} It says nothing was debited; the authorization can "
        f"still settle until {_until(authorization)} and counts against your budgets, and it is "
        "not replaced by another",
        reason=reason,
        **_promised(attempt),
    )


def _unknown(attempt: Attempt, why: str) -> PaymentUnknown:
    authorization = attempt.authorization
    return PaymentUnknown(
        f"the payment of {_amount(authorization)} for {attempt.method} {attempt.url} was sent and "
        f"its end is not known: {why}. It can settle until {_until(authorization)} and counts as "
        "spent. Do not buy the same again before you know: "
        f"`x402sms payments show {authorization.nonce_hex}` has what to look for on the chain",
        **_promised(attempt),
    )


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
