"""The FastAPI application of one sandbox."""

from __future__ import annotations

from fastapi import FastAPI

from x402sms.sandbox import (
    problems,
    routes_account,
    routes_control,
    routes_discovery,
    routes_orders,
)
from x402sms.sandbox.config import SandboxConfig
from x402sms.sandbox.state import Sandbox


def create_app(config: SandboxConfig | None = None) -> FastAPI:
    """A fresh sandbox behind an ASGI application; its parts are in `app.state.sandbox`."""
    config = config or SandboxConfig()
    app = FastAPI(
        title="VirtualSMS sandbox",
        version="2",
        description="The VirtualSMS API behind the HTTP 402 handshake, for tests.",
        redirect_slashes=False,
        docs_url=None,  # the documentation pages would load scripts from elsewhere
        redoc_url=None,
    )
    app.state.sandbox = Sandbox(config)
    problems.install(app)
    app.add_middleware(problems.Frame)
    for routes in (routes_discovery, routes_account, routes_orders):
        app.include_router(routes.router, prefix=config.api_prefix)
    app.include_router(routes_control.router)
    return app
