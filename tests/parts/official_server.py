"""The official x402 resource server and facilitator, settling on a local chain.

The paid routes under `/paid/` speak x402 v2 through the package's own FastAPI middleware. The
package has no v1 server any more; `/v1/weather` is the v1 exchange around its v1 types and its
v1 facilitator, which it still has.
"""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import anyio.to_thread
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from x402 import (
    PaymentPayload,
    PaymentPayloadV1,
    PaymentRequiredV1,
    PaymentRequirements,
    PaymentRequirementsV1,
    SettleResponse,
    SupportedResponse,
    VerifyResponse,
    x402FacilitatorSync,
    x402ResourceServer,
)
from x402.http.middleware.fastapi import payment_middleware
from x402.http.types import PaymentOption, RouteConfig
from x402.mechanisms.evm import FacilitatorWeb3Signer
from x402.mechanisms.evm.exact import register_exact_evm_facilitator, register_exact_evm_server

from tests.parts.anvil import FACILITATOR_KEY
from tests.parts.usdc import BASE, Deployment

START_DEADLINE_SECONDS: Final = 30

WEATHER_ATOMIC: Final = 10_000
ECHO_ATOMIC: Final = 50_000
_PRICES = {
    "GET /paid/weather": "$0.01",
    "POST /paid/echo": "$0.05",
    "GET /paid/broken": "$0.01",
}
_V1_NETWORKS = {8453: "base", 84532: "base-sepolia"}


@dataclass(frozen=True)
class OfficialServer:
    """A running server. `served` grows by `"GET /paid/weather"` each time a handler ran."""

    url: str
    pay_to: str
    served: list[str] = field(default_factory=list)


@contextmanager
def run_official_server(
    rpc_url: str,
    pay_to: str,
    *,
    deployment: Deployment = BASE,
    facilitator_key: str = FACILITATOR_KEY,
) -> Iterator[OfficialServer]:
    """Serve on loopback until the block ends. `facilitator_key` pays the gas of settling."""
    facilitator = InProcessFacilitator(rpc_url, facilitator_key, deployment)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = OfficialServer(f"http://127.0.0.1:{listener.getsockname()[1]}", pay_to)
        with _serving(_app(facilitator, deployment, server), listener):
            yield server


class InProcessFacilitator:
    """The official facilitator as the resource server wants it: async, without HTTP between.

    In threads, because it waits for the chain in blocking calls.
    """

    def __init__(self, rpc_url: str, key: str, deployment: Deployment) -> None:
        signer = FacilitatorWeb3Signer(private_key=key, rpc_url=rpc_url)
        self._facilitator = register_exact_evm_facilitator(
            x402FacilitatorSync(), signer, f"eip155:{deployment.chain_id}"
        )

    def get_supported(self) -> SupportedResponse:
        return self._facilitator.get_supported()

    async def verify(
        self,
        payload: PaymentPayload | PaymentPayloadV1,
        requirements: PaymentRequirements | PaymentRequirementsV1,
    ) -> VerifyResponse:
        return await anyio.to_thread.run_sync(self._facilitator.verify, payload, requirements)

    async def settle(
        self,
        payload: PaymentPayload | PaymentPayloadV1,
        requirements: PaymentRequirements | PaymentRequirementsV1,
    ) -> SettleResponse:
        return await anyio.to_thread.run_sync(self._facilitator.settle, payload, requirements)


def _app(
    facilitator: InProcessFacilitator, deployment: Deployment, server: OfficialServer
) -> FastAPI:
    app = FastAPI()
    charge = payment_middleware(
        _routes(deployment, server.pay_to),
        register_exact_evm_server(x402ResourceServer(facilitator)),
    )

    @app.middleware("http")
    async def paywall(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        return await charge(request, call_next)

    @app.get("/paid/weather")
    async def weather() -> dict[str, str]:
        server.served.append("GET /paid/weather")
        return {"weather": "sunny"}

    @app.post("/paid/echo")
    async def echo(request: Request) -> Any:
        server.served.append("POST /paid/echo")
        return await request.json()

    @app.get("/paid/broken")
    async def broken() -> Response:
        """Verified, then fails: the official server does not settle such a payment."""
        server.served.append("GET /paid/broken")
        return JSONResponse({"error": "out of order"}, status_code=500)

    @app.get("/free")
    async def free() -> dict[str, str]:
        server.served.append("GET /free")
        return {"price": "nothing"}

    @app.get("/v1/weather")
    async def weather_v1(request: Request) -> Response:
        offer = _offer_v1(deployment, server.pay_to, str(request.url))
        settled = await _settle_v1(facilitator, offer, request.headers.get("x-payment"))
        if isinstance(settled, str):
            return _challenge_v1(offer, error=settled)
        server.served.append("GET /v1/weather")
        receipt = base64.b64encode(settled.model_dump_json(by_alias=True).encode()).decode()
        return JSONResponse({"weather": "sunny"}, headers={"X-PAYMENT-RESPONSE": receipt})

    return app


def _routes(deployment: Deployment, pay_to: str) -> dict[str, RouteConfig]:
    return {
        route: RouteConfig(
            accepts=PaymentOption(
                scheme="exact",
                network=f"eip155:{deployment.chain_id}",
                pay_to=pay_to,
                price=price,
            ),
            mime_type="application/json",
        )
        for route, price in _PRICES.items()
    }


def _offer_v1(deployment: Deployment, pay_to: str, url: str) -> PaymentRequirementsV1:
    return PaymentRequirementsV1(
        scheme="exact",
        network=_V1_NETWORKS[deployment.chain_id],
        max_amount_required=str(WEATHER_ATOMIC),
        resource=url,
        description="The weather",
        mime_type="application/json",
        pay_to=pay_to,
        max_timeout_seconds=60,
        asset=deployment.address,
        extra={"name": deployment.domain_name, "version": "2"},
    )


async def _settle_v1(
    facilitator: InProcessFacilitator, offer: PaymentRequirementsV1, header: str | None
) -> SettleResponse | str:
    """The settlement, or why there is none."""
    if header is None:
        return "X-PAYMENT header is required"
    payload = PaymentPayloadV1.model_validate_json(base64.b64decode(header))
    verified = await facilitator.verify(payload, offer)
    if not verified.is_valid:
        return verified.invalid_reason or "invalid_payment"
    settled = await facilitator.settle(payload, offer)
    return settled if settled.success else settled.error_reason or "settlement_failed"


def _challenge_v1(offer: PaymentRequirementsV1, *, error: str) -> Response:
    challenge = PaymentRequiredV1(error=error, accepts=[offer])
    return JSONResponse(challenge.model_dump(by_alias=True, exclude_none=True), status_code=402)


@contextmanager
def _serving(app: FastAPI, listener: socket.socket) -> Iterator[None]:
    """`app` on `listener`, in a thread that has ended when the block has."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=5,
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        _wait_until_started(server, thread)
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        if thread.is_alive():
            raise RuntimeError("the official server's thread does not end")


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + START_DEADLINE_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the official server did not start")
        time.sleep(0.005)
