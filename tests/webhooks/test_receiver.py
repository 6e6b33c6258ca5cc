"""The endpoint: what it takes, what it refuses and how, and what runs after its answer."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Route

from tests.webhooks.parts import NOW, SECRET, body_of, headers_for, signature
from tests.webhooks.test_store import Clock, id_of
from x402sms.errors import ConfigError, EventStoreError
from x402sms.webhooks import Event, EventStore, SmsReceived, WebhookReceiver
from x402sms.webhooks.receiver import Handler
from x402sms.webhooks.store import LEASE, MOST_TRIES, PAUSE, REMEMBERED

LIMIT = 64 * 1024


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Iterator[EventStore]:
    with EventStore(":memory:", clock=clock) as opened:
        yield opened


@pytest.fixture
def seen() -> list[Event]:
    return []


@pytest.fixture
def receiver(store: EventStore, clock: Clock, seen: list[Event]) -> WebhookReceiver:
    return WebhookReceiver(SECRET, store, seen.append, clock=clock)


async def post(
    receiver: WebhookReceiver, body: Any = None, headers: Any = None, method: str = "POST"
) -> httpx.Response:
    """Signed, and mounted as a user would."""
    body = body_of() if body is None else body
    headers = headers_for(body) if headers is None else headers
    app = Starlette(routes=[Route("/hooks", receiver)])
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test"
    ) as client:
        return await client.request(method, "/hooks", content=body, headers=headers)


@pytest.mark.anyio
async def test_an_event_is_kept_and_handled_once_however_often_it_is_delivered(
    receiver: WebhookReceiver, store: EventStore, seen: list[Event]
) -> None:
    for delivery in ("dlv_1", "dlv_1", "dlv_2"):
        answer = await post(receiver, headers=headers_for(body_of(), **{"X-D": delivery}))
        assert (answer.status_code, answer.text) == (200, "ok")
    [event] = seen
    assert isinstance(event, SmsReceived)
    assert [sms.content for sms in store.messages("ord_1")] == ["Your Telegram code is 00001"]


@pytest.mark.anyio
async def test_it_is_mounted_in_fastapi_in_one_line(
    receiver: WebhookReceiver, seen: list[Event]
) -> None:
    app = FastAPI()
    app.router.routes.append(Route("/webhooks", receiver))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test"
    ) as client:
        body = body_of()
        answer = await client.post("/webhooks", content=body, headers=headers_for(body))
    assert (answer.status_code, len(seen)) == (200, 1)


def stamped(timestamp: str, body: bytes | None = None) -> dict[str, str]:
    return headers_for(body or body_of(), **{"X-VirtualSMS-Timestamp": timestamp})


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["x-virtualsms-signature", "X-VIRTUALSMS-SIGNATURE"])
async def test_a_header_in_any_case_and_form_will_do(name: str, receiver: WebhookReceiver) -> None:
    for value in (signature(body_of()), f"sha256={signature(body_of())}"):
        assert (await post(receiver, headers={name: value})).status_code == 200
    assert (await post(receiver, headers=stamped(str(NOW - 200)))).status_code == 200


TWICE = [("X-VirtualSMS-Signature", signature(body_of()))] * 2
STAMPED_TWICE = [*stamped(str(NOW)).items(), ("X-VirtualSMS-Timestamp", str(NOW))]
OLD = body_of(at=NOW - REMEMBERED)
REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "no signature": ({"headers": {}}, 401, "not verified"),
    "a wrong one": ({"headers": headers_for(b"other")}, 401, "not verified"),
    "two of them": ({"headers": TWICE}, 401, "not verified"),
    "a stale timestamp": ({"headers": stamped(str(NOW - 301))}, 401, "not verified"),
    "a malformed timestamp": ({"headers": stamped("soon")}, 401, "not verified"),
    "two timestamps": ({"headers": STAMPED_TWICE}, 401, "not verified"),
    "older than is remembered": ({"body": OLD}, 401, "not verified"),
    "not signed, and no event": ({"body": b"{", "headers": {}}, 401, "not verified"),
    "signed, and no event": ({"body": b"{"}, 400, "no event"),
    "too large": ({"body": b"x" * (LIMIT + 1)}, 413, "too large"),
    "another method": ({"method": "PUT"}, 405, "POST it"),
    "a look": ({"method": "GET"}, 405, "POST it"),
}


@pytest.mark.anyio
@pytest.mark.parametrize(("asked", "status", "said"), REFUSED.values(), ids=REFUSED)
async def test_anything_else_is_refused_with_a_fixed_word_and_leaves_nothing(
    asked: dict[str, Any],
    status: int,
    said: str,
    receiver: WebhookReceiver,
    store: EventStore,
    seen: list[Event],
) -> None:
    answer = await post(receiver, **asked)
    assert (answer.status_code, answer.text) == (status, said)
    assert answer.headers["connection"] == "close"
    assert (seen, store.messages("ord_1"), store.due(9)) == ([], [], [])


# What httpx would not send


class Wire:
    """One request, by its parts."""

    def __init__(self, headers: dict[str, str], *chunks: bytes, then: Any = None) -> None:
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
        self._left = list(chunks)
        self._then = then
        self.read = 0
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        if not self._left:
            if self._then == "hangs":
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}
        self.read += 1
        more = len(self._left) > 1 or self._then is not None
        return {"type": "http.request", "body": self._left.pop(0), "more_body": more}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None


@pytest.mark.anyio
async def test_a_body_that_says_it_is_too_large_is_not_read(receiver: WebhookReceiver) -> None:
    wire = Wire({"Content-Length": str(LIMIT + 1)}, b"x")
    await receiver(wire.scope, wire.receive, wire.send)
    assert (wire.status, wire.read) == (413, 0)


@pytest.mark.anyio
@pytest.mark.parametrize("says", [{}, {"Content-Length": "10"}], ids=["no length", "a lie"])
async def test_one_that_becomes_too_large_is_read_no_further(
    says: dict[str, str], receiver: WebhookReceiver
) -> None:
    wire = Wire(says, *[b"x" * 1024] * 1000)
    await receiver(wire.scope, wire.receive, wire.send)
    assert (wire.status, wire.read) == (413, 65)


@pytest.mark.anyio
@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 5000, "\u00b2"])
async def test_a_length_that_is_none_is_refused(length: str, receiver: WebhookReceiver) -> None:
    wire = Wire({}, b"x")
    wire.scope["headers"] = [(b"content-length", length.encode("latin-1"))]
    await receiver(wire.scope, wire.receive, wire.send)
    assert wire.status == 413


@pytest.mark.anyio
async def test_a_body_that_does_not_end_in_time_is_refused(store: EventStore) -> None:
    receiver = WebhookReceiver(SECRET, store, body_seconds=0.01)
    wire = Wire(headers_for(body_of()), b"{", then="hangs")
    await receiver(wire.scope, wire.receive, wire.send)
    assert wire.status == 408


@pytest.mark.anyio
async def test_whoever_hangs_up_gets_no_answer(receiver: WebhookReceiver) -> None:
    wire = Wire(headers_for(body_of()), b"{", then="hangs up")
    await receiver(wire.scope, wire.receive, wire.send)
    assert wire.sent == []


@pytest.mark.anyio
async def test_a_body_in_many_pieces_is_one(receiver: WebhookReceiver, seen: list[Event]) -> None:
    body = body_of()
    wire = Wire(headers_for(body), *(body[at : at + 7] for at in range(0, len(body), 7)))
    await receiver(wire.scope, wire.receive, wire.send)
    assert (wire.status, len(seen)) == (200, 1)


@pytest.mark.anyio
async def test_a_websocket_is_none_of_its_own(receiver: WebhookReceiver) -> None:
    wire = Wire({})
    with pytest.raises(RuntimeError, match="over HTTP, not as websocket"):
        await receiver({"type": "websocket"}, wire.receive, wire.send)


# Handlers


@pytest.mark.anyio
async def test_the_answer_is_there_and_the_event_on_disk_before_the_handler_begins(
    store: EventStore, clock: Clock
) -> None:
    body = body_of()
    wire = Wire(headers_for(body), body)
    found: list[Any] = []

    def on_event(event: Event) -> None:
        found.append((wire.status, len(wire.sent), len(store.messages("ord_1"))))

    await WebhookReceiver(SECRET, store, on_event, clock=clock)(wire.scope, wire.receive, wire.send)
    assert found == [(200, 2, 1)]


class Called:
    def __init__(self) -> None:
        self.threads: list[bool] = []

    def note(self, event: Event) -> None:
        self.threads.append(threading.current_thread() is threading.main_thread())

    async def on_loop(self, event: Event) -> None:
        self.note(event)

    async def __call__(self, event: Event) -> None:
        self.note(event)


@pytest.mark.anyio
async def test_a_function_runs_in_a_thread_and_a_coroutine_function_on_the_loop(
    store: EventStore, clock: Clock
) -> None:
    called = Called()
    returns = partial(called.on_loop)
    handlers: list[Handler] = [
        called.note,
        called.on_loop,
        called,
        returns,
        lambda event: returns(event),  # noqa: PLW0108  a function that returns an awaitable
    ]
    for number, handler in enumerate(handlers):
        receiver = WebhookReceiver(SECRET, store, handler, clock=clock)
        assert (await post(receiver, body_of(number))).status_code == 200
    assert called.threads == [False, True, True, True, True]
    assert store.due(9) == []


@pytest.mark.anyio
async def test_a_handler_that_fails_changes_no_answer_and_is_called_again_later(
    store: EventStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    def on_event(event: Event) -> None:
        calls.append(event.id)
        raise RuntimeError("no room")

    receiver = WebhookReceiver(SECRET, store, on_event, clock=clock)
    assert (await post(receiver)).status_code == 200
    assert (await post(receiver)).status_code == 200  # its duplicate does not call it sooner
    await receiver.catch_up()
    assert len(calls) == 1
    for _ in range(MOST_TRIES + 2):
        clock.at += MOST_TRIES * PAUSE
        await receiver.catch_up()
    assert len(calls) == MOST_TRIES
    said = [record.getMessage() for record in caplog.records]
    assert [each.rpartition(": ")[2] for each in said] == [
        *["it is tried again later"] * (MOST_TRIES - 1),
        "it is given up",
    ]
    assert "no room" in caplog.text


@pytest.mark.anyio
async def test_what_a_crash_left_is_handled_by_the_next_process(
    store: EventStore,
    clock: Clock,
    seen: list[Event],
    receiver: WebhookReceiver,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def crashes(event: Event) -> None:
        raise asyncio.CancelledError  # or the whole process ended here

    answer = await post(WebhookReceiver(SECRET, store, crashes, clock=clock))
    assert answer.status_code == 200
    assert f"stopped while the event {id_of()} was handled" in caplog.text
    await receiver.catch_up()
    assert seen == []  # it may be at it still
    clock.at += LEASE
    await receiver.catch_up()
    await receiver.catch_up()
    assert [event.id for event in seen] == [id_of()]


@pytest.mark.anyio
async def test_an_event_that_one_without_a_handler_took_is_handled_by_one_that_has_one(
    store: EventStore, clock: Clock, seen: list[Event], receiver: WebhookReceiver
) -> None:
    keeps = WebhookReceiver(SECRET, store, clock=clock)
    await post(keeps)
    await keeps.catch_up()
    await receiver.catch_up()
    assert seen == []
    await post(receiver)
    await post(receiver)
    assert len(seen) == 1


@pytest.mark.anyio
async def test_handlers_run_beside_each_other_but_not_all_at_once(
    store: EventStore, clock: Clock
) -> None:
    running, most, enough = 0, 0, asyncio.Event()

    async def on_event(event: Event) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 8:
            enough.set()
        await enough.wait()
        await asyncio.sleep(0)
        running -= 1

    receiver = WebhookReceiver(SECRET, store, on_event, clock=clock)
    answers = await asyncio.gather(*(post(receiver, body_of(number)) for number in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert most == 8


@pytest.mark.anyio
async def test_a_store_that_fails_is_a_503_and_the_service_tries_again(
    store: EventStore, clock: Clock, seen: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    receiver = WebhookReceiver(SECRET, store, seen.append, clock=clock)
    store.close()
    answer = await post(receiver)
    assert (answer.status_code, answer.text) == (503, "try again later")
    assert seen == []
    assert "an event was not taken" in caplog.text
    with pytest.raises(EventStoreError, match="it was closed"):
        await receiver.catch_up()


@pytest.mark.anyio
async def test_a_store_that_fails_after_the_answer_is_logged(
    store: EventStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = WebhookReceiver(SECRET, store, lambda event: store.close(), clock=clock)
    assert (await post(receiver)).status_code == 200
    assert f"the event {id_of()} may be handled again" in caplog.text


@pytest.mark.parametrize("secret", ["", b"", " "])
def test_without_a_secret_there_is_no_receiver(secret: Any, store: EventStore) -> None:
    with pytest.raises(ConfigError, match="X402SMS_WEBHOOK_SECRET"):
        WebhookReceiver(secret, store)


@pytest.mark.anyio
async def test_the_secret_is_in_no_attribute_answer_or_log(
    receiver: WebhookReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answers = [await post(receiver), await post(receiver, headers={}), await post(receiver, b"{")]
    shown = [repr(receiver), str(vars(receiver)), caplog.text, *(str(each) for each in answers)]
    assert not [each for each in shown if SECRET in each or signature(body_of()) in each]
