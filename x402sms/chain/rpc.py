"""One JSON-RPC endpoint: what it answers, or why that is no answer. Its URL may hold a key."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import SplitResult, urlsplit

import requests
from eth_typing import URI, BlockNumber
from web3 import HTTPProvider, Web3
from web3.exceptions import (
    BadFunctionCallOutput,
    ContractLogicError,
    TimeExhausted,
    Web3RPCError,
)
from web3.types import BlockIdentifier

from x402sms.errors import ChainUnreadable, ConfigError
from x402sms.protocol.networks import Network

T = TypeVar("T")

_YEAR_10000: Final = 253_402_300_800


@dataclass(frozen=True, slots=True)
class Head:
    """A block, mostly the newest the RPC knows: its number, time (Unix, seconds) and hash."""

    number: int
    timestamp: int
    hash: bytes = field(repr=False)


class Rpc:
    """The RPC of one network, through one connection pool.

    Before the first answer it makes sure that the RPC is on `network`, and raises ConfigError
    when it is not. Everything else that goes wrong is ChainUnreadable.
    """

    def __init__(self, rpc_url: str, network: Network, timeout: float) -> None:
        url = _http_url(rpc_url)
        # An RPC URL often holds an API key in its path, query or user part: what is shown of it
        # is the scheme and the host.
        self.where = f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
        _keep_out_of_logs(url)
        self.network = network
        self._timeout = timeout
        self._session = requests.Session()
        self.web3 = Web3(_provider(rpc_url, self._session, timeout), middleware=())
        self._on_network = False

    def close(self) -> None:
        self._session.close()

    def chain_id(self) -> int:
        """The RPC's chain id, asked anew. Raises ConfigError if it is not the network's."""
        chain_id = self._ask("the chain id", lambda: integer(self.web3.eth.chain_id))
        if chain_id != self.network.chain_id:
            raise ConfigError(
                f"the RPC at {self.where} is on chain {chain_id}, but {self.network.name} is "
                f"chain {self.network.chain_id}: set the RPC URL or the network to match"
            )
        self._on_network = True
        return chain_id

    def read(self, what: str, ask: Callable[[], T]) -> T:
        """What `ask` returns. Raises ChainUnreadable for whatever it raises: `what` names it."""
        if not self._on_network:
            self.chain_id()
        return self._ask(what, ask)

    def block(self, number: int | None = None) -> Head:
        """The block with that number, or the newest."""
        identifier: BlockIdentifier = "latest" if number is None else BlockNumber(number)

        def ask() -> Head:
            block = self.web3.eth.get_block(identifier)
            head = Head(
                number=integer(block["number"]),
                timestamp=_moment(block["timestamp"]),
                hash=bytes32(bytes(block["hash"])),
            )
            if number not in (None, head.number):
                raise ValueError("another block than the one asked for")
            return head

        return self.read("the latest block" if number is None else f"block {number}", ask)

    def unreadable(self, why: str) -> ChainUnreadable:
        """The error to raise where the answers were read, but do not add up."""
        return ChainUnreadable(f"{self.where} cannot be relied on: {why}")

    def _ask(self, what: str, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except Exception as error:  # noqa: BLE001  out of web3 a bad answer comes as any exception
            why = self._explain(error)
        # Raised out here, so that it does not carry `error` along, whose text quotes the URL.
        raise ChainUnreadable(f"could not read {what} from {self.where}: {why}")

    def _explain(self, error: Exception) -> str:
        """In our words: those of `error` may hold the URL, or whatever the RPC answered."""
        match error:
            case requests.Timeout() | TimeExhausted():
                why = f"no answer within {self._timeout:g} s"
            case requests.HTTPError(response=requests.Response(status_code=status)):
                why = f"it answered HTTP {status}"
            case requests.ConnectionError():
                why = "the connection failed"
            case ContractLogicError():
                why = "the call was reverted"
            case Web3RPCError():
                why = _explain_rpc_error(error)
            case BadFunctionCallOutput():
                why = f"no USDC contract answers at {self.network.usdc}"
            case _:
                why = "its answer makes no sense"
        return why


def _provider(rpc_url: str, session: requests.Session, timeout: float) -> HTTPProvider:
    provider = HTTPProvider(
        URI(rpc_url),
        request_kwargs={
            "timeout": timeout,
            "stream": True,  # makes web3 bound the whole answer by `timeout`, not each read
            "allow_redirects": False,  # an answer from elsewhere is not this RPC's
        },
        session=session,
        exception_retry_configuration=None,
    )
    # CCIP read would fetch any URL that the RPC cares to name.
    provider.global_ccip_read_enabled = False
    return provider


def _http_url(rpc_url: str) -> SplitResult:
    try:
        url = urlsplit(rpc_url)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError("the RPC URL is not a URL such as https://host/path (it is not shown)")
    return url


class _HideKeys(logging.Filter):
    """Drops the log records that hold a key: at DEBUG, urllib3 and web3 log URLs and answers."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return not any(key in message for key in self.keys)


_HIDE_KEYS: Final = _HideKeys()
for _name in (
    "urllib3.connectionpool",
    "web3.manager.RequestManager",
    "web3.providers.HTTPProvider",
):
    logging.getLogger(_name).addFilter(_HIDE_KEYS)


def _keep_out_of_logs(url: SplitResult) -> None:
    """The parts of `url` that may be a key; shorter ones are words such as `v2` or `rpc`."""
    parts = re.split(r"[/?&=;:]", f"{url.netloc.rpartition('@')[0]}/{url.path}?{url.query}")
    _HIDE_KEYS.keys.update(part for part in parts if len(part) >= 8)


def _explain_rpc_error(error: Web3RPCError) -> str:
    reply = error.rpc_response
    details = reply.get("error") if isinstance(reply, dict) else None
    code = details.get("code") if isinstance(details, dict) else None
    return f"it answered RPC error {code}" if isinstance(code, int) else "it answered an error"


def bytes32(nonce: bytes | str) -> bytes:
    raw = bytes.fromhex(nonce.removeprefix("0x")) if isinstance(nonce, str) else nonce
    if len(raw) != 32:
        raise ValueError("a nonce is 32 bytes")
    return raw


def integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError("not a whole number")
    return value


def _moment(value: object) -> int:
    seconds = integer(value)
    if seconds >= _YEAR_10000:
        raise ValueError("no time of a block")
    return seconds
