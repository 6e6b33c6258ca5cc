"""JSON-RPC servers for tests: scripted ones, and a real node behind somebody who meddles."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Reply = Callable[[dict[str, Any]], tuple[int, bytes]]


class Rpc:
    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.methods: list[str] = []


@contextmanager
def rpc(reply: Reply, *, location: str | None = None) -> Iterator[Rpc]:
    """A JSON-RPC server that answers every request with what `reply` returns for it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.methods.append(request["method"])
            status, body = reply(request)
            self.send_response(status)
            if location is not None:
                self.send_header("Location", location)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            server.methods.append("GET")
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its own name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        server = Rpc(http_server.server_port)
        thread = threading.Thread(target=http_server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            http_server.shutdown()
            thread.join()


def answers(**by_method: object) -> Reply:
    """Answers on Base, one result a method; a dict is an error."""
    results = {"eth_chainId": hex(8453), **by_method}

    def reply(request: dict[str, Any]) -> tuple[int, bytes]:
        result = results[request["method"]]
        key = "error" if isinstance(result, dict) else "result"
        return 200, json.dumps({"jsonrpc": "2.0", "id": request["id"], key: result}).encode()

    return reply


class Refusal(Exception):
    """Raised by a meddler: the request gets this HTTP status and this body instead."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body

    @classmethod
    def error(cls, code: int) -> Refusal:
        """A JSON-RPC error with that code."""
        error = {"code": code, "message": "no"}
        return cls(200, json.dumps({"jsonrpc": "2.0", "id": 0, "error": error}).encode())


Meddler = Callable[[list[Any], Callable[[], Any]], Any]


@contextmanager
def meddling(url: str, **by_method: Meddler) -> Iterator[Rpc]:
    """The node at `url`, but a meddler answers for each of these methods.

    It gets the parameters and a function that asks the node, and returns the result to give.
    """

    def reply(request: dict[str, Any]) -> tuple[int, bytes]:
        def ask() -> Any:
            return json.loads(forward(url, request))["result"]

        meddler = by_method.get(request["method"])
        if meddler is None:
            return 200, forward(url, request)
        try:
            result = meddler(request["params"], ask)
        except Refusal as refusal:
            return refusal.status, refusal.body
        return 200, json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()

    with rpc(reply) as server:
        yield server


def forward(url: str, request: dict[str, Any]) -> bytes:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request("POST", "/", json.dumps(request), {"Content-Type": "application/json"})
        return connection.getresponse().read()
    finally:
        connection.close()
