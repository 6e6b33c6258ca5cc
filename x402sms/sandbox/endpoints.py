"""The service's endpoints by name, as faults are aimed at them."""

from __future__ import annotations

import re

ENDPOINTS = (
    "GET /services",
    "GET /countries",
    "GET /services/{service_id}/cheapest",
    "GET /services/{service_id}/availability",
    "GET /countries/{iso2}/pricing",
    "GET /me",
    "GET /me/balance",
    "GET /me/stats",
    "GET /me/transactions",
    "POST /orders",
    "GET /orders",
    "GET /orders/{order_id}",
    "GET /orders/{order_id}/sms",
    "POST /orders/{order_id}/swap",
    "POST /orders/{order_id}/cancel",
    "POST /orders/{order_id}/confirm",
    "POST /orders/{order_id}/extend",
    "POST /orders/{order_id}/release",
)

# Outside the API's own prefix, wherever that is.
TOP_UP_PATH = "/api/v1/x402/topup"
TOP_UP = f"POST {TOP_UP_PATH}"

# What a fault can be aimed at.
TARGETS = (*ENDPOINTS, TOP_UP)

_PATTERNS = [
    (re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(name))), name) for name in ENDPOINTS
]


def endpoint_of(method: str, path: str, prefix: str) -> str | None:
    """The name of the endpoint that serves `path`, or None for what is none of the service's."""
    if f"{method} {path}" == TOP_UP:
        return TOP_UP
    if not path.startswith(prefix):
        return None
    asked = f"{method} {path[len(prefix) :]}"
    return next((name for pattern, name in _PATTERNS if pattern.fullmatch(asked)), None)
