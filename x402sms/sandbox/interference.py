"""ASGI middleware for the faults that befall a request or its answer as a whole."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from x402sms.sandbox.faults import Call
from x402sms.sandbox.problems import Problem, problem_response
from x402sms.sandbox.rates import too_many
from x402sms.sandbox.state import Sandbox, call_of, sandbox_in

# The server's extension to ASGI that closes the connection: a function without arguments.
DROP = "x402sms.drop"

_HTML_502 = (
    "<html><head><title>502 Bad Gateway</title></head>"
    "<body><center><h1>502 Bad Gateway</h1></center></body></html>"
)


class Interference:
    """Does to the service's API what the schedule says, and nothing to `/_sandbox`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            sandbox = sandbox_in(scope)
            if sandbox.schedule.faults:
                call = call_of(scope)
                if call.route is not None:
                    await self._serve(sandbox, call, scope, receive, send)
                    return
        await self._app(scope, receive, send)

    async def _serve(
        self, sandbox: Sandbox, call: Call, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if call.strikes("drop-before"):
            # What is still to be read would turn the end of the connection into a reset.
            await _body(receive)
            await _drop(scope, receive)
        elif (response := _instead_of_processing(call, scope)) is not None:
            await response(scope, receive, send)
        else:
            answer = await self._answer(call, scope, receive)
            if call.strikes("slow"):
                await _hold_back(sandbox)
            await _deliver(call, answer, scope, receive, send)

    async def _answer(self, call: Call, scope: Scope, receive: Receive) -> _Answer:
        answer = _Answer()
        if not call.strikes("duplicate"):
            await self._app(scope, receive, answer.send)
            return answer
        body = await _body(receive)
        await self._app(dict(scope), _replayed(body, receive), _Answer().send)
        await self._app(dict(scope), _replayed(body, receive), answer.send)
        return answer


@dataclass
class _Answer:
    """What the application sends, kept."""

    messages: list[Message] = field(default_factory=list)

    async def send(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


def _instead_of_processing(call: Call, scope: Scope) -> Response | None:
    if call.strikes("rate-limit"):
        return problem_response(too_many(1), scope["path"])
    if call.strikes("error-500"):
        return problem_response(Problem(500, "internal", "Something went wrong"), scope["path"])
    if call.strikes("html-502-before"):
        return HTMLResponse(_HTML_502, 502)
    return None


async def _deliver(call: Call, answer: _Answer, scope: Scope, receive: Receive, send: Send) -> None:
    if call.strikes("drop-after-settle"):
        await _drop(scope, receive)
        return
    if call.strikes("html-502"):
        await HTMLResponse(_HTML_502, 502)(scope, receive, send)
        return
    if call.strikes("plain-error"):
        await PlainTextResponse("upstream failure", 500)(scope, receive, send)
        return
    if call.strikes("truncate"):
        body = answer.body
        await send(answer.messages[0])
        await send(
            {"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True}
        )
        await _drop(scope, receive)
        return
    for message in answer.messages:
        await send(message)


async def _hold_back(sandbox: Sandbox) -> None:
    seconds = sandbox.config.slow_seconds
    if sandbox.config.virtual_time:
        sandbox.clock.advance(seconds)
    else:
        await asyncio.sleep(seconds)


async def _drop(scope: Scope, receive: Receive) -> None:
    """Close the connection as it stands: what was sent is delivered, and nothing more."""
    close = scope.get("extensions", {}).get(DROP)
    if close is None:
        raise ConnectionResetError("a fault closed the connection")
    close()
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(receive: Receive) -> bytes:
    parts = []
    while (message := await receive())["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive`, with a body that was taken from it before."""
    fresh = True

    async def replay() -> Message:
        nonlocal fresh
        if fresh:
            fresh = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay
