"""What was spent and what is left; and refusals that an agent can act on."""

from __future__ import annotations

from decimal import Decimal

import httpx
import pytest

from tests.mcp.agent import desktop
from x402sms import SpendLimits
from x402sms.conformance.parts import attempt, charge
from x402sms.protocol.networks import BASE_SEPOLIA

pytestmark = pytest.mark.anyio


async def test_spending_says_what_was_spent_and_what_is_left() -> None:
    limits = SpendLimits(per_call="0.50", per_hour="1", per_day="2", total="3")
    async with desktop(limits=limits) as agent:
        before = await agent.call("spending")
        assert before["this_session"] == {"amount": "0.00", "calls": 0}
        order = await agent.call("create_order", service="telegram", country="GB", max_price="0.50")
        got = await agent.call("spending")
        paid, _ = agent.books()
        assert got["payment"] is None
        assert got["this_session"] == {"amount": order["price"], "calls": 1}
        assert got["this_session"]["amount"] == got["last_24_hours"] == got["in_all"]
        assert Decimal(got["in_all"]) * 10**6 == paid
        left = {each["name"]: (each["limit"], Decimal(each["left"])) for each in got["limits"]}
        rest = {
            name: (cap, Decimal(cap) - Decimal(got["in_all"]))
            for name, cap in (("per_hour", "1.00"), ("per_day", "2.00"), ("total", "3.00"))
        }
        assert left == {"per_call": ("0.50", Decimal("0.50")), **rest}
        assert got["wallet"] == agent.sms.wallet.address
        assert got["network"] == "base-sepolia"


@pytest.mark.parametrize("rest", [False, True], ids=["x402", "rest"])
async def test_a_limit_of_each_worker_is_told_by_what_this_one_spent(
    rest: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X402SMS_WORKER", "w-1")
    async with desktop(limits=SpendLimits(worker_total="3", total="5"), rest=rest) as agent:
        sms = agent.sms
        order = await agent.call("create_order", service="telegram", country="GB", max_price="0.50")
        if sms.books is None:
            theirs = attempt(network=BASE_SEPOLIA, payer=sms.wallet.address, worker="w-2")
            sms.ledger.reserve(theirs, [], now=int(sms.clock.time()))
        else:
            other = charge(account=sms.books.key.account, worker="w-2")
            sms.ledger.charges.ask(other, [], now=int(sms.clock.time()))
        got = await agent.call("spending")
        limits = {each["name"]: Decimal(each["spent"]) for each in got["limits"][1:]}
        price = Decimal(order["price"])
        assert limits["worker_total"] == price
        assert limits["total"] == price + Decimal("0.00001")
        (unclear,) = got["open_payments"]
        assert (unclear["worker"], unclear["labels"]) == ("w-2", {})


async def test_spending_knows_the_open_jobs_and_a_poll_that_is_on_its_way() -> None:
    async with desktop() as agent:
        job = await agent.call("receive_code", service="telegram", max_price="0.50")
        await agent.sandbox.state.until_polling(1, 10)
        got = await agent.call("spending")
        assert [each["job_id"] for each in got["open_jobs"]] == [job["job_id"]]
        (poll,) = got["open_payments"]
        assert poll["state"] == "reserved"
        on_its_way = Decimal(got["in_all"]) - Decimal(got["this_session"]["amount"])
        assert on_its_way == Decimal(poll["amount"])


async def test_spending_never_shows_the_key() -> None:
    async with desktop() as agent:
        key = agent.sandbox.funded_key
        assert key is not None
        got = await agent.ask("spending")
        assert key.removeprefix("0x") not in got.model_dump_json()


LIMITS = {
    "per_call": SpendLimits(per_call="0.01"),
    "per_hour": SpendLimits(per_hour="0.01"),
    "per_day": SpendLimits(per_day="0.01"),
    "total": SpendLimits(total="0.01"),
}


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("tool", ["create_order", "receive_code"])
async def test_a_limit_stops_a_purchase_and_says_how_it_is_raised(limit: str, tool: str) -> None:
    async with desktop(limits=LIMITS[limit]) as agent:
        where = {"country": "GB"} if tool == "create_order" else {}
        refusal = await agent.refused(tool, service="telegram", max_price="0.50", **where)
        assert refusal.kind == "SpendLimitExceeded"
        assert refusal.facts["limit"] == limit
        assert Decimal(refusal.facts["allowed"]) == Decimal("0.01")
        assert f"X402SMS_MAX_{limit.upper()}" in refusal.sentence
        assert "Only the user can raise the limits" in refusal.sentence
        assert agent.sandbox.orders() == []


@pytest.fixture
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("x402sms.paying.RETRY_PAUSES", (0, 0, 0))


ASKED = {"service": "telegram", "country": "GB", "max_price": "1", "intent": "signup-7"}


@pytest.mark.usefixtures("_no_pauses")
async def test_an_order_whose_answer_was_lost_is_found_and_not_paid_twice() -> None:
    async with desktop() as agent:
        agent.wire.lose = {"POST"}
        got = await agent.call("create_order", **ASKED)
        assert [order.order_id for order in agent.sandbox.orders()] == [got["order_id"]]
        assert got["payment"]["intent"] == "signup-7"


@pytest.mark.usefixtures("_no_pauses")
async def test_a_payment_whose_end_is_unknown_is_said_and_the_same_intent_is_safe() -> None:
    async with desktop() as agent:
        agent.wire.lose = {"POST", "GET"}
        refusal = await agent.refused("create_order", **ASKED)
        assert refusal.kind == "PaymentUnknown"
        assert refusal.facts["intent"] == "signup-7"
        assert "Money may have been paid" in refusal.sentence
        assert "same intent is safe" in refusal.sentence
        still_open = (await agent.call("spending"))["open_payments"]
        nonces = {each["intent"]: each["nonce"] for each in still_open}
        assert nonces["signup-7"] == refusal.facts["nonce"]
        agent.wire.lose = set()
        found = await agent.call("create_order", **ASKED)
        assert [order.order_id for order in agent.sandbox.orders()] == [found["order_id"]]


async def test_a_call_that_fails_after_it_was_paid_says_nothing_of_nothing_paid() -> None:
    async with desktop() as agent:
        paid = await agent.refused("get_order", order_id="ord_of_nobody")
        assert "Nothing was paid" not in paid.sentence
        agent.wire.failure = httpx.ConnectError("no route")
        unpaid = await agent.refused("get_order", order_id="ord_of_nobody")
        assert "Nothing was paid" in unpaid.sentence
