"""The pinned table: which chains, which contract, which EIP-712 domain.

A challenge may choose among these. It can never supply one: what a server says of names,
versions, chain ids and contracts does not reach a digest.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from x402sms.errors import ConfigError
from x402sms.protocol.keccak import keccak256

_DOMAIN_TYPEHASH = keccak256(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)


@dataclass(frozen=True, slots=True)
class Network:
    """A chain on which we pay in USDC, and the EIP-712 domain of its USDC contract.

    `name` is x402 v1's name, `caip2` v2's; `domain_separator` is EIP-712's, computed once.
    """

    name: str
    title: str
    chain_id: int
    usdc: str
    domain_name: str
    domain_version: str
    caip2: str = field(init=False)
    domain_separator: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "caip2", f"eip155:{self.chain_id}")
        object.__setattr__(self, "domain_separator", keccak256(self._encoded_domain()))

    def _encoded_domain(self) -> bytes:
        return b"".join(
            (
                _DOMAIN_TYPEHASH,
                keccak256(self.domain_name.encode()),
                keccak256(self.domain_version.encode()),
                self.chain_id.to_bytes(32),
                bytes.fromhex(self.usdc[2:]).rjust(32, b"\0"),
            )
        )


BASE = Network(
    name="base",
    title="Base",
    chain_id=8453,
    usdc="0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
    domain_name="USD Coin",
    domain_version="2",
)
BASE_SEPOLIA = Network(
    name="base-sepolia",
    title="Base Sepolia",
    chain_id=84532,
    usdc="0x036CbD53842c5426634e7929541eC2318f3dCF7e",
    domain_name="USDC",  # not "USD Coin": the two contracts differ in it
    domain_version="2",
)

NETWORKS: tuple[Network, ...] = (BASE, BASE_SEPOLIA)
_BY_NAME = {name: network for network in NETWORKS for name in (network.name, network.caip2)}


def find_network(name: str) -> Network | None:
    """The network of a v1 name (`base`) or CAIP-2 id (`eip155:8453`), None if not pinned."""
    return _BY_NAME.get(name)


def get_network(network: str | Network) -> Network:
    """Like `find_network`, for settings. Raises ConfigError for one that is not pinned."""
    if isinstance(network, Network):
        if network not in NETWORKS:
            raise ConfigError(f"{network.name!r} is not one of the networks x402sms pays on")
        return network
    found = find_network(network)
    if found is None:
        known = ", ".join(known.name for known in NETWORKS)
        raise ConfigError(f"unknown network {network[:40]!r}: x402sms pays on {known}")
    return found
