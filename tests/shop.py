"""A small x402 resource server in process, for what a test must script byte by byte.

It verifies with `eth_account`'s own EIP-712, never with the code under test. The official server,
the sandbox and the chain stand in for it wherever behaviour need not be scripted.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
from eth_account import Account
from eth_account.messages import encode_typed_data

DialectName = Literal["v1", "v2", "header"]
DIALECTS: tuple[DialectName, ...] = ("v1", "v2", "header")

USDC = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
PAY_TO = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
PRICE_ATOMIC = 10_000
TRANSACTION = "0x" + "ab" * 32

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
_DOMAIN = {"name": "USD Coin", "version": "2", "chainId": 8453, "verifyingContract": USDC}


@dataclass
class Seen:
    """One request as it arrived, with the payment it carried."""

    method: str
    url: str
    headers: httpx.Headers
    body: bytes
    payment: dict[str, Any] | None

    @property
    def authorization(self) -> dict[str, str]:
        assert self.payment is not None
        authorization: dict[str, str] = self.payment["payload"]["authorization"]
        return authorization

    @property
    def nonce(self) -> str:
        return self.authorization["nonce"]


@dataclass
class Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that comes in chunks, and knows how much was taken and whether it was closed."""

    chunks: list[bytes]
    taken: int = 0
    closed: bool = False

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            self.taken += 1
            yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


@dataclass
class Shop(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """What a client sends through. `on_paid` answers a paid request, or raises for the network."""

    dialect: DialectName
    amount_atomic: int = PRICE_ATOMIC
    pay_to: str = PAY_TO
    seen: list[Seen] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    on_unpaid: Callable[[Seen], httpx.Response] | None = None
    on_paid: Callable[[Seen], httpx.Response] | None = None
    date: str | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        return self._answer(request, b"".join(request.stream))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        return self._answer(request, b"".join([chunk async for chunk in request.stream]))

    @property
    def paid(self) -> list[Seen]:
        return [seen for seen in self.seen if seen.payment is not None]

    @property
    def nonces(self) -> set[str]:
        return {seen.nonce for seen in self.paid}

    def challenge(self, **changes: Any) -> httpx.Response:
        """The 402, with some fields of the offer changed or (None) left out."""
        if self.dialect == "header":
            offer = {
                "amount": f"{self.amount_atomic // 10**6}.{self.amount_atomic % 10**6:06d}",
                "asset": "USDC",
                "chain": "base",
                "recipient": self.pay_to,
            } | changes
            return self.respond(402, {"X-Payment-Required": json.dumps(offer)}, b"")
        offer = self._offer() | changes
        offers = [{key: value for key, value in offer.items() if value is not None}]
        if self.dialect == "v1":
            body = {"x402Version": 1, "error": "X-PAYMENT header is required", "accepts": offers}
            return self.respond(
                402, {"Content-Type": "application/json"}, json.dumps(body).encode()
            )
        required = {"x402Version": 2, "resource": {"url": "https://shop.example/x"}} | {
            "accepts": offers
        }
        return self.respond(402, {"PAYMENT-REQUIRED": encoded(required)}, b"{}")

    def settled(self, content: bytes = b'{"delivered": true}', **changes: Any) -> httpx.Response:
        """A 200 with the settlement header, with some of its fields changed."""
        network = "eip155:8453" if self.dialect == "v2" else "base"
        settlement = {"success": True, "transaction": TRANSACTION, "network": network} | changes
        return self.respond(200, {self.settlement_header: encoded(settlement)}, content)

    @property
    def settlement_header(self) -> str:
        return "PAYMENT-RESPONSE" if self.dialect == "v2" else "X-PAYMENT-RESPONSE"

    def respond(self, status: int, headers: dict[str, str], content: bytes) -> httpx.Response:
        stream = Stream([content])
        self.streams.append(stream)
        dated = {} if self.date is None else {"Date": self.date}
        return httpx.Response(status, headers=headers | dated, stream=stream)

    def _answer(self, request: httpx.Request, body: bytes) -> httpx.Response:
        payment = self._payment(request.headers)
        seen = Seen(request.method, str(request.url), request.headers, body, payment)
        self.seen.append(seen)
        if request.url.path.startswith("/free"):
            return self.respond(200, {}, b"free")
        if payment is None:
            return self.challenge() if self.on_unpaid is None else self.on_unpaid(seen)
        assert recovered(payment) == payment["payload"]["authorization"]["from"]
        return self.settled() if self.on_paid is None else self.on_paid(seen)

    def _payment(self, headers: httpx.Headers) -> dict[str, Any] | None:
        value = headers.get("PAYMENT-SIGNATURE" if self.dialect == "v2" else "X-PAYMENT")
        return None if value is None else json.loads(base64.b64decode(value, validate=True))

    def _offer(self) -> dict[str, Any]:
        shared = {
            "scheme": "exact",
            "asset": USDC,
            "payTo": self.pay_to,
            "maxTimeoutSeconds": 60,
            "extra": {"name": "USD Coin", "version": "2"},
        }
        if self.dialect == "v2":
            return shared | {"network": "eip155:8453", "amount": str(self.amount_atomic)}
        return shared | {
            "network": "base",
            "maxAmountRequired": str(self.amount_atomic),
            "resource": "https://shop.example/x",
            "description": "",
            "mimeType": "application/json",
        }


def encoded(value: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def recovered(payment: dict[str, Any]) -> str:
    """Who signed, by `eth_account`, over USDC on Base."""
    payload = payment["payload"]
    wire = payload["authorization"]
    message = {
        "from": wire["from"],
        "to": wire["to"],
        "value": int(wire["value"]),
        "validAfter": int(wire["validAfter"]),
        "validBefore": int(wire["validBefore"]),
        "nonce": bytes.fromhex(wire["nonce"][2:]),
    }
    signable = encode_typed_data(_DOMAIN, _TYPES, message)
    signer: str = Account.recover_message(signable, signature=payload["signature"])
    return signer
