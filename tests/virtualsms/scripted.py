"""The service, played from a script on a clock that only moves when the job lets it. No I/O.

What is not scripted is answered as an honest service would. It holds what really happened: the
orders and their states, what was paid and refunded, and every effect the job asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from x402sms.driver import drive
from x402sms.errors import (
    AlreadyPaid,
    APIError,
    ChainUnreadable,
    ChallengeError,
    ClockSkew,
    ConfigError,
    CooldownActive,
    CountryNotFound,
    HostNotReachable,
    HostNotServing,
    InsecureOrigin,
    InsufficientBalance,
    IntentConflict,
    LedgerError,
    NoAcceptableOffer,
    NoStock,
    NotFound,
    OrderAlreadyConfirmed,
    OrderExpired,
    OrderNotFound,
    PaymentRefused,
    PaymentUnknown,
    RateLimited,
    ServerError,
    ServiceNotFound,
    SigningFailed,
    SpendLimitExceeded,
    Unauthorized,
    UnreadableResponse,
    ValidationFailed,
    X402SMSError,
)
from x402sms.protocol.types import PaymentState, Receipt
from x402sms.virtualsms.calls import Call
from x402sms.virtualsms.effects import (
    Announce,
    Buy,
    CheckMail,
    Earlier,
    Effect,
    Event,
    Make,
    Now,
    Recall,
    Sleep,
    Spent,
    UnixTime,
)
from x402sms.virtualsms.job import Job, Terms

T = TypeVar("T")

EPOCH = 1_790_000_000  # Unix time of this machine where the clock of Now is 0
COOLDOWN = 120
WINDOW = 1200
FEE = Decimal("0.001")  # of a call
PRICE = Decimal("0.15")

RECEIPT = Receipt(
    intent="earlier-call",
    amount=FEE,
    network="base",
    payer="0x" + "1" * 40,
    pay_to="0x" + "2" * 40,
    nonce="0x" + "3" * 64,
    valid_before=EPOCH + 300,
    transaction=None,
    state=PaymentState.UNKNOWN,
    method="GET",
    url="http://127.0.0.1/orders/o1/sms",
)

# Every error that a call can end in, by name.
ERRORS: dict[str, Callable[[], Exception]] = {
    "cannot-be-reached": lambda: HostNotReachable("cannot reach it", host="127.0.0.1"),
    "setting": lambda: ConfigError("a setting"),
    "clock": lambda: ClockSkew("the clock", seconds=90),
    "ledger": lambda: LedgerError("the ledger"),
    "chain": lambda: ChainUnreadable("the chain"),
    "challenge": lambda: ChallengeError("is missing", field="accepts"),
    "origin": lambda: InsecureOrigin("plain http"),
    "offer": lambda: NoAcceptableOffer("none"),
    "over-max-amount": lambda: SpendLimitExceeded(
        "over", limit="max_amount", amount=Decimal("0.40")
    ),
    "over-the-day": lambda: SpendLimitExceeded("over", limit="per_day", amount=Decimal("0.15")),
    "signing": lambda: SigningFailed("the signer"),
    "payment-refused": lambda: PaymentRefused("refused"),
    "payment-unknown": lambda: PaymentUnknown("unknown", nonce=RECEIPT.nonce),
    "already-paid": lambda: AlreadyPaid("paid", receipt=RECEIPT),
    "conflict": lambda: IntentConflict("conflict"),
    "api": lambda: APIError("HTTP 418"),
    "validation": lambda: ValidationFailed("no"),
    "unauthorized": lambda: Unauthorized("no"),
    "balance": lambda: InsufficientBalance("no"),
    "not-found": lambda: NotFound("no"),
    "service-not-found": lambda: ServiceNotFound("no"),
    "country-not-found": lambda: CountryNotFound("no"),
    "order-not-found": lambda: OrderNotFound("no"),
    "already-confirmed": lambda: OrderAlreadyConfirmed("no"),
    "expired": lambda: OrderExpired("over"),
    "cooldown": lambda: CooldownActive("too early", retry_after=60),
    "cooldown-0": lambda: CooldownActive("too early", retry_after=0),
    "cooldown-hour": lambda: CooldownActive("too early", retry_after=3600),
    "cooldown-no-time": lambda: CooldownActive("too early"),
    "rate": lambda: RateLimited("slow down", retry_after=7),
    "rate-0": lambda: RateLimited("slow down", retry_after=0),
    "rate-hour": lambda: RateLimited("slow down", retry_after=3600),
    "rate-no-time": lambda: RateLimited("slow down"),
    "rate-paid": lambda: paid_for(RateLimited("slow down", retry_after=7)),
    "no-stock": lambda: NoStock("none"),
    "server": lambda: ServerError("broken"),
    "host": lambda: HostNotServing("no such path"),
    "unreadable": lambda: UnreadableResponse("html"),
}


def paid_for(error: APIError) -> APIError:
    error.receipt = RECEIPT
    return error


def instant(unix: float) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=unix)).isoformat()


@dataclass
class Held:
    """An order as the service has it. Times are on the clock of Now."""

    order_id: str
    country: str
    price: Decimal
    created: float
    number: str
    number_since: float
    status: str = "waiting"
    messages: list[dict[str, Any]] = field(default_factory=list)
    cancel_tries: int = 0

    def shown(self, ahead: float = 0) -> dict[str, Any]:
        zero = EPOCH + ahead
        return {
            "order_id": self.order_id,
            "phone_number": self.number,
            "service": "telegram",
            "country": self.country,
            "price": str(self.price),
            "status": self.status,
            "created_at": instant(zero + self.created),
            "expires_at": instant(zero + self.number_since + WINDOW),
            "cancel_available_at": instant(zero + self.created + COOLDOWN),
            "swap_available_at": instant(zero + self.number_since + COOLDOWN),
            "messages": list(self.messages),
        }


Answer = object  # JSON as the service writes it, an exception to raise, or ORDINARY
ORDINARY = object()
Script = Callable[["Scripted", Any], Answer]  # of a Make or a Buy


class Scripted:
    """Performs effects. `script` may answer each call; `queues` hold the next answers by name.

    `sms_after`: seconds after which a number gets its SMS, None for never. `prices` by country.
    `ahead`: seconds by which the service's clock is before ours. `interrupt`: what is thrown in
    at the effect of that index, `done` says whether the effect was performed before.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        queues: dict[str, list[Answer]] | None = None,
        sms_after: float | None = None,
        prices: dict[str, str] | None = None,
        ahead: float = 0,
        interrupt: dict[int, BaseException] | None = None,
        done: bool = True,
        earlier: dict[str, Earlier] | None = None,
        limit: int = 5000,
    ) -> None:
        self.script = script or (lambda service, effect: ORDINARY)
        self.queues = queues or {}
        self.sms_after = sms_after
        self.prices = {"GB": "0.15", "DE": "0.18", "US": "0.25"} if prices is None else prices
        self.ahead = ahead
        self.interrupt = interrupt or {}
        self.done = done
        self.intents: dict[str, Earlier] = dict(earlier or {})
        self.limit = limit
        self.mail: Callable[[str], object] = lambda order_id: ()  # what CheckMail brings
        self.now = 0.0
        self.orders: dict[str, Held] = {}
        self.effects: list[Effect] = []
        self.events: list[Event] = []
        self.calls: list[tuple[float, str, Call[Any]]] = []
        self.sleeps: list[float] = []
        self.sent_texts: list[str] = []
        self.paid = Decimal(0)
        self.refunded = Decimal(0)

    def run(self, logic: Generator[Effect, Any, T]) -> T:
        return drive(logic, self.perform)

    def perform(self, effect: Effect) -> object:
        index = len(self.effects)
        self.effects.append(effect)
        assert index < self.limit, "the job does not end"
        thrown = self.interrupt.get(index)
        if thrown is None:
            return self._do(effect)
        if self.done:
            with suppress(X402SMSError):
                self._do(effect)
        raise thrown

    def times_of(self, name: str) -> list[float]:
        return [at for at, called, _ in self.calls if called == name]

    def count(self, name: str) -> int:
        return len(self.times_of(name))

    def told(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def buys(self) -> list[Buy]:
        return [effect for effect in self.effects if isinstance(effect, Buy)]

    @property
    def waiting(self) -> list[str]:
        return [held.order_id for held in self.orders.values() if held.status == "waiting"]

    def _do(self, effect: Effect) -> object:  # noqa: PLR0911  a line for each effect
        match effect:
            case Now():
                return self.now
            case UnixTime():
                return EPOCH + self.now
            case Sleep():
                assert effect.seconds >= 0
                self.sleeps.append(effect.seconds)
                self.now += effect.seconds
                return None
            case Spent():
                return self.paid
            case Announce():
                self.events.append(effect.event)
                return None
            case Recall():
                return self.intents.get(effect.intent)
            case CheckMail():
                return self.mail(effect.order_id)
            case Make() | Buy():
                return self._call(effect)

    def _call(self, effect: Make | Buy) -> object:
        call = effect.call
        name = name_of(call)
        self.calls.append((self.now, name, call))
        queue = self.queues.get(name)
        answer = queue.pop(0) if queue else self.script(self, effect)
        if callable(answer):
            answer = answer(self)
        if isinstance(answer, BaseException):
            raise answer
        if answer is ORDINARY:
            answer = self._bought(effect) if isinstance(effect, Buy) else self.answer(call)
        self.paid += FEE if isinstance(effect, Make) else 0  # a purchase costs the number
        if name == "poll":
            self._remember(answer)
        return call.parse(answer)

    def _remember(self, answer: Any) -> None:
        if isinstance(answer, dict):
            listed = answer.get("messages") or []
            texts = [answer.get("full_text"), *(message.get("content") for message in listed)]
            self.sent_texts += [text for text in texts if text]

    def _bought(self, effect: Buy) -> Any:
        earlier = self.intents.get(effect.intent)
        if earlier is not None and earlier.order_id is not None:
            return self.orders[earlier.order_id].shown(self.ahead)  # the same payment once more
        country = str((effect.call.json or {})["country"])
        price = self._price(country)
        if price > effect.max_price:  # whatever the offer said: above it nothing is signed
            raise SpendLimitExceeded("over", limit="max_amount", amount=price)
        held = self.order(country)
        self.paid += held.price
        self.intents[effect.intent] = Earlier(held.order_id, "settled")
        return held.shown(self.ahead)

    def order(self, country: str = "GB", **known: Any) -> Held:
        number = len(self.orders) + 1
        held = Held(
            f"o{number}",
            country,
            self._price(country),
            self.now,
            f"+4477009001{number:02}",
            self.now,
        )
        for name, value in known.items():
            setattr(held, name, value)
        self.orders[held.order_id] = held
        return held

    def _price(self, country: str) -> Decimal:
        return Decimal(self.prices.get(country, "0.15"))

    def answer(self, call: Call[Any]) -> Any:
        """What an honest service answers; it does what it says."""
        name, (_, first, *rest) = name_of(call), call.path.split("/")
        if name == "services":
            return [{"id": "telegram", "name": "Telegram"}, {"id": "wa", "name": "WhatsApp"}]
        if name == "countries":
            return [{"iso2": "GB", "name": "United Kingdom"}, {"iso2": "DE", "name": "Germany"}]
        if name == "availability":
            if rest[0] != "telegram":
                raise ServiceNotFound("no such service")
            rows = self.prices.items()
            return [{"country": iso2, "price": price, "stock": 5} for iso2, price in rows]
        assert first == "orders"
        held = self.orders.get(rest[0])
        if held is None:
            raise OrderNotFound("no such order")
        self._refresh(held)
        return getattr(self, f"_{name}")(held, call)

    def _refresh(self, held: Held) -> None:
        due = None if self.sms_after is None else held.number_since + self.sms_after
        if held.status == "waiting" and due is not None and self.now >= due:
            held.status = "received"
            held.messages.append({"content": f"Telegram code 12345 for {held.order_id}"})
        if held.status == "waiting" and self.now >= held.number_since + WINDOW:
            held.status = "expired"

    def _get(self, held: Held, call: Call[Any]) -> Any:
        return held.shown(self.ahead)

    def _poll(self, held: Held, call: Call[Any]) -> Any:
        until = self.now + call.long_poll_seconds
        due = None if self.sms_after is None else held.number_since + self.sms_after
        if held.status == "waiting":
            self.now = until if due is None else max(self.now, min(until, due))
        self._refresh(held)
        if held.status == "expired":
            raise OrderExpired("its window has passed")
        return {"status": held.status, "messages": list(held.messages)}

    def _swap(self, held: Held, call: Call[Any]) -> Any:
        left = held.number_since + COOLDOWN - self.now
        if left > 0:
            raise CooldownActive("hold period", retry_after=int(left) + 1)
        if held.status != "waiting":
            raise OrderAlreadyConfirmed(f"it is {held.status}")
        previous, held.number_since = held.number, self.now
        held.number = f"{held.number[:-1]}9"
        return held.shown(self.ahead) | {"previous_number": previous, "status": "swapped"}

    def _cancel(self, held: Held, call: Call[Any]) -> Any:
        held.cancel_tries += 1
        if held.status == "expired":
            raise OrderExpired("its window has passed")
        if held.status != "waiting":
            raise ValidationFailed(f"Cannot cancel order with status: {held.status}")
        left = held.created + COOLDOWN - self.now
        if left > 0:
            raise CooldownActive("too early", retry_after=int(left) + 1)
        held.status = "cancelled"
        self.refunded += held.price
        return {"success": True, "status": "cancelled", "refund_amount": str(held.price)}

    def _confirm(self, held: Held, call: Call[Any]) -> Any:
        held.status = "confirmed"
        return {"status": "confirmed"}

    def _release(self, held: Held, call: Call[Any]) -> Any:
        held.status = "completed"
        return {}

    def _extend(self, held: Held, call: Call[Any]) -> Any:
        return {"rental_until": instant(EPOCH + self.now + 3600)}


def name_of(call: Call[Any]) -> str:
    """`buy`, `poll`, `get`, `swap`, ..., `services`, `availability`."""
    _, first, *rest = call.path.split("/")
    if first != "orders":
        return rest[-1] if rest else first
    if not rest:
        return "buy"
    return {"sms": "poll"}.get(rest[-1], rest[-1]) if len(rest) > 1 else "get"


def terms(**given: Any) -> Terms:
    usual: dict[str, Any] = {"service": "telegram", "max_price": Decimal("0.30"), "intent": "job"}
    return Terms(**(usual | given))


def job(**given: Any) -> Job:
    return Job(terms(**given))
