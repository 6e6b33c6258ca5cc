"""The endpoint that the service posts its events to: an ASGI app, for asyncio."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from x402sms.clock import Clock, SystemClock
from x402sms.errors import EventStoreError, WebhookSignatureError, WebhookUnreadable
from x402sms.steady import in_thread
from x402sms.text import one_line
from x402sms.virtualsms.webhooks import (
    MAX_EVENT_BYTES,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    TOLERANCE,
    Event,
    parse_event,
    refuse_empty_secret,
    verify_signature,
)
from x402sms.webhooks.store import LEASE, EventStore

logger = logging.getLogger("x402sms")

Handler = Callable[[Event], object]

BODY_SECONDS = 10  # for a body of 64 KiB
HANDLERS = 8  # at a time; more events wait
MOST_AT_ONCE = 100  # of what a crash left


class WebhookReceiver:
    """Verifies, keeps, answers; then `on_event` runs. Mount it at the path that you told the
    service, in Starlette or FastAPI: `app.router.routes.append(Route("/webhooks", receiver))`.

    Only POST; at most 64 KiB; nothing is parsed before its signature is verified, and a refusal
    does not say why. An event is on disk before it is answered with 200, and a duplicate is
    answered so too. `on_event` (a function, run in a thread, or a coroutine function) gets each
    event after the answer and at least once: what it raises is logged and it is called again
    later, as for an event whose process crashed, wherever `catch_up` is called. It has `lease`
    seconds, then the event counts as crashed. Among processes on one store one has an event.

    Raises ConfigError for an empty secret.
    """

    def __init__(
        self,
        secret: str | bytes,
        store: EventStore,
        on_event: Handler | None = None,
        *,
        tolerance: int = TOLERANCE,
        lease: int = LEASE,
        body_seconds: float = BODY_SECONDS,
        clock: Clock | None = None,
    ) -> None:
        refuse_empty_secret(secret)
        clock = SystemClock() if clock is None else clock

        def verify(body: bytes, signature: str | None, timestamp: str | None) -> None:
            verify_signature(
                body, signature, secret, timestamp=timestamp, tolerance=tolerance, now=clock.time()
            )

        self._verify = verify  # a closure: the secret is in no attribute
        self._store = store
        self._on_event = on_event
        self._lease = lease
        self._body_seconds = body_seconds
        self._places = asyncio.Semaphore(HANDLERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"a webhook comes over HTTP, not as {scope['type']}")
        event: Event | None = None
        try:
            event = await self._take(Request(scope, receive))
            answer = PlainTextResponse("ok")
        except _Refused as refused:
            # Closed: what is left of its body is not read.
            headers = {"Connection": "close", **refused.headers}
            answer = PlainTextResponse(refused.said, refused.status, headers)
        except ClientDisconnect:
            return
        await answer(scope, receive, send)
        if event is None or self._on_event is None:
            return
        try:
            await self._handle(event, self._on_event)
        except asyncio.CancelledError:  # the server stops, and has been answered
            name = one_line(event.id, 80)
            logger.warning("stopped while the event %s was handled: it is handled again", name)

    async def catch_up(self) -> None:
        """Handle what a crash left, or a try that failed a while ago. Call it at the start, and
        now and then. Raises EventStoreError."""
        if self._on_event is None:
            return
        due = await in_thread(self._store.due, MOST_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for event in due:
                group.create_task(self._handle(event, self._on_event))

    async def _take(self, request: Request) -> Event:
        if request.method != "POST":
            raise _Refused(405, "POST it", {"Allow": "POST"})
        try:
            async with asyncio.timeout(self._body_seconds):
                body = await _body_of(request)
        except TimeoutError:
            raise _Refused(408, "too slow") from None
        try:
            self._verify(
                body, _only(request, SIGNATURE_HEADER), _only(request, TIMESTAMP_HEADER, "")
            )
        except WebhookSignatureError:
            raise _Refused(401, "not verified") from None
        try:
            event = parse_event(body)
        except WebhookUnreadable as error:
            logger.warning("a signed webhook was refused: %s", error)
            raise _Refused(400, "no event") from None
        if not self._store.remembers(event):
            raise _Refused(401, "not verified")
        try:
            await in_thread(partial(self._store.add, event, due=self._on_event is not None), body)
        except EventStoreError:
            logger.exception("an event was not taken")
            raise _Refused(503, "try again later") from None
        return event

    async def _handle(self, event: Event, handler: Handler) -> None:
        """Whoever claims it handles it; the others find it claimed. Never raises."""
        name = one_line(event.id, 80)
        async with self._places:
            try:
                tried = await in_thread(partial(self._store.claim, lease=self._lease), event.id)
                if not tried:
                    return
                try:
                    await _run(handler, event)
                except Exception:
                    again = await in_thread(partial(self._store.failed, event.id), tried)
                    then = "it is tried again later" if again else "it is given up"
                    logger.exception("the event %s was not handled: %s", name, then)
                else:
                    await in_thread(partial(self._store.done, event.id), tried)
            except EventStoreError:
                logger.exception("the event %s may be handled again", name)


class _Refused(Exception):
    def __init__(self, status: int, said: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(said)
        self.status = status
        self.said = said
        self.headers = headers or {}


async def _body_of(request: Request) -> bytes:
    """At most 64 KiB of it; what says that it is more is not read at all."""
    said = request.headers.get("content-length", "0")
    too_large = _Refused(413, "too large")
    if not said.isdecimal() or len(said) > 18 or int(said) > MAX_EVENT_BYTES:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > MAX_EVENT_BYTES:
            raise too_large
        body += chunk
    return bytes(body)


def _only(request: Request, name: str, otherwise: str | None = None) -> str | None:
    """The header where it is there once; None where it is not, `otherwise` where it is twice."""
    values = request.headers.getlist(name)
    return values[0] if len(values) == 1 else otherwise if values else None


async def _run(handler: Handler, event: Event) -> None:
    """A coroutine function on the loop, any other in a thread."""
    called: Any = type(handler).__call__  # of an object that is no function
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(called):
        result = handler(event)
    else:
        result = await in_thread(handler, event)
    if isinstance(result, Awaitable):
        await result
