"""What a 402 looks like, and the header that reports a settlement, in each of the dialects."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

from starlette.responses import JSONResponse, Response

from x402sms.money import format_usdc
from x402sms.sandbox.chains import Chain
from x402sms.sandbox.config import DialectName
from x402sms.sandbox.payments import JsonObject, Refused


@dataclass(frozen=True)
class Price:
    """What one call costs. `max_timeout`: seconds the payment must stay settleable.

    `per_call`: asked for the call as such, which an account with a key is not charged.
    """

    amount_atomic: int
    description: str
    max_timeout: int = 60
    per_call: bool = False


@dataclass(frozen=True)
class Terms:
    """What does not change from call to call."""

    dialect: DialectName
    chain: Chain
    pay_to: str

    @property
    def network(self) -> str:
        return self.chain.caip2 if self.dialect == "v2" else self.chain.v1_name

    @property
    def request_header(self) -> str:
        return "PAYMENT-SIGNATURE" if self.dialect == "v2" else "X-PAYMENT"

    @property
    def response_header(self) -> str:
        return "PAYMENT-RESPONSE" if self.dialect == "v2" else "X-PAYMENT-RESPONSE"


def offer(terms: Terms, price: Price, url: str) -> JsonObject:
    """The one entry of `accepts`. The header dialect has no such list, but is checked alike."""
    extra = {"name": terms.chain.domain_name, "version": terms.chain.domain_version}
    if terms.dialect == "v2":
        return {
            "scheme": "exact",
            "network": terms.network,
            "amount": str(price.amount_atomic),
            "asset": terms.chain.usdc,
            "payTo": terms.pay_to,
            "maxTimeoutSeconds": price.max_timeout,
            "extra": extra,
        }
    return {
        "scheme": "exact",
        "network": terms.network,
        "maxAmountRequired": str(price.amount_atomic),
        "asset": terms.chain.usdc,
        "payTo": terms.pay_to,
        "resource": url,
        "description": price.description,
        "mimeType": "application/json",
        "maxTimeoutSeconds": price.max_timeout,
        "extra": extra,
    }


def challenge(terms: Terms, price: Price, url: str, refused: Refused | None = None) -> Response:
    """The 402 that asks for a payment; with `refused`, the one that says why it was not taken."""
    error = refused.code if refused else f"{terms.request_header} header is required"
    accepts = [offer(terms, price, url)]
    if terms.dialect == "v2":
        resource = {"url": url, "description": price.description, "mimeType": "application/json"}
        document = {"x402Version": 2, "error": error, "resource": resource, "accepts": accepts}
        response = JSONResponse({}, 402, headers={"PAYMENT-REQUIRED": _encode(document)})
    elif terms.dialect == "v1":
        response = JSONResponse({"x402Version": 1, "error": error, "accepts": accepts}, 402)
    else:
        plain = {
            "amount": format_usdc(price.amount_atomic),
            "asset": "USDC",
            "chain": terms.network,
            "recipient": terms.pay_to,
        }
        if refused:
            plain["error"] = error
        response = JSONResponse({}, 402, headers={"X-Payment-Required": json.dumps(plain)})
    if refused:
        response.headers[terms.response_header] = refusal_header(terms, refused)
    return response


def refusal_header(terms: Terms, refused: Refused) -> str:
    report: JsonObject = {"success": False, "errorReason": refused.code}
    if refused.payer is not None:
        report["payer"] = refused.payer
    return _encode({**report, "transaction": "", "network": terms.network})


def settlement_header(terms: Terms, payer: str, transaction: str, amount_atomic: int) -> str:
    report: JsonObject = {
        "success": True,
        "payer": payer,
        "transaction": transaction,
        "network": terms.network,
    }
    if terms.dialect == "v2":
        report["amount"] = str(amount_atomic)
    return _encode(report)


def _encode(document: JsonObject) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()
