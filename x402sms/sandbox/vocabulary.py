"""The service's other vocabulary: what its live answers were seen to look like.

ASGI middleware that rewrites the reference's answers. What the live service was never seen to
write in a way of its own (prices, pages, no-stock) stays as the reference has it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from x402sms.sandbox.problems import ERRORS, MEDIA_TYPE
from x402sms.sandbox.state import call_of, sandbox_in

Json = dict[str, Any]

STATUSES = {
    "created": "pending",
    "waiting": "pending",
    "received": "sms_received",
    "confirmed": "completed",
}
LOW_STOCK = 10

# Said in plain text; the other sentences come as {"error": ...}.
_PLAIN = {"order-not-found": "Order not found", "rate-limited": "Too many requests"}
_SENTENCES = {
    "service-not-found": "Service not found",
    "country-not-found": "Country not found",
    "order-expired": "Order expired",
    "order-already-confirmed": "Order is already completed",
}
_SAID_AS_IT_IS = {"validation", "too-early", "no-replacement"}


class Live:
    """Speaks the live vocabulary for a sandbox whose configuration asks for it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = None
        if scope["type"] == "http" and sandbox_in(scope).config.vocabulary == "live":
            route = call_of(scope).route
        if route is None:
            await self._app(scope, receive, send)
            return
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        await self._app(scope, receive, keep)
        await _rewritten(route, messages)(scope, receive, send)


def _rewritten(route: str, messages: list[Message]) -> Response:
    status = messages[0]["status"]
    headers = MutableHeaders(raw=list(messages[0]["headers"]))
    body = b"".join(message.get("body", b"") for message in messages[1:])
    media_type = headers.get("content-type", "")
    if media_type == MEDIA_TYPE:
        response = _refusal(status, json.loads(body))
    elif status == 200:
        response = JSONResponse(_answer(route, json.loads(body)))
    else:  # a challenge: x402 is not the service's to reword
        response = Response(body, status)
        response.headers["Content-Type"] = media_type
    for name, value in headers.items():
        # A cooldown says how long in its sentence, not in a header.
        if name not in {"content-length", "content-type"} and (
            name != "retry-after" or status == 429
        ):
            response.headers[name] = value
    return response


def _refusal(status: int, problem: Json) -> Response:
    kind = problem["type"].removeprefix(ERRORS)
    if kind in _PLAIN:
        return PlainTextResponse(_PLAIN[kind], status)
    if kind == "hold-period":
        said = {name: problem[name] for name in ("error", "seconds_remaining")}
        return JSONResponse(said, status)
    if kind in _SAID_AS_IT_IS:
        return JSONResponse({"error": _reworded(problem["detail"])}, status)
    if kind in _SENTENCES:
        return JSONResponse({"error": _SENTENCES[kind]}, status)
    return JSONResponse(problem, status, media_type=MEDIA_TYPE)


def _reworded(sentence: str) -> str:
    """`Cannot cancel order with status: received`, with the live word for it."""
    start, colon, status = sentence.rpartition("with status: ")
    return f"{start}{colon}{STATUSES.get(status, status)}"


def _answer(route: str, body: Any) -> Any:
    change = _ANSWERS.get(route)
    return body if change is None else change(body)


def _order(body: Json) -> Json:
    """The full object. Numbers go without their `+`."""
    for name in ("phone_number", "previous_number"):
        if body.get(name) is not None:
            body[name] = body[name].removeprefix("+")
    for message in body.get("messages", []):
        message["phone_number"] = message["phone_number"].removeprefix("+")
    return {**body, "status": STATUSES.get(body["status"], body["status"])}


def _orders(body: Json) -> Json:
    return {**body, "data": [_order(row) for row in body["data"]]}


def _sms(body: Json) -> Json:
    status = body["status"]
    if status != "received":  # this one word was seen as the reference has it
        status = STATUSES.get(status, status)
    return {"status": status, "code": body["code"], "full_text": body["full_text"]}


def _swapped(body: Json) -> Json:
    """Only what a swap changes."""
    names = ("order_id", "phone_number", "previous_number", "expires_at", "swap_available_at")
    order = _order(body)
    return {name: order[name] for name in names}


def _ended(body: Json) -> Json:
    return {name: body[name] for name in ("success", "status", "refund_amount")}


def _offers(body: list[Json]) -> list[Json]:
    """Stock is a band in one row, yes or no in the next, a count in the third."""
    forms: tuple[Callable[[int], object], ...] = (band, bool, int)
    return [
        {**row, "stock": forms[index % len(forms)](row["stock"])} for index, row in enumerate(body)
    ]


def _offer(body: Json) -> Json:
    return {**body, "stock": band(body["stock"])}


def band(stock: int) -> str:
    if stock == 0:
        return "out_of_stock"
    return "low_stock" if stock < LOW_STOCK else "in_stock"


_ANSWERS: dict[str, Callable[[Any], Any]] = {
    "GET /services/{service_id}/cheapest": _offer,
    "GET /services/{service_id}/availability": _offers,
    "GET /countries/{iso2}/pricing": _offers,
    "POST /orders": _order,
    "GET /orders": _orders,
    "GET /orders/{order_id}": _order,
    "GET /orders/{order_id}/sms": _sms,
    "POST /orders/{order_id}/swap": _swapped,
    "POST /orders/{order_id}/cancel": _ended,
    "POST /orders/{order_id}/confirm": _order,
    "POST /orders/{order_id}/extend": _order,
    "POST /orders/{order_id}/release": _ended,
}
