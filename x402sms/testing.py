"""VirtualSMS in this process for the tests of what is built on x402sms; see `pytest_plugin`.

It needs the extra `sandbox`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from threading import Thread
from typing import Any, Literal

from x402sms.client import AsyncClient, Client
from x402sms.clock import SystemClock
from x402sms.limits import Amount, SpendLimits
from x402sms.money import parse_usdc, to_usdc, usdc
from x402sms.sandbox import InProcessSandbox
from x402sms.sandbox.accounts import Entry
from x402sms.verifying import AsyncVerification, Verification
from x402sms.virtualsms.models import Order
from x402sms.wallet import Wallet

_NOTHING = Decimal(0)


@dataclass(frozen=True)
class PaidCall:
    """A payment that settled. Amounts are USDC; `refunded` is what came back of it."""

    method: str
    path: str
    amount: Decimal
    refunded: Decimal
    order_id: str | None

    def __str__(self) -> str:
        back = f", {usdc(self.refunded)} of it refunded" if self.refunded else ""
        return f"{usdc(self.amount)}  {self.method} {self.path}{back}"


@dataclass(frozen=True)
class PlacedOrder:
    """An order as the service has it; `status` is its word: waiting, received, cancelled, ..."""

    order_id: str
    status: str
    phone_number: str
    service: str
    country: str

    @property
    def is_open(self) -> bool:
        return self.status in ("waiting", "received")

    def __str__(self) -> str:
        return f"{self.order_id}  {self.phone_number}  {self.service} {self.country}: {self.status}"


class VirtualClock:
    """The sandbox's time, for a client: whoever waits by it moves it."""

    def __init__(self, sandbox: InProcessSandbox) -> None:
        self._sandbox = sandbox

    def now(self) -> float:
        return self._sandbox.now()

    def time(self) -> float:
        return self._sandbox.now()

    def sleep(self, seconds: float) -> None:
        self._sandbox.advance(seconds)

    async def sleep_async(self, seconds: float) -> None:
        await asyncio.sleep(0)  # as any wait, it lets others have their turn
        self._sandbox.advance(seconds)


