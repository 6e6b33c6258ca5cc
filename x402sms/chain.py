"""What the chain says of balances, used nonces and the time: proof, where a server only claims.

Every method answers or raises `ChainUnreadable`: an RPC that is down, slow or talks nonsense is
never an answer. Needs web3, which is slow to import: import this module where it is used.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from types import TracebackType
from typing import Any, Final, Self, TypeVar
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

from x402sms.errors import ConfigError, X402SMSError
from x402sms.protocol.networks import Network

T = TypeVar("T")


class ChainUnreadable(X402SMSError):
    """The chain could not be read, so nothing is known. It is never "not settled"."""


@dataclass(frozen=True, slots=True)
class Head:
    """The newest block the RPC knows: its number and its time (Unix, seconds)."""

    number: int
    timestamp: int


class Chain:
    """One network's USDC, read through one RPC. Usable from several threads; close it.

    Before the first answer it makes sure that the RPC is on `network`, and raises ConfigError
    when it is not. `timeout` bounds each request in seconds; none is retried.
    """

    def __init__(self, rpc_url: str, network: Network, *, timeout: float = 10) -> None:
        url = _http_url(rpc_url)
        # An RPC URL often holds an API key in its path, query or user part: what is shown of it
        # is the scheme and the host.
        self._where = f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
        _keep_out_of_logs(url)
        self._network = network
        self._timeout = timeout
        self._session = requests.Session()
        self._web3 = Web3(_provider(rpc_url, self._session, timeout), middleware=())
        self._usdc = self._web3.eth.contract(
            address=Web3.to_checksum_address(network.usdc), abi=usdc_abi()
        )
        self._on_network = False

    def __repr__(self) -> str:
        return f"<Chain {self._network.name} at {self._where}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the RPC."""
        self._session.close()

    def chain_id(self) -> int:
        """The RPC's chain id, asked anew. Raises ConfigError if it is not the network's."""
        chain_id = self._read("the chain id", lambda: _integer(self._web3.eth.chain_id))
        if chain_id != self._network.chain_id:
            raise ConfigError(
                f"the RPC at {self._where} is on chain {chain_id}, but {self._network.name} is "
                f"chain {self._network.chain_id}: set the RPC URL or the network to match"
            )
        self._on_network = True
        return chain_id

    def head(self) -> Head:
        """The newest block. Read a nonce at its number to know both at one moment."""
        self._ensure_network()
        return self._read("the latest block", self._latest_block)

    def now(self) -> int:
        """The chain's time: the newest block's timestamp, in Unix seconds."""
        return self.head().timestamp

    def balance(self, address: str) -> int:
        """The atomic USDC that `address` holds."""
        self._ensure_network()
        balance_of = self._usdc.functions.balanceOf(Web3.to_checksum_address(address))
        return self._read("the USDC balance", lambda: _integer(balance_of.call()))

    def authorization_state(
        self, payer: str, nonce: bytes | str, *, block: int | None = None
    ) -> bool:
        """Whether an authorization of `payer` with `nonce` was used or cancelled.

        As of the newest block, or of `block`: behind one URL there may be several nodes, and one
        that lags would say "unused" of a nonce that another has seen used.
        """
        self._ensure_network()
        state = self._usdc.functions.authorizationState(
            Web3.to_checksum_address(payer), _bytes32(nonce)
        )
        at: BlockIdentifier = "latest" if block is None else BlockNumber(block)
        return self._read(
            "the authorization's state", lambda: bool(state.call(block_identifier=at))
        )

    def domain_separator(self) -> bytes:
        """The EIP-712 domain separator that the USDC contract itself computes."""
        self._ensure_network()
        separator = self._usdc.functions.DOMAIN_SEPARATOR()
        return self._read("the domain separator", lambda: bytes(separator.call()))

    def _ensure_network(self) -> None:
        if not self._on_network:
            self.chain_id()

    def _latest_block(self) -> Head:
        block = self._web3.eth.get_block("latest")
        return Head(number=_integer(block["number"]), timestamp=_integer(block["timestamp"]))

    def _read(self, what: str, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except Exception as error:  # noqa: BLE001  out of web3 a bad answer comes as any exception
            why = self._explain(error)
        # Raised out here, so that it does not carry `error` along, whose text quotes the URL.
        raise ChainUnreadable(f"could not read {what} from {self._where}: {why}")

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
                why = f"no USDC contract answers at {self._network.usdc}"
            case _:
                why = "its answer makes no sense"
        return why


def usdc_abi() -> list[dict[str, Any]]:
    """The entries of the USDC contract's ABI that a payer needs."""
    text = files("contracts_abi").joinpath("FiatTokenV2_2.json").read_text(encoding="utf-8")
    abi: list[dict[str, Any]] = json.loads(text)
    return abi


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


def _bytes32(nonce: bytes | str) -> bytes:
    raw = bytes.fromhex(nonce.removeprefix("0x")) if isinstance(nonce, str) else nonce
    if len(raw) != 32:
        raise ValueError("a nonce is 32 bytes")
    return raw


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError("not a whole number")
    return value
