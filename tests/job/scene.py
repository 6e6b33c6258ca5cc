"""A job in a sandbox without a socket and without real time: one stage for both colours."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, TypeVar, get_args

import anyio
import httpx

from tests.buyer import Colour
from x402sms import AsyncClient, Client, SpendLimits, Wallet
from x402sms.account_books import IDEMPOTENCY_KEY
from x402sms.ledger import Charge, Payment
from x402sms.money import parse_usdc, to_usdc
from x402sms.sandbox import Fault, InProcessSandbox, SandboxConfig, asgi_sandbox
from x402sms.sandbox.endpoints import endpoint_of
from x402sms.testing import VirtualClock
from x402sms.virtualsms.effects import Event
from x402sms.virtualsms.job import Code

T = TypeVar("T")
E = TypeVar("E")
Change = Callable[[httpx.Response], httpx.Response]
Road = Literal["x402", "rest"]
ROADS: tuple[Road, ...] = get_args(Road)

COOLDOWN = 120
BUY, POLL = "POST /orders", "GET /orders/{order_id}/sms"
LIST, LOOK = "GET /orders", "GET /orders/{order_id}"
SWAP, CANCEL = "POST /orders/{order_id}/swap", "POST /orders/{order_id}/cancel"
CONFIRM, OFFERS = "POST /orders/{order_id}/confirm", "GET /services/{service_id}/availability"
SERVICES, COUNTRIES = "GET /services", "GET /countries"


@dataclass(frozen=True)
class Exchange:
    """A request on the wire; `status` is None where no answer came, `purchase` its name in REST."""

    route: str
    paid: bool
    status: int | None = None
    at: float = 0
    purchase: str | None = None


@dataclass(frozen=True)
class Moment:
    """On the wire, where a test comes in between; or, of `SLEEP`, as the job pauses.

    With an API key every request counts as paid.
    """

    route: str
    when: str = "before"  # the request arrives, or "after" its answer is there
    paid: bool = True


SLEEP = Moment("sleep")


class Clock(VirtualClock):
    """The sandbox's own: a pause moves it, and is a moment of the scene."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene.sandbox)
        self._scene = scene
        self.slept: list[float] = []

    def time(self) -> float:
        return super().time() + self._scene.skew

    def sleep(self, seconds: float) -> None:
        self._scene.strike(SLEEP)
        self.slept.append(seconds)
        super().sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        self._scene.strike(SLEEP)
        await super().sleep_async(seconds)
        self.slept.append(seconds)


