"""The sandbox's own table of networks; deliberately not the client's, so that they can disagree."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chain:
    """A network as both protocol versions name it, and the EIP-712 domain of its USDC."""

    v1_name: str
    caip2: str
    chain_id: int
    usdc: str
    domain_name: str
    domain_version: str


CHAINS = {
    "base": Chain(
        v1_name="base",
        caip2="eip155:8453",
        chain_id=8453,
        usdc="0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
        domain_name="USD Coin",
        domain_version="2",
    ),
    "base-sepolia": Chain(
        v1_name="base-sepolia",
        caip2="eip155:84532",
        chain_id=84532,
        usdc="0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        domain_name="USDC",
        domain_version="2",
    ),
}
