"""The FastAPI application of one sandbox."""

from __future__ import annotations

from functools import lru_cache

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from x402sms.sandbox import (
    problems,
    routes_account,
    routes_control,
    routes_discovery,
    routes_orders,
    routes_topup,
)
from x402sms.sandbox.config import SandboxConfig
from x402sms.sandbox.interference import Interference
from x402sms.sandbox.state import SCOPE_KEY, Sandbox, sandbox_in
from x402sms.sandbox.vocabulary import Live


def create_app(config: SandboxConfig | None = None) -> FastAPI:
    """A fresh sandbox behind an ASGI application; its parts are in `app.state.sandbox`."""
    config = config or SandboxConfig()
    app = _application(config.api_prefix)
    app.state.sandbox = Sandbox(config)
    return app


def app_around(sandbox: Sandbox) -> ASGIApp:
    """The same application around a sandbox that is there already.

    The routes are built once and shared: for a fuzzer that makes thousands of sandboxes.
    """
    shared = _shared(sandbox.config.api_prefix)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope[SCOPE_KEY] = sandbox
        await shared(scope, receive, send)

    return app


@lru_cache
def _shared(api_prefix: str) -> FastAPI:
    return _application(api_prefix)


def _application(api_prefix: str) -> FastAPI:
    app = FastAPI(
        title="VirtualSMS sandbox",
        version="2",
        description="The VirtualSMS API behind the HTTP 402 handshake or an API key, for tests.",
        redirect_slashes=False,
        docs_url=None,  # the documentation pages would load scripts from elsewhere
        redoc_url=None,
    )
    problems.install(app)
    app.add_middleware(problems.Frame, number=_number)
    app.add_middleware(Live)
    app.add_middleware(Interference)  # the outermost: it stands for the network
    for routes in (routes_discovery, routes_account, routes_orders):
        app.include_router(routes.router, prefix=api_prefix)
    app.include_router(routes_topup.router)
    app.include_router(routes_control.router)
    return app


def _number(scope: Scope) -> int:
    sandbox = sandbox_in(scope)
    sandbox.requests += 1
    return sandbox.requests
