"""Every tool with good and with bad input; what each declares, and what it gives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]  # has no stubs here
import pytest

from tests.mcp.agent import Desktop, desktop
from x402sms.mcp_server.toolbox import INSTRUCTIONS, TOOLS
from x402sms.sandbox import SandboxConfig

pytestmark = pytest.mark.anyio

REFERENCE = {
    "list_services",
    "list_countries",
    "find_cheapest",
    "country_pricing",
    "service_availability",
    "get_balance",
    "get_profile",
    "get_stats",
    "list_transactions",
    "create_order",
    "get_order",
    "list_orders",
    "wait_for_sms",
    "swap_order",
    "cancel_order",
    "confirm_order",
    "extend_rental",
    "release_rental",
}
OWN = {"receive_code", "spending"}
BUYING = {"create_order", "extend_rental", "receive_code"}
CHANGING = BUYING | {"swap_order", "cancel_order", "confirm_order", "release_rental"}

Given = dict[str, Any]
Prepare = Callable[[Desktop], Awaitable[Given]]


async def nothing(agent: Desktop) -> Given:
    return {}


def given(**arguments: Any) -> Prepare:
    async def prepare(agent: Desktop) -> Given:
        return arguments

    return prepare


async def order(agent: Desktop) -> Given:
    return {"order_id": await _buy(agent)}


async def order_with_sms(agent: Desktop) -> Given:
    order_id = await _buy(agent)
    agent.sandbox.deliver_sms(order_id, "Your code is 552211")
    return {"order_id": order_id}


async def rental(agent: Desktop) -> Given:
    return {"order_id": await _buy(agent, rental_hours=24)}


async def longer_rental(agent: Desktop) -> Given:
    return {**await rental(agent), "hours": 24, "max_price": "1"}


async def _buy(agent: Desktop, **more: Any) -> str:
    bought = await agent.call(
        "create_order", service="telegram", country="GB", max_price="1", **more
    )
    return str(bought["order_id"])


@dataclass(frozen=True)
class Good:
    """Arguments that are right, and some of what comes of them."""

    tool: str
    prepare: Prepare
    gives: Callable[[dict[str, Any]], object]


GOOD = [
    Good("list_services", nothing, lambda got: len(got["services"]) == 50 < got["total"]),
    Good(
        "list_services",
        given(search="TELEGRAM"),
        lambda got: [each["id"] for each in got["services"]] == ["telegram"],
    ),
    Good(
        "list_services",
        given(search="a", limit=3),
        lambda got: len(got["services"]) == 3 < got["matching"] < got["total"],
    ),
    Good("list_countries", given(search="king"), lambda got: got["countries"][0]["iso2"] == "GB"),
    Good("find_cheapest", given(service="telegram"), lambda got: got["offer"]["in_stock"]),
    Good(
        "country_pricing",
        given(country="uk", search="tele", limit=2),
        lambda got: {each["country"] for each in got["offers"]} == {"GB"},
    ),
    Good(
        "service_availability",
        given(service="telegram", limit=5),
        lambda got: len(got["offers"]) == 5 < got["total"] and _prices(got) == sorted(_prices(got)),
    ),
    Good("get_balance", nothing, lambda got: got["currency"]),
    Good("get_profile", nothing, lambda got: "email" in got),
    Good("get_stats", nothing, lambda got: got["lifetime_orders"] == 0),
    Good("list_transactions", given(limit=1), lambda got: got["page"] == 1),
    Good(
        "create_order",
        given(service="telegram", country="GB", max_price="0.50", intent="signup-test-1"),
        lambda got: (
            got["payment"]["amount"] == got["price"]
            and got["payment"]["intent"] == "signup-test-1"
            and got["payment"]["state"] == "settled"
        ),
    ),
    Good("get_order", order_with_sms, lambda got: got["messages"][0]["text"]),
    Good("list_orders", given(page=1, status="waiting"), lambda got: got["orders"] == []),
    Good("list_orders", order, lambda got: len(got["orders"]) == 1),
    Good("wait_for_sms", order_with_sms, lambda got: got["has_sms"] and got["code"] == "552211"),
    Good("wait_for_sms", order, lambda got: not got["has_sms"] and got["code"] is None),
    Good("swap_order", order, lambda got: got["previous_number"] != got["phone_number"]),
    Good("cancel_order", order, lambda got: got["success"] and Decimal(got["refund_amount"])),
    Good("confirm_order", order_with_sms, lambda got: got["status"] == "confirmed"),
    Good("extend_rental", longer_rental, lambda got: Decimal(got["payment"]["amount"])),
    Good("release_rental", rental, lambda got: got["status"]),
    Good(
        "receive_code",
        given(service="Telegram", max_price="0.50", country="GB", timeout_seconds=60),
        lambda got: got["status"] == "waiting" and got["phone_number"].startswith("+44"),
    ),
    Good("spending", nothing, lambda got: got["transport"] == "x402" and got["wallet"]),
]
NOT_ITS_OWN = {"list_orders": {"order_id"}, "wait_for_sms": set[str]()}


def _prices(got: dict[str, Any]) -> list[Decimal]:
    return [Decimal(each["price"]) for each in got["offers"]]


@pytest.mark.parametrize("good", GOOD, ids=lambda good: f"{good.tool}-{GOOD.index(good)}")
async def test_a_tool_gives_what_it_declares(good: Good) -> None:
    async with desktop() as agent:
        arguments = await good.prepare(agent)
        for name in NOT_ITS_OWN.get(good.tool, ()):
            arguments.pop(name, None)
        if good.tool == "wait_for_sms":
            arguments["timeout_seconds"] = 0
        assert good.gives(await agent.call(good.tool, **arguments))
        assert agent.said == []


@dataclass(frozen=True)
class Bad:
    """Arguments that are wrong, the error's kind, and words of its sentence."""

    tool: str
    arguments: Given
    kind: str
    says: str


