"""An agent: the official MCP client, and our server on a sandbox, all in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]  # has no stubs here
import mcp_types
from mcp import Client

from x402sms import AsyncClient, SpendLimits, Wallet
from x402sms.cli.mcp import told
from x402sms.clock import Clock
from x402sms.mcp_server import Desk, build_server
from x402sms.sandbox import InProcessSandbox, SandboxConfig, asgi_sandbox

# Both ways to speak MCP: with a session and without.
ERAS = ("legacy", "auto")
FORMATS = jsonschema.Draft202012Validator.FORMAT_CHECKER


@dataclass(frozen=True)
class Refusal:
    """A tool error: the sentence, and the facts beside it."""

    sentence: str
    facts: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.facts["error"])


@dataclass
class Agent:
    """Calls tools, and holds each result against what its tool declares."""

    client: Client
    tools: Mapping[str, mcp_types.Tool]
    progress: list[tuple[float, float | None, str | None]] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    async def of(cls, client: Client) -> Agent:
        return cls(client, {tool.name: tool for tool in (await client.list_tools()).tools})

    async def ask(self, name: str, **given: Any) -> mcp_types.CallToolResult:
        result = await self.client.call_tool(name, given, progress_callback=self._heard)
        assert isinstance(result, mcp_types.CallToolResult)
        return result

    async def call(self, name: str, **given: Any) -> dict[str, Any]:
        """What the tool gives. It is no error, and fits the declared schema."""
        result = await self.ask(name, **given)
        assert not result.is_error, result.content
        schema = self.tools[name].output_schema
        assert schema is not None
        document: dict[str, Any] = result.structured_content
        jsonschema.validate(document, schema, format_checker=FORMATS)
        (block,) = result.content
        assert isinstance(block, mcp_types.TextContent)
        assert json.loads(block.text) == document
        return document

    async def refused(self, name: str, **given: Any) -> Refusal:
        """The error that the tool answers with: one sentence, one document, no traceback."""
        result = await self.ask(name, **given)
        assert result.is_error, result.structured_content
        assert result.structured_content is None
        sentence, document = (
            block.text for block in result.content if isinstance(block, mcp_types.TextContent)
        )
        assert "Traceback" not in sentence
        assert sentence.isprintable()
        return Refusal(sentence, json.loads(document))

    async def until_heard(self, words: str, *, since: int = 0) -> None:
        """Return once a message of progress holds `words`; those before `since` do not count."""
        async with asyncio.timeout(10):
            while not any(words in (said or "") for _, _, said in self.progress[since:]):
                self._news = asyncio.Event()
                await self._news.wait()

    async def _heard(self, progress: float, total: float | None, message: str | None) -> None:
        self.progress.append((progress, total, message))
        self._news.set()


@dataclass
class Desktop(Agent):
    """An agent in this process, with what is behind its server."""

    sandbox: InProcessSandbox = field(kw_only=True)
    sms: AsyncClient = field(kw_only=True)
    desk: Desk = field(kw_only=True)
    said: list[str] = field(kw_only=True)
    wire: Wire = field(kw_only=True)

    def books(self) -> tuple[int, int]:
        """What the wallet paid, and what came back, in atomic units."""
        return self.sandbox.books(self.sms.wallet.address)

    def statuses(self) -> list[str]:
        return [status for _, status in self.sandbox.orders_of(self.sms.wallet.address)]


class Wire(httpx.AsyncBaseTransport):
    """Between the server and the sandbox. May keep requests waiting, or fail them."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self._free = asyncio.Event()
        self._free.set()
        self._last: str | None = None
        self.holding = asyncio.Event()
        self.failure: Exception | None = None
        self.lose: set[str] = set()  # methods, of whose paid requests to /orders no answer comes

    def hold_after(self, path: str) -> None:
        """Once a request to a path that ends so is answered, all others wait for `free`."""
        self._last = path

    def free(self) -> None:
        self._last = None
        self._free.set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self._free.wait()
        if self.failure is not None:
            raise self.failure
        response = await self._inner.handle_async_request(request)
        lost = request.method in self.lose and request.url.path.endswith("/orders")
        if lost and response.status_code != 402:
            raise httpx.ReadError("the answer is lost", request=request)
        ended = response.status_code != 402
        if ended and self._last is not None and request.url.path.endswith(self._last):
            self._free.clear()
            self.holding.set()
        return response


class VirtualClock(Clock):
    """The sandbox's: who waits by it moves it."""

    def __init__(self, sandbox: InProcessSandbox) -> None:
        self._sandbox = sandbox

    def now(self) -> float:
        return self._sandbox.now()

    def time(self) -> float:
        return self._sandbox.now()

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here sleeps in a thread")

    async def sleep_async(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self._sandbox.advance(seconds)


@asynccontextmanager
async def desktop(
    config: SandboxConfig | None = None,
    *,
    mode: str = "auto",
    limits: SpendLimits | None = None,
    grace: float = 10,
    rest: bool = False,
) -> AsyncIterator[Desktop]:
    """An agent on a sandbox of its own, with 100 USDC that are worth nothing; or, with `rest`,
    with an account's API key."""
    config = config or SandboxConfig()
    said: list[str] = []
    with asgi_sandbox(config) as sandbox:
        assert sandbox.funded_key is not None
        wire = Wire(sandbox.transport)
        client = AsyncClient(
            None if rest else Wallet.from_key(sandbox.funded_key),
            api_key=sandbox.api_key if rest else None,
            network=sandbox.network,
            base_url=sandbox.url,
            ledger=":memory:",
            limits=limits,
            transport=wire,
            clock=VirtualClock(sandbox) if config.virtual_time else None,
        )
        async with client, Desk(client, say=said.append, grace=grace) as desk:
            with client.meter() as session:
                server = build_server(client, desk, session, told, said.append)
                async with Client(server, mode=mode) as connected:
                    agent = await Agent.of(connected)
                    yield Desktop(
                        connected,
                        agent.tools,
                        sandbox=sandbox,
                        sms=client,
                        desk=desk,
                        said=said,
                        wire=wire,
                    )
