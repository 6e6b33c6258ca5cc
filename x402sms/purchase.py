"""What an httpx request buys: its intent, its fingerprint, and where it may be paid."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from typing import Any

import httpx

from x402sms.errors import ConfigError
from x402sms.money import parse_usdc
from x402sms.protocol.effects import Purchase
from x402sms.protocol.labels import checked_labels

EXTENSION = "x402"
LONGEST_INTENT = 200
_OPTIONS = frozenset({"intent", "labels", "max_amount", "purchase", "route"})
SETTLING_SECONDS = 30  # a resource server settles last, after the work that was asked for


def purchase_of(request: httpx.Request) -> Purchase:
    """The logical purchase behind a request whose body is read. Raises ConfigError.

    What it buys is its method, origin, path, query and body; or method, origin, path and what the
    option "purchase" says, where another query or body may stand in for the first ("a number for
    telegram", whichever country has one). Its route is all of the request, or what the option
    "route" says: calls of one price ("/orders/:id/sms"). The option "labels" says what it is for.
    """
    options = _options(request)
    route = options.get("route")
    intent_given = "intent" in options
    intent = options.setdefault("intent", secrets.token_hex(16))
    # httpx hands the extensions on to a redirect, and they stay on a request that is sent twice:
    # both are the same purchase, so both have the same nonce.
    request.extensions[EXTENSION] = options
    url = request.url
    origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
    target = url.raw_path.decode("ascii")
    path = origin + target.partition("?")[0]
    whole = (request.method, origin, target, hashlib.sha256(request.content).hexdigest())
    said = options.get("purchase")
    parts = whole if said is None else (request.method, path, "purchase", said)
    read_timeout = request.extensions.get("timeout", {}).get("read")
    max_amount = options.get("max_amount")
    return Purchase(
        intent=intent,
        method=request.method,
        url=path,
        fingerprint=_hashed(*parts),
        private=url.scheme == "https" or is_loopback(url.host),
        takes_seconds=0 if read_timeout is None else int(read_timeout) + SETTLING_SECONDS,
        max_amount_atomic=None if max_amount is None else _max_amount(max_amount),
        intent_given=intent_given,
        route=f"{request.method} {origin} {route}" if route else _hashed(*whole),
        labels=options.get("labels", {}),
    )


def _hashed(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _options(request: httpx.Request) -> dict[str, Any]:
    given = request.extensions.get(EXTENSION, {})
    if not isinstance(given, dict) or not given.keys() <= _OPTIONS:
        names = ", ".join(f'"{name}"' for name in sorted(_OPTIONS))
        raise ConfigError(f'extensions={{"x402": {{...}}}} takes {names}, and nothing else')
    options = dict(given)
    for name in ("intent", "purchase", "route"):
        if options.get(name) is None:
            options.pop(name, None)
        elif not _is_printable(options[name]):
            raise ConfigError(f'"{name}" is 1 to {LONGEST_INTENT} printable characters')
    if options.get("labels") is None:
        options.pop("labels", None)
    else:
        options["labels"] = checked_labels(options["labels"])
    return options


def _is_printable(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text) <= LONGEST_INTENT and text.isprintable()


def _max_amount(max_amount: Any) -> int:
    try:
        return parse_usdc(max_amount)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"max_amount: {error}") from None


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