class VirtualSMS:
    """The service of one test. What is not here is in `sandbox`: stock, prices, faults, ...

    `wallet` is funded with 100 USDC that are worth nothing anywhere else, and the account of
    `api_key` has a balance. `stack` is left when the test ends.
    """

    def __init__(self, sandbox: InProcessSandbox, stack: ExitStack) -> None:
        assert sandbox.funded_key is not None  # noqa: S101  what settles in memory has one
        self.sandbox = sandbox
        self.wallet = Wallet.from_key(sandbox.funded_key)
        self.api_key = sandbox.api_key
        self._stack = stack
        self._colour: str | None = None

    # --- clients

    def client(self, **settings: Any) -> Client:
        """Another client, closed as the test ends. `settings` are `Client`'s, such as `limits`.

        It pays from `wallet`; with an `api_key=`, from the balance of that account.
        """
        given = self._settings("sync", self.sandbox.sync_transport, settings)
        return self._stack.enter_context(Client(**given))

    def async_client(self, **settings: Any) -> AsyncClient:
        """`client` for asyncio. It may be made anywhere, and be awaited in any one loop."""
        client = AsyncClient(**self._settings("async", self.sandbox.transport, settings))
        self._stack.callback(_close, client)
        return client

    def _settings(
        self, colour: Literal["sync", "async"], transport: object, settings: dict[str, Any]
    ) -> dict[str, Any]:
        if self._colour not in (None, colour):
            raise RuntimeError("one test has sync clients or async ones, of one sandbox not both")
        self._colour = colour
        virtual = self.sandbox.state.config.virtual_time
        return {
            "wallet": None if "api_key" in settings else self.wallet,
            "network": self.sandbox.network,
            "base_url": self.sandbox.url,
            "limits": SpendLimits(),
            "ledger": ":memory:",
            "requests_per_minute": None,
            "transport": transport,
            "clock": VirtualClock(self.sandbox) if virtual else SystemClock(),
            **settings,
        }

    # --- messages and time

    def sms_arrives(self, text: str | None = None, *, after: float = 5) -> None:
        """The next number, bought or swapped in, gets this SMS `after` so many seconds.

        Without a `text`: one with a code of its own. Called again, it is of the number after that.
        """
        self.sandbox.plan_sms(text, after=after)

    def stays_silent(self) -> None:
        """The next number, bought or swapped in, gets no SMS; see `sms_arrives`."""
        self.sandbox.plan_sms(after=None)

    def deliver(
        self,
        text: str,
        *,
        order: str | Order | Verification | AsyncVerification | None = None,
        sender: str | None = None,
    ) -> None:
        """An SMS arrives now: for the one open order, or for `order`: an id, a number, a job.

        Raises LookupError where there is no such order, or it is over.
        """
        self.sandbox.deliver_sms(self._open_order(order).order_id, text, sender=sender)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.sandbox.advance(seconds)

    # --- what became of it

    @property
    def orders(self) -> list[PlacedOrder]:
        """Oldest first."""
        return [
            PlacedOrder(
                order.order_id,
                str(order.status),
                order.phone_number,
                order.service.id,
                order.country.iso2,
            )
            for order in self.sandbox.orders()
        ]

    @property
    def payments(self) -> list[PaidCall]:
        """From wallets, then from the balance of the account of `api_key`; each oldest first."""
        return [_from_a_wallet(payment) for payment in self.sandbox.payments()] + _from_a_balance(
            self.sandbox.state.account.entries
        )

    @property
    def spent(self) -> Decimal:
        """USDC paid in all, refunded or not."""
        return sum((payment.amount for payment in self.payments), _NOTHING)

    @property
    def refunded(self) -> Decimal:
        """USDC that came back."""
        return sum((payment.refunded for payment in self.payments), _NOTHING)

    @property
    def cost(self) -> Decimal:
        """USDC paid and not refunded."""
        return self.spent - self.refunded

    # --- assertions

    def assert_spent(
        self,
        exactly: Amount | None = None,
        *,
        at_most: Amount | None = None,
        refunded: Amount | None = None,
    ) -> None:
        """What was paid in all, in USDC ("0.30", never a float), and what of it came back."""
        __tracebackhide__ = True
        if exactly is at_most is refunded is None:
            raise TypeError("assert_spent: how much? exactly, at_most=... or refunded=...")
        spent, back = self.spent, self.refunded
        if exactly is not None and spent != _amount(exactly):
            self._fail(f"{usdc(spent)} USDC were spent, not {usdc(_amount(exactly))}")
        if at_most is not None and spent > _amount(at_most):
            self._fail(f"{usdc(spent)} USDC were spent, more than {usdc(_amount(at_most))}")
        if refunded is not None and back != _amount(refunded):
            self._fail(f"{usdc(back)} USDC were refunded, not {usdc(_amount(refunded))}")

    def assert_nothing_spent(self) -> None:
        """No payment settled, not even one that was refunded."""
        __tracebackhide__ = True
        if self.payments:
            self._fail(f"{usdc(self.spent)} USDC were spent, not nothing")

    def assert_no_open_orders(self) -> None:
        """Every order was confirmed, cancelled, ended or has expired."""
        __tracebackhide__ = True
        if still := [order for order in self.orders if order.is_open]:
            raise AssertionError(_listed("orders are still open", still))

    def _fail(self, said: str) -> None:
        __tracebackhide__ = True
        raise AssertionError(_listed(f"{said}; the payments", self.payments))

    def _open_order(self, wanted: object) -> PlacedOrder:
        orders = self.orders
        names = _names_of(wanted)
        found = [
            order
            for order in orders
            if order.is_open and (names is None or names & {order.order_id, order.phone_number})
        ]
        if len(found) == 1:
            return found[0]
        sought = "open order" if names is None else f"open order {', '.join(sorted(names))}"
        which = f"no {sought}" if not found else f"{len(found)} open orders: say which, order=..."
        raise LookupError(_listed(f"{which}; the orders", orders))


def _names_of(wanted: object) -> set[str] | None:
    """An order's id, or its number; of an order or a job, its id."""
    if wanted is None:
        return None
    if isinstance(wanted, str):
        return {wanted}
    order = getattr(wanted, "order", wanted)
    order_id = getattr(order, "order_id", None)
    if not isinstance(order_id, str):
        raise TypeError("order: an order's id, its phone number, an order or a job")
    return {order_id}


def _from_a_wallet(payment: dict[str, Any]) -> PaidCall:
    return PaidCall(
        payment["method"],
        payment["path"],
        to_usdc(int(payment["amount_atomic"])),
        to_usdc(int(payment["refunded_atomic"])),
        payment["order_id"],
    )


def _from_a_balance(entries: Iterable[Entry]) -> list[PaidCall]:
    """A refund is of a whole purchase, and names its order and path."""
    entries = list(entries)
    back = Counter(_bought_by(entry) for entry in entries if entry.kind == "refund")
    calls = []
    for entry in (entry for entry in entries if entry.kind == "purchase"):
        refunded = back[_bought_by(entry)] > 0
        back[_bought_by(entry)] -= refunded
        amount = to_usdc(entry.amount_atomic)
        calls.append(
            PaidCall(
                entry.method, entry.path, amount, amount if refunded else _NOTHING, entry.order_id
            )
        )
    return calls


def _bought_by(entry: Entry) -> tuple[str, str | None, int]:
    return entry.path, entry.order_id, entry.amount_atomic


def _close(client: AsyncClient) -> None:
    """In a loop of its own: the test's may be over, and nobody here knows whose that was."""
    closing = Thread(target=lambda: asyncio.run(client.aclose()))
    closing.start()
    closing.join()


def _amount(amount: Amount) -> Decimal:
    return to_usdc(parse_usdc(amount))


def _listed(heading: str, things: Iterable[object]) -> str:
    return "\n".join([f"{heading}:", *(f"  {thing}" for thing in list(things) or ["none"])])
