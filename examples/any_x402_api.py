"""Bill a batch of calls to any x402 API with plain httpx: a budget, a bill, nothing paid twice.

    X402SMS_KEYSTORE=... X402SMS_KEYSTORE_PASSWORD_FILE=... \\
        python examples/any_x402_api.py monday-report https://api.example.com/weather ...

Each call has an intent, made of the batch's name and its URL. Run it again after a crash: what
was paid for is not paid again. The bill of all batches so far is written to bill.csv.
X402SMS_MAX_TOTAL bounds what the ledger may ever spend.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing

import httpx

from x402sms import SpendLimits, Wallet, X402SMSError, X402Transport, open_ledger
from x402sms.errors import AlreadyPaid
from x402sms.export import write_csv


def main(batch: str, *urls: str) -> int:
    ledger = open_ledger("payments.db")  # what was promised is here before it is signed
    paying = X402Transport(
        Wallet.from_env(),
        network=os.environ.get("X402SMS_NETWORK", "base"),
        limits=SpendLimits(per_call="0.05", total=os.environ.get("X402SMS_MAX_TOTAL", "1")),
        ledger=ledger,
    )
    failed = 0
    with closing(ledger), httpx.Client(transport=paying) as client:
        for url in urls:
            try:
                print(fetch(client, url, intent=f"{batch} {url}"))
            except (X402SMSError, httpx.HTTPError) as error:
                failed += 1
                print(f"{url}: {error}", file=sys.stderr)
        with open("bill.csv", "w", newline="", encoding="utf-8") as bill:
            write_csv(ledger.payments(), bill)
    return 1 if failed else 0


def fetch(client: httpx.Client, url: str, *, intent: str) -> str:
    try:
        response = client.get(url, extensions={"x402": {"intent": intent}})
    except AlreadyPaid as done:  # by an earlier run, and the server gives the answer only once
        return f"{url}: paid before, {done.receipt.amount} USDC"
    response.raise_for_status()
    receipt = response.extensions.get("x402")
    if receipt is None:
        return f"{url}: free\n{response.text}"
    return (
        f"{url}: paid {receipt.amount} USDC to {receipt.pay_to}, {receipt.state}, "
        f"transaction {receipt.transaction}\n{response.text}"
    )


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: any_x402_api.py BATCH URL ...")
    try:
        sys.exit(main(*sys.argv[1:]))
    except X402SMSError as error:  # the wallet, or a setting
        sys.exit(str(error))
