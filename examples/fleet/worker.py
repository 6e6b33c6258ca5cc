"""A worker of the fleet: takes a job a line on stdin, and says what came of it on stdout.

Wallet, ledger, budgets and its own name (X402SMS_WORKER) come from the environment. SIGTERM lets
the job that is under way end, with its rows in the ledger, and begins no other.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from x402sms import Client, X402SMSError
from x402sms.errors import SpendLimitExceeded

SMS_TIMEOUT = 60  # seconds; whoever stops a worker waits for as long, and somewhat more


class Stop:
    """What SIGTERM does: at once between two jobs, after the job that is under way else."""

    def __init__(self) -> None:
        self.busy = False
        self.wanted = False
        signal.signal(signal.SIGTERM, self)

    def __call__(self, *_: object) -> None:
        self.wanted = True
        if not self.busy:
            sys.exit(0)


def main() -> int:
    stop = Stop()
    with Client() as sms:
        for line in sys.stdin:
            stop.busy = True
            print(json.dumps(do(sms, **json.loads(line))), flush=True)
            stop.busy = False
            if stop.wanted:
                break
    return 0


def do(sms: Client, intent: str, service: str, campaign: str) -> dict[str, str | None]:
    """One sign-up test. The intent goes on with what a worker that died left of it."""

    def on_number(number: str) -> None:  # your test types it in here
        print(f"{os.environ['X402SMS_WORKER']} {intent}: {number}", file=sys.stderr, flush=True)

    try:
        received = sms.receive_code(
            service,
            max_price="0.30",  # above it nothing is signed
            timeout=SMS_TIMEOUT,
            intent=intent,
            labels={"campaign": campaign},
            on_number=on_number,
        )
    except SpendLimitExceeded as error:
        return {"limit": error.limit, "error": str(error)}
    except X402SMSError as error:  # says what became of the money, and what to do next
        return {"error": str(error)}
    return {"code": received.code or received.text}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except X402SMSError as error:  # the wallet, the ledger, or a setting
        sys.exit(str(error))
