"""One round trip: a call to a route that was paid before pays with its first request."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.buyer import COLOURS, Colour
from tests.facade import facade
from x402sms import AsyncClient, PaymentState, SpendLimits, Wallet, X402Transport, open_ledger
from x402sms.errors import ConfigError, IntentConflict, SpendLimitExceeded
from x402sms.exchange import request_for
from x402sms.protocol.effects import Prepay
from x402sms.purchase import purchase_of
from x402sms.sandbox import InProcessSandbox, SandboxConfig, asgi_sandbox
from x402sms.sandbox.config import DialectName
from x402sms.testing import VirtualClock
from x402sms.virtualsms import calls

READ = Decimal("0.001")


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> Colour:
    colour: Colour = request.param
    return colour


@dataclass
class Scene:
    sms: Any
    sandbox: InProcessSandbox
    receipts: list[Any] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return self.sandbox.state.requests

    def asked(self, call: Any) -> int:
        """How many requests a call took."""
        before = self.requests
        call()
        return self.requests - before


@contextmanager
def scene(colour: Colour, *, ledger: Any = ":memory:", **more: Any) -> Iterator[Scene]:
    config = {name: more.pop(name) for name in ("dialect", "sms_after") if name in more}
    with asgi_sandbox(SandboxConfig(virtual_time=True, **config)) as sandbox:
        receipts: list[Any] = []
        with facade(
            colour,
            wallet=Wallet.from_key(sandbox.funded_key or ""),
            network="base-sepolia",
            base_url=sandbox.url,
            ledger=ledger,
            transport=sandbox.transport if colour == "async" else sandbox.sync_transport,
            clock=VirtualClock(sandbox),
            on_payment=receipts.append,
            **more,
        ) as sms:
            yield Scene(sms, sandbox, receipts)


@pytest.mark.parametrize("dialect", ["v1", "v2", "header"])
def test_a_read_takes_one_request_from_the_second_on(colour: Colour, dialect: DialectName) -> None:
    with scene(colour, dialect=dialect) as at:
        taken = [at.asked(at.sms.services.list) for _ in range(4)]

        assert taken == [2, 1, 1, 1]
        assert [each.prepaid for each in at.receipts] == [None, True, True, True]
        assert {each.state for each in at.receipts} == {PaymentState.SETTLED}
        assert len({each.nonce for each in at.receipts}) == 4


def test_calls_of_one_route_have_one_price(colour: Colour) -> None:
    with scene(colour) as at:
        first, second = (at.sms.orders.create("telegram", "GB") for _ in range(2))
        sms = at.sms.orders

        assert at.asked(lambda: sms.get(first.order_id)) == 2
        assert at.asked(lambda: sms.get(second.order_id)) == 1
        assert at.asked(lambda: sms.wait_for_sms(first.order_id, 1)) == 2
        assert at.asked(lambda: sms.wait_for_sms(second.order_id, 2)) == 1
        assert at.asked(lambda: at.sms.services.cheapest("telegram")) == 2
        assert at.asked(lambda: at.sms.services.cheapest("signal")) == 1


@pytest.mark.parametrize(("prepay", "taken"), [("auto", 2), ("always", 2), ("never", 2)])
def test_an_order_is_asked_for_its_price(colour: Colour, prepay: Any, taken: int) -> None:
    with scene(colour, prepay=prepay) as at:
        at.sms.orders.create("telegram", "GB")

        assert at.asked(lambda: at.sms.orders.create("telegram", "DE")) == taken


def test_always_pays_for_the_same_order_as_it_was(colour: Colour) -> None:
    with scene(colour, prepay="always") as at:
        at.sms.orders.create("telegram", "GB")

        assert at.asked(lambda: at.sms.orders.create("telegram", "GB")) == 1
        assert len(at.sandbox.orders_of(at.receipts[0].payer)) == 2


def test_never_asks_every_time(colour: Colour) -> None:
    with scene(colour, prepay="never") as at:
        assert [at.asked(at.sms.countries.list) for _ in range(3)] == [2, 2, 2]
        assert {each.prepaid for each in at.receipts} == {None}


@pytest.mark.parametrize("price", ["0.20", "0.01"], ids=["dearer", "cheaper"])
def test_a_price_that_moves_costs_the_new_price_once(colour: Colour, price: str) -> None:
    with scene(colour, prepay="always") as at:
        at.sandbox.set_price("telegram", "GB", "0.05")
        at.sms.orders.create("telegram", "GB", max_price="0.30")
        before = at.sandbox.books(at.receipts[0].payer)[0]
        at.sandbox.set_price("telegram", "GB", price)

        assert at.asked(lambda: at.sms.orders.create("telegram", "GB", max_price="0.30")) == 2
        last = at.receipts[-1]
        paid = at.sandbox.books(last.payer)[0] - before
        assert (last.amount, paid) == (Decimal(price), int(Decimal(price) * 10**6))
        assert (last.prepaid, last.risked) == (False, Decimal("0.05"))
        # From then on it is paid as it is now.
        assert at.asked(lambda: at.sms.orders.create("telegram", "GB", max_price="0.30")) == 1


def test_a_price_above_the_ceiling_is_not_paid_ahead(colour: Colour) -> None:
    with scene(colour, prepay="always") as at:
        at.sandbox.set_price("telegram", "GB", "0.05")
        at.sms.orders.create("telegram", "GB")
        before = at.sandbox.books(at.receipts[0].payer)
        with pytest.raises(SpendLimitExceeded):
            at.sms.orders.create("telegram", "GB", max_price="0.04")

        assert at.sandbox.books(at.receipts[0].payer) == before


def test_the_next_process_knows_it_from_the_ledger(colour: Colour, tmp_path: Path) -> None:
    ledger = tmp_path / "payments.db"
    with scene(colour, ledger=ledger) as at:
        at.sms.services.list()
    # The routes of a sandbox in this process are all of one origin.
    with scene(colour, ledger=ledger) as at:
        assert at.asked(at.sms.services.list) == 1


def test_a_job_pays_its_small_calls_ahead(colour: Colour) -> None:
    with scene(colour, sms_after=5) as at:
        counts = [at.asked(lambda: at.sms.receive_code("telegram", max_price="1")) for _ in "12"]

        # Second time, the look at the prices and the poll are one request each.
        assert counts[1] == counts[0] - 2
        assert (
            sum(each.amount for each in at.receipts) * 10**6
            == at.sandbox.books(at.receipts[0].payer)[0]
        )


def test_many_at_once_each_pay_once() -> None:
    with asgi_sandbox(SandboxConfig()) as sandbox:
        wallet = Wallet.from_key(sandbox.funded_key or "")

        async def run() -> None:
            async with AsyncClient(
                wallet,
                network="base-sepolia",
                base_url=sandbox.url,
                ledger=":memory:",
                transport=sandbox.transport,
            ) as sms:
                await sms.countries.list()
                await asyncio.gather(*(sms.countries.list() for _ in range(50)))

        asyncio.run(run())
        assert sandbox.state.requests == 2 + 50
        assert sandbox.books(wallet.address)[0] == 51 * int(READ * 10**6)


def test_many_at_once_each_pay_the_new_price_once(tmp_path: Path) -> None:
    """Two clients on one ledger, as two processes are: both know the old price."""
    with asgi_sandbox(SandboxConfig()) as sandbox:
        wallet = Wallet.from_key(sandbox.funded_key or "")
        sandbox.set_price("telegram", "GB", "0.05")
        receipts: list[Any] = []

        def client() -> AsyncClient:
            return AsyncClient(
                wallet,
                network="base-sepolia",
                base_url=sandbox.url,
                ledger=tmp_path / "payments.db",
                transport=sandbox.transport,
                prepay="always",
                on_payment=receipts.append,
            )

        async def run() -> None:
            async with client() as one, client() as other:
                for sms in (one, other):
                    await sms.orders.create("telegram", "GB")
                sandbox.set_price("telegram", "GB", "0.07")
                buying = [sms.orders.create("telegram", "GB") for sms in (one, other) * 5]
                await asyncio.gather(*buying)

        asyncio.run(run())
        assert [each.amount for each in receipts[2:]] == [Decimal("0.07")] * 10
        assert sandbox.books(wallet.address)[0] == 100_000 + 10 * 70_000
        assert len(sandbox.orders_of(wallet.address)) == 12


def test_a_payment_ahead_goes_nowhere_else() -> None:
    """The route moved to another host since it was paid."""
    wallet = Wallet.generate()
    seen: list[tuple[str, bool]] = []
    offer = {"amount": "0.001", "asset": "USDC", "chain": "base", "recipient": f"0x{'7' * 40}"}

    def answer(request: httpx.Request) -> httpx.Response:
        paid = "x-payment" in request.headers
        seen.append((request.url.host, paid))
        if len(seen) > 2 and request.url.host == "seller.example":
            return httpx.Response(302, headers={"Location": "https://elsewhere.example/sms"})
        if paid:
            claim = {"success": True, "transaction": f"0x{'ab' * 32}", "network": "base"}
            shown = base64.b64encode(json.dumps(claim).encode()).decode()
            return httpx.Response(200, headers={"X-PAYMENT-RESPONSE": shown})
        return httpx.Response(402, headers={"X-Payment-Required": json.dumps(offer)})

    with closing(open_ledger(":memory:")) as ledger:
        paying = X402Transport(
            wallet, ledger=ledger, prepay="auto", transport=httpx.MockTransport(answer)
        )
        with httpx.Client(transport=paying, follow_redirects=True) as client:
            client.get("https://seller.example/sms")
            with pytest.raises(IntentConflict, match="a redirect after the payment"):
                client.get("https://seller.example/sms")

    here, there = ("seller.example", True), ("elsewhere.example", False)
    assert seen == [("seller.example", False), here, here, there]


def test_other_apis_are_asked_unless_told_otherwise() -> None:
    with asgi_sandbox(SandboxConfig()) as sandbox:
        wallet = Wallet.from_key(sandbox.funded_key or "")
        for prepay, taken in ((None, 4), ("auto", 3)):
            options: dict[str, Any] = {} if prepay is None else {"prepay": prepay}
            before = sandbox.state.requests
            paying = X402Transport(
                wallet,
                network="base-sepolia",
                ledger=open_ledger(":memory:"),
                transport=sandbox.sync_transport,
                limits=SpendLimits(per_call="0.01"),
                **options,
            )
            with httpx.Client(transport=paying) as client:
                for _ in range(2):
                    client.get(f"{sandbox.url}/countries").raise_for_status()
            assert sandbox.state.requests - before == taken


def test_a_route_has_no_password_in_it() -> None:
    with httpx.Client(base_url="https://me:s3cret@shop.example/api/v2") as http:
        request = request_for(http, calls.list_services())

    assert purchase_of(request).route == "GET https://shop.example /api/v2/services"
    assert "s3cret" not in repr((purchase_of(request), request.extensions))


def test_an_address_of_any_length_has_a_route() -> None:
    with httpx.Client(base_url=f"https://shop.example/{'long' * 60}") as http:
        routes = {
            purchase_of(request_for(http, call)).route
            for call in (calls.list_services(), calls.list_services(), calls.list_countries())
        }

    assert len(routes) == 2


def test_calls_of_one_route_differ_by_where_the_api_is() -> None:
    routes = set()
    for base_url in ("https://shop.example/v1", "https://shop.example/v2", "https://b.example/v2"):
        with httpx.Client(base_url=base_url) as http:
            routes |= {
                purchase_of(request_for(http, calls.get_order(number))).route for number in "12"
            }

    assert len(routes) == 3


def test_what_it_may_be_told() -> None:
    wallet, ledger = Wallet.generate(), open_ledger(":memory:")
    with pytest.raises(ConfigError, match='"never", "auto" or "always"'):
        X402Transport(wallet, ledger=ledger, prepay="sometimes")  # type: ignore[arg-type]  # that is what is tested
    X402Transport(wallet, ledger=ledger, prepay=Prepay.ALWAYS).close()
    ledger.close()
