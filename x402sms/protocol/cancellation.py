"""EIP-3009 `CancelAuthorization`, and the transaction that carries it to the chain.

The only thing x402sms ever sends to a chain itself, so the only one that costs ETH. Encoded here:
`eth_account` takes 0.7 s to import, and its signing wants the key.
"""

from __future__ import annotations

from dataclasses import dataclass

from x402sms.protocol.keccak import keccak256
from x402sms.protocol.networks import Network

_TYPEHASH = keccak256(b"CancelAuthorization(address authorizer,bytes32 nonce)")
_SELECTOR = keccak256(b"cancelAuthorization(address,bytes32,uint8,bytes32,bytes32)")[:4]
_DYNAMIC_FEE = b"\x02"  # EIP-2718's type of an EIP-1559 transaction

_Item = bytes | int | list["_Item"]


@dataclass(frozen=True, slots=True)
class Cancellation:
    """The payer's word that `nonce` shall never settle. The address in EIP-55 form."""

    network: Network
    payer: str
    nonce: bytes

    def digest(self) -> bytes:
        """The 32 bytes that the payer signs (EIP-712)."""
        encoded = _TYPEHASH + self._payer_word() + self.nonce
        return keccak256(b"\x19\x01" + self.network.domain_separator + keccak256(encoded))

    def call(self, signature: bytes) -> bytes:
        """The call of the USDC contract; `signature` is the payer's r‖s‖v."""
        r, s, v = signature[:32], signature[32:64], signature[64:]
        return b"".join((_SELECTOR, self._payer_word(), self.nonce, v.rjust(32, b"\0"), r, s))

    def _payer_word(self) -> bytes:
        return bytes.fromhex(self.payer[2:]).rjust(32, b"\0")


@dataclass(frozen=True, slots=True)
class GasTransaction:
    """A call of a contract, paid in ETH by EIP-1559. Fees in wei per unit of gas."""

    chain_id: int
    sequence: int  # of the sender's transactions: Ethereum's other "nonce"
    max_priority_fee_per_gas: int
    max_fee_per_gas: int
    gas: int
    to: str
    data: bytes

    def digest(self) -> bytes:
        """The 32 bytes that the payer of the gas signs."""
        return keccak256(_DYNAMIC_FEE + _rlp(self._fields()))

    def signed(self, signature: bytes) -> bytes:
        """The transaction as it is sent; `signature` is r‖s‖v over its digest."""
        r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:64])
        return _DYNAMIC_FEE + _rlp([*self._fields(), signature[64] - 27, r, s])

    def _fields(self) -> list[_Item]:
        return [
            self.chain_id,
            self.sequence,
            self.max_priority_fee_per_gas,
            self.max_fee_per_gas,
            self.gas,
            bytes.fromhex(self.to[2:]),
            0,  # ETH sent along
            self.data,
            [],  # access list
        ]


def _rlp(item: _Item) -> bytes:
    """Recursive length prefix, from the Ethereum Yellow Paper, appendix B."""
    if isinstance(item, int):
        item = item.to_bytes((item.bit_length() + 7) // 8)
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _prefix(0x80, len(item)) + item
    body = b"".join(_rlp(each) for each in item)
    return _prefix(0xC0, len(body)) + body


def _prefix(kind: int, length: int) -> bytes:
    if length < 56:
        return bytes((kind + length,))
    size = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes((kind + 55 + len(size),)) + size
