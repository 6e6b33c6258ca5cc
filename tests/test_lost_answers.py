"""Paid and not delivered: the answer is lost between us and a service that did its work."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.buyer import COLOURS, Colour
from tests.facade import facade
from tests.losing import Losing, Loss
from x402sms import AsyncClient, PaymentState, Wallet
from x402sms.errors import LedgerError, PaymentUnknown, UnreadableResponse
from x402sms.ledger import SQLiteLedger
from x402sms.sandbox import RunningSandbox, SandboxConfig, running_sandbox
from x402sms.virtualsms.effects import Event, Waiting
from x402sms.virtualsms.models import OrderStatus


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> Colour:
    colour: Colour = request.param
    return colour


@pytest.fixture(scope="module")
def sandbox() -> Iterator[RunningSandbox]:
    with running_sandbox(SandboxConfig()) as running:
        yield running


@pytest.fixture
def wallet(sandbox: RunningSandbox) -> Wallet:
    wallet = Wallet.generate()
    sandbox.fund(wallet.address, 100)
    return wallet


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Presentations follow each other at once: what they meet here does not change with time."""
    monkeypatch.setattr("x402sms.paying.RETRY_PAUSES", (0.0, 0.0, 0.0))


def settings(sandbox: RunningSandbox, wallet: Wallet, inner: Losing) -> dict[str, Any]:
    return {
        "wallet": wallet,
        "network": "base-sepolia",
        "base_url": sandbox.url,
        "ledger": ":memory:",
        "transport": inner,
    }


def orders_are(loss: Loss, *, times: int = 1000) -> Losing:
    """Loses the answers to so many paid `POST /orders`."""
    left = [times]

    def loses(request: httpx.Request) -> Loss | None:
        if request.method != "POST" or not request.url.path.endswith("/orders") or not left[0]:
            return None
        left[0] -= 1
        return loss

    return Losing(loses)


def paid_orders(sandbox: RunningSandbox, wallet: Wallet) -> list[str]:
    return [
        payment["order_id"]
        for payment in sandbox.payments()
        if payment["payer"] == wallet.address and payment["path"].endswith("/orders")
        if payment["method"] == "POST"
    ]


@pytest.mark.parametrize("loss", ["drop", "truncate"])
def test_an_answer_that_is_lost_for_a_while_is_replayed(
    colour: Colour, sandbox: RunningSandbox, wallet: Wallet, loss: Loss
) -> None:
    inner = orders_are(loss, times=2)
    with facade(colour, **settings(sandbox, wallet, inner)) as sms:
        order = sms.orders.create("telegram", "HR")
        assert sms.payments.get(sms.last_receipt.nonce).delivered == order.order_id
        assert sms.last_receipt.state is PaymentState.SETTLED
    assert len(inner.lost) == 2
    assert paid_orders(sandbox, wallet) == [order.order_id]


@pytest.mark.parametrize("loss", ["drop", "truncate"])
def test_an_order_whose_answer_never_comes_is_found_and_not_bought_again(
    colour: Colour, sandbox: RunningSandbox, wallet: Wallet, loss: Loss
) -> None:
    with facade(colour, **settings(sandbox, wallet, orders_are(loss))) as sms:
        order = sms.orders.create("telegram", "HR", intent="sign-up 7")
        assert order.phone_number is not None
        assert sms.last_receipt.intent == "sign-up 7"
        assert f"found {order.order_id} in GET /orders" in sms.last_receipt.reason
        assert sms.payments.get("sign-up 7").delivered == order.order_id
    assert paid_orders(sandbox, wallet) == [order.order_id]


def test_two_equal_purchases_get_an_order_each(
    colour: Colour, sandbox: RunningSandbox, wallet: Wallet
) -> None:
    with facade(colour, **settings(sandbox, wallet, orders_are("drop"))) as sms:
        found = {sms.orders.create("telegram", "HR").order_id for _ in range(3)}
        found |= {sms.orders.create("telegram", "HR", rental_hours=4).order_id for _ in range(2)}
    assert found == set(paid_orders(sandbox, wallet))
    assert len(found) == 5


def test_what_was_never_bought_is_not_found(
    colour: Colour, sandbox: RunningSandbox, wallet: Wallet
) -> None:
    """The paid request is lost on its way there, and equal orders of before are not taken."""

    class NeverArrives(Losing):
        def _swallow(self, request: httpx.Request) -> None:
            paid = "payment-signature" in request.headers
            if paid and request.method == "POST" and self.lost == ["on"]:
                raise httpx.WriteError("the connection was lost")

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            self._swallow(request)
            return super().handle_request(request)

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            self._swallow(request)
            return await super().handle_async_request(request)

    inner = NeverArrives(lambda _: None)
    with facade(colour, **settings(sandbox, wallet, inner)) as sms:
        sms.orders.create("telegram", "HR")
        inner.lost.append("on")
        with pytest.raises(PaymentUnknown):
            sms.orders.create("telegram", "HR")
    assert len(paid_orders(sandbox, wallet)) == 1