WRONG = "InvalidArguments"
NO_ORDER = {"order_id": "ord_of_nobody"}
BAD = [
    Bad("list_services", {"limit": 0}, WRONG, "limit"),
    Bad("list_services", {"page": 2}, WRONG, "page"),
    Bad("list_countries", {"limit": "many"}, WRONG, "limit"),
    Bad("find_cheapest", {}, WRONG, "service"),
    Bad("find_cheapest", {"service": "nosuch"}, "ServiceNotFound", "list_services"),
    Bad("find_cheapest", {"service": "../me"}, "ValueError", "cannot be part of it"),
    Bad("country_pricing", {"country": "Atlantis"}, "ValueError", "two letters"),
    Bad("country_pricing", {"country": "ZZ"}, "CountryNotFound", "list_countries"),
    Bad("service_availability", {"service": ["telegram"]}, WRONG, "service"),
    Bad("service_availability", {"service": "nosuch"}, "ServiceNotFound", "list_services"),
    Bad("get_balance", {"account": "mine"}, WRONG, "account"),
    Bad("get_profile", {"account": "mine"}, WRONG, "account"),
    Bad("get_stats", {"account": "mine"}, WRONG, "account"),
    Bad("list_transactions", {"page": 0}, WRONG, "page"),
    Bad("create_order", {"service": "telegram", "country": "GB"}, WRONG, "max_price"),
    Bad(
        "create_order",
        {"service": "telegram", "country": "GB", "max_price": 0.3},
        WRONG,
        "valid string",
    ),
    Bad(
        "create_order",
        {"service": "telegram", "country": "GB", "max_price": "lots"},
        WRONG,
        "max_price",
    ),
    Bad(
        "create_order",
        {"service": "telegram", "country": "GB", "max_price": "0.01"},
        "SpendLimitExceeded",
        "change max_price",
    ),
    Bad(
        "create_order",
        {"service": "nosuch", "country": "GB", "max_price": "1"},
        "ServiceNotFound",
        "list_services",
    ),
    Bad(
        "create_order",
        {"service": "telegram", "country": "GB", "max_price": "1", "rental_hours": 0},
        WRONG,
        "rental_hours",
    ),
    Bad("get_order", NO_ORDER, "OrderNotFound", "list_orders"),
    Bad("get_order", {"order_id": "a/b"}, "ValueError", "not an order id"),
    Bad("list_orders", {"limit": 1000}, WRONG, "limit"),
    Bad("wait_for_sms", {**NO_ORDER, "timeout_seconds": 181}, WRONG, "timeout_seconds"),
    Bad("wait_for_sms", NO_ORDER, "OrderNotFound", "list_orders"),
    Bad("swap_order", NO_ORDER, "OrderNotFound", "list_orders"),
    Bad("swap_order", {}, WRONG, "order_id"),
    Bad("cancel_order", NO_ORDER, "OrderNotFound", "list_orders"),
    Bad("cancel_order", {"order_id": 5}, WRONG, "order_id"),
    Bad("confirm_order", NO_ORDER, "OrderNotFound", "list_orders"),
    Bad("confirm_order", {}, WRONG, "order_id"),
    Bad("extend_rental", {**NO_ORDER, "hours": 24}, "ValueError", "give max_price"),
    Bad("extend_rental", {**NO_ORDER, "hours": "24"}, WRONG, "hours"),
    Bad(
        "extend_rental",
        {**NO_ORDER, "hours": 24, "max_price": "1"},
        "OrderNotFound",
        "list_orders",
    ),
    Bad("release_rental", NO_ORDER, "OrderNotFound", "list_orders"),
    Bad("release_rental", {"order_id": ""}, WRONG, "order_id"),
    Bad("receive_code", {}, WRONG, "to start a job, or job_id"),
    Bad("receive_code", {"service": "telegram"}, WRONG, "max_price too"),
    Bad("receive_code", {"max_price": "1"}, WRONG, "service too"),
    Bad(
        "receive_code",
        {"service": "telegram", "max_price": "1", "job_id": "job_1"},
        WRONG,
        "or job_id",
    ),
    Bad("receive_code", {"job_id": "job_of_nobody"}, "ValueError", "list_orders"),
    Bad(
        "receive_code",
        {"service": "telegram", "max_price": "0.001"},
        "SpendLimitExceeded",
        "change max_price",
    ),
    Bad(
        "receive_code",
        {"service": "telegrm", "max_price": "1"},
        "ServiceNotFound",
        "Did you mean telegram",
    ),
    Bad(
        "receive_code",
        {"service": "telegram", "max_price": "1", "pattern": "(a+)+$"},  # a stranger's text may be
        WRONG,  # what it never ends with
        "pattern",
    ),
    Bad("spending", {"since": "ever"}, WRONG, "since"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: f"{bad.tool}-{BAD.index(bad)}")
async def test_a_tool_says_what_is_wrong_and_buys_nothing(bad: Bad) -> None:
    async with desktop() as agent:
        refusal = await agent.refused(bad.tool, **bad.arguments)
        assert (refusal.kind, bad.says in refusal.sentence) == (bad.kind, True), refusal
        assert agent.sandbox.orders() == []
        assert agent.said == []


def test_the_tables_try_every_tool() -> None:
    assert {good.tool for good in GOOD} == {bad.tool for bad in BAD} == REFERENCE | OWN


async def test_the_reference_s_tools_and_two_more_are_listed() -> None:
    async with desktop() as agent:
        assert agent.tools.keys() == REFERENCE | OWN
        assert agent.client.instructions == INSTRUCTIONS


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_a_tool_tells_an_agent_what_it_does_and_costs(name: str) -> None:
    tool = TOOLS[name].listed
    assert tool.description is not None
    assert "USDC" in tool.description or "Free" in tool.description or "price" in tool.description
    assert tool.title
    for schema in (tool.input_schema, tool.output_schema):
        assert schema is not None
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
    for parameter, declared in tool.input_schema.get("properties", {}).items():
        assert declared.get("description"), parameter


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_the_hints_of_a_tool_say_what_it_does(name: str) -> None:
    hints = TOOLS[name].listed.annotations
    assert hints is not None
    assert hints.read_only_hint is (name not in CHANGING)
    assert hints.destructive_hint is (name in CHANGING - BUYING)
    assert hints.idempotent_hint is (name not in BUYING | {"swap_order"})
    assert hints.open_world_hint is (name != "spending")
    if name in BUYING:
        properties = TOOLS[name].listed.input_schema["properties"]
        assert {"max_price", "intent"} <= properties.keys()


async def test_what_a_stranger_writes_is_one_bounded_line_and_unknown_fields_are_dropped() -> None:
    async with desktop(SandboxConfig(vocabulary="live")) as agent:
        order_id = await _buy(agent)
        text = "\x1b[31mcode 552211\n\u202e" + "x" * 5000
        agent.sandbox.deliver_sms(order_id, text)
        got = await agent.call("wait_for_sms", order_id=order_id, timeout_seconds=0)
        assert got["code"] == "552211"
        for shown in (got["text"], *(each["text"] for each in got["messages"])):
            assert shown.isprintable()
            assert len(shown) <= 1000
        await agent.call("get_order", order_id=order_id)
        await agent.call("list_orders")


async def test_the_same_intent_is_paid_once_however_often_it_is_called() -> None:
    async with desktop() as agent:
        asked = {"service": "telegram", "country": "GB", "max_price": "1", "intent": "signup-7"}
        first = await agent.call("create_order", **asked)
        again = await agent.call("create_order", **asked)
        assert first["order_id"] == again["order_id"]
        assert len(agent.sandbox.orders()) == 1
        other = await agent.refused("create_order", **{**asked, "country": "DE"})
        assert other.kind == "IntentConflict"


async def test_an_unknown_tool_is_no_crash() -> None:
    async with desktop() as agent:
        with pytest.raises(Exception, match="no tool 'buy_everything' here"):
            await agent.ask("buy_everything")


@pytest.mark.parametrize("where", ["a tool", "a job"])
async def test_a_mistake_of_ours_is_one_line_without_its_words(where: str) -> None:
    async with desktop() as agent:
        agent.wire.failure = KeyError("a secret")
        if where == "a tool":
            refusal = await agent.refused("list_services")
        else:
            refusal = await agent.refused("receive_code", service="telegram", max_price="1")
        assert refusal.kind == "KeyError"
        assert "bug in x402sms" in refusal.sentence
        (line,) = agent.said
        assert "KeyError" in line
        assert "secret" not in refusal.sentence + line


async def test_a_host_that_is_not_there_costs_nothing_and_says_so() -> None:
    async with desktop() as agent:
        agent.wire.failure = httpx.ConnectError("no route")
        refusal = await agent.refused("get_balance")
        assert refusal.kind == "HostNotReachable"
        assert "Nothing was paid" in refusal.sentence
