"""Webhooks over a socket: posted when they are due, and tried again until they are taken."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from tests.sandbox.reaching import AnySandbox, let_in
from x402sms.sandbox import Fault, Webhook
from x402sms.sandbox.server import RunningSandbox

ORDER = {"service": "telegram", "country": "US"}
SOON = (0.001,) * 5
HOURS = (3600.0,) * 5
DROPPED = 0


class Endpoint(ThreadingHTTPServer):
    """Answers by a script, then 204; `got` is what was posted."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.url = f"http://127.0.0.1:{self.server_port}/hook"
        self.script: list[int] = []
        self.got: list[Webhook] = []
        self._arrived = threading.Condition()

    def took(self, webhook: Webhook) -> int:
        with self._arrived:
            self.got.append(webhook)
            self._arrived.notify_all()
            return self.script.pop(0) if self.script else 204

    def wait_for(self, count: int) -> list[Webhook]:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.got) >= count, 10), self.got
            return list(self.got)


class _Taking(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.took(Webhook(dict(self.headers), body))
        if status == DROPPED:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if status == 302:
            self.send_header("Location", "http://192.0.2.1/")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Nobody reads it."""


@pytest.fixture(scope="module")
def listening() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        threading.Thread(target=endpoint.serve_forever, args=(0.01,), daemon=True).start()
        yield endpoint
        endpoint.shutdown()


@pytest.fixture
def endpoint(listening: Endpoint) -> Endpoint:
    listening.script, listening.got = [], []
    return listening


@contextmanager
def _posting(endpoint: Endpoint, **config: Any) -> Iterator[tuple[RunningSandbox, httpx.Client]]:
    with let_in("socket", webhook_url=endpoint.url, **config) as (sandbox, http):
        assert isinstance(sandbox, RunningSandbox)
        yield sandbox, http


def _attempts(sandbox: AnySandbox, count: int) -> list[int | None]:
    """At the first delivery, once there were so many."""

    async def made() -> list[int | None]:
        webhooks = sandbox.state.webhooks
        delivery = webhooks.deliveries[0]
        async with asyncio.timeout(10):
            while len(delivery.attempts) < count:
                await webhooks.bell.wait(None)
        return list(delivery.attempts)

    return sandbox._run(made())


def _types(posted: list[Webhook]) -> list[str]:
    return [json.loads(webhook.body)["type"] for webhook in posted]


def test_an_sms_is_posted_when_it_is_due_though_nobody_polls(endpoint: Endpoint) -> None:
    with _posting(endpoint, sms_after=0.05) as (sandbox, http):
        order_id = http.post("/orders", json=ORDER).json()["order_id"]
        (posted,) = endpoint.wait_for(1)
        (made,) = sandbox.webhooks()
        assert posted.body == made.body
        assert made.headers.items() <= posted.headers.items()
        assert json.loads(posted.body)["data"]["order_id"] == order_id
        http.post(f"/orders/{order_id}/confirm")
        assert _types(endpoint.wait_for(2)) == ["order.sms_received", "order.confirmed"]
        assert sandbox.wait_for_webhooks(2) == sandbox.webhooks()


def test_in_virtual_time_it_is_posted_once_the_clock_is_moved(endpoint: Endpoint) -> None:
    with _posting(endpoint, sms_after=30, virtual_time=True) as (sandbox, http):
        http.post("/orders", json=ORDER)
        sandbox.advance(29)
        assert endpoint.got == []
        sandbox.advance(1)
        assert _types(endpoint.wait_for(1)) == ["order.sms_received"]


@pytest.mark.parametrize("refusal", [500, 302, 404, DROPPED])
def test_what_is_not_taken_is_tried_again(endpoint: Endpoint, refusal: int) -> None:
    endpoint.script = [refusal, refusal]
    with _posting(endpoint, webhook_retry_seconds=SOON) as (sandbox, _):
        sandbox.fund(sandbox.account, 5)
        first, second, third = endpoint.wait_for(3)
        assert first.body == second.body == third.body
        for name in ("X-VirtualSMS-Delivery", "X-VirtualSMS-Signature"):
            assert first.headers[name] == second.headers[name] == third.headers[name]
        assert _attempts(sandbox, 3) == [refusal or None, refusal or None, 204]


def test_it_gives_up_after_five_more_attempts_and_goes_on_with_the_next(endpoint: Endpoint) -> None:
    endpoint.script = [503] * 6
    with _posting(endpoint, virtual_time=True) as (sandbox, _):
        sandbox.fund(sandbox.account, 5)
        endpoint.wait_for(6)
        sandbox.fund(sandbox.account, 6)
        posted = endpoint.wait_for(7)
        assert len({webhook.body for webhook in posted[:6]}) == 1
        assert posted[6].body != posted[5].body
        assert _attempts(sandbox, 6) == [503] * 6


def test_hours_between_two_attempts_pass_when_the_clock_is_advanced(endpoint: Endpoint) -> None:
    endpoint.script = [500]
    with _posting(endpoint, webhook_retry_seconds=HOURS) as (sandbox, _):
        sandbox.fund(sandbox.account, 5)
        sandbox.wait_for_webhooks(1)
        sandbox.advance(3599)
        assert len(endpoint.got) == 1
        sandbox.advance(3600, chain=True)
        first, second = endpoint.wait_for(2)
        # Sent anew, it says anew when.
        stamps = [int(webhook.headers["X-VirtualSMS-Timestamp"]) for webhook in (first, second)]
        assert stamps[1] - stamps[0] >= 3600


def test_a_forged_one_is_not_the_services_to_send_again(endpoint: Endpoint) -> None:
    endpoint.script = [401]
    fault = Fault("webhook-forged", times=1)
    with _posting(endpoint, virtual_time=True, faults=[fault]) as (sandbox, _):
        sandbox.fund(sandbox.account, 5)
        sandbox.wait_for_webhooks(2)
        forged, right = sandbox.state.webhooks.deliveries
        assert (forged.attempts, right.attempts) == ([401], [204])
        assert len(endpoint.got) == 2


def test_where_nobody_listens_it_stops_all_the_same(endpoint: Endpoint) -> None:
    with let_in("socket", webhook_url="http://127.0.0.1:1/") as (sandbox, _):
        sandbox.fund(sandbox.account, 5)
        sandbox.wait_for_webhooks(1)
        assert _attempts(sandbox, 1) == [None]


def test_its_attempts_are_shown(endpoint: Endpoint) -> None:
    endpoint.script = [200]
    with _posting(endpoint) as (sandbox, http):
        sandbox.fund(sandbox.account, 5)
        sandbox.wait_for_webhooks(1)
        (event,) = http.get(f"{sandbox.origin}/_sandbox/webhooks").json()
        assert event["deliveries"] == [
            {"headers": sandbox.webhooks()[0].headers, "attempts": [200]}
        ]
