"""`python -m x402sms.sandbox`: a sandbox in the foreground."""

from __future__ import annotations

import argparse
import sys
from decimal import Decimal, InvalidOperation
from typing import get_args

from x402sms.errors import ConfigError
from x402sms.sandbox import SandboxConfig, serve
from x402sms.sandbox.config import DialectName, NetworkName, SettlementName


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 stopped as asked, 2 wrong configuration."""
    options = _parser().parse_args(arguments)
    try:
        serve(SandboxConfig(**vars(options)))
    except ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m x402sms.sandbox",
        description="VirtualSMS on loopback. Prints one line of JSON when ready.",
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--network", choices=get_args(NetworkName), default="base-sepolia")
    parser.add_argument("--dialect", choices=get_args(DialectName), default="v2")
    parser.add_argument("--settlement", choices=get_args(SettlementName), default="memory")
    parser.add_argument("--rpc-url", help="the anvil to settle on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sms-after", type=float, metavar="S", help="an SMS comes by itself")
    parser.add_argument("--funded", type=_usdc, default=Decimal(100), metavar="USDC")
    parser.add_argument("--cooldown", type=int, default=0, metavar="S")
    return parser


def _usdc(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount") from error


if __name__ == "__main__":
    sys.exit(main())
