"""Events as the service signs them, made without any code of ours."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

SECRET = "whsec_the-secret-of-this-test"
NOW = 1_790_000_000
BLOCK = 64  # bytes, of SHA-256


def signature(body: bytes, secret: str = SECRET) -> str:
    """HMAC as RFC 2104 writes it, from hashes alone."""
    key = secret.encode()
    key = (hashlib.sha256(key).digest() if len(key) > BLOCK else key).ljust(BLOCK, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + body).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).hexdigest()


def moment(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat().replace("+00:00", "Z")


def document(number: int = 1, *, at: float = NOW, **more: Any) -> dict[str, Any]:
    """An SMS for the order `ord_1`, unless it is said otherwise; `data` adds to its data."""
    data = {
        "order_id": "ord_1",
        "phone_number": "+447700900101",
        "service": "telegram",
        "country": "GB",
        "code": f"{number:05}",
        "full_text": f"Your Telegram code is {number:05}",
        "received_at": moment(at),
    }
    return {
        "id": f"evt_{number:026}",
        "type": "order.sms_received",
        "created_at": moment(at),
        "account_id": "acc_1",
        **more,
        "data": data | more.get("data", {}) if isinstance(more.get("data", {}), dict) else None,
    }


def body_of(number: int = 1, **more: Any) -> bytes:
    return json.dumps(document(number, **more)).encode()


def headers_for(body: bytes, **more: str) -> dict[str, str]:
    return {"X-VirtualSMS-Signature": signature(body), **more}
