"""Settings: arguments > environment > `.env` in the working folder > defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from x402sms.errors import ConfigError
from x402sms.limits import SpendLimits
from x402sms.protocol.labels import checked_worker
from x402sms.protocol.networks import BASE, BASE_SEPOLIA, Network, get_network

PREFIX = "X402SMS_"
API_KEY = "X402SMS_API_KEY"

# Not settings, and in no frame of this module: a traceback that shows locals must not show them.
SECRETS = frozenset(
    {"X402SMS_PRIVATE_KEY", "X402SMS_KEYSTORE_PASSWORD", API_KEY, "X402SMS_WEBHOOK_SECRET"}
)

# The vendor's hosts, as its reference names them: production on Base, staging on Base Sepolia.
BASE_URLS = {
    BASE.name: "https://x402.virtualsms.io/api/v2",
    BASE_SEPOLIA.name: "https://x402-test.virtualsms.io/api/v2",
}

# Where the same API takes a key of an account (REST), and where that account is topped up. The
# staging host is our reading: the reference names no other.
REST_URLS = {
    BASE.name: "https://virtualsms.io/api/v2",
    BASE_SEPOLIA.name: "https://x402-test.virtualsms.io/api/v2",
}
TOPUP_PATH = "/api/v1/x402/topup"

_LIMITS = {
    "per_call": "X402SMS_MAX_PER_CALL",
    "per_hour": "X402SMS_MAX_PER_HOUR",
    "per_day": "X402SMS_MAX_PER_DAY",
    "total": "X402SMS_MAX_TOTAL",
    "worker_per_hour": "X402SMS_MAX_WORKER_PER_HOUR",
    "worker_per_day": "X402SMS_MAX_WORKER_PER_DAY",
    "worker_total": "X402SMS_MAX_WORKER_TOTAL",
}
_NO_LIMIT = "none"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client runs with, but for the wallet and the API key.

    `ledger` is a path or URL, None the default. `base_url` is where calls are paid one by one,
    `rest_url` where an API key is taken; they differ where neither was given. `worker` is who of a
    fleet this is, "" without one.
    """

    network: Network
    base_url: str
    limits: SpendLimits
    ledger: str | None = field(repr=False)  # a URL may hold a password
    rpc_url: str | None = field(repr=False)  # its path is often a key
    rest_url: str
    topup_url: str
    worker: str = ""


def environment() -> dict[str, str]:
    """The `X402SMS_*` variables: the process's own, then those of a `.env` right here.

    Empty values count as unset. Raises ConfigError for a `.env` that cannot be read.
    """
    # A parent folder's .env is left alone: money is spent by what stands here, or not at all.
    merged = {**_dotenv(Path(".env")), **os.environ}
    return {name: value for name, value in merged.items() if name.startswith(PREFIX) and value}


def load_settings(
    env: Mapping[str, str],
    *,
    network: str | Network | None = None,
    base_url: str | None = None,
    limits: SpendLimits | None = None,
    ledger: str | None = None,
    rpc_url: str | None = None,
    worker: str | None = None,
) -> Settings:
    """Settings from arguments (None: not given) and `environment()`. Raises ConfigError."""
    env = {name: value for name, value in env.items() if name not in SECRETS}
    chosen = get_network(network or env.get("X402SMS_NETWORK") or BASE)
    given = base_url or env.get("X402SMS_BASE_URL")
    url = _url(given or BASE_URLS[chosen.name])
    # The per-call host takes no key, also where it was written out.
    rest_url = REST_URLS[chosen.name] if url == BASE_URLS[chosen.name] else url
    return Settings(
        network=chosen,
        base_url=url,
        limits=limits or limits_from(env),
        ledger=ledger or env.get("X402SMS_LEDGER"),
        rpc_url=rpc_url or env.get("X402SMS_RPC_URL"),
        rest_url=rest_url,
        topup_url=_url(env.get("X402SMS_TOPUP_URL") or urljoin(rest_url, TOPUP_PATH)),
        worker=checked_worker(env.get("X402SMS_WORKER", "") if worker is None else worker),
    )


def limits_from(env: Mapping[str, str]) -> SpendLimits:
    """`SpendLimits` from `X402SMS_MAX_*` (`none`: no limit) and `X402SMS_PAY_TO` (comma list)."""
    given: dict[str, Any] = {
        name: None if env[variable].lower() == _NO_LIMIT else env[variable]
        for name, variable in _LIMITS.items()
        if variable in env
    }
    recipients = [part.strip() for part in env.get("X402SMS_PAY_TO", "").split(",") if part.strip()]
    return SpendLimits(**given, pay_to=recipients or None)


def _dotenv(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    from dotenv import dotenv_values  # noqa: PLC0415  only where there is such a file

    try:
        values = dotenv_values(path, interpolate=False, encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ConfigError("the file .env in this folder cannot be read as UTF-8 text") from None
    return {name: value for name, value in values.items() if value is not None}


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and not parts.query
    except ValueError:
        usable = None
    if not usable:
        raise ConfigError(f"the base URL {text[:80]!r} is no http(s) URL of an API")
    return text.rstrip("/")
