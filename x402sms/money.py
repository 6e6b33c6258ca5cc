"""USDC: `Decimal` at the edge, `int` atomic units (10^-6 USDC) inside. Never a float."""

from __future__ import annotations

import re
from decimal import Decimal

DECIMALS = 6
UINT256_MAX = 2**256 - 1

_UNIT = 1_000_000
# ASCII only: str.isdigit() and int() also take full-width digits, "1_000" and " 7 ".
_PLAIN_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,71})(?:\.([0-9]{1,6}))?", re.ASCII)
_ATOMIC = re.compile(r"0|[1-9][0-9]{0,77}", re.ASCII)


def parse_usdc(amount: str | int | Decimal) -> int:
    """Atomic units of an amount in USDC: `"0.25"` -> 250000.

    Takes a plain decimal with at most 6 places, an int of whole USDC, or a Decimal.
    Raises ValueError for anything negative, finer than 6 places, beyond uint256 or not plain
    (`1e3`, `1_000`, ` 7 `), TypeError for a float or a bool.
    """
    if isinstance(amount, bool) or not isinstance(amount, str | int | Decimal):
        raise TypeError(
            "an amount of USDC is a str, int or Decimal, never a float: '0.05', not 0.05"
        )
    text = _plain(amount) if isinstance(amount, Decimal) else str(amount)
    match = _PLAIN_DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text[:40]!r} is not an amount of USDC: write a plain decimal with at most "
            f"{DECIMALS} places, such as 0.25"
        )
    whole, fraction = match.groups()
    atomic = int(whole) * _UNIT + int((fraction or "").ljust(DECIMALS, "0"))
    if atomic > UINT256_MAX:
        raise ValueError(f"{text[:40]!r} is more USDC than a uint256 holds")
    return atomic


def parse_atomic(text: str) -> int:
    """The int of a canonical uint256 in ASCII digits (x402 writes amounts so).

    Raises ValueError for signs, leading zeros, spaces, `_`, other digits, and 2^256 and above.
    """
    if _ATOMIC.fullmatch(text) is None:
        raise ValueError("not a whole number in plain ASCII digits")
    value = int(text)
    if value > UINT256_MAX:
        raise ValueError("larger than a uint256")
    return value


def to_usdc(amount_atomic: int) -> Decimal:
    """The USDC amount of atomic units, exact: 250000 -> Decimal('0.250000')."""
    return Decimal((0 if amount_atomic >= 0 else 1, _digits(amount_atomic), -DECIMALS))


def format_usdc(amount_atomic: int, *, places: int = 2) -> str:
    """For people: `places` decimals, more where the amount has more: `0.05`, `0.0005`."""
    sign = "-" if amount_atomic < 0 else ""
    whole, fraction = divmod(abs(amount_atomic), _UNIT)
    decimals = f"{fraction:06d}".rstrip("0").ljust(places, "0")
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def usdc(amount: Decimal, *, places: int = 2) -> str:
    """`format_usdc` of Decimal USDC as a service writes it, finer than atomic too: `0.05`."""
    whole, _, fraction = f"{amount:f}".partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(places, '0')}"


def _digits(value: int) -> tuple[int, ...]:
    return tuple(int(digit) for digit in str(abs(value)))


def _plain(amount: Decimal) -> str:
    """A Decimal without exponent and without trailing zeros, so that 0.2500000 is still 0.25."""
    if not amount.is_finite() or abs(amount.adjusted()) > 100:  # bounds what `f` may expand
        return str(amount)
    text = f"{amount:f}"
    if "." in text:
        text = text.rstrip("0").removesuffix(".")
    return "0" if text == "-0" else text
