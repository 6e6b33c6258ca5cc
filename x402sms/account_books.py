"""What is known, and may be spent, of the account behind an API key."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import httpx

from x402sms.api_keys import ApiKey
from x402sms.clock import Clock
from x402sms.errors import LedgerError, SpendLimitExceeded
from x402sms.ledger import Charge, Ledger
from x402sms.limits import MOST_ATOMIC, Amount, SpendLimits
from x402sms.money import parse_usdc, to_usdc, usdc
from x402sms.protocol.effects import Purchase
from x402sms.protocol.labels import labels_of
from x402sms.protocol.types import PaymentState, Receipt
from x402sms.purchase import purchase_of
from x402sms.virtualsms.effects import Earlier

logger = logging.getLogger("x402sms")

IDEMPOTENCY_KEY = "Idempotency-Key"
NETWORK = "account"  # of receipts: nothing was signed, a balance was charged
MOST_CHARGED = MOST_ATOMIC // 10**6  # that many are added up in 64 bits


@dataclass(frozen=True)
class AccountBooks:
    """What is known, and may be spent, of the account behind a key."""

    key: ApiKey
    ledger: Ledger
    limits: SpendLimits
    clock: Clock
    paid: Callable[[Receipt], None]  # is told of each charge
    worker: str = ""

    @property
    def now(self) -> int:
        return int(self.clock.time())

    def get(self, intent: str) -> Charge | None:
        return self.ledger.charges.get(self.key.account, intent)

    def ask(self, charge: Charge) -> Charge | None:
        return self.ledger.charges.ask(charge, self.limits.budgets, now=self.now)

    def void(self, charge: Charge) -> bool:
        """False where it was settled, or asked for anew, since `charge` was read."""
        return self.ledger.charges.end(charge, PaymentState.VOID, now=self.now)

    def settle(self, charge: Charge, price: Decimal | None, order_id: str | None) -> bool:
        """False where the order is known to be another purchase's. `price` is in USDC.

        A note that must not cost the order: without it the charge stays in doubt, and counts.
        """
        amount = None if price is None else charged_atomic(price)
        settled = PaymentState.SETTLED
        try:
            return self.ledger.charges.end(
                charge, settled, order_id=order_id, amount_atomic=amount, now=self.now
            )
        except LedgerError:
            logger.exception("the ledger does not know that %s was bought", charge.what)
            return True

    def charges(self) -> list[Charge]:
        """All that were ever asked for, newest first."""
        return self.ledger.charges.list()

    def earlier(self, intent: str, purchase: str) -> Earlier | None:
        """What the ledger has under an intent, and whether it is that purchase."""
        charge = self.get(intent)
        if charge is None or charge.state is PaymentState.VOID:
            return None
        return Earlier(charge.order_id, str(charge.state), fits=charge.what == purchase)

    def tell(
        self,
        charge: Charge,
        price: Decimal | None,
        reason: str | None = None,
        state: PaymentState = PaymentState.SETTLED,
    ) -> None:
        """Of a purchase: its receipt, for whoever counts. Their faults must not cost the order."""
        receipt = Receipt(
            intent=charge.intent,
            amount=to_usdc(charge.amount_atomic) if price is None else price,
            network=NETWORK,
            payer=charge.account,
            pay_to=httpx.URL(charge.url).host,
            nonce=idempotency_key(charge.intent),
            valid_before=0,
            transaction=None,
            state=state,
            method="POST",
            url=charge.url,
            reason=reason,
            worker=charge.worker,
            labels=labels_of(charge.labels),
        )
        try:
            self.paid(receipt)
        except Exception:
            logger.exception("on_payment failed; the purchase itself is recorded")


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The least of what this purchase alone, and any single one, may cost."""

    limit: str
    atomic: int

    @classmethod
    def of(cls, limits: SpendLimits, max_price: Amount | None) -> Ceiling:
        own = MOST_ATOMIC if max_price is None else parse_usdc(max_price)
        any_call = MOST_ATOMIC if limits.per_call is None else parse_usdc(limits.per_call)
        return cls("max_amount", own) if own <= any_call else cls("per_call", any_call)

    def check(self, price: Decimal, intent: str) -> None:
        if price > to_usdc(self.atomic):
            raise SpendLimitExceeded(
                f"nothing bought: {usdc(price)} USDC is over the limit {self.limit} of "
                f"{usdc(to_usdc(self.atomic))}",
                limit=self.limit,
                allowed=to_usdc(self.atomic),
                intent=intent,
                amount=price,
            )


def charged_atomic(price: Decimal) -> int:
    """Of a price as the service writes it: finer than atomic is rounded up, and it is bounded."""
    over, under = price.as_integer_ratio()
    return min(-(-over * 10**6 // under), MOST_CHARGED)


def idempotency_key(intent: str) -> str:
    """The same for the same intent, on any machine. The service scopes it to the account."""
    return hashlib.sha256(f"x402sms {intent}".encode()).hexdigest()


def identify(request: httpx.Request) -> Purchase:
    """The purchase behind a request that buys, with the header that names it to the service."""
    purchase = purchase_of(request)
    request.headers[IDEMPOTENCY_KEY] = idempotency_key(purchase.intent)
    return purchase
