"""What a sandbox is started with."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, get_args
from urllib.parse import urlsplit

import httpx
from eth_utils.address import is_address, to_checksum_address
from eth_utils.crypto import keccak

from x402sms.errors import ConfigError
from x402sms.money import parse_usdc
from x402sms.sandbox.chains import CHAINS, Chain
from x402sms.sandbox.faults import Fault, FaultsGiven, faults_of

NetworkName = Literal["base-sepolia", "base"]
DialectName = Literal["v1", "v2", "header"]
SettlementName = Literal["memory", "anvil"]
VocabularyName = Literal["reference", "live"]
WebhookForm = Literal["hex", "sha256"]

_SECRET = re.compile("[!-~]{1,200}", re.ASCII)
_API_KEY = re.compile("sk_[A-Za-z0-9_-]{1,200}", re.ASCII)
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, kw_only=True)
class SandboxConfig:
    """Everything that may differ between two sandboxes; the listening address is always loopback.

    `port` 0 takes a free one. `sms_after` is seconds until an SMS arrives by itself (None: only
    when told), `cooldown` seconds in which cancel and swap are refused, `order_seconds` how long
    a number is held. `funded` is in USDC and only means something to the memory settlement.
    `pay_to` is derived from the seed unless given. `funded_key` is random unless given; on anvil
    nobody is funded by the sandbox, so there it stays None unless given.

    `virtual_time`: the orders' clock stands still, but for `advance` and for a long-poll, which
    moves it to what comes first, the order's next change or the poll's end, and answers at once.
    `faults` by name and probability, `{"slow": 0.1, "no-stock@POST /orders": 1}`, or as Fault
    objects (see `FAULTS`, `WEBHOOK_FAULTS`); `fault_seed` is the seed unless given. `slow_seconds`
    is what `slow` holds an answer back. `rate_limit`: requests of one caller in 60 seconds of the
    orders' clock; a caller is the payer, the API key, or else the client's address.
    `price_drift`: the price of a number moves after every so many challenges for it.
    `vocabulary`: the reference's words and forms, or those that the live service was seen to use.
    `api_key` is the key that the sandbox's own account is reached with over REST, random unless
    given; `account_balance` is in USD, what that account begins with.
    `webhook_url` (http:// on this machine) is posted what happens to orders and balances, signed
    with `webhook_secret`, random unless given; `webhook_form`: bare hex, or after `sha256=`.
    `webhook_retry_seconds`: how long after one attempt the next is made, of the orders' clock.
    `free`: nothing is paid, the header `X-Sandbox-Wallet` says who calls; for fuzzing only.
    """

    port: int = 0
    network: NetworkName = "base-sepolia"
    dialect: DialectName = "v2"
    settlement: SettlementName = "memory"
    rpc_url: str | None = None
    seed: int = 1
    sms_after: float | None = None
    funded: Decimal = Decimal(100)
    cooldown: int = 0
    order_seconds: int = 1200
    pay_to: str = ""
    funded_key: str | None = field(default=None, repr=False)
    api_prefix: str = "/api/v2"
    virtual_time: bool = False
    faults: FaultsGiven = ()
    fault_seed: int | None = None
    slow_seconds: float = 0.2
    rate_limit: int | None = None
    price_drift: int | None = None
    vocabulary: VocabularyName = "reference"
    free: bool = False
    api_key: str | None = field(default=None, repr=False)
    account_balance: Decimal = Decimal(100)
    webhook_url: str | None = None
    webhook_secret: str | None = field(default=None, repr=False)
    webhook_form: WebhookForm = "hex"
    webhook_retry_seconds: tuple[float, ...] = (60, 600, 3600, 4 * 3600, 12 * 3600)

    def __post_init__(self) -> None:
        _one_of("network", self.network, get_args(NetworkName))
        _one_of("dialect", self.dialect, get_args(DialectName))
        _one_of("settlement", self.settlement, get_args(SettlementName))
        _one_of("vocabulary", self.vocabulary, get_args(VocabularyName))
        self._check_numbers()
        self._check_rpc_url()
        self._check_webhooks()
        pay_to = self.pay_to or _derived_address(self.seed)
        if not is_address(pay_to) or int(pay_to, 16) == 0:
            raise ConfigError(f"pay_to {pay_to[:60]!r} is not a usable address")
        object.__setattr__(self, "pay_to", to_checksum_address(pay_to))
        object.__setattr__(self, "faults", self.fault_list())

    @property
    def chain(self) -> Chain:
        return CHAINS[self.network]

    def fault_list(self) -> tuple[Fault, ...]:
        return faults_of(self.faults)

    def _check_numbers(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port {self.port} is not between 0 and 65535")
        if self.cooldown < 0 or self.order_seconds <= 0 or (self.sms_after or 0) < 0:
            raise ConfigError("cooldown and sms_after are not negative, order_seconds is positive")
        if self.slow_seconds < 0:
            raise ConfigError("slow_seconds is not negative")
        if any(limit is not None and limit < 1 for limit in (self.rate_limit, self.price_drift)):
            raise ConfigError("rate_limit and price_drift are at least 1")
        for name in ("funded", "account_balance"):
            try:
                parse_usdc(getattr(self, name))
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{name}: {error}") from error
        if self.api_key is not None and _API_KEY.fullmatch(self.api_key) is None:
            raise ConfigError("api_key is sk_ and then letters, digits, _ and -, 200 at most")

    def _check_rpc_url(self) -> None:
        if self.settlement == "anvil" and self.rpc_url is None:
            raise ConfigError("settlement='anvil' needs rpc_url, such as http://127.0.0.1:8545")
        if self.rpc_url is not None:
            parts = urlsplit(self.rpc_url)
            # The facilitator spends from unlocked accounts: only ever a chain on this machine.
            if parts.scheme != "http" or parts.hostname not in LOOPBACK_HOSTS:
                raise ConfigError("rpc_url must be http:// on this machine")

    def _check_webhooks(self) -> None:
        _one_of("webhook_form", self.webhook_form, get_args(WebhookForm))
        if any(not seconds >= 0 for seconds in self.webhook_retry_seconds):
            raise ConfigError("webhook_retry_seconds are not negative")
        if self.webhook_secret is not None and _SECRET.fullmatch(self.webhook_secret) is None:
            raise ConfigError("webhook_secret is 1 to 200 printable characters without spaces")
        if self.webhook_url is not None and not _on_loopback(self.webhook_url):
            raise ConfigError("webhook_url must be http:// on this machine")


def _on_loopback(url: str) -> bool:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parts.scheme == "http" and parts.host in LOOPBACK_HOSTS


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} {value!r} is not one of {', '.join(allowed)}")


def _derived_address(seed: int) -> str:
    return to_checksum_address(keccak(text=f"x402sms sandbox pay_to {seed}")[-20:])
