"""The same tools with an API key: charged to a balance, within the same limits."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from tests.mcp.agent import desktop
from tests.mcp.conftest import Start
from tests.mcp.test_stdio import START, Wire
from tests.mcp.test_tools import GOOD, NOT_ITS_OWN, Good
from x402sms import SpendLimits
from x402sms.sandbox import RunningSandbox


@pytest.mark.anyio
@pytest.mark.parametrize(
    "good",
    [good for good in GOOD if good.tool != "spending"],
    ids=lambda good: f"{good.tool}-{GOOD.index(good)}",
)
async def test_a_tool_gives_the_same_and_only_what_buys_costs(good: Good) -> None:
    async with desktop(rest=True) as agent:
        arguments = await good.prepare(agent)
        for name in NOT_ITS_OWN.get(good.tool, ()):
            arguments.pop(name, None)
        if good.tool == "extend_rental":
            refusal = await agent.refused(good.tool, **arguments)
            assert "leave out max_price" in refusal.sentence
            del arguments["max_price"]  # with a key the price is told only afterwards
        if good.tool == "wait_for_sms":
            arguments["timeout_seconds"] = 0
        got = await agent.call(good.tool, **arguments)
        assert good.gives(got)
        if good.tool in ("create_order", "receive_code"):
            assert got["payment"]["network"] == "account"
        elif good.tool != "extend_rental":
            assert got["payment"] is None


@pytest.mark.anyio
async def test_spending_is_of_the_balance() -> None:
    limits = SpendLimits(per_call="0.50", per_day="0.25")
    async with desktop(rest=True, limits=limits) as agent:
        before = await agent.call("spending")
        assert (before["transport"], before["wallet"], before["in_all"]) == ("rest", None, "0.00")
        asked: dict[str, Any] = {"service": "telegram", "country": "GB", "max_price": "0.50"}
        bought = await agent.call("create_order", **asked)
        got = await agent.call("spending")
        price = Decimal(bought["price"])
        assert Decimal(before["balance"]) - Decimal(got["balance"]) == price
        assert Decimal(got["in_all"]) == Decimal(got["this_session"]["amount"]) == price
        left = {each["name"]: each["left"] for each in got["limits"]}
        assert Decimal(left["per_day"]) == Decimal("0.25") - price
        refusal = await agent.refused("create_order", **asked)
        assert refusal.facts["limit"] == "per_day"
        assert "Only the user can raise the limits" in refusal.sentence
        key = agent.sandbox.api_key
        assert key is not None
        assert key not in json.dumps(got)


def test_a_program_with_a_key_and_no_wallet_gets_a_code(
    start: Start, service: RunningSandbox
) -> None:
    program = start(X402SMS_PRIVATE_KEY="", X402SMS_API_KEY=str(service.api_key))
    wire = Wire(program)
    started = wire.call("receive_code", **START)
    service.deliver_sms(started["order_id"], "Your code: 552211")
    assert wire.call("receive_code", job_id=started["job_id"])["code"] == "552211"
    assert wire.call("spending")["transport"] == "rest"
    _, said = program.communicate(timeout=10)
    assert (program.returncode, said) == (0, "")
