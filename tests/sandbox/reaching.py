"""A sandbox and a buyer at it, over a socket or in process: what holds for one holds for both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import httpx

from tests.sandbox.conftest import NO_TLS
from tests.sandbox.paying import Buyer, Wallet
from x402sms.sandbox import (
    InProcessSandbox,
    RunningSandbox,
    SandboxConfig,
    asgi_sandbox,
    running_sandbox,
)

Way = Literal["socket", "in process"]
WAYS: tuple[Way, ...] = ("socket", "in process")

AnySandbox = RunningSandbox | InProcessSandbox


@contextmanager
def reached(way: Way = "in process", **config: Any) -> Iterator[tuple[AnySandbox, Buyer]]:
    """A sandbox of that configuration, and its funded buyer."""
    with _reached(way, **config) as (sandbox, http):
        key = sandbox.funded_key
        assert key is not None
        yield sandbox, Buyer(http, Wallet(key, sandbox.network, sandbox.state.config.dialect))


@contextmanager
def let_in(way: Way = "in process", **config: Any) -> Iterator[tuple[AnySandbox, httpx.Client]]:
    """A sandbox of that configuration, and a client with its API key."""
    with _reached(way, **config) as (sandbox, http):
        http.headers["Authorization"] = f"Bearer {sandbox.api_key}"
        yield sandbox, http


@contextmanager
def _reached(way: Way, **config: Any) -> Iterator[tuple[AnySandbox, httpx.Client]]:
    wanted = SandboxConfig(**config)
    with ExitStack() as stack:
        sandbox: AnySandbox
        transport: httpx.BaseTransport | None = None
        if way == "socket":
            sandbox = stack.enter_context(running_sandbox(wanted))
        else:
            sandbox = stack.enter_context(asgi_sandbox(wanted))
            transport = sandbox.sync_transport
        http = httpx.Client(
            base_url=sandbox.url, transport=transport, timeout=20, trust_env=False, verify=NO_TLS
        )
        yield sandbox, stack.enter_context(http)
