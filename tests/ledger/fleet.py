"""Workers that share one wallet, one ledger and one budget: `python -m tests.ledger.fleet ...`.

They are forked after the imports, and start when each of them is up. A line of stdout is a worker
(`worker <pid>`) or what came of one purchase.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing

from tests.ledger.parts import buy
from tests.protocol.parts import settled, v2
from x402sms.errors import LedgerError, SpendLimitExceeded
from x402sms.ledger import Ledger, open_ledger
from x402sms.ledger.postgres import PostgresLedger
from x402sms.limits import SpendLimits
from x402sms.protocol.effects import NeverSent, Sign

PRICE_ATOMIC = 10_000  # of `v2()`
# As many of a worker's first purchases find no connection: what they reserved is given back.
NEVER_SENT = 6


def main(url: str, workers: int, each: int, allowed_usdc: str) -> int:
    limits = SpendLimits(per_day=None, total=allowed_usdc)
    go_reading, go_writing = os.pipe()

    def work(number: int) -> None:
        os.close(go_writing)
        ledger = PostgresLedger(url)  # all at once, on a database that may be empty
        say(f"worker {os.getpid()}")
        os.read(go_reading, 1)  # ends when the parent lets go
        for turn in range(each):
            say(purchase(ledger, f"{number}-{turn}", limits, sent=turn >= NEVER_SENT))
        ledger.close()

    with closing(open_ledger(":memory:")) as unshared:
        purchase(unshared, "what is loaded on first use", limits, sent=True)
    children = [forked(work, number) for number in range(workers)]
    sys.stdin.readline()
    os.close(go_writing)
    ends = [os.waitpid(child, 0)[1] for child in children]
    return sum(1 for end in ends if end != 0)


def purchase(ledger: Ledger, intent: str, limits: SpendLimits, *, sent: bool) -> str:
    played = buy(ledger, [v2(), settled() if sent else NeverSent()], intent=intent, limits=limits)
    signed = bool(played.driver.all_of(Sign))
    match played.error:
        case None:
            return "paid"
        case NeverSent():
            return "never sent"
        case SpendLimitExceeded() if not signed:
            return "over budget"
        case LedgerError():
            return "no ledger, signed" if signed else "no ledger"
        case error:
            return f"unexpected {error!r}"


def forked(work: Callable[[int], None], number: int) -> int:
    if child := os.fork():
        return child
    try:
        work(number)
    except BaseException as error:  # noqa: BLE001  told to the test
        say(f"unexpected {error!r}")
        os._exit(1)
    os._exit(0)


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # short enough to be written in one piece


def run(arguments: Sequence[str]) -> int:
    url, workers, each, allowed = arguments
    return main(url, int(workers), int(each), allowed)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
