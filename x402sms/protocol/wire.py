"""Headers and bodies <-> types, in the three dialects of x402 over HTTP.

Every byte read here is an attacker's: strict, bounded, and an error names the field. camelCase
lives only in this module. Sources: x402 specification v1 and v2, "HTTP transport".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from x402sms.errors import ChallengeError
from x402sms.money import parse_atomic, parse_usdc
from x402sms.protocol import strict_json
from x402sms.protocol.body import MAX_BYTES
from x402sms.protocol.eip3009 import Authorization
from x402sms.protocol.keccak import ZERO_ADDRESS, checksum_address
from x402sms.protocol.networks import find_network
from x402sms.protocol.types import (
    Attempt,
    Dialect,
    PaymentRequired,
    PaymentRequirements,
    SettlementResponse,
)

MAX_OFFERS = 32
MAX_TEXT = 2048

CHALLENGE_HEADERS = {Dialect.V2: "payment-required", Dialect.HEADER: "x-payment-required"}
PAYMENT_HEADERS = {
    Dialect.V2: "PAYMENT-SIGNATURE",
    Dialect.V1: "X-PAYMENT",
    Dialect.HEADER: "X-PAYMENT",
}
_SETTLEMENT_HEADERS = ("payment-response", "x-payment-response")
_TRANSACTION = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)


class Headers:
    """Response headers, by lower-case name. A header this protocol reads may come only once."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name.lower(), []).append(value)

    def get(self, name: str) -> str | None:
        """The first value, for headers that are only hints."""
        values = self._values.get(name)
        return values[0] if values else None

    def only(self, name: str) -> str | None:
        values = self._values.get(name)
        if values is None:
            return None
        if len(values) > 1:
            raise ChallengeError("sent more than once", field=f"header {name}")
        if len(values[0]) > MAX_BYTES:
            raise ChallengeError(f"longer than {MAX_BYTES} bytes", field=f"header {name}")
        return values[0]

    def date(self) -> int | None:
        """The answer's `Date` as Unix seconds, None where there is none that can be read."""
        try:
            moment = parsedate_to_datetime(self.get("date") or "")
            # RFC 9110, 5.6.7: a form without a zone (asctime) is UTC too.
            zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return int(zoned.timestamp())
        except (ValueError, TypeError, IndexError, OverflowError):
            return None

    def may_carry_challenge_body(self) -> bool:
        """Is the body worth reading for a v1 challenge? JSON, or a type left unsaid, is.

        Not a problem document (RFC 7807): that is the service's own refusal.
        """
        content_type = (self.get("content-type") or "json").lower()
        return "json" in content_type and "problem" not in content_type

    def of_a_challenge(self) -> tuple[tuple[str, str], ...]:
        """Those that a challenge is read from, in their order."""
        read = {*CHALLENGE_HEADERS.values(), "content-type"}
        return tuple(
            (name, value)
            for name, values in self._values.items()
            if name in read
            for value in values
        )

    def has_challenge(self) -> bool:
        return any(name in self._values for name in CHALLENGE_HEADERS.values())


def parse_challenge(headers: Headers, body: bytes) -> PaymentRequired | None:
    """The challenge of a 402, or None where it carries none (REST's `insufficient-balance`).

    v2 wins over v1 over the header dialect; where two disagree on amount or recipient nothing may
    be signed. Raises ChallengeError for anything malformed or out of bounds.
    """
    found = [
        challenge
        for challenge in (_parse_v2(headers), _parse_v1(headers, body), _parse_header(headers))
        if challenge is not None
    ]
    for other in found[1:]:
        _check_agreement(found[0], other)
    return found[0] if found else None


def encode_payment(attempt: Attempt, signature: bytes) -> tuple[str, str]:
    """The payment header (name, value) that answers the challenge in its own dialect."""
    payload = {
        "signature": "0x" + signature.hex(),
        "authorization": _wire(attempt.authorization),
    }
    message = {**attempt.template, "payload": payload}
    value = base64.b64encode(strict_json.dumps(message)).decode("ascii")
    return PAYMENT_HEADERS[attempt.dialect], value


