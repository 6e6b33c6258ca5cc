"""Keccak-256 as Ethereum uses it (not the later SHA3-256), and EIP-55 addresses."""

from __future__ import annotations

import re
from functools import lru_cache

from Crypto.Hash import keccak

ZERO_ADDRESS = "0x" + 40 * "0"
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)


def keccak256(data: bytes) -> bytes:
    return keccak.new(digest_bits=256, data=data).digest()


@lru_cache(maxsize=1024)  # the same few come with every challenge; what is refused is not kept
def checksum_address(text: str) -> str:
    """The EIP-55 form of an address.

    Raises ValueError for anything but `0x` and 40 hex digits, and for a mixed-case address whose
    capitals do not match: EIP-55 has them so that a mistyped address is noticed.
    """
    if _ADDRESS.fullmatch(text) is None:
        raise ValueError("not an address: 0x and 40 hex digits")
    digits = text[2:].lower()
    capitals = keccak256(digits.encode()).hex()
    checksummed = "0x" + "".join(
        digit.upper() if capital >= "8" else digit
        for digit, capital in zip(digits, capitals, strict=False)
    )
    if text[2:] not in (digits, digits.upper(), checksummed[2:]):
        raise ValueError("its EIP-55 checksum does not match: is a digit mistyped?")
    return checksummed