def test_the_job_finds_its_number_as_well(
    colour: Colour, sandbox: RunningSandbox, wallet: Wallet
) -> None:
    def deliver(number: str) -> None:
        [order_id] = paid_orders(sandbox, wallet)
        sandbox.deliver_sms(order_id, "Your code is 5521")

    with facade(colour, **settings(sandbox, wallet, orders_are("drop"))) as sms:
        code = sms.receive_code("telegram", max_price="1", on_number=deliver)
    assert code.code == "5521"
    assert paid_orders(sandbox, wallet) == [code.order.order_id]


def test_a_look_that_fails_too_leaves_the_first_error_standing(
    colour: Colour, sandbox: RunningSandbox, wallet: Wallet
) -> None:
    """Else a caller would be told that nothing was paid, and buy again."""

    class GoneAfterwards(Losing):
        def _check(self, request: httpx.Request) -> None:
            if self.lost and request.method == "GET":
                raise httpx.ConnectError("refused")

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            self._check(request)
            return super().handle_request(request)

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            self._check(request)
            return await super().handle_async_request(request)

    inner = GoneAfterwards(orders_are("drop")._loses)
    with (
        facade(colour, **settings(sandbox, wallet, inner)) as sms,
        pytest.raises(PaymentUnknown, match="'sign-up 7'") as caught,
    ):
        sms.orders.create("telegram", "HR", intent="sign-up 7")
    assert "looking for the order in GET /orders failed" in str(caught.value.__notes__)
    assert len(paid_orders(sandbox, wallet)) == 1


def test_a_note_that_cannot_be_written_does_not_cost_the_order(
    colour: Colour, sandbox: RunningSandbox, wallet: Wallet, caplog: pytest.LogCaptureFixture
) -> None:
    class NoNotes(SQLiteLedger):
        def note_delivered(self, **_: Any) -> bool:
            raise LedgerError("the disk is full")

    options = settings(sandbox, wallet, Losing(lambda _: None))
    with facade(colour, **options | {"ledger": NoNotes(":memory:")}) as sms:
        order = sms.orders.create("telegram", "HR")
    assert paid_orders(sandbox, wallet) == [order.order_id]
    assert order.order_id in caplog.text


def test_an_intent_that_has_its_order_keeps_it(
    colour: Colour, sandbox: RunningSandbox, wallet: Wallet
) -> None:
    """Another machine bought the same meanwhile, and the answer to our retry is lost."""
    inner = orders_are("drop", times=0)
    options = settings(sandbox, wallet, inner)
    with facade(colour, **options) as sms:
        first = sms.orders.create("telegram", "HR", intent="sign-up 7")
        with facade(colour, **options | {"transport": Losing(lambda _: None)}) as elsewhere:
            elsewhere.orders.create("telegram", "HR")
        inner._loses = orders_are("drop")._loses
        again = sms.orders.create("telegram", "HR", intent="sign-up 7")
    assert again.order_id == first.order_id


def test_buyers_at_once_on_one_ledger_get_an_order_each(
    sandbox: RunningSandbox, wallet: Wallet, tmp_path: Path
) -> None:
    sandbox.set_stock("telegram", "HR", 100)
    options = settings(sandbox, wallet, orders_are("drop"))
    options["ledger"] = str(tmp_path / "shared.db")
    with facade("sync", **options) as sms, ThreadPoolExecutor(6) as pool:
        orders = [pool.submit(sms.orders.create, "telegram", "HR") for _ in range(12)]
        got = {order.result().order_id for order in orders}
    assert got == set(paid_orders(sandbox, wallet))
    assert len(got) == 12


@pytest.mark.anyio
async def test_a_job_in_a_cancel_scope_that_ends_cancels_its_order(
    sandbox: RunningSandbox, wallet: Wallet
) -> None:
    """Such a scope cancels again at every await, unlike `Task.cancel()`."""
    options = settings(sandbox, wallet, Losing(lambda _: None))
    async with AsyncClient(**options) as sms:
        with anyio.CancelScope() as scope:

            def waiting(event: Event) -> None:
                if isinstance(event, Waiting):
                    scope.cancel()

            await sms.receive_code("telegram", max_price="1", on_event=waiting)
        orders = [order async for order in sms.orders.list()]
    assert [order.status for order in orders] == [OrderStatus.CANCELLED]


def test_any_other_lost_answer_says_what_was_paid(
    colour: Colour, sandbox: RunningSandbox, wallet: Wallet
) -> None:
    inner = Losing(lambda request: "truncate")
    with (
        facade(colour, **settings(sandbox, wallet, inner)) as sms,
        pytest.raises(UnreadableResponse, match="cut short"),
    ):
        sms.account.balance()
    assert len(sandbox.payments()) >= 1