def parse_settlement(headers: Headers) -> SettlementResponse | None:
    """What the settlement header claims, None where there is no such header.

    Raises ChallengeError where it cannot be read: then nothing is known of the settlement.
    """
    found = [
        (name, value) for name in _SETTLEMENT_HEADERS if (value := headers.only(name)) is not None
    ]
    if not found:
        return None
    if len({value for _, value in found}) > 1:
        raise ChallengeError("the two settlement headers differ", field=f"header {found[0][0]}")
    name, value = found[0]
    fields = _Fields.of(_decode(value, f"header {name}"), name)
    success = fields.value("success")
    if not isinstance(success, bool):
        raise fields.wrong("success", "must be true or false")
    transaction = fields.text("transaction") if success else (fields.maybe("transaction") or "")
    if success and _TRANSACTION.fullmatch(transaction) is None:
        raise fields.wrong("transaction", "is not a transaction hash: 0x and 64 hex digits")
    amount = fields.maybe("amount")
    return SettlementResponse(
        success=success,
        transaction=transaction,
        network=fields.text("network") if success else (fields.maybe("network") or ""),
        payer=fields.maybe("payer"),
        error_reason=fields.maybe("errorReason"),
        amount_atomic=None if amount is None else fields.atomic("amount"),
    )


def _parse_v2(headers: Headers) -> PaymentRequired | None:
    name = CHALLENGE_HEADERS[Dialect.V2]
    value = headers.only(name)
    if value is None:
        return None
    fields = _Fields.of(_decode(value, f"header {name}"), "")
    fields.version(2)
    return PaymentRequired(
        dialect=Dialect.V2,
        accepts=fields.offers("amount"),
        error=fields.maybe("error"),
        resource=fields.maybe_object("resource"),
        extensions=fields.maybe_object("extensions"),
    )


def _parse_v1(headers: Headers, body: bytes) -> PaymentRequired | None:
    if not headers.may_carry_challenge_body():
        return None
    claims_x402 = b'"x402Version"' in body  # else any other JSON: not ours to judge
    if not claims_x402:
        return None
    fields = _Fields.of(_json(_utf8(body, "body"), "body"), "")
    if headers.has_challenge() and fields.mapping.get("x402Version") == 2:
        return None  # a copy for people of what the header says
    fields.version(1)
    return PaymentRequired(
        dialect=Dialect.V1,
        accepts=fields.offers("maxAmountRequired"),
        error=fields.maybe("error"),
    )


def _parse_header(headers: Headers) -> PaymentRequired | None:
    name = CHALLENGE_HEADERS[Dialect.HEADER]
    value = headers.only(name)
    if value is None:
        return None
    fields = _Fields.of(_json(value, f"header {name}"), "")
    try:
        amount_atomic = parse_usdc(fields.text("amount"))
    except ValueError as error:
        raise fields.wrong("amount", str(error)) from None
    requirements = PaymentRequirements(
        scheme="exact",
        network=fields.text("chain"),
        amount_atomic=amount_atomic,
        asset=fields.text("asset"),
        pay_to=fields.address("recipient"),
        max_timeout_seconds=None,
        transfer_method=None,
        raw=fields.mapping,
    )
    return PaymentRequired(dialect=Dialect.HEADER, accepts=(requirements,))


