"""From a wallet to an API key: pay once into a balance, then buy from it over REST.

    X402SMS_KEYSTORE=... X402SMS_KEYSTORE_PASSWORD_FILE=... X402SMS_MAX_PER_CALL=5 \\
        python examples/topup_then_rest.py 5 november telegram

The top-up is a purchase like any other: your limits must allow it (1 USDC a call, by default), and
its name (here `november`) is its intent, so that run again it is not paid again. The key it brings
is stored, and `Client()` finds it where there is no wallet.
"""

from __future__ import annotations

import sys

from x402sms import Client, X402SMSError


def main(amount: str, name: str, service: str) -> int:
    with Client() as paying:
        # Onto the account whose key is stored, if there is one; `new_account=True` makes another.
        brought = paying.topup(amount, intent=f"topup {name}")
    print(f"paid {brought.amount} USDC; the account has {brought.balance} USDC")
    print(f"the key is kept in {brought.kept_in}")
    if brought.warning:
        print(brought.warning, file=sys.stderr)

    with Client(api_key=brought.api_key) as sms:  # no wallet: nothing can be signed here
        received = sms.receive_code(
            service,
            max_price="0.30",
            on_number=lambda number: print(f"enter this number: {number}", flush=True),
        )
        print(f"code: {received.code or received.text}, for {received.cost} USDC")
        print(f"left: {sms.account.balance().balance} USDC")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: topup_then_rest.py USD NAME SERVICE")
    try:
        sys.exit(main(*sys.argv[1:]))
    except (X402SMSError, ValueError) as error:  # a ValueError: no such amount
        sys.exit(str(error))
