"""Whatever an agent sends and whatever the service answers: a result that fits, or an error."""

from __future__ import annotations

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # has no stubs here
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.mcp.agent import FORMATS
from x402sms.cli.mcp import told
from x402sms.errors import UnreadableResponse
from x402sms.mcp_server import results
from x402sms.mcp_server.telling import failed
from x402sms.mcp_server.toolbox import TOOLS
from x402sms.virtualsms import calls
from x402sms.virtualsms.models import Order, Page
from x402sms.virtualsms.reading import parse_json

TAKES = {
    name: jsonschema.Draft202012Validator(tool.listed.input_schema) for name, tool in TOOLS.items()
}
GIVES = {
    name: jsonschema.Draft202012Validator(tool.listed.output_schema, format_checker=FORMATS)
    for name, tool in TOOLS.items()
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@st.composite
def arguments(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A tool, and for some of its parameters, or for others, anything."""
    name = draw(st.sampled_from(sorted(TOOLS)))
    declared = list(TOOLS[name].listed.input_schema.get("properties", {}))
    names = st.sampled_from([*declared, "other"])
    return name, draw(st.dictionaries(names, JSON, max_size=5))


@given(arguments())
@settings(max_examples=200, deadline=None)
def test_any_arguments_are_taken_or_explained(asked: tuple[str, dict[str, Any]]) -> None:
    name, sent = asked
    try:
        TOOLS[name].takes.model_validate(sent)
    except ValidationError as error:
        answer = failed(error, told)
        assert answer.is_error
        assert all(block.text.isprintable() for block in answer.content if block.type == "text")
        return
    # What is taken is what the schema allows, but for what JSON cannot say.
    if name != "receive_code":
        TAKES[name].validate(sent)


PRICES = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30)
WORDS = st.text(max_size=300)
ORDERS = st.fixed_dictionaries(
    {"order_id": WORDS, "status": WORDS},
    optional={
        "phone_number": WORDS,
        "price": PRICES.map(str) | st.integers(),
        "created_at": st.integers(-(10**13), 10**13) | WORDS,
        "messages": st.lists(st.fixed_dictionaries({"content": WORDS, "sender": WORDS})),
        "new field": JSON,
    },
)


@given(ORDERS)
@settings(max_examples=100, deadline=None)
def test_any_order_that_can_be_read_is_a_result_that_fits(answer: dict[str, Any]) -> None:
    try:
        order = calls.get_order("ord_1").parse(parse_json(json.dumps(answer).encode()))
    except UnreadableResponse:
        return
    shown: list[tuple[str, results.Result]] = [
        ("get_order", results.Order.of(order)),
        ("list_orders", results.Orders.of(Page[Order](items=(order,)))),
    ]
    for name, result in shown:
        document = json.loads(result.model_dump_json())
        GIVES[name].validate(document)
        assert "new field" not in json.dumps(document)


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_what_a_model_reads_of_a_tool_is_short(name: str) -> None:
    tool = TOOLS[name].listed
    assert tool.description is not None
    assert len(tool.description) < 1000
    assert len(json.dumps(tool.input_schema)) < 4000
