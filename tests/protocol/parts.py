"""Challenges as servers write them, and a driver that performs effects without a network."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, assert_never

from x402sms.driver import drive
from x402sms.errors import PaymentError
from x402sms.limits import SpendLimits
from x402sms.money import to_usdc
from x402sms.protocol.body import MAX_BYTES
from x402sms.protocol.effects import (
    Answer,
    CheckChain,
    Effect,
    Now,
    Payer,
    Prepay,
    Purchase,
    Quote,
    ReadBody,
    Recall,
    Record,
    Remember,
    Remembered,
    Reserve,
    Send,
    Settle,
    Sign,
    Sleep,
    Stored,
)
from x402sms.protocol.eip3009 import Authorization, intent_nonce
from x402sms.protocol.flow import pay
from x402sms.protocol.networks import BASE, Network
from x402sms.protocol.types import (
    Attempt,
    Dialect,
    OnChain,
    OnChainSettled,
    Outcome,
    PaymentState,
    Receipt,
)
from x402sms.protocol.wire import Headers
from x402sms.wallet import Wallet, sign

NOW = 1_800_000_000
TTL = 300
RECIPIENT = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
STRANGER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
WALLET = Wallet.from_key("0x" + "4c" * 32)
TRANSACTION = "0x" + "ab" * 32

Pairs = tuple[tuple[str, str], ...]
E = TypeVar("E")


def b64(value: object) -> str:
    """Base64 of a JSON value, of a text or of bytes."""
    if isinstance(value, bytes):
        raw = value
    else:
        raw = (value if isinstance(value, str) else json.dumps(value)).encode()
    return base64.b64encode(raw).decode("ascii")


def unb64(value: str) -> Any:
    return json.loads(base64.b64decode(value, validate=True))


def v2_entry(**changes: object) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "scheme": "exact",
        "network": "eip155:8453",
        "amount": "10000",
        "asset": BASE.usdc,
        "payTo": RECIPIENT,
        "maxTimeoutSeconds": 60,
        "extra": {"name": "USD Coin", "version": "2"},
    }
    return entry | changes


def v1_entry(**changes: object) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "scheme": "exact",
        "network": "base",
        "maxAmountRequired": "10000",
        "asset": BASE.usdc,
        "payTo": RECIPIENT,
        "resource": "https://seller.example/sms",
        "description": "a number",
        "mimeType": "application/json",
        "maxTimeoutSeconds": 60,
        "extra": {"name": "USD Coin", "version": "2"},
    }
    return entry | changes


def v2_message(*entries: object, **changes: object) -> dict[str, Any]:
    message = {
        "x402Version": 2,
        "error": "payment required",
        "resource": {"url": "https://seller.example/sms"},
        "accepts": list(entries) or [v2_entry()],
    }
    return message | changes


def v1_message(*entries: object, **changes: object) -> dict[str, Any]:
    message = {
        "x402Version": 1,
        "error": "payment required",
        "accepts": list(entries) or [v1_entry()],
    }
    return message | changes


def example_message(**changes: object) -> dict[str, Any]:
    message: dict[str, Any] = {
        "amount": "0.01",
        "asset": "USDC",
        "chain": "base",
        "recipient": RECIPIENT,
    }
    return message | changes


@dataclass(frozen=True)
class Said:
    """An answer of a server, as its bytes are."""

    status: int
    headers: Pairs = ()
    body: bytes = b""

    def with_headers(self, *pairs: tuple[str, str]) -> Said:
        return Said(self.status, (*self.headers, *pairs), self.body)


def v2(message: object = None, *, body: bytes = b"", status: int = 402) -> Said:
    value = message if isinstance(message, str) else b64(message or v2_message())
    return Said(status, (("PAYMENT-REQUIRED", value),), body)


def v1(message: object = None, *, coding: str | None = None, status: int = 402) -> Said:
    body = message if isinstance(message, bytes) else json.dumps(message or v1_message()).encode()
    pairs: Pairs = (("Content-Type", "application/json"),)
    return Said(status, pairs if coding is None else (*pairs, ("Content-Encoding", coding)), body)


def example(message: object = None, *, status: int = 402) -> Said:
    value = message if isinstance(message, str) else json.dumps(message or example_message())
    return Said(status, (("X-Payment-Required", value),))


def together(*answers: Said) -> Said:
    """One answer that carries all of these."""
    pairs = tuple(pair for said in answers for pair in said.headers)
    return Said(402, pairs, next((said.body for said in answers if said.body), b""))


def gzip(data: bytes) -> bytes:
    squeezer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    return squeezer.compress(data) + squeezer.flush()


def settled(status: int = 200, **changes: object) -> Said:
    claim: dict[str, Any] = {
        "success": True,
        "transaction": TRANSACTION,
        "network": "eip155:8453",
        "payer": WALLET.address,
    }
    return Said(status, (("PAYMENT-RESPONSE", b64(claim | changes)),))


def refused(reason: str = "insufficient_funds", status: int = 402) -> Said:
    claim = {"success": False, "errorReason": reason, "transaction": "", "network": "eip155:8453"}
    return Said(status, (("PAYMENT-RESPONSE", b64(claim)),))


@dataclass
class Driver:
    """Performs the effects from a script of answers, and remembers every effect and its result.

    The last answer, and the last of what the chain says, are given again where more are asked
    for. An answer that is an exception is thrown in its place; so is what `failures` has for an
    effect, the first time that it comes, and what `failing_at` has for the number of an effect.
    """

    answers: list[Said | BaseException]
    failures: dict[type[object], BaseException] = field(default_factory=dict)
    signer: Callable[[Authorization], object] = lambda authorization: sign(WALLET, authorization)
    now: int = NOW
    stored: Stored | None = None
    chain: list[OnChain | None] = field(default_factory=lambda: [None])
    failing_at: dict[int, BaseException] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    results: list[object] = field(default_factory=list)
    last: Said = Said(0)
    settleable_until: int = 0
    quote: Quote | None = None  # what the route was last paid by

    def perform(self, effect: Effect) -> object:
        failure = self.failing_at.get(len(self.effects)) or self.failures.pop(type(effect), None)
        self.effects.append(effect)
        try:
            if failure is not None:
                raise failure
            result = self._result(effect)
        except BaseException as error:
            self.results.append(error)
            raise
        self.results.append(self.last if isinstance(effect, Send) else result)
        return result

    def _result(self, effect: Effect) -> object:
        match effect:
            case Send() | ReadBody() | Sleep():
                return self._outside(effect)
            case CheckChain():
                return next_of(self.chain)
            case Now():
                return self.now
            case Sign():
                return self.signer(effect.authorization)
            case Remembered() | Remember():
                return self._remember(effect)
            case _:
                return self._ledger(effect)

    def _remember(self, effect: Remembered | Remember) -> Quote | None:
        if isinstance(effect, Remember):
            self.quote = effect.quote
            return None
        return self.quote

    def _outside(self, effect: Send | ReadBody | Sleep) -> object:
        match effect:
            case Send():
                said = next_of(self.answers)
                if isinstance(said, BaseException):
                    raise said
                self.last = said
                return Answer(said.status, Headers(said.headers))
            case ReadBody():
                return self.last.body if len(self.last.body) <= MAX_BYTES else None
            case Sleep():
                self.now += math.ceil(effect.seconds)
                return None
            case _:
                assert_never(effect)

    def _ledger(self, effect: Recall | Reserve | Record | Settle) -> object:
        match effect:
            case Recall():
                return self.stored
            case Reserve():
                self._settleable_until(effect.attempt.authorization.valid_before)
                return None
            case Record():
                return self._record(effect.attempt, effect.outcome)
            case Settle():
                return settled_receipt(effect.attempt, effect.found)
            case _:
                assert_never(effect)

    def _record(self, attempt: Attempt, outcome: Outcome) -> Receipt:
        """As a ledger does: what may settle later is not void because it is unused now."""
        if outcome.chain_time is not None and outcome.chain_time <= self._settleable_until():
            outcome = Outcome(PaymentState.UNKNOWN, "it can still settle")
        if outcome.state is PaymentState.VOID:
            self.settleable_until = 0
        return receipt_of(attempt, outcome)

    def _settleable_until(self, valid_before: int = 0) -> int:
        known = 0 if self.stored is None else self.stored.attempt.authorization.valid_before
        self.settleable_until = max(self.settleable_until, valid_before, known)
        return self.settleable_until

    def all_of(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    @property
    def kinds(self) -> list[str]:
        """The names of the effects, a paid Send told from the first."""
        return [
            "SendPaid" if isinstance(effect, Send) and effect.payment else type(effect).__name__
            for effect in self.effects
        ]


def next_of(script: list[E]) -> E:
    return script.pop(0) if len(script) > 1 else script[0]


def settled_receipt(attempt: Attempt, found: OnChainSettled) -> Receipt:
    """What a ledger gives back that wrote down what the chain shows."""
    receipt = receipt_of(attempt, Outcome(PaymentState.SETTLED, None, found.transaction))
    amount = to_usdc(found.amount_atomic)
    return replace(receipt, verified=True, pay_to=found.pay_to, amount=amount)


def receipt_of(attempt: Attempt, outcome: Outcome) -> Receipt:
    authorization = attempt.authorization
    return Receipt(
        intent=attempt.intent,
        amount=to_usdc(authorization.amount_atomic),
        network=authorization.network.name,
        payer=authorization.payer,
        pay_to=authorization.pay_to,
        nonce=authorization.nonce_hex,
        valid_before=authorization.valid_before,
        transaction=outcome.transaction,
        state=outcome.state,
        method=attempt.method,
        url=attempt.url,
        reason=outcome.reason,
    )


def payer(
    *,
    limits: SpendLimits | None = None,
    network: Network = BASE,
    max_clock_skew: int | None = 120,
    pauses: tuple[float, ...] = (),
    prepay: Prepay = Prepay.NEVER,
) -> Payer:
    limits = limits or SpendLimits()
    return Payer(WALLET.address, network, limits, max_clock_skew, pauses, prepay)


def purchase(**changes: Any) -> Purchase:
    given: dict[str, Any] = {
        "intent": "invoice-7",
        "method": "POST",
        "url": "https://seller.example/sms",
        "fingerprint": "f" * 64,
        "private": True,
        "takes_seconds": 0,
    }
    return Purchase(**(given | changes))


def promise(
    *,
    amount_atomic: int = 10_000,
    pay_to: str = RECIPIENT,
    valid_before: int = NOW + 60,
    **changes: Any,
) -> Attempt:
    """An attempt at `purchase()` that was made before."""
    given: dict[str, Any] = {
        "intent": "invoice-7",
        "method": "POST",
        "url": "https://seller.example/sms",
        "fingerprint": "f" * 64,
        "dialect": Dialect.V2,
        "template": {"x402Version": 2, "accepted": v2_entry()},
    }
    authorization = Authorization(
        network=BASE,
        payer=WALLET.address,
        pay_to=pay_to,
        amount_atomic=amount_atomic,
        valid_after=NOW - 600,
        valid_before=valid_before,
        nonce=intent_nonce(BASE, WALLET.address, "invoice-7"),
    )
    return Attempt(authorization=authorization, **(given | changes))


def stored(state: PaymentState, **changes: Any) -> Stored:
    """What a ledger knows of the intent of `purchase()`."""
    attempt = promise(**changes)
    transaction = TRANSACTION if state is PaymentState.SETTLED else None
    return Stored(attempt, state, receipt_of(attempt, Outcome(state, None, transaction)))


@dataclass(frozen=True)
class Played:
    driver: Driver
    receipt: Receipt | None
    error: BaseException | None

    @property
    def payment_error(self) -> PaymentError:
        assert isinstance(self.error, PaymentError), self.error
        return self.error

    @property
    def records(self) -> list[Outcome]:
        """What was to be written down, but for what the ledger did not take."""
        driver = self.driver
        return [
            effect.outcome
            for effect, result in zip(driver.effects, driver.results, strict=True)
            if isinstance(effect, Record)
            and not (isinstance(result, Receipt) and result.state is not effect.outcome.state)
        ]

    @property
    def authorization(self) -> Authorization:
        (signed,) = self.driver.all_of(Sign)
        return signed.authorization

    @property
    def paid_headers(self) -> list[tuple[str, str]]:
        return [send.payment for send in self.driver.all_of(Send) if send.payment]

    @property
    def paid_header(self) -> tuple[str, str]:
        (payment,) = self.paid_headers
        return payment


def play(
    answers: Iterable[Said | BaseException],
    *,
    by: Payer | None = None,
    buying: Purchase | None = None,
    failures: dict[type[object], BaseException] | None = None,
    signer: Callable[[Authorization], object] | None = None,
    now: int = NOW,
    recalled: Stored | None = None,
    chain: Iterable[OnChain | None] = (None,),
    failing_at: dict[int, BaseException] | None = None,
    quote: Quote | None = None,
) -> Played:
    """Run the flow against these answers, whatever it ends in."""
    driver = Driver(
        list(answers),
        failures=failures or {},
        now=now,
        stored=recalled,
        chain=list(chain),
        failing_at=failing_at or {},
        quote=quote,
    )
    if buying is None:
        buying = purchase(intent_given=recalled is not None)
    if signer is not None:
        driver.signer = signer
    try:
        receipt = drive(pay(by or payer(), buying), driver.perform)
    except BaseException as error:  # noqa: BLE001  what is thrown is what is looked at
        return Played(driver, None, error)
    return Played(driver, receipt, None)
