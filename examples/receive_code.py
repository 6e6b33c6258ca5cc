"""Test your own sign-up flow: get a number, type it in, read the code that your site sends.

    X402SMS_KEYSTORE=... X402SMS_KEYSTORE_PASSWORD_FILE=... python examples/receive_code.py telegram

Everything it needs comes from the environment: the wallet, the network, the limits.
"""

from __future__ import annotations

import sys

from x402sms import Client
from x402sms.errors import NoCodeReceived, SpendLimitExceeded


def main(service: str) -> int:
    with Client() as sms, sms.meter() as meter:
        try:
            received = sms.receive_code(
                service,
                max_price="0.30",
                on_number=lambda number: print(f"enter this number: {number}", flush=True),
            )
        except (NoCodeReceived, SpendLimitExceeded) as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            print(f"paid in all: {meter.total} USDC in {len(meter.receipts)} calls")
    print(f"code: {received.code or received.text}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2] or ["telegram"]))
