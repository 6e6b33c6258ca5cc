"""`python -m x402sms.sandbox`: a sandbox in the foreground."""

from __future__ import annotations

import argparse
import sys
from decimal import Decimal, InvalidOperation
from typing import get_args

from x402sms.errors import ConfigError
from x402sms.sandbox import FAULTS, WEBHOOK_FAULTS, Fault, SandboxConfig, serve
from x402sms.sandbox.config import DialectName, NetworkName, SettlementName, VocabularyName


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
        epilog="Faults, by name:\n"
        + "\n".join(
            f"  {name:18} {meaning}" for name, meaning in {**FAULTS, **WEBHOOK_FAULTS}.items()
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--network", choices=get_args(NetworkName), default="base-sepolia")
    parser.add_argument("--dialect", choices=get_args(DialectName), default="v2")
    parser.add_argument("--settlement", choices=get_args(SettlementName), default="memory")
    parser.add_argument("--rpc-url", help="the anvil to settle on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sms-after", type=float, metavar="S", help="an SMS comes by itself")
    parser.add_argument("--funded", type=_usdc, default=Decimal(100), metavar="USDC")
    parser.add_argument(
        "--account-balance", type=_usdc, default=Decimal(100), metavar="USD", help="of the API key"
    )
    parser.add_argument("--webhook-url", metavar="URL", help="is posted what happens; loopback")
    parser.add_argument("--webhook-secret", metavar="SECRET", help="signs that; else a random one")
    parser.add_argument("--cooldown", type=int, default=0, metavar="S")
    parser.add_argument(
        "--virtual-time", action="store_true", help="a long-poll moves the clock, not waits"
    )
    parser.add_argument("--vocabulary", choices=get_args(VocabularyName), default="reference")
    parser.add_argument("--rate-limit", type=int, metavar="N", help="requests a minute")
    parser.add_argument("--price-drift", type=int, metavar="N", help="moves after N challenges")
    parser.add_argument(
        "--fault",
        dest="faults",
        action="append",
        default=[],
        type=_fault,
        metavar="NAME=P",
        help="or NAME@METHOD /path=P; as often as needed; the names are below",
    )
    parser.add_argument("--fault-seed", type=int, metavar="N")
    parser.add_argument("--slow-seconds", type=float, default=0.2, metavar="S")
    return parser


def _usdc(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount") from error


def _fault(text: str) -> Fault:
    try:
        return Fault.parse(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
