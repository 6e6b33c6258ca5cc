"""A receiver on a socket, in this process: how it begins and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.webhooks.parts import SECRET, body_of, headers_for
from tests.webhooks.test_store import Clock, id_of
from x402sms.cli.webhooks import execute_on
from x402sms.errors import ConfigError, EventStoreError
from x402sms.webhooks import (
    Event,
    EventStore,
    WebhookReceiver,
    listen,
    parse_event,
    serving,
)


def posting(url: str) -> None:
    body = body_of(at=time.time())
    answer = httpx.post(url, content=body, headers=headers_for(body), trust_env=False)
    assert answer.status_code == 200


def in_thread(work: Callable[[], Any]) -> None:
    threading.Thread(target=work).start()


def stop() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_it_serves_its_path_until_it_is_stopped() -> None:
    handled: list[str] = []

    def on_event(event: Event) -> None:
        handled.append(event.id)
        stop()

    def on_ready(url: str) -> None:
        handled.append(url)
        in_thread(lambda: posting(url))

    with EventStore(":memory:") as store:
        receiver = WebhookReceiver(SECRET, store, on_event)
        listen(receiver, path="/hooks", on_ready=on_ready)
    url, event_id = handled
    assert url.startswith("http://127.0.0.1:")
    assert url.endswith("/hooks")
    assert event_id == id_of()


def test_a_program_that_is_at_it_when_it_is_stopped_is_ended_and_its_event_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serving, "_FAREWELL", 1)

    async def on_event(event: Event) -> None:
        asyncio.get_running_loop().call_later(0.1, stop)
        await execute_on(["sleep", "60"], event, 60)

    clock = Clock(time.time())
    with EventStore(":memory:", clock=clock) as store:
        began = time.monotonic()
        listen(
            WebhookReceiver(SECRET, store, on_event, clock=clock),
            on_ready=lambda url: in_thread(lambda: posting(url)),
        )
        assert time.monotonic() - began < 30
        clock.at += 1000
        assert [event.id for event in store.due(9)] == [id_of()]
    assert f"stopped while the event {id_of()} was handled" in caplog.text
    assert not any(record.exc_info for record in caplog.records)


def test_what_a_crash_left_is_handled_at_the_start() -> None:
    handled: list[str] = []
    body = body_of()

    def on_event(event: Event) -> None:
        handled.append(event.id)
        stop()

    with EventStore(":memory:") as store:
        store.add(parse_event(body), body, due=True)
        listen(WebhookReceiver(SECRET, store, on_event))
    assert handled == [id_of()]


def test_a_store_that_fails_then_is_told_of_and_it_serves_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serving, "CATCH_UP_SECONDS", 0.01)
    looks: list[int] = []

    class Failing(EventStore):
        def due(self, most: int) -> list[Event]:
            looks.append(most)
            if len(looks) == 2:
                stop()
            raise EventStoreError("the disk is full")

    with Failing(":memory:") as store:
        listen(WebhookReceiver(SECRET, store, handled_by_nobody))
    assert "what a crash left is not handled yet" in caplog.text


def handled_by_nobody(event: Event) -> None:
    raise AssertionError("there is none")


def test_an_address_that_is_none_is_a_setting_that_is_wrong() -> None:
    with EventStore(":memory:") as store, pytest.raises(ConfigError, match="is no address"):
        listen(WebhookReceiver(SECRET, store), host="x" * 300)
