"""The service's webhooks at your end: verified, kept once, handed to you and to waiting jobs.

    receiver = WebhookReceiver(secret, EventStore("webhooks.db"), on_event)
    app = Starlette(routes=[Route("/webhooks", receiver)])
    Client(webhooks="webhooks.db")  # its jobs end on the event

The receiver needs the extra `webhooks`; the rest does not.
"""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING

from x402sms.errors import ConfigError
from x402sms.virtualsms import webhooks as _pure
from x402sms.virtualsms.webhooks import (
    MAX_EVENT_BYTES,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    TOLERANCE,
    BalanceDeposited,
    BalanceLow,
    Event,
    OrderCancelled,
    OrderConfirmed,
    OrderExpired,
    OrderSwapped,
    SmsReceived,
    UnknownEvent,
    parse_event,
)
from x402sms.webhooks.store import EventStore, default_store_path

if TYPE_CHECKING:
    from x402sms.webhooks.receiver import WebhookReceiver
    from x402sms.webhooks.serving import listen

__all__ = [
    "MAX_EVENT_BYTES",
    "SIGNATURE_HEADER",
    "TIMESTAMP_HEADER",
    "BalanceDeposited",
    "BalanceLow",
    "Event",
    "EventStore",
    "OrderCancelled",
    "OrderConfirmed",
    "OrderExpired",
    "OrderSwapped",
    "SmsReceived",
    "UnknownEvent",
    "WebhookReceiver",
    "default_store_path",
    "listen",
    "parse_event",
    "verify_signature",
]

_HOMES = {"WebhookReceiver": "receiver", "listen": "serving"}  # with packages of the extra


def verify_signature(
    body: bytes,
    header: str | None,
    secret: str | bytes,
    *,
    timestamp: str | int | None = None,
    tolerance: int = TOLERANCE,
    now: float | None = None,
) -> None:
    """See `x402sms.virtualsms.webhooks.verify_signature`; `now` is this machine's time."""
    moment = time.time() if now is None else now
    try:
        _pure.verify_signature(
            body, header, secret, timestamp=timestamp, tolerance=tolerance, now=moment
        )
    finally:
        del secret  # a traceback that shows locals must not show it


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{home}")
    except ModuleNotFoundError as missing:
        if missing.name not in {"starlette", "uvicorn"}:
            raise
        raise ConfigError(
            "the receiver of webhooks needs: pip install 'x402sms[webhooks]'"
        ) from missing
    value: object = getattr(module, name)
    globals()[name] = value
    return value
