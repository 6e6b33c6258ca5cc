"""RFC 7807 problem documents: the one way the sandbox says no (but for a payment challenge)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ERRORS = "https://virtualsms.io/errors/"
MEDIA_TYPE = "application/problem+json"
MAX_BODY = 64 * 1024  # bytes

_log = logging.getLogger("x402sms.sandbox")


class Problem(Exception):
    """`kind` is the last part of the type URI; `extra` adds members beside the five."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        title: str | None = None,
        headers: dict[str, str] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.title = title or kind.replace("-", " ").capitalize()
        self.headers = headers
        self.extra = extra or {}


def validation(detail: str) -> Problem:
    return Problem(400, "validation", detail, title="Validation failed")


def problem_response(problem: Problem, instance: str) -> Response:
    body = {
        "type": ERRORS + problem.kind,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": instance,
        **problem.extra,
    }
    return JSONResponse(body, problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def describe_invalid(errors: list[Any]) -> str:
    """One line from pydantic's errors, without the input: `country: Field required`."""
    lines = []
    for error in errors[:5]:
        place = ".".join(str(part) for part in error["loc"] if part not in {"body", "query"})
        lines.append(f"{place or 'body'}: {error['msg']}")
    return "; ".join(lines)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101  registered for this class only
    return problem_response(error, request.url.path)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  as above
    problem = validation(describe_invalid(list(error.errors())))
    return problem_response(problem, request.url.path)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  as above
    kind = "validation" if error.status_code == 400 else _slug(error.status_code)
    headers = dict(error.headers) if error.headers else None
    problem = Problem(error.status_code, kind, str(error.detail), headers=headers)
    return problem_response(problem, request.url.path)


def _slug(status: int) -> str:
    return HTTPStatus(status).phrase.lower().replace(" ", "-")


def install(app: FastAPI) -> None:
    """Make every refusal of `app`, the framework's own included, a problem document."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)


class Frame:
    """ASGI middleware around the work: a request id, a bounded body, no stack traces.

    `number` counts the requests.
    """

    def __init__(self, app: ASGIApp, number: Callable[[Scope], int]) -> None:
        self._app = app
        self._number = number

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{self._number(scope):08d}"
        started = False

        async def identified(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self._app(scope, _bounded(receive), identified)
        except Exception:  # noqa: BLE001  whatever it was, it is logged and answered
            _log.exception("unexpected failure in %s %s", scope["method"], scope["path"])
            if not started:
                problem = Problem(500, "internal", "The sandbox failed; its log says why.")
                await problem_response(problem, scope["path"])(scope, receive, identified)


def _bounded(receive: Receive) -> Receive:
    """`receive`, refusing a body of more than MAX_BODY bytes as it arrives."""
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY:
            raise HTTPException(413, f"The body is larger than {MAX_BODY} bytes")
        return message

    return bounded
