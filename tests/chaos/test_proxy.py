"""The proxy itself: each of its faults is what it says, and nothing else is touched."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.chaos.parts import NO_TLS
from tests.chaos.proxy import FAULTS, Fault, Proxy, running_proxy

BODY = b"an answer that is long enough to be cut"


class Upstream:
    """Answers everything, and counts what came, by whether it was paid for."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.paid = 0
        self.unpaid = 0
        self.bodies: list[bytes] = []


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            served.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            if "PAYMENT-SIGNATURE" in self.headers or "X-PAYMENT" in self.headers:
                served.paid += 1
            else:
                served.unpaid += 1
            self.send_response(200)
            if self.path == "/chunked":
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for part in (BODY[:7], BODY[7:], b""):
                    self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            else:
                self.send_header("Content-Length", str(len(BODY)))
                self.end_headers()
                self.wfile.write(BODY)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its own name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = Upstream(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


def payment(number: int = 0) -> dict[str, str]:
    document = {"payload": {"authorization": {"nonce": f"0x{number:064x}"}}}
    return {"PAYMENT-SIGNATURE": base64.b64encode(json.dumps(document).encode()).decode()}


@contextmanager
def only(fault: Fault, upstream: Upstream) -> Iterator[Proxy]:
    """A proxy that does this to every paid request."""
    with running_proxy(upstream.url, seed="any", share=1, faults=[fault]) as proxy:
        yield proxy
    assert proxy.faults == {fault: proxy.paid_requests}


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(verify=NO_TLS, timeout=10) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/chunked"])
def test_what_is_not_paid_for_goes_through_untouched(
    upstream: Upstream, client: httpx.Client, path: str
) -> None:
    with running_proxy(upstream.url, seed="any", share=1) as proxy:
        for _ in range(3):
            assert client.post(proxy.url + path, content=b"wanted").content == BODY
        assert proxy.open_connections == 1  # kept alive, as it would be without a proxy
    assert (upstream.unpaid, upstream.bodies) == (3, [b"wanted"] * 3)
    assert proxy.paid_requests == proxy.faults.total() == 0


@pytest.mark.parametrize("fault", [Fault.DROPPED, Fault.NOT_FORWARDED])
def test_a_dropped_connection_says_nothing_of_what_the_server_did(
    fault: Fault, upstream: Upstream, client: httpx.Client
) -> None:
    with only(fault, upstream) as proxy, pytest.raises(httpx.RemoteProtocolError):
        client.post(proxy.url, headers=payment())
    assert upstream.paid == len(proxy.forwarded) == (fault is Fault.DROPPED)


def test_a_delayed_answer_comes_too_late_for_any_patience(
    upstream: Upstream, client: httpx.Client
) -> None:
    with only(Fault.DELAYED, upstream) as proxy:
        with pytest.raises(httpx.ReadTimeout):
            client.post(proxy.url, headers=payment(), timeout=0.1)
        proxy.wait_until_unused()
    assert upstream.paid == 1


@pytest.mark.parametrize("path", ["/", "/chunked"])
def test_a_truncated_answer_ends_within_its_body(
    upstream: Upstream, client: httpx.Client, path: str
) -> None:
    with (
        only(Fault.TRUNCATED, upstream) as proxy,
        client.stream("POST", proxy.url + path, headers=payment()) as response,
    ):
        assert response.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            response.read()
    assert upstream.paid == 1


def test_a_duplicated_request_reaches_the_server_twice_and_is_answered_once(
    upstream: Upstream, client: httpx.Client
) -> None:
    with only(Fault.DUPLICATED, upstream) as proxy:
        for path in ("/", "/chunked"):
            answer = client.post(proxy.url + path, headers=payment(), content=b"wanted")
            assert answer.content == BODY
    assert (upstream.paid, upstream.bodies) == (4, [b"wanted"] * 4)


def test_the_share_holds_and_the_same_seed_does_the_same(
    upstream: Upstream, client: httpx.Client
) -> None:
    def treated(seed: str) -> tuple[dict[Fault, int], int]:
        with running_proxy(upstream.url, seed=seed, share=0.3) as proxy:
            for number in range(100):
                try:
                    client.post(proxy.url, headers=payment(number), timeout=0.05)
                except httpx.TransportError:
                    pass
            return dict(proxy.faults), proxy.paid_requests

    faults, paid_requests = treated("a seed")
    assert paid_requests == 100
    assert 15 < sum(faults.values()) < 45
    assert faults.keys() == set(FAULTS)
    assert treated("a seed") == (faults, paid_requests)


def test_it_ends_while_clients_are_still_connected(
    upstream: Upstream, client: httpx.Client
) -> None:
    with running_proxy(upstream.url, seed="any", share=0) as proxy:
        client.post(proxy.url)
        assert proxy.open_connections == 1
    assert proxy.open_connections == 0
