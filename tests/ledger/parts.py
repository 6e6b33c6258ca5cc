"""Attempts to reserve, calls that pay from a ledger, and what other processes do with one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.protocol.parts import WALLET, Driver, Played, Said, payer, purchase
from x402sms.driver import drive
from x402sms.errors import SpendLimitExceeded
from x402sms.ledger import Ledger, SQLiteLedger
from x402sms.limits import Budget, SpendLimits
from x402sms.protocol.effects import Recall, Record, Reserve, Settle
from x402sms.protocol.eip3009 import Authorization, intent_nonce
from x402sms.protocol.flow import pay
from x402sms.protocol.networks import BASE, Network
from x402sms.protocol.types import Attempt, Dialect, OnChain
from x402sms.transport import X402Transport

NOW = 1_800_000_000
PAYER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
OTHER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
RECIPIENT = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
CAP_OF_FIVE = Budget("total", 50)


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


@dataclass
class Buying(Driver):
    """A call that pays from a real ledger, with its budgets; its network comes from a script."""

    ledger: Ledger = field(kw_only=True)
    limits: SpendLimits = field(default_factory=SpendLimits)

    def _ledger(self, effect: Recall | Reserve | Record | Settle) -> object:
        transport = X402Transport(
            WALLET,
            limits=self.limits,
            ledger=self.ledger,
            transport=httpx.BaseTransport(),
            clock=lambda: self.now,
        )
        return transport.perform_here(effect)


def buy(
    ledger: Ledger,
    answers: Sequence[Said | BaseException],
    *,
    intent: str = "invoice-7",
    pauses: tuple[float, ...] = (),
    limits: SpendLimits | None = None,
    chain: Sequence[OnChain | None] = (None,),
    now: int = NOW,
) -> Played:
    """One call with an intent of the caller's, whatever it ends in."""
    limits = limits or SpendLimits()
    driver = Buying(list(answers), ledger=ledger, limits=limits, chain=list(chain), now=now)
    buying = purchase(intent=intent, intent_given=True)
    try:
        receipt = drive(pay(payer(limits=limits, pauses=pauses), buying), driver.perform)
    except BaseException as error:  # noqa: BLE001  what is thrown is what is looked at
        return Played(driver, None, error)
    return Played(driver, receipt, None)


def reserve_many(path: Path, intents: list[str]) -> int:
    """How many of these fit under the cap, as another process sees it."""
    taken = 0
    with SQLiteLedger(path) as ledger:
        for intent in intents:
            try:
                ledger.reserve(attempt(intent), [CAP_OF_FIVE], now=NOW)
            except SpendLimitExceeded:
                continue
            taken += 1
    return taken


def open_at_once(path: Path, start: Any) -> str:
    """Open a new ledger when all are ready; what came of it."""
    start.wait(30)
    try:
        SQLiteLedger(path).close()
    except Exception as error:  # noqa: BLE001  told to the parent
        return str(error)
    return "opened"
