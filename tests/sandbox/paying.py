"""A payer for tests that owes nothing to the client: it signs with eth_account alone."""

from __future__ import annotations

import base64
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

import httpx
from eth_account import Account

DOMAINS = {
    "base": ("USD Coin", 8453, "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"),
    "base-sepolia": ("USDC", 84532, "0x036CbD53842c5426634e7929541eC2318f3dCF7e"),
}
CAIP2 = {"base": "eip155:8453", "base-sepolia": "eip155:84532"}
TYPES = {
    "TransferWithAuthorization": [
        {"name": "from", "type": "address"},
        {"name": "to", "type": "address"},
        {"name": "value", "type": "uint256"},
        {"name": "validAfter", "type": "uint256"},
        {"name": "validBefore", "type": "uint256"},
        {"name": "nonce", "type": "bytes32"},
    ]
}

Json = dict[str, Any]


def decode(header: str) -> Json:
    document = json.loads(base64.b64decode(header, validate=True))
    assert isinstance(document, dict)
    return document


def encode(document: object) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


def challenge_of(response: httpx.Response, dialect: str) -> Json:
    """The challenge of a 402, read from where the dialect puts it."""
    assert response.status_code == 402, response.text
    if dialect == "v2":
        assert response.json() == {}
        return decode(response.headers["PAYMENT-REQUIRED"])
    if dialect == "v1":
        document = response.json()
    else:
        document = json.loads(response.headers["X-Payment-Required"])
    assert isinstance(document, dict)
    return document


def asked_atomic(challenge: Json) -> int:
    """What is asked, in atomic units, in whichever dialect."""
    if "accepts" not in challenge:
        whole, _, fraction = challenge["amount"].partition(".")
        return int(whole + fraction.ljust(6, "0"))
    offer = challenge["accepts"][0]
    return int(offer.get("amount") or offer["maxAmountRequired"])


def settlement_of(response: httpx.Response, dialect: str) -> Json:
    name = "PAYMENT-RESPONSE" if dialect == "v2" else "X-PAYMENT-RESPONSE"
    return decode(response.headers[name])


@dataclass
class Wallet:
    """Signs what a challenge asks for; every field of it can be made wrong."""

    key: str
    network: str
    dialect: str

    @property
    def address(self) -> str:
        return str(Account.from_key(self.key).address)

    @property
    def header_name(self) -> str:
        return "PAYMENT-SIGNATURE" if self.dialect == "v2" else "X-PAYMENT"

    def payload(self, challenge: Json, *, signer: str | None = None, **changes: Any) -> Json:
        """Signed over its changes, unless `signer` is another key."""
        pay_to = challenge["accepts"][0]["payTo"] if "accepts" in challenge else None
        now = int(time.time())
        authorization = {
            "from": self.address,
            "to": pay_to or challenge["recipient"],
            "value": str(asked_atomic(challenge)),
            "validAfter": str(now - 600),
            "validBefore": str(now + 300),
            "nonce": "0x" + secrets.token_hex(32),
            **changes,
        }
        name, chain_id, usdc = DOMAINS[self.network]
        signed = Account.sign_typed_data(
            signer or self.key,
            {"name": name, "version": "2", "chainId": chain_id, "verifyingContract": usdc},
            TYPES,
            {
                **authorization,
                "value": int(authorization["value"]),
                "validAfter": int(authorization["validAfter"]),
                "validBefore": int(authorization["validBefore"]),
                "nonce": bytes.fromhex(authorization["nonce"][2:]),
            },
        )
        return {"signature": signed.signature.to_0x_hex(), "authorization": authorization}

    def document(self, challenge: Json, *, payload: Json | None = None, **changes: Any) -> Json:
        """What goes, encoded, into the payment header."""
        payload = payload or self.payload(challenge, **changes)
        if self.dialect == "v2":
            accepted = challenge["accepts"][0]
            resource = challenge["resource"]
            return {
                "x402Version": 2,
                "resource": resource,
                "accepted": accepted,
                "payload": payload,
            }
        return {
            "x402Version": 1,
            "scheme": "exact",
            "network": self.network,
            "payload": payload,
        }


class Buyer:
    """An HTTP client with a wallet. `pay` does the whole handshake."""

    def __init__(self, http: httpx.Client, wallet: Wallet) -> None:
        self.http = http
        self.wallet = wallet
        self.dialect = wallet.dialect

    @property
    def address(self) -> str:
        return self.wallet.address

    def ask(self, method: str, path: str, **request: Any) -> Json:
        """The challenge that answers a request without payment."""
        return challenge_of(self.http.request(method, path, **request), self.dialect)

    def send(self, method: str, path: str, header: str, **request: Any) -> httpx.Response:
        headers = {self.wallet.header_name: header}
        return self.http.request(method, path, headers=headers, **request)

    def pay(self, method: str, path: str, **request: Any) -> httpx.Response:
        challenge = self.ask(method, path, **request)
        return self.send(method, path, encode(self.wallet.document(challenge)), **request)

    def get(self, path: str, **request: Any) -> Any:
        """The JSON of a paid GET that succeeded."""
        return _json(self.pay("GET", path, **request))

    def post(self, path: str, **request: Any) -> Any:
        return _json(self.pay("POST", path, **request))

    def order(self, **wanted: Any) -> Json:
        wanted = {"service": "telegram", "country": "US", **wanted}
        answer: Json = self.post("/orders", json=wanted)
        return answer


def _json(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()
