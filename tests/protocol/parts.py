"""Challenges as servers write them, and a driver that performs effects without a network."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar, assert_never

from x402sms.driver import drive
from x402sms.errors import PaymentError
from x402sms.limits import SpendLimits
from x402sms.money import to_usdc
from x402sms.protocol.body import MAX_BYTES
from x402sms.protocol.eip3009 import Authorization
from x402sms.protocol.flow import (
    Answer,
    Effect,
    Now,
    Payer,
    Purchase,
    ReadBody,
    Record,
    Reserve,
    Send,
    Sign,
    pay,
)
from x402sms.protocol.networks import BASE, Network
from x402sms.protocol.types import Attempt, Outcome, Receipt
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
    """Performs the effects from a script of answers, and remembers every effect.

    An answer that is an exception is thrown in its place; so is what `failures` has for an effect,
    the first time that it comes.
    """

    answers: list[Said | BaseException]
    failures: dict[type[object], BaseException] = field(default_factory=dict)
    signer: Callable[[Authorization], object] = lambda authorization: sign(WALLET, authorization)
    now: int = NOW
    effects: list[Effect] = field(default_factory=list)
    last: Said = Said(0)

    def perform(self, effect: Effect) -> object:
        self.effects.append(effect)
        failure = self.failures.pop(type(effect), None)
        if failure is not None:
            raise failure
        match effect:
            case Send():
                said = self.answers.pop(0)
                if isinstance(said, BaseException):
                    raise said
                self.last = said
                return Answer(said.status, Headers(said.headers))
            case ReadBody():
                return self.last.body if len(self.last.body) <= MAX_BYTES else None
            case Now():
                return self.now
            case Reserve():
                return None
            case Sign():
                return self.signer(effect.authorization)
            case Record():
                return receipt_of(effect.attempt, effect.outcome)
            case _:
                assert_never(effect)

    def all_of(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    @property
    def kinds(self) -> list[str]:
        """The names of the effects, a paid Send told from the first."""
        return [
            "SendPaid" if isinstance(effect, Send) and effect.payment else type(effect).__name__
            for effect in self.effects
        ]


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
) -> Payer:
    return Payer(WALLET.address, network, limits or SpendLimits(), max_clock_skew)


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
        return [record.outcome for record in self.driver.all_of(Record)]

    @property
    def authorization(self) -> Authorization:
        (signed,) = self.driver.all_of(Sign)
        return signed.authorization

    @property
    def paid_header(self) -> tuple[str, str]:
        (payment,) = [send.payment for send in self.driver.all_of(Send) if send.payment]
        return payment


def play(
    answers: Iterable[Said | BaseException],
    *,
    by: Payer | None = None,
    buying: Purchase | None = None,
    failures: dict[type[object], BaseException] | None = None,
    signer: Callable[[Authorization], object] | None = None,
    now: int = NOW,
) -> Played:
    """Run the flow against these answers, whatever it ends in."""
    driver = Driver(list(answers), failures=failures or {}, now=now)
    if signer is not None:
        driver.signer = signer
    try:
        receipt = drive(pay(by or payer(), buying or purchase()), driver.perform)
    except BaseException as error:  # noqa: BLE001  what is thrown is what is looked at
        return Played(driver, None, error)
    return Played(driver, receipt, None)
