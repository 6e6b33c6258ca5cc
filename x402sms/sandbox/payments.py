"""Payments as a facilitator sees them: parsed strictly, verified, refused by the spec's codes.

The signer is recovered with eth_account's own typed-data encoding.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_keys.exceptions import BadSignature
from eth_utils.address import to_checksum_address
from eth_utils.exceptions import ValidationError

from x402sms.money import parse_atomic
from x402sms.sandbox.chains import Chain
from x402sms.sandbox.config import DialectName

JsonObject = dict[str, Any]

MAX_HEADER = 16 * 1024  # characters; a real payment takes about 1,000
# An authorization must outlive its settlement: block time and some latency.
SETTLEMENT_MARGIN = 6  # seconds

_ADDRESS = re.compile("0x[0-9a-fA-F]{40}", re.ASCII)
_NONCE = re.compile("0x[0-9a-fA-F]{64}", re.ASCII)
_SIGNATURE = re.compile("0x[0-9a-fA-F]{130}", re.ASCII)
_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

_TYPES = {
    "TransferWithAuthorization": [
        {"name": "from", "type": "address"},
        {"name": "to", "type": "address"},
        {"name": "value", "type": "uint256"},
        {"name": "validAfter", "type": "uint256"},
        {"name": "validBefore", "type": "uint256"},
        {"name": "nonce", "type": "bytes32"},
    ]
}


class Refused(Exception):
    """The facilitator's verdict; `code` is the x402 spec's word for why."""

    def __init__(self, code: str, payer: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.payer = payer


@dataclass(frozen=True)
class Authorization:
    """EIP-3009. Addresses are checksummed, `nonce` is `0x` + 64 lower-case digits."""

    payer: str
    pay_to: str
    value: int
    valid_after: int
    valid_before: int
    nonce: str


@dataclass(frozen=True)
class Payment:
    """A payment header, well formed but not yet verified.

    `accepted` is the offer it answers (v2 only); `payload_digest` tells one payload from another.
    """

    scheme: str
    network: str
    accepted: JsonObject | None
    authorization: Authorization
    signature: bytes
    payload_digest: str

    @property
    def key(self) -> tuple[str, str]:
        """What the token lets settle once: payer and nonce."""
        return self.authorization.payer, self.authorization.nonce


@dataclass
class PaymentRecord:
    """One settled payment; amounts in atomic units, `settled_at` in Unix time."""

    payer: str
    pay_to: str
    amount_atomic: int
    nonce: str
    transaction: str
    method: str
    path: str
    order_id: str | None
    settled_at: float
    refunded_atomic: int = 0


def parse_payment(header: str, dialect: DialectName) -> Payment:
    """The payment in a header's value; raises Refused for anything that is not exactly one."""
    body = _decode(header)
    version = body.get("x402Version")
    if type(version) is not int or version != (2 if dialect == "v2" else 1):
        raise Refused("invalid_x402_version")
    accepted = None
    if dialect == "v2":
        accepted = _object(body, "accepted")
    terms = body if accepted is None else accepted
    payload = _object(body, "payload")
    return Payment(
        scheme=_text(terms, "scheme"),
        network=_text(terms, "network"),
        accepted=accepted,
        authorization=_authorization(_object(payload, "authorization")),
        signature=bytes.fromhex(_match(payload, "signature", _SIGNATURE)[2:]),
        payload_digest=hashlib.sha256(canonical(payload).encode()).hexdigest(),
    )


