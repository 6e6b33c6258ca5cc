"""EIP-3009 `TransferWithAuthorization`: what is signed, its digest, and the nonce of an intent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from x402sms.protocol.keccak import keccak256
from x402sms.protocol.networks import Network

# x402 v1 practice, to allow for a facilitator whose clock is behind.
BACKDATE_SECONDS = 600
# Facilitators refuse what expires within about 6 s; settlement itself takes a few more.
SHORTEST_WINDOW = 30

_TYPEHASH = keccak256(
    b"TransferWithAuthorization(address from,address to,uint256 value,"
    b"uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
_NONCE_TAG = b"x402sms/intent/1"

_FIELDS = (
    ("from", "address"),
    ("to", "address"),
    ("value", "uint256"),
    ("validAfter", "uint256"),
    ("validBefore", "uint256"),
    ("nonce", "bytes32"),
)


@dataclass(frozen=True, slots=True)
class Authorization:
    """One EIP-3009 authorization. Addresses in EIP-55 form, times in Unix seconds."""

    network: Network
    payer: str
    pay_to: str
    amount_atomic: int
    valid_after: int
    valid_before: int
    nonce: bytes

    def digest(self) -> bytes:
        """The 32 bytes to sign (EIP-712), from our own packed encoding.

        Equal to what `eth_account` makes of `typed_data()`, at a hundredth of its cost.
        """
        encoded = b"".join(
            (
                _TYPEHASH,
                _address_word(self.payer),
                _address_word(self.pay_to),
                self.amount_atomic.to_bytes(32),
                self.valid_after.to_bytes(32),
                self.valid_before.to_bytes(32),
                self.nonce,
            )
        )
        return keccak256(b"\x19\x01" + self.network.domain_separator + keccak256(encoded))

    def domain_data(self) -> dict[str, Any]:
        """The EIP-712 domain, from our table, for a `sign_typed_data` signer."""
        return {
            "name": self.network.domain_name,
            "version": self.network.domain_version,
            "chainId": self.network.chain_id,
            "verifyingContract": self.network.usdc,
        }

    @staticmethod
    def message_types() -> dict[str, list[dict[str, str]]]:
        return {
            "TransferWithAuthorization": [
                {"name": name, "type": solidity} for name, solidity in _FIELDS
            ]
        }

    def message_data(self) -> dict[str, Any]:
        return {
            "from": self.payer,
            "to": self.pay_to,
            "value": self.amount_atomic,
            "validAfter": self.valid_after,
            "validBefore": self.valid_before,
            "nonce": self.nonce,
        }

    @property
    def nonce_hex(self) -> str:
        return "0x" + self.nonce.hex()


def intent_nonce(network: Network, payer: str, intent: str) -> bytes:
    """The EIP-3009 nonce of a purchase: keccak256(tag ‖ chainId ‖ asset ‖ payer ‖ intent).

    Two authorizations for one intent share it, and the USDC contract settles at most one of
    them, whatever their amounts, recipients and windows: on any machine that has the key.
    """
    return keccak256(
        b"".join(
            (
                _NONCE_TAG,
                network.chain_id.to_bytes(32),
                bytes.fromhex(network.usdc[2:]),
                bytes.fromhex(payer[2:]),
                intent.encode(),
            )
        )
    )


def validity_window(now: int, *, asked: int | None, needed: int, longest: int) -> tuple[int, int]:
    """(validAfter, validBefore) in Unix seconds.

    As long as the server asks for (`maxTimeoutSeconds`), at least as long as the request itself
    may take (`needed`), and never beyond `longest`, which is ours: a facilitator has no upper
    bound, so a server could otherwise ask for an authorization good for ten years.
    """
    seconds = longest if asked is None else min(max(asked, needed, SHORTEST_WINDOW), longest)
    return max(now - BACKDATE_SECONDS, 0), now + seconds


def _address_word(address: str) -> bytes:
    return bytes.fromhex(address[2:]).rjust(32, b"\0")
