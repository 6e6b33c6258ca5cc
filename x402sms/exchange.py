"""A `Call` as an httpx request, and an httpx answer as its result or its error. Both colours."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

import httpx

from x402sms.errors import APIError, HostNotReachable, HostNotServing, UnreadableResponse
from x402sms.protocol.types import Receipt
from x402sms.purchase import LONGEST_INTENT
from x402sms.virtualsms.calls import Call, parse_json
from x402sms.virtualsms.problems import problem_to_error

T = TypeVar("T")
E = TypeVar("E", bound=APIError)

# What a server may need beyond the poll itself: verifying before it, settling after it.
LONG_POLL_MARGIN = 20

# How often a paid answer that was cut short is asked for again, with the same payment.
READ_TRIES = 3


def request_for(
    http: httpx.Client | httpx.AsyncClient,
    call: Call[Any],
    *,
    intent: str | None = None,
    purchase: str | None = None,
    max_price: str | int | Decimal | None = None,
) -> httpx.Request:
    timeout = http.timeout
    if call.long_poll_seconds:
        timeout = httpx.Timeout(
            connect=timeout.connect,
            read=call.long_poll_seconds + LONG_POLL_MARGIN,
            write=timeout.write,
            pool=timeout.pool,
        )
    # Encoded here and not by httpx, whose way may change: the same purchase has the same bytes.
    body = None if call.json is None else json.dumps(dict(call.json), separators=(",", ":"))
    return http.build_request(
        call.method,
        call.path,
        params=dict(call.params) or None,
        content=body,
        headers=None if body is None else {"Content-Type": "application/json"},
        timeout=timeout,
        extensions={
            "x402": {
                "intent": intent,
                "purchase": purchase,
                "labels": call.labels or None,
                "max_amount": max_price,
                "route": None if call.json is not None else _route(http, call),
            }
        },
    )


def _route(http: httpx.Client | httpx.AsyncClient, call: Call[Any]) -> str | None:
    """What shares one price, below the origin: a URL may hold a password. None: too long."""
    route = http.base_url.raw_path.decode("ascii").rstrip("/") + call.route
    return route if len(route) <= LONGEST_INTENT else None


def result_of(call: Call[T], response: httpx.Response) -> T:
    """What the answer says, its body read. Raises APIError with response and receipt."""
    try:
        if _asks_to_be_paid(response):
            raise APIError(
                f"{response.request.url.host} asks to be paid call by call and takes no API key: "
                "leave out X402SMS_BASE_URL (--base-url) to reach the service with a key",
                status_code=response.status_code,
            )
        if not response.is_success:
            raise problem_to_error(
                response.status_code,
                response.headers,
                response.content,
                now=datetime.now(UTC),
            )
        return call.parse(parse_json(response.content))
    except APIError as error:
        raise _with_response(error, response) from None


def _asks_to_be_paid(response: httpx.Response) -> bool:
    """A payment challenge where nothing can pay one: with an API key at a per-call host."""
    challenge = ("payment-required", "x-payment-required")
    return response.status_code == 402 and (
        any(name in response.headers for name in challenge) or b'"x402Version"' in response.content
    )


def cut_short(response: httpx.Response, error: httpx.RequestError) -> UnreadableResponse:
    """The error for an answer whose body was lost on the way."""
    receipt = receipt_of(response)
    paid = ""
    if receipt is not None:
        paid = (
            f" It was paid for ({receipt.amount.normalize():f} USDC, {receipt.state}, nonce "
            f"{receipt.nonce}): look for what it bought before you buy it again"
        )
    lost = UnreadableResponse(
        f"the answer to {response.request.method} {response.request.url.path} was cut short "
        f"({type(error).__name__}).{paid}",
        status_code=response.status_code,
    )
    return _with_response(lost, response)


def unreachable(request: httpx.Request, error: httpx.TransportError) -> HostNotReachable:
    """The error for a request that failed unpaid (a paid one raises PaymentUnknown instead)."""
    host = request.url.host
    why = str(error) or type(error).__name__
    return HostNotReachable(
        f"cannot reach {host}: {why}. Nothing was paid for {request.method} {request.url.path}. "
        "Is the address right (X402SMS_BASE_URL, --base-url) and the network up?",
        host=host,
    )


def receipt_of(response: httpx.Response) -> Receipt | None:
    receipt = response.extensions.get("x402")
    return receipt if isinstance(receipt, Receipt) else None


def _with_response(error: E, response: httpx.Response) -> E:
    if isinstance(error, HostNotServing):
        asked = response.request.url
        message = (
            f"{asked.host} answers 404 to {asked.path} without a word of the API's: it does not "
            "seem to serve the API there. The per-call host may not be live yet; check "
            "X402SMS_BASE_URL (--base-url), or try the staging host on base-sepolia"
        )
        error.args = (message,)
    error.response = response
    error.request_id = response.headers.get("x-request-id")
    error.receipt = receipt_of(response)
    return error
