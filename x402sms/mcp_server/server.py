"""The MCP server itself: lists the tools, checks what they are given, tells what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
)
from pydantic_core import to_json

from x402sms._version import __version__
from x402sms.base_client import Meter, counted_by
from x402sms.client import AsyncClient
from x402sms.mcp_server.desk import Desk
from x402sms.mcp_server.request import Request
from x402sms.mcp_server.results import Payment, Result
from x402sms.mcp_server.telling import Describe, complaint, failed, is_ours
from x402sms.mcp_server.toolbox import INSTRUCTIONS, TOOLS, Tool, listed
from x402sms.text import one_line

Context = ServerRequestContext[Any, Any]


def build_server(
    client: AsyncClient, desk: Desk, session: Meter, describe: Describe, say: Callable[[str], None]
) -> Server[Any]:
    """A server of the tools on `client`. `session` counts what it pays.

    `describe` tells an error as the command line does; `say` gets a line for each that is not
    the agent's.
    """

    async def list_tools(
        context: Context, params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return ListToolsResult(tools=list(listed()))

    async def call_tool(context: Context, params: CallToolRequestParams) -> CallToolResult:
        tool = TOOLS.get(params.name)
        if tool is None:
            raise MCPError(INVALID_PARAMS, f"no tool {one_line(params.name, 60)!r} here")
        request = Request(client, desk, session, context.session.report_progress)
        meter = Meter()
        try:
            with counted_by(meter), desk.buying(tool.name) if tool.buys else nullcontext():
                result = await _run(tool, request, params.arguments or {})
        except Exception as error:  # noqa: BLE001  the edge: an agent is told, not crashed
            answer = failed(error, describe, meter.receipts)
            if is_ours(error):
                say(f"{tool.name}: {complaint(error)}")
            return answer
        return _answer(result, meter)

    return Server(
        "x402sms",
        version=__version__,
        title="x402sms: phone numbers and SMS codes",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def _run(tool: Tool, request: Request, arguments: dict[str, Any]) -> Result:
    return await tool.run(request, tool.takes.model_validate(arguments))


def _answer(result: Result, meter: Meter) -> CallToolResult:
    if result.payment is None:
        result = result.model_copy(update={"payment": Payment.of(meter)})
    document = result.model_dump(mode="json", exclude={"payment"})
    document |= result.model_dump(mode="json", include={"payment"})  # last: what matters is first
    # Text too, for clients that do not read structured content.
    return CallToolResult(
        content=[TextContent(text=to_json(document).decode())], structured_content=document
    )
