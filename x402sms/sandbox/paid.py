"""Routes that are let into: a route class that passes every request through the gate or desk."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from x402sms.sandbox.buyer import Buyer, Quote
from x402sms.sandbox.challenge import Price
from x402sms.sandbox.faults import Call
from x402sms.sandbox.models import ProblemOut
from x402sms.sandbox.state import Sandbox, buyer_of, call_of, sandbox_of

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

READ_PRICE = Price(1_000, "One VirtualSMS API call", per_call=True)

_QUOTES: dict[Callable[..., Any], Quote] = {}


async def _read_quote(request: Request) -> Price:
    return READ_PRICE


def costs(quote: Quote) -> Callable[[Endpoint], Endpoint]:
    """Price an endpoint by what `quote` says of a request; without it, a call costs READ_PRICE."""

    def mark(endpoint: Endpoint) -> Endpoint:
        _QUOTES[endpoint] = quote
        return endpoint

    return mark


class PaidRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        work = super().get_route_handler()
        quote = _QUOTES.get(self.endpoint, _read_quote)

        async def paid(request: Request) -> Response:
            sandbox, call = sandbox_of(request), call_of(request.scope)
            if call.rest:
                return await sandbox.desk.serve(request, quote, work)
            return await sandbox.gate_of(call.route).serve(request, quote, work, call)

        return paid


async def _sandbox(request: Request) -> Sandbox:
    return sandbox_of(request)


async def _buyer(request: Request) -> Buyer:
    return buyer_of(request)


async def _call(request: Request) -> Call:
    return call_of(request.scope)


TheSandbox = Annotated[Sandbox, Depends(_sandbox)]
TheBuyer = Annotated[Buyer, Depends(_buyer)]
TheCall = Annotated[Call, Depends(_call)]

_PROBLEM = {"application/problem+json": {"schema": ProblemOut.model_json_schema()}}

# Naming 4XX also keeps FastAPI from promising a 422 that is never sent.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "A problem document (RFC 7807)", "content": _PROBLEM}
}

# For every paid route.
RESPONSES: dict[int | str, dict[str, Any]] = {
    **PROBLEMS,
    402: {
        "description": (
            "Payment required. By dialect: base64 JSON in `PAYMENT-REQUIRED` (x402 v2), a JSON "
            "body (x402 v1), or plain JSON in `X-Payment-Required`. With a Bearer token: the "
            "account's balance is less than the price."
        ),
        "headers": {
            "PAYMENT-REQUIRED": {"schema": {"type": "string"}},
            "X-Payment-Required": {"schema": {"type": "string"}},
            "PAYMENT-RESPONSE": {"schema": {"type": "string"}},
            "X-PAYMENT-RESPONSE": {"schema": {"type": "string"}},
        },
        "content": {"application/json": {"schema": {"type": "object"}}, **_PROBLEM},
    },
    503: {"description": "No stock, or shutting down", "content": _PROBLEM},
}
