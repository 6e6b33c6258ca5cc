"""What a test may do to a sandbox of its own process, however that is reached."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import replace
from decimal import Decimal
from typing import Any, TypeVar

from x402sms.money import parse_usdc
from x402sms.sandbox.arrivals import Arrival
from x402sms.sandbox.faults import FaultsGiven, faults_of
from x402sms.sandbox.orders import Order
from x402sms.sandbox.places import Country
from x402sms.sandbox.routes_control import advance, payment_out
from x402sms.sandbox.sending import keep_time
from x402sms.sandbox.state import Sandbox
from x402sms.sandbox.webhooks import Webhook
from x402sms.sandbox.words import Service

Result = TypeVar("Result")


class Controls(ABC):
    """The test's side of one sandbox. Its parts are in `state`; `url` is where the API is."""

    def __init__(self, state: Sandbox, origin: str) -> None:
        self.state = state
        self.origin = origin
        config = state.config
        self.url = origin + config.api_prefix
        self.network: str = config.network
        self.pay_to = config.pay_to
        self.rpc_url = config.rpc_url
        self.funded_key = state.funded_key
        self.api_key = state.api_key
        self.webhook_secret = state.webhooks.secret
        self.account = state.account.account_id  # of the key; as a payer, it is the account's name

    @abstractmethod
    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do `work` where the sandbox lives."""

    def ready_line(self) -> str:
        return json.dumps(
            {
                "url": self.url,
                "network": self.network,
                "pay_to": self.pay_to,
                "funded_key": self.funded_key,
                "rpc_url": self.rpc_url,
                "api_key": self.api_key,
                "webhook_secret": self.webhook_secret,
            }
        )

    # --- money

    def payments(self) -> list[dict[str, Any]]:
        """Every settled payment, oldest first, as `/_sandbox/payments` shows them."""
        return self._on_loop(
            lambda sandbox: [payment_out(record).model_dump() for record in sandbox.records]
        )

    def books(self, payer: str) -> tuple[int, int]:
        """What a wallet or an account paid, and what of it was paid back, in atomic units."""
        return self._on_loop(lambda sandbox: sandbox.books(payer))

    def balance(self, address: str) -> int:
        """Of a wallet or an account, in atomic units."""
        return self._run(self.state.balance(address))

    def fund(self, address: str, amount: str | int | Decimal) -> None:
        """Give a wallet (memory settlement only) or an account so much USDC more."""
        self._run(self.state.fund(address, parse_usdc(amount)))

    # --- orders

    def orders_of(self, payer: str) -> list[tuple[str, str]]:
        """Id and status of the payer's settled orders, oldest first."""
        return self._on_loop(lambda sandbox: sandbox.orders_of(payer))

    def deliver_sms(
        self,
        order_id: str,
        text: str,
        *,
        sender: str | None = None,
        code: str | None = None,
        to_previous: bool = False,
    ) -> None:
        """An SMS arrives; `to_previous`: late, at the number that was swapped out.

        Raises Problem for an order that is not there, is over or was never swapped.
        """
        self._on_loop(
            lambda sandbox: sandbox.orders.deliver(
                sandbox.orders.find(order_id), text, sender, code, to_previous=to_previous
            )
        )

    def orders(self) -> list[Order]:
        """Everyone's settled orders as they are now, oldest first."""
        return self._on_loop(
            lambda sandbox: [replace(order) for order in reversed(sandbox.orders.all())]
        )

    def plan_sms(self, text: str | None = None, *, after: float | None) -> None:
        """What the next number that is handed out (bought or swapped in) gets by itself.

        Once planned for several, each gets one, in that order. `after` is seconds of the orders'
        clock, None: nothing arrives. Without a `text` it is one with a code of its own.
        """
        self._on_loop(lambda sandbox: sandbox.orders.arrivals.plan(Arrival(after, text)))

    def wait_for_pollers(self, count: int, *, timeout: float = 10) -> None:
        """Return once exactly `count` long-polls are in progress; TimeoutError if that never is."""
        self._run(self.state.until_polling(count, timeout))

    # --- webhooks

    def webhooks(self) -> list[Webhook]:
        """The deliveries made so far, whether or not they were sent anywhere."""
        return self._on_loop(_webhooks)

    def wait_for_webhooks(self, count: int, timeout: float = 10) -> list[Webhook]:
        """`webhooks()` once there are `count`; with a webhook_url, once each was posted.

        TimeoutError after `timeout` seconds.
        """
        return self._run(_until_webhooks(self.state, count, timeout))

    # --- time and chance

    def now(self) -> float:
        """The orders' time, in Unix seconds."""
        return self._on_loop(lambda sandbox: sandbox.clock.now())

    def advance(self, seconds: float, *, chain: bool = False) -> None:
        """Let orders age; with `chain`, the time windows of payments too."""
        self._on_loop(lambda sandbox: advance(sandbox, seconds, chain=chain))

    def set_faults(self, faults: FaultsGiven) -> None:
        """Put these faults in the place of all others (none: `set_faults({})`)."""
        given = faults_of(faults)
        self._on_loop(lambda sandbox: sandbox.schedule.set(given))

    def faults_struck(self) -> dict[str, int]:
        """By name, how often each fault has happened since they were set."""
        return self._on_loop(lambda sandbox: dict(sandbox.schedule.struck))

    # --- the catalogue

    def set_stock(self, service: str, country: str, count: int) -> None:
        """How many numbers a pair has left from now on."""
        self._on_loop(
            lambda sandbox: sandbox.catalogue.set_stock(*_pair(sandbox, service, country), count)
        )

    def set_price(self, service: str, country: str, price: str | int | Decimal) -> None:
        """What a number of a pair costs from now on, in USDC."""
        atomic = parse_usdc(price)
        self._on_loop(
            lambda sandbox: sandbox.catalogue.set_price(*_pair(sandbox, service, country), atomic)
        )

    def _on_loop(self, action: Callable[[Sandbox], Result]) -> Result:
        async def act() -> Result:
            return action(self.state)

        return self._run(act())


def _webhooks(sandbox: Sandbox) -> list[Webhook]:
    sandbox.orders.catch_up()
    return [delivery.webhook() for delivery in sandbox.webhooks.deliveries]


async def _until_webhooks(sandbox: Sandbox, count: int, seconds: float) -> list[Webhook]:
    def there() -> int:
        posted = sandbox.config.webhook_url is not None
        return sandbox.webhooks.tried if posted else len(sandbox.webhooks.deliveries)

    sandbox.orders.catch_up()
    if there() < count:
        keeper = asyncio.create_task(keep_time(sandbox))
        try:
            async with asyncio.timeout(seconds):
                while there() < count:
                    await sandbox.webhooks.bell.wait(None)
        except TimeoutError:
            raise TimeoutError(f"{there()} webhooks, not {count}") from None
        finally:
            keeper.cancel()
    return _webhooks(sandbox)


def _pair(sandbox: Sandbox, service: str, country: str) -> tuple[Service, Country]:
    found = sandbox.catalogue.service(service), sandbox.catalogue.country(country)
    if found[0] is None or found[1] is None:
        raise ValueError(f"no such service or country: {service}, {country}")
    return found[0], found[1]