class _Wire(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Notes what goes over it, and lets the scene come in between."""

    def __init__(self, scene: Scene, inner: Any) -> None:
        self._scene = scene
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        route, paid = self._scene.asked(request)
        name = self._prepare(request)
        self._scene.strike(Moment(route, "before", paid))
        response: httpx.Response | None = None
        try:
            response = self._inner.handle_request(request)
        finally:
            self._scene.noted(route, paid, response, name)
        self._scene.strike(Moment(route, "after", paid))
        if (change := self._scene.changes.get((route, paid))) is not None:
            response.read()
            response = change(response)
        return response

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        route, paid = self._scene.asked(request)
        name = self._prepare(request)
        await self._scene.strike_async(Moment(route, "before", paid))
        await asyncio.sleep(0)
        response: httpx.Response | None = None
        try:
            response = await self._inner.handle_async_request(request)
        finally:
            self._scene.noted(route, paid, response, name)
        await self._scene.strike_async(Moment(route, "after", paid))
        await asyncio.sleep(0)
        if (change := self._scene.changes.get((route, paid))) is not None:
            await response.aread()
            response = change(response)
        return response

    def _prepare(self, request: httpx.Request) -> str | None:
        """What becomes of it on the way; returns the name of the purchase that it makes."""
        name: str | None = request.headers.get(IDEMPOTENCY_KEY)
        if name is not None and not self._scene.honours:
            del request.headers[IDEMPOTENCY_KEY]
        if self._scene.hurried and "timeout" in request.url.params:
            request.url = request.url.copy_set_param("timeout", "0")
        return name


@dataclass
class Result:
    """How a job ended. `cost` and `refunded` are as the job itself tells them."""

    code: Code | None
    error: BaseException | None
    events: list[Event]
    cost: Decimal
    refunded: Decimal
    intent: str

    def told(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def said(self) -> str:
        """The error and what was noted to it; of a code, its warnings."""
        if self.code is not None:
            return "\n".join(self.code.warnings)
        return "\n".join([str(self.error), *getattr(self.error, "__notes__", ())])


@dataclass
class Scene:
    """One sandbox, one client and whatever comes in between."""

    colour: Colour
    sandbox: InProcessSandbox
    stack: ExitStack
    ledger: str = ":memory:"
    hurried: bool = False  # the service answers each poll at once
    skew: float = 0  # seconds by which our clock is ahead of the service's
    road: Road = "x402"
    honours: bool = True  # in REST: the service knows a purchase by its Idempotency-Key
    client: Any = None
    runner: Any = None
    wire: list[Exchange] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    changes: dict[tuple[str, bool], Change] = field(default_factory=dict)  # (route, paid) -> it
    _between: list[tuple[Moment, Callable[[], None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        assert self.sandbox.funded_key is not None
        self.wallet = Wallet.from_key(self.sandbox.funded_key)
        self.clock = Clock(self)
        if self.colour == "async" and self.runner is None:
            self.runner = self.stack.enter_context(asyncio.Runner())
        self.stack.callback(self.leave)
        self.enter()

    def enter(self) -> None:
        """A new client: a new process, as far as anyone can tell."""
        sync = self.colour == "sync"
        inner = self.sandbox.sync_transport if sync else self.sandbox.transport
        payer: dict[str, Any] = {"wallet": self.wallet, "network": "base-sepolia"}
        if self.road == "rest":
            payer = {"api_key": self.sandbox.api_key}
        settings: dict[str, Any] = {
            **payer,
            "base_url": self.sandbox.url,
            "ledger": self.ledger,
            "limits": SpendLimits(per_day=None),
            "requests_per_minute": None,
            "transport": _Wire(self, inner),
            "clock": self.clock,
            **self.settings,
        }
        self.client = (Client if sync else AsyncClient)(**settings)

    def beside(self, *, ledger: str | None = None) -> Scene:
        """Another process on the same ledger, or on one of its own, and the same service."""
        return Scene(
            self.colour,
            self.sandbox,
            self.stack,
            ledger=self.ledger if ledger is None else ledger,
            runner=self.runner,
            settings=self.settings,
            road=self.road,
            honours=self.honours,
        )

    def leave(self) -> None:
        if self.client is not None:
            self.wait_for(self.client.close if self.colour == "sync" else self.client.aclose)
        self.client = None

    def wait_for(self, work: Callable[[], Any]) -> Any:
        """What `work` returns, awaited where it is to be."""
        if self.runner is None:
            return work()

        async def awaited() -> Any:
            return await work()

        return self.runner.run(awaited())

    # --- what comes in between

    def at(self, moment: Moment, action: Callable[[], Any]) -> None:
        """Once, the first time that `moment` comes from now on. What it returns may be awaited."""
        self._between.append((moment, action))

    def strike(self, moment: Moment) -> Any:
        for index, (expected, action) in enumerate(self._between):
            if expected == moment:
                del self._between[index]
                return action()
        return None

    async def strike_async(self, moment: Moment) -> None:
        result = self.strike(moment)
        if inspect.isawaitable(result):
            await result

    def change(self, route: str, *changes: Change, paid: bool = True) -> None:
        """Its answers are changed on the way, each by the next change, the last by the last."""
        left = list(changes)

        def changed(response: httpx.Response) -> httpx.Response:
            change = left.pop(0) if len(left) > 1 else left[0]
            return change(response)

        self.changes[route, paid] = changed

    def asked(self, request: httpx.Request) -> tuple[str, bool]:
        prefix = self.sandbox.state.config.api_prefix
        route = endpoint_of(request.method, request.url.path, prefix) or "?"
        pays = {"PAYMENT-SIGNATURE", "Authorization"}
        return route, any(name in request.headers for name in pays)

    def noted(
        self, route: str, paid: bool, response: httpx.Response | None, name: str | None = None
    ) -> None:
        status = None if response is None else response.status_code
        self.wire.append(Exchange(route, paid, status, self.sandbox.now(), name))

    def paid(self, route: str) -> int:
        """How many payments for it were settled."""
        pattern = route.partition(" ")
        return sum(
            payment["method"] == pattern[0] and _matches(payment["path"], pattern[2])
            for payment in self.sandbox.payments()
        )

    def sent(self, route: str) -> int:
        """How many requests for it carried a payment."""
        return sum(exchange.paid and exchange.route == route for exchange in self.wire)

    # --- the job

    def job(self, service: str = "telegram", **options: Any) -> Any:
        return self.client.verification(service, **{"max_price": "0.30", **options})

    def receive(self, service: str = "telegram", *, timeout: float = 300, **options: Any) -> Result:
        """A whole job; whatever it raises is in the result."""
        return self.run(service, lambda job: job.receive(timeout), **options)

    def run(self, service: str, what: Callable[[Any], Any], **options: Any) -> Result:
        events: list[Event] = []
        watch = options.pop("on_event", None)

        def on_event(event: Event) -> None:
            events.append(event)
            if watch is not None:
                watch(event)

        options = {"max_swaps": 0, "max_numbers": 1, **options, "on_event": on_event}
        code, error = None, None
        job: Any = None
        try:
            job = self.job(service, **options)
            code = self.wait_for(lambda: what(job))
        except BaseException as raised:  # noqa: BLE001  it is what the test is about
            error = raised
        if job is None:
            assert error is not None
            raise error
        return Result(code, error, events, job.cost, job.refunded, job.intent)

    def entered(self, job: Any) -> Any:
        return self.wait_for(job.__enter__ if self.colour == "sync" else job.__aenter__)

    def left(self, job: Any, error: BaseException | None = None) -> Any:
        leave = job.__exit__ if self.colour == "sync" else job.__aexit__
        kind = None if error is None else type(error)
        return self.wait_for(lambda: leave(kind, error, None))

    def messages(self, job: Any, timeout: float) -> list[Any]:
        if self.colour == "sync":
            return list(job.messages(timeout))

        async def collect() -> list[Any]:
            return [message async for message in job.messages(timeout)]

        return list(self.runner.run(collect()))

    # --- the catalogue

    def only(self, prices: Mapping[str, str], service: str = "telegram") -> None:
        """The service is to be had in these countries, at these prices, and nowhere else."""
        catalogue = self.sandbox.state.catalogue
        wanted = catalogue.service(service)
        assert wanted is not None
        for country in catalogue.countries:
            catalogue.set_stock(wanted, country, 50 if country.iso2 in prices else 0)
            if country.iso2 in prices:
                catalogue.set_price(wanted, country, parse_usdc(prices[country.iso2]))

    # --- what is left

    @property
    def payer(self) -> str:
        """Who pays, as the sandbox knows it."""
        return self.wallet.address if self.road == "x402" else self.sandbox.account

    @property
    def orders(self) -> list[str]:
        """The status of each order, oldest first."""
        return [status for _, status in self.sandbox.orders_of(self.payer)]

    @property
    def order_ids(self) -> list[str]:
        return [order_id for order_id, _ in self.sandbox.orders_of(self.payer)]

    @property
    def charges(self) -> list[Charge]:
        """The ledger's, of what was bought with the API key, oldest first."""
        charges: list[Charge] = self.client.ledger.charges.list()
        return charges[::-1]

    def charge_of(self, intent: str) -> Charge:
        [charge] = [charge for charge in self.charges if charge.intent == intent]
        return charge

    @property
    def rows(self) -> list[Payment]:
        """The ledger's, oldest first."""
        return list(self.client.ledger.payments())[::-1]

    def row_of(self, intent: str) -> Payment:
        [row] = [row for row in self.rows if row.intent == intent]
        return row

    @property
    def books(self) -> tuple[Decimal, Decimal]:
        """Paid and refunded, by the sandbox's books."""
        paid, refunded = self.sandbox.books(self.payer)
        return to_usdc(paid), to_usdc(refunded)


def _matches(path: str, pattern: str) -> bool:
    parts = path.removeprefix("/api/v2").strip("/").split("/")
    wanted = pattern.strip("/").split("/")
    return len(parts) == len(wanted) and all(
        have == want or want.startswith("{") for have, want in zip(parts, wanted, strict=True)
    )


@contextmanager
def staged(
    colour: Colour,
    *,
    faults: Iterable[Fault] | Mapping[str, float] = (),
    only: Mapping[str, str] | None = None,
    ledger: str = ":memory:",
    client: Mapping[str, Any] | None = None,
    skew: float = 0,
    hurried: bool = False,
    road: Road = "x402",
    honours: bool = True,
    **config: Any,
) -> Iterator[Scene]:
    """A scene. `config` is the sandbox's: virtual time and a cooldown of 120 s unless given."""
    settings: dict[str, Any] = {"virtual_time": True, "cooldown": COOLDOWN, **config}
    given = faults if isinstance(faults, Mapping) else tuple(faults)
    with (
        asgi_sandbox(SandboxConfig(faults=given, **settings)) as sandbox,
        ExitStack() as stack,
    ):
        scene = Scene(
            colour,
            sandbox,
            stack,
            ledger=ledger,
            settings=dict(client or {}),
            skew=skew,
            hurried=hurried,
            road=road,
            honours=honours,
        )
        if only is not None:
            scene.only(only)
        yield scene


def once(name: str, route: str, **more: Any) -> Fault:
    """A fault that befalls the first request with a payment for `route`, and no other."""
    return Fault(name, route=route, **{"times": 1, "paid": True, **more})


def always(name: str, route: str, **more: Any) -> Fault:
    return Fault(name, route=route, **more)


def lost(response: httpx.Response) -> httpx.Response:
    """The answer does not arrive."""
    raise httpx.ReadError("the connection was lost")


def unchanged(response: httpx.Response) -> httpx.Response:
    return response


def with_fields(**fields: Any) -> Change:
    """A good answer, which is a JSON object, says this instead."""

    def changed(response: httpx.Response) -> httpx.Response:
        if not response.is_success:
            return response
        return _answer(response, response.status_code, {**response.json(), **fields})

    return changed


def with_rows(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Change:
    """A good answer to `LIST` has these rows instead."""

    def changed(response: httpx.Response) -> httpx.Response:
        if not response.is_success:
            return response
        body = response.json()
        return _answer(response, response.status_code, {**body, "data": change(body["data"])})

    return changed


def problem(status: int, kind: str) -> Change:
    """Instead of whatever the service said, and with no word of the payment."""

    def changed(response: httpx.Response) -> httpx.Response:
        body = {"type": f"https://example.com/errors/{kind}", "title": kind, "status": status}
        headers = {"content-type": "application/problem+json"}
        return httpx.Response(status, headers=headers, json=body)

    return changed


def _answer(response: httpx.Response, status: int, body: object) -> httpx.Response:
    kept = {k: v for k, v in response.headers.items() if k.lower() != "content-length"}
    return httpx.Response(status, headers=kept, json=body)


def interrupt() -> None:
    """Ctrl-C, as it is in a sync program."""
    raise KeyboardInterrupt


def twice(scene: Scene, moment: Moment, stop: Callable[[], None]) -> Callable[[], None]:
    """`stop` now, and again when `moment` comes."""

    def now_and_then() -> None:
        scene.at(moment, stop)
        stop()

    return now_and_then


def cancel_task() -> None:
    """What `task.cancel()`, and a Ctrl-C in `asyncio.run`, do to whoever runs now."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


def in_scope(scene: Scene, job: Callable[[Any], Any]) -> tuple[Callable[[], None], Any]:
    """A way to cancel the scope that `job` is run in, and the job in it."""
    scopes: list[anyio.CancelScope] = []

    async def scoped(view: Any) -> Any:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            return await job(view)
        return None

    return (lambda: scopes[-1].cancel()), scoped  # noqa: PLW0108  there is none yet
