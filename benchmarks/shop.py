"""What is bought: one offer in USDC on Base, from a shop in process or on loopback."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx

URL = "https://shop.example/x"
OFFER = {
    "scheme": "exact",
    "network": "eip155:8453",
    "amount": "1000",
    "asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
    "payTo": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    "maxTimeoutSeconds": 60,
    "extra": {"name": "USD Coin", "version": "2"},
}
DELIVERED = b'{"delivered": true}'


def _encoded(value: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


CHALLENGE = _encoded({"x402Version": 2, "resource": {"url": URL}, "accepts": [OFFER]})
SETTLED = _encoded({"success": True, "transaction": "0x" + "ab" * 32, "network": "eip155:8453"})


def shop(request: httpx.Request) -> httpx.Response:
    """In process: answers at once, so that what is measured is the client."""
    if "payment-signature" not in request.headers:
        return httpx.Response(402, headers={"PAYMENT-REQUIRED": CHALLENGE}, json={})
    return httpx.Response(200, headers={"PAYMENT-RESPONSE": SETTLED}, content=DELIVERED)
