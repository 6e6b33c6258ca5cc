"""Signed events about orders and balances, and the deliveries that are made of them.

Made whether or not there is somebody to send them to. The signature is the HMAC-SHA256 of the
body's bytes; nothing of this is shared with the client's code that verifies it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from x402sms.money import format_usdc
from x402sms.sandbox.accounts import Account
from x402sms.sandbox.clock import Bell
from x402sms.sandbox.config import WebhookForm
from x402sms.sandbox.faults import Schedule
from x402sms.sandbox.models import moment
from x402sms.sandbox.orders import Order

SIGNATURE = "X-VirtualSMS-Signature"
TIMESTAMP = "X-VirtualSMS-Timestamp"
DELIVERY = "X-VirtualSMS-Delivery"

# The live vocabulary has a word of its own for one of the reference's five types, and two more.
LIVE_WORDS = {"order.sms_received": "sms.received"}
LIVE_ONLY = {"order.expired", "balance.low"}
LOW_BALANCE = 1_000_000  # atomic units: below a dollar

_STALE = 3 * 3600  # seconds by which a stale delivery's timestamp is old
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(frozen=True)
class Webhook:
    """What is posted: exact bytes, and the headers that go with them."""

    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Event:
    """`at` is in Unix time; `account_id` is the owner: a wallet's address, or an account's id."""

    event_id: str
    kind: str
    account_id: str
    at: float
    body: bytes


@dataclass
class Delivery:
    """One delivery of an event, which may take several `attempts`: a status each, None: no answer.

    `stamp` is its timestamp. One that is not `genuine` (forged, or replayed after hours) is not
    the service's own: nobody tries it again.
    """

    delivery_id: str
    event: Event
    signature: str
    stamp: int
    genuine: bool = True
    attempts: list[int | None] = field(default_factory=list)

    def webhook(self) -> Webhook:
        headers = {
            "Content-Type": "application/json",
            SIGNATURE: self.signature,
            TIMESTAMP: str(self.stamp),
            DELIVERY: self.delivery_id,
        }
        return Webhook(headers, self.event.body)


class Webhooks:
    """What has happened, oldest first. `now` is the time of those who receive; `live`: says so in
    the live vocabulary. `tried`: how many deliveries were posted once at least."""

    def __init__(
        self,
        schedule: Schedule,
        now: Callable[[], float],
        *,
        secret: str | None,
        form: WebhookForm,
        seed: int,
        live: bool,
    ) -> None:
        self.secret = secret or f"whsec_{secrets.token_urlsafe(24)}"
        self.bell = Bell()
        self.events: list[Event] = []
        self.deliveries: list[Delivery] = []
        self.tried = 0
        self._schedule = schedule
        self._now = now
        self._form = form
        self._seed = seed
        self._live = live
        self._numbered = 0
        self._held: list[Delivery] = []

    # --- what happens

    def order(self, kind: str, order: Order, at: float) -> None:
        """`at` is the orders' time."""
        data: dict[str, Any] = {
            "order_id": order.order_id,
            "phone_number": self._number(order.phone_number),
            "service": order.service.id,
            "country": order.country.iso2,
        }
        if kind == "order.sms_received":
            sms = order.messages[-1]
            data["phone_number"] = self._number(sms.phone_number)
            data |= {"code": sms.code, "full_text": sms.content, "sender": sms.sender}
            data["received_at"] = moment(sms.received_at)
        elif kind == "order.swapped":
            data["previous_number"] = self._number(order.previous_number or "")
        elif kind == "order.cancelled":
            charged = sum(record.amount_atomic for record in order.charges)
            data["refund_amount"] = format_usdc(charged)
        self._happened(kind, order.owner, data, at)

    def deposited(self, account: Account, amount_atomic: int, at: float) -> None:
        data = {"amount": format_usdc(amount_atomic), **_balance(account)}
        self._happened("balance.deposited", account.account_id, data, at)

    def purchased(self, account: Account, amount_atomic: int, at: float) -> None:
        """An event only where the balance has just become low."""
        after = account.balance_atomic
        if after < LOW_BALANCE <= after + amount_atomic:
            self._happened("balance.low", account.account_id, _balance(account), at)

    # --- inside

    def _happened(self, kind: str, account_id: str, data: dict[str, Any], at: float) -> None:
        if kind in LIVE_ONLY and not self._live:
            return
        word = LIVE_WORDS.get(kind, kind) if self._live else kind
        event_id = f"evt_{self._ulid(at)}"
        document = {
            "id": event_id,
            "type": word,
            "created_at": moment(at),
            "account_id": account_id,
            "data": data,
        }
        event = Event(event_id, word, account_id, at, json.dumps(document).encode())
        self.events.append(event)
        made = self._made_of(event)
        if made and not self._held and self._strikes("webhook-reorder"):
            self._held = made
            return
        self.deliveries += made
        if made and self._held:
            for delivery in self._held:
                delivery.stamp += int(self._now()) - made[-1].stamp if delivery.genuine else 0
            self.deliveries += self._held
            self._held = []
        self.bell.ring()

    def _made_of(self, event: Event) -> list[Delivery]:
        """As the faults will have it: none, one or several."""
        if self._strikes("webhook-lost"):
            return []
        made = []
        if self._strikes("webhook-forged"):
            made.append(self._delivery(event, genuine=False, key="not " + self.secret))
        if self._strikes("webhook-stale"):
            made.append(self._delivery(event, genuine=False, age=_STALE))
        else:
            made.append(self._delivery(event))
        if self._strikes("webhook-duplicate"):
            made.append(self._delivery(event))
        return made

    def _delivery(
        self, event: Event, *, genuine: bool = True, key: str | None = None, age: int = 0
    ) -> Delivery:
        signature = hmac.new((key or self.secret).encode(), event.body, hashlib.sha256).hexdigest()
        if self._form == "sha256":
            signature = f"sha256={signature}"
        delivery_id = f"dlv_{self._drawn() % 2**64:016x}"
        return Delivery(delivery_id, event, signature, int(self._now()) - age, genuine)

    def _strikes(self, fault: str) -> bool:
        return self._schedule.strikes(fault, None, paid=False)

    def _number(self, number: str) -> str:
        return number.removeprefix("+") if self._live else number

    def _ulid(self, at: float) -> str:
        """48 bits of time in milliseconds, then 80 that follow from the seed."""
        value = (int(at * 1000) % 2**48 << 80) | self._drawn() % 2**80
        return "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))

    def _drawn(self) -> int:
        self._numbered += 1
        text = f"{self._seed}\nwebhook\n{self._numbered}"
        return int.from_bytes(blake2b(text.encode(), digest_size=16).digest(), "big")


def _balance(account: Account) -> dict[str, str]:
    return {"balance": format_usdc(account.balance_atomic), "currency": "USD"}
