"""Calls that pay from a ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from tests.protocol.parts import NOW, WALLET, Driver, Played, Said, payer, purchase
from x402sms.driver import drive
from x402sms.ledger import Ledger
from x402sms.limits import SpendLimits
from x402sms.protocol.effects import Recall, Record, Reserve, Settle
from x402sms.protocol.flow import pay
from x402sms.protocol.types import OnChain
from x402sms.transport import X402Transport


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
