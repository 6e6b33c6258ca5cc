"""Pay any x402 API with plain httpx: a transport under your own client, with limits and a ledger.

X402SMS_PRIVATE_KEY=... python examples/any_x402_api.py https://api.example.com/weather
"""

from __future__ import annotations

import sys

import httpx

from x402sms import SpendLimits, Wallet, X402Transport, open_ledger


def main(url: str) -> None:
    paying = X402Transport(
        Wallet.from_env(),
        network="base",
        limits=SpendLimits(per_call="0.05", per_day="1"),
        ledger=open_ledger("payments.db"),
    )
    with httpx.Client(transport=paying) as client:
        response = client.get(url)
        print(response.status_code, response.text)
        if receipt := response.extensions.get("x402"):
            print(f"paid {receipt.amount} USDC to {receipt.pay_to}: {receipt.state}")
            print(f"transaction {receipt.transaction}")


if __name__ == "__main__":
    main(sys.argv[1])