@dataclass(frozen=True, slots=True)
class _Fields:
    """A JSON object read field by field; every complaint names the path."""

    mapping: Mapping[str, Any]
    path: str

    @classmethod
    def of(cls, value: object, path: str) -> _Fields:
        if not isinstance(value, dict):
            raise ChallengeError("must be a JSON object", field=path or "challenge")
        return cls(value, path)

    def wrong(self, name: str, why: str) -> ChallengeError:
        return ChallengeError(why, field=f"{self.path}.{name}".lstrip("."))

    def value(self, name: str) -> object:
        if name not in self.mapping:
            raise self.wrong(name, "is missing")
        return self.mapping[name]

    def text(self, name: str) -> str:
        value = self.value(name)
        if not isinstance(value, str):
            raise self.wrong(name, "must be a string")
        if len(value) > MAX_TEXT:
            raise self.wrong(name, f"is longer than {MAX_TEXT} characters")
        return value

    def maybe(self, name: str) -> str | None:
        return None if self.mapping.get(name) is None else self.text(name)

    def maybe_object(self, name: str) -> Mapping[str, Any] | None:
        value = self.mapping.get(name)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(name, "must be an object")
        return value

    def atomic(self, name: str) -> int:
        try:
            return parse_atomic(self.text(name))
        except ValueError as error:
            raise self.wrong(name, f"is {error}") from None

    def address(self, name: str) -> str:
        try:
            address = checksum_address(self.text(name))
        except ValueError as error:
            raise self.wrong(name, f"is no address we can trust: {error}") from None
        if address == ZERO_ADDRESS:
            raise self.wrong(name, "is the zero address")
        return address

    def seconds(self, name: str) -> int:
        value = self.value(name)
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise self.wrong(name, "must be a positive whole number")
        return value

    def version(self, expected: int) -> None:
        version = self.value("x402Version")
        if type(version) is not int or version != expected:
            raise self.wrong("x402Version", f"must be {expected} here")

    def offers(self, amount_name: str) -> tuple[PaymentRequirements, ...]:
        entries = self.value("accepts")
        if not isinstance(entries, list) or not entries:
            raise self.wrong("accepts", "must be a list with at least one entry")
        if len(entries) > MAX_OFFERS:
            raise self.wrong("accepts", f"has more than {MAX_OFFERS} entries")
        return tuple(
            _Fields.of(entry, f"accepts[{index}]").offer(amount_name)
            for index, entry in enumerate(entries)
        )

    def offer(self, amount_name: str) -> PaymentRequirements:
        network = self.text("network")
        # Other chains write addresses otherwise; those offers are never paid, only listed.
        evm = find_network(network) is not None or network.startswith("eip155:")
        extra = _Fields(self.maybe_object("extra") or {}, f"{self.path}.extra")
        return PaymentRequirements(
            scheme=self.text("scheme"),
            network=network,
            amount_atomic=self.atomic(amount_name),
            asset=self.address("asset") if evm else self.text("asset"),
            pay_to=self.address("payTo") if evm else self.text("payTo"),
            max_timeout_seconds=self.seconds("maxTimeoutSeconds"),
            transfer_method=extra.maybe("assetTransferMethod"),
            raw=self.mapping,
        )


def _check_agreement(winner: PaymentRequired, other: PaymentRequired) -> None:
    ours, theirs = _terms(winner), _terms(other)
    for chain_id in ours.keys() & theirs.keys():
        if ours[chain_id] != theirs[chain_id]:
            raise ChallengeError(
                f"the {winner.dialect} and the {other.dialect} form disagree on amount or "
                "recipient",
                field="challenge",
            )


def _terms(challenge: PaymentRequired) -> dict[int, set[tuple[int, str]]]:
    """Amounts and recipients by chain, for the offers in USDC on chains that we know."""
    terms: dict[int, set[tuple[int, str]]] = {}
    for offer in challenge.accepts:
        network = find_network(offer.network)
        if (
            network is not None
            and offer.scheme == "exact"
            and offer.asset in (network.usdc, "USDC")
        ):
            terms.setdefault(network.chain_id, set()).add((offer.amount_atomic, offer.pay_to))
    return terms


def _wire(authorization: Authorization) -> dict[str, str]:
    return {
        "from": authorization.payer,
        "to": authorization.pay_to,
        "value": str(authorization.amount_atomic),
        "validAfter": str(authorization.valid_after),
        "validBefore": str(authorization.valid_before),
        "nonce": authorization.nonce_hex,
    }


def _decode(value: str, field: str) -> object:
    try:
        raw = base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ChallengeError("is not base64", field=field) from None
    if base64.b64encode(raw).decode("ascii") != value:
        raise ChallengeError("is not canonical base64", field=field)
    return _json(_utf8(raw, field), field)


def _utf8(raw: bytes, field: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ChallengeError("is not UTF-8", field=field) from None


def _json(text: str, field: str) -> object:
    try:
        value: object = strict_json.loads(text)
    except ValueError as error:
        raise ChallengeError(str(error), field=field) from None
    return value
