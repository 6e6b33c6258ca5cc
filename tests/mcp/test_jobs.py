"""`receive_code`, start then wait: a code, or the money back, whoever stops asking."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.mcp.agent import ERAS, Desktop, desktop
from x402sms.mcp_server.desk import MOST_OPEN
from x402sms.sandbox import SandboxConfig

pytestmark = pytest.mark.anyio

START: dict[str, Any] = {"service": "telegram", "max_price": "0.50"}


@asynccontextmanager
async def waiting(agent: Desktop, job_id: str) -> AsyncIterator[asyncio.Task[Any]]:
    """While an agent waits for a job; the block is entered as soon as the number is polled."""
    task = asyncio.create_task(agent.ask("receive_code", job_id=job_id, wait_seconds=60))
    await agent.sandbox.state.until_polling(1, 10)
    yield task


@pytest.mark.parametrize("mode", ERAS)
async def test_the_number_comes_first_and_then_the_code(mode: str) -> None:
    async with desktop(mode=mode) as agent:
        started = await agent.call("receive_code", **START)
        assert started["status"] == "waiting"
        assert started["phone_number"].startswith("+")
        assert started["payment"]["amount"] == started["price"]
        async with waiting(agent, started["job_id"]) as wait:
            agent.sandbox.deliver_sms(started["order_id"], "Your code: 552-211. Ref 99887766")
            result = await wait
        got = result.structured_content
        assert (got["status"], got["code"]) == ("received", "552211")
        assert got["phone_number"] == started["phone_number"]
        assert agent.statuses() == ["confirmed"]
        paid, back = agent.books()
        assert (int(Decimal(got["cost"]) * 10**6), back) == (paid, 0)
        again = await agent.call("receive_code", job_id=started["job_id"])
        assert again == got


@pytest.mark.parametrize("mode", ERAS)
async def test_the_agent_hears_what_goes_on(mode: str) -> None:
    async with desktop(mode=mode) as agent:
        started = await agent.call("receive_code", **START)
        async with waiting(agent, started["job_id"]) as wait:
            agent.sandbox.deliver_sms(started["order_id"], "code 552211")
            await wait
        messages = [message or "" for _, _, message in agent.progress]
        assert "buying" in messages[0]
        assert any(started["phone_number"] in message for message in messages)
        assert all(total and elapsed <= total for elapsed, total, _ in agent.progress)


async def test_a_wait_that_is_shorter_than_the_job_leaves_it_going_on() -> None:
    async with desktop() as agent:
        started = await agent.call("receive_code", **START, timeout_seconds=60)
        for _ in range(2):
            got = await agent.call("receive_code", job_id=started["job_id"], wait_seconds=0)
            assert got["status"] == "waiting"
            assert 50 < got["seconds_left"] <= 60
        assert agent.statuses() == ["waiting"]


@pytest.mark.parametrize("mode", ERAS)
async def test_giving_up_on_a_wait_cancels_the_order_for_its_refund(mode: str) -> None:
    async with desktop(mode=mode) as agent:
        started = await agent.call("receive_code", **START)
        async with waiting(agent, started["job_id"]) as wait:
            wait.cancel()
            await asyncio.wait([wait])
        refusal = await agent.refused("receive_code", job_id=started["job_id"], wait_seconds=60)
        assert refusal.kind == "NoCodeReceived"
        assert refusal.facts["cancelled"] is True
        assert refusal.facts["refunded"] == started["price"]
        assert "USDC refunded" in refusal.sentence
        assert agent.statuses() == ["cancelled"]
        assert agent.books()[1] == int(Decimal(started["price"]) * 10**6)


async def test_giving_up_on_a_start_leaves_no_open_order() -> None:
    async with desktop() as agent:
        agent.wire.hold_after("/availability")
        start = asyncio.create_task(agent.ask("receive_code", **START))
        await agent.wire.holding.wait()
        (job,) = agent.desk.open
        start.cancel()
        await asyncio.wait([start])
        agent.wire.free()
        with anyio.fail_after(10):
            await job.over.wait()
        assert set(agent.statuses()) <= {"cancelled"}


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await anyio.lowlevel.checkpoint()


async def test_a_purchase_that_is_stopped_is_not_kept_quiet() -> None:
    async with desktop() as agent:
        agent.wire.hold_after("/cheapest")
        await agent.call("find_cheapest", service="telegram")
        order = {"service": "telegram", "country": "GB", "max_price": "1"}
        buying = asyncio.create_task(agent.ask("create_order", **order))
        with anyio.fail_after(10):
            await until(lambda: agent.desk.is_buying)
            agent.desk.say_what_is_interrupted()
            buying.cancel()
            await until(lambda: not agent.desk.is_buying)
        agent.wire.free()
        assert len(agent.said) == 2
        assert all("`x402sms recover` finds what it bought" in line for line in agent.said)


async def test_no_code_in_time_is_an_error_that_says_what_came_back() -> None:
    async with desktop(SandboxConfig(virtual_time=True, cooldown=120)) as agent:
        started = await agent.call("receive_code", **START, timeout_seconds=60)
        refusal = await agent.refused("receive_code", job_id=started["job_id"])
        assert refusal.kind == "NoCodeReceived"
        assert refusal.facts["refunded"] == started["price"]
        assert agent.statuses() == ["cancelled"]
        assert agent.desk.open == []


async def test_a_job_that_nobody_asks_for_ends_by_itself() -> None:
    async with desktop(SandboxConfig(virtual_time=True)) as agent:
        await agent.call("receive_code", **START, timeout_seconds=60)
        for job in agent.desk.open:
            with anyio.fail_after(10):
                await job.over.wait()
        assert agent.statuses() == ["cancelled"]


async def test_a_new_number_is_told_at_once() -> None:
    async with desktop(SandboxConfig(virtual_time=True, cooldown=120)) as agent:
        agent.wire.hold_after("/swap")
        started = await agent.call("receive_code", **START, max_swaps=1, timeout_seconds=600)
        changed = await agent.call("receive_code", job_id=started["job_id"])
        assert changed["status"] == "number_changed"
        assert changed["previous_numbers"] == [started["phone_number"]]
        assert changed["phone_number"] != started["phone_number"]
        same = await agent.call("receive_code", job_id=started["job_id"], wait_seconds=0)
        assert same["status"] == "waiting"
        agent.sandbox.deliver_sms(started["order_id"], "code 552211")
        agent.wire.free()
        got = await agent.call("receive_code", job_id=started["job_id"])
        assert (got["status"], got["code"]) == ("received", "552211")


async def test_a_number_is_not_changed_unless_that_was_asked_for() -> None:
    async with desktop(SandboxConfig(virtual_time=True)) as agent:
        started = await agent.call("receive_code", **START, timeout_seconds=600)
        await agent.refused("receive_code", job_id=started["job_id"])
        (order,) = agent.sandbox.orders()
        assert order.previous_number is None


async def test_the_same_intent_goes_on_with_the_same_job() -> None:
    async with desktop() as agent:
        asked = {**START, "intent": "signup-7"}
        first = await agent.call("receive_code", **asked)
        again = await agent.call("receive_code", **asked)
        assert again["job_id"] == first["job_id"]
        assert len(agent.sandbox.orders()) == 1
        other = await agent.refused("receive_code", **{**asked, "country": "DE"})
        assert other.kind == "IntentConflict"


async def test_the_same_intent_finds_the_order_of_an_earlier_server() -> None:
    async with desktop() as agent:
        # As if the program had been killed: nobody has the job, the ledger has its payment.
        lost = agent.sms.verification("telegram", max_price="0.50", intent="signup-7")
        await lost.__aenter__()
        found = await agent.call("receive_code", **START, intent="signup-7")
        assert found["order_id"] == lost.order.order_id
        assert len(agent.sandbox.orders()) == 1


async def test_cancelling_a_job_s_order_ends_the_job() -> None:
    async with desktop() as agent:
        started = await agent.call("receive_code", **START)
        order = {"order_id": started["order_id"]}
        assert (await agent.refused("swap_order", **order)).kind == "ValueError"
        got = await agent.call("cancel_order", **order)
        assert (got["success"], got["status"]) == (True, "cancelled")
        assert got["refund_amount"] == started["price"]
        assert agent.desk.open == []
        refusal = await agent.refused("receive_code", job_id=started["job_id"])
        assert refusal.facts["cancelled"] is True


async def test_a_cancel_that_the_service_holds_back_goes_on_by_itself() -> None:
    async with desktop(SandboxConfig(cooldown=120)) as agent:
        started = await agent.call("receive_code", **START)
        with anyio.fail_after(5):
            got = await agent.call("cancel_order", order_id=started["order_id"])
        assert (got["success"], got["status"]) == (False, "cancelling")
        state = await agent.call("receive_code", job_id=started["job_id"], wait_seconds=0)
        assert state["status"] == "cancelling"
        assert "cancelled for its refund" in state["next_step"]


async def test_cancelling_too_late_says_that_the_sms_was_there() -> None:
    async with desktop() as agent:
        started = await agent.call("receive_code", **START)
        agent.wire.hold_after("/sms")
        agent.sandbox.deliver_sms(started["order_id"], "code 552211")
        got = await agent.call("cancel_order", order_id=started["order_id"])
        assert not got["success"]
        assert got["refund_amount"] is None
        done = await agent.call("receive_code", job_id=started["job_id"])
        assert done["code"] == "552211"


async def test_a_rental_is_kept_by_its_job() -> None:
    async with desktop(SandboxConfig(virtual_time=True)) as agent:
        started = await agent.call(
            "receive_code", service="telegram", max_price="1", rental_hours=4, timeout_seconds=60
        )
        refusal = await agent.refused("receive_code", job_id=started["job_id"])
        assert refusal.facts["cancelled"] is False
        assert agent.statuses() == ["waiting"]


async def test_so_many_jobs_and_no_more() -> None:
    async with desktop() as agent:
        for _ in range(MOST_OPEN):
            await agent.call("receive_code", **START)
        refusal = await agent.refused("receive_code", **START)
        assert refusal.kind == "ConfigError"
        assert "nothing was bought" in refusal.sentence
        assert len(agent.sandbox.orders()) == MOST_OPEN


async def test_as_the_server_ends_every_job_s_order_is_cancelled_and_rentals_are_kept() -> None:
    async with desktop() as agent:
        bought = [await agent.call("receive_code", **START) for _ in range(2)]
        rented = await agent.call("receive_code", service="telegram", max_price="1", rental_hours=4)
        await agent.desk.close()
        assert sorted(agent.statuses()) == ["cancelled", "cancelled", "waiting"]
        for order in (*bought, rented):
            assert any(order["order_id"] in line for line in agent.said)
        assert any("is kept" in line for line in agent.said)
        refusal = await agent.refused("receive_code", **START)
        assert "nothing was bought" in refusal.sentence


async def test_what_cannot_be_cancelled_in_time_is_said() -> None:
    async with desktop(SandboxConfig(cooldown=120)) as agent:
        started = await agent.call("receive_code", **START)
        with anyio.fail_after(5):
            await agent.desk.close()
        assert agent.statuses() == ["waiting"]
        assert f"x402sms orders cancel {started['order_id']}" in agent.said[-1]
