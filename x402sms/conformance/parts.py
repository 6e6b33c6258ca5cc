"""What the cases are made of: attempts to pay, charges, and what a ledger says of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from x402sms.ledger import Charge, Ledger, Payment
from x402sms.limits import Budget
from x402sms.protocol.eip3009 import Authorization, intent_nonce
from x402sms.protocol.networks import BASE, Network
from x402sms.protocol.types import Attempt, Dialect, Outcome, PaymentState

NOW: Final = 1_800_000_000  # Unix seconds
HOUR: Final = 3600
DAY: Final = 86_400
PAYER: Final = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
OTHER: Final = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
RECIPIENT: Final = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
HASH: Final = "0x" + "ab" * 32
ELSEWHERE: Final = "0x" + "cd" * 32
CAP_OF_FIVE: Final = Budget("total", 50)  # five attempts of the default amount
OPEN: Final = (PaymentState.RESERVED, PaymentState.REFUSED, PaymentState.UNKNOWN)
STATES: Final = tuple(PaymentState)
PATIENCE_SECONDS: Final = 60

T = TypeVar("T")


def attempt(
    intent: str = "a",
    amount_atomic: int = 10,
    *,
    network: Network = BASE,
    payer: str = PAYER,
    pay_to: str = RECIPIENT,
    valid_before: int = NOW + 300,
    **changes: Any,
) -> Attempt:
    """A payment about to be signed."""
    authorization = Authorization(
        network=network,
        payer=payer,
        pay_to=pay_to,
        amount_atomic=amount_atomic,
        valid_after=NOW - 600,
        valid_before=valid_before,
        nonce=intent_nonce(network, payer, intent),
    )
    given: dict[str, Any] = {
        "method": "POST",
        "url": "https://seller.example/sms",
        "fingerprint": "f" * 64,
        "dialect": Dialect.V2,
        "template": {"x402Version": 2},
    }
    return Attempt(intent=intent, authorization=authorization, **(given | changes))


def charge(intent: str = "a", amount_atomic: int = 10, **changes: Any) -> Charge:
    """A purchase from an account's balance."""
    given: dict[str, Any] = {
        "account": "key:1",
        "what": "a number for telegram in GB",
        "url": "https://seller.example/orders",
    }
    return Charge(intent=intent, amount_atomic=amount_atomic, **(given | changes))


def ask(ledger: Ledger, asked: Charge, *budgets: Budget, now: int = NOW) -> Charge | None:
    return ledger.charges.ask(asked, budgets, now=now)


def put(ledger: Ledger, state: PaymentState, intent: str = "a") -> Payment:
    """The row of that intent, in that state."""
    made = attempt(intent)
    ledger.reserve(made, [], now=NOW)
    transaction = HASH if state is PaymentState.SETTLED else None
    if state is not PaymentState.RESERVED:
        ledger.record(made, Outcome(state, f"was {state}", transaction), now=NOW + 1)
    return row(ledger, intent)


def row(ledger: Ledger, intent: str = "a") -> Payment:
    """The only payment of that intent."""
    (payment,) = ledger.find(intent)
    return payment


def spent(ledger: Ledger, since: int = 0) -> int:
    """Atomic USDC, of PAYER on Base."""
    return ledger.spent_atomic(network=BASE.caip2, payer=PAYER, since=since)


def deliver(ledger: Ledger, payment: Payment, what: str) -> bool:
    return ledger.note_delivered(
        network=payment.network, payer=payment.payer, nonce=payment.nonce, what=what
    )


def at_once(workers: int, work: Callable[[int], T]) -> list[T]:
    """What `work(0)`, `work(1)`, ... return in threads that all begin together."""
    begin = threading.Barrier(workers)

    def one(number: int) -> T:
        begin.wait(PATIENCE_SECONDS)
        return work(number)

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, range(workers)))
