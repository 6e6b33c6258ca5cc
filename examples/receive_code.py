"""Test your own sign-up flow: get a number, type it in, read the code that your site sends.

    X402SMS_KEYSTORE=... X402SMS_KEYSTORE_PASSWORD_FILE=... python examples/receive_code.py telegram

There is no account: the wallet pays per call. Wallet, network and limits come from the
environment. A number that stays silent is swapped, and cancelled for its refund in the end.
"""

from __future__ import annotations

import sys

from x402sms import Client, X402SMSError


def main(service: str = "telegram") -> int:
    with Client() as sms, sms.meter() as meter:
        try:
            received = sms.receive_code(
                service,
                max_price="0.30",  # above it nothing is signed
                on_number=lambda number: print(f"enter this number: {number}", flush=True),
            )
        finally:  # a job that brings no code tells what it cost, too
            print(f"paid in all: {meter.total} USDC in {len(meter.receipts)} calls")
    print(f"code: {received.code or received.text}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:2]))
    except X402SMSError as error:  # says what became of the money, and what to do next
        sys.exit(f"no code: {error}")