def canonical(value: object) -> str:
    """JSON that is equal only for equal documents: unlike `==`, it tells 1 from true and 1.0."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def verify(
    payment: Payment, offer: JsonObject, chain: Chain, dialect: DialectName, now: int
) -> None:
    """Raise Refused unless `payment` is what `offer` asked for, rightly signed and in time.

    Balance and nonce are the settlement's to judge. `now` is Unix time in seconds.
    """
    payer = payment.authorization.payer
    code = _terms_fault(payment, offer, dialect) or _authorization_fault(payment, offer, now)
    if code is None and recover_signer(chain, payment.authorization, payment.signature) != payer:
        code = "invalid_exact_evm_payload_signature"
    if code is not None:
        raise Refused(code, payer)


def recover_signer(chain: Chain, authorization: Authorization, signature: bytes) -> str | None:
    """Who signed, by the rules of the token: v is 27 or 28 and s in the lower half; else None."""
    r, s, v = (int.from_bytes(part, "big") for part in split_signature(signature))
    if v not in {27, 28} or not 0 < r < _CURVE_ORDER or not 0 < s <= _CURVE_ORDER // 2:
        return None
    message = encode_typed_data(
        domain_data={
            "name": chain.domain_name,
            "version": chain.domain_version,
            "chainId": chain.chain_id,
            "verifyingContract": chain.usdc,
        },
        message_types=_TYPES,
        message_data={
            "from": authorization.payer,
            "to": authorization.pay_to,
            "value": authorization.value,
            "validAfter": authorization.valid_after,
            "validBefore": authorization.valid_before,
            "nonce": bytes.fromhex(authorization.nonce[2:]),
        },
    )
    try:
        return str(Account.recover_message(message, signature=signature))
    except (BadSignature, ValidationError):
        return None


def split_signature(signature: bytes) -> tuple[bytes, bytes, bytes]:
    """r, s, v."""
    return signature[:32], signature[32:64], signature[64:]


def _terms_fault(payment: Payment, offer: JsonObject, dialect: DialectName) -> str | None:
    if payment.scheme != "exact":
        return "unsupported_scheme"
    if payment.network != offer["network"]:
        return "invalid_network"
    if dialect == "v2" and canonical(payment.accepted) != canonical(offer):
        return "invalid_payment_requirements"
    return None


def _authorization_fault(payment: Payment, offer: JsonObject, now: int) -> str | None:
    authorization = payment.authorization
    amount = offer["amount"] if "amount" in offer else offer["maxAmountRequired"]
    if authorization.pay_to != offer["payTo"]:
        return "invalid_exact_evm_payload_recipient_mismatch"
    if str(authorization.value) != amount:
        return "invalid_exact_evm_payload_authorization_value_mismatch"
    if authorization.valid_after > now:
        return "invalid_exact_evm_payload_authorization_valid_after"
    if authorization.valid_before < now + SETTLEMENT_MARGIN:
        return "invalid_exact_evm_payload_authorization_valid_before"
    return None


def _decode(header: str) -> JsonObject:
    if len(header) > MAX_HEADER:
        raise Refused("invalid_payload")
    try:
        body = json.loads(base64.b64decode(header.encode("ascii"), validate=True).decode())
        canonical(body)  # what cannot be compared is refused here, where refusing is easy
    except (ValueError, RecursionError) as error:
        raise Refused("invalid_payload") from error
    if not isinstance(body, dict):
        raise Refused("invalid_payload")
    return body


def _authorization(fields: JsonObject) -> Authorization:
    return Authorization(
        payer=to_checksum_address(_match(fields, "from", _ADDRESS)),
        pay_to=to_checksum_address(_match(fields, "to", _ADDRESS)),
        value=_uint256(fields, "value"),
        valid_after=_uint256(fields, "validAfter"),
        valid_before=_uint256(fields, "validBefore"),
        nonce=_match(fields, "nonce", _NONCE).lower(),
    )


def _object(fields: JsonObject, name: str) -> JsonObject:
    value = fields.get(name)
    if not isinstance(value, dict):
        raise Refused("invalid_payload")
    return value


def _text(fields: JsonObject, name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise Refused("invalid_payload")
    return value


def _match(fields: JsonObject, name: str, pattern: re.Pattern[str]) -> str:
    value = _text(fields, name)
    if pattern.fullmatch(value) is None:
        raise Refused("invalid_payload")
    return value


def _uint256(fields: JsonObject, name: str) -> int:
    try:
        return parse_atomic(_text(fields, name))
    except ValueError as error:
        raise Refused("invalid_payload") from error
