"""A challenge as it came: read once, kept to be paid again, parsed by the same strict code."""

from __future__ import annotations

from collections.abc import Generator

from x402sms.errors import ChallengeError
from x402sms.protocol.body import decode
from x402sms.protocol.effects import Answer, Effect, Quote, ReadBody
from x402sms.protocol.types import PaymentRequired
from x402sms.protocol.wire import Headers, parse_challenge

PAYMENT_REQUIRED = 402


def read_quote(answer: Answer, bought: str) -> Generator[Effect, bytes | None, Quote | None]:
    """What the answer asks for, None where it asks for no payment: the caller gets it as it is."""
    headers = answer.headers
    if answer.status != PAYMENT_REQUIRED or not (
        headers.has_challenge() or headers.may_carry_challenge_body()
    ):
        return None
    body = yield ReadBody()
    return Quote(headers.of_a_challenge(), challenge_body(headers, body), bought)


def parse_quote(quote: Quote) -> PaymentRequired | None:
    """Raises ChallengeError."""
    return parse_challenge(Headers(quote.headers), quote.body)


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
