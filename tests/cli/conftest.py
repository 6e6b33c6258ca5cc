"""The command line as its users have it: in this process for breadth, as a program for proof."""

from __future__ import annotations

import http.server
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from x402sms.cli import main
from x402sms.sandbox import RunningSandbox, SandboxConfig, running_sandbox
from x402sms.wallet import Wallet

ROOT = Path(__file__).parents[2]
KEY = "0x" + "11" * 32
ADDRESS = Wallet.from_key(KEY).address


@dataclass(frozen=True)
class Ended:
    """A command that has run. Whatever it did, it showed no key and no traceback."""

    status: int
    out: str
    err: str

    def __post_init__(self) -> None:
        for text in (self.out, self.err):
            assert KEY[2:] not in text
            assert "Traceback" not in text

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error's document: it carries the same exit status."""
        error = self.json["error"]
        assert isinstance(error, dict)
        assert error["exit_code"] == self.status
        return error


@dataclass
class Cli:
    """Runs commands with a wallet and a ledger of its own."""

    environment: dict[str, str]
    capture: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    programs: list[subprocess.Popen[str]] = field(default_factory=list)

    def __call__(self, *arguments: str) -> Ended:
        """In this process."""
        with self.monkeypatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            self.capture.readouterr()
            status = main(arguments)
        out, err = self.capture.readouterr()
        return self._ended(status, out, err)

    def _ended(self, status: int, out: str, err: str) -> Ended:
        key = self.environment.get("X402SMS_PRIVATE_KEY") or KEY
        assert key[2:] not in out + err
        return Ended(status, out, err)

    def program(self, *arguments: str) -> Ended:
        """As a program, with its output in pipes."""
        running = self.start(*arguments)
        out, err = running.communicate(timeout=60)
        return self._ended(running.returncode, out, err)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        running = subprocess.Popen(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            text=True,
            encoding="utf-8",
            env=self.program_environment,
        )
        self.programs.append(running)
        return running

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-W", "error", "-m", "x402sms", *arguments]

    @property
    def program_environment(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME")}
        return {**inherited, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", **self.environment}


@pytest.fixture(scope="session")
def sandbox() -> Iterator[RunningSandbox]:
    """One for all tests that leave its clock and stock alone. No SMS comes by itself."""
    with running_sandbox(SandboxConfig(funded_key=KEY)) as running:
        yield running


@pytest.fixture(scope="session")
def lively_sandbox() -> Iterator[RunningSandbox]:
    """One where each number has its SMS at once."""
    with running_sandbox(SandboxConfig(funded_key=KEY, sms_after=0)) as running:
        yield running


MakeCli = Callable[..., Cli]


@pytest.fixture
def make_cli(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeCli]:
    """A command line set up for a base URL; without one, with no settings at all."""
    made: list[Cli] = []

    def make(base_url: str | None = None, **settings: str) -> Cli:
        environment = {"X402SMS_LEDGER": str(tmp_path / "payments.db")}
        if base_url is not None:
            environment |= {
                "X402SMS_BASE_URL": base_url,
                "X402SMS_NETWORK": "base-sepolia",
                "X402SMS_PRIVATE_KEY": KEY,
            }
        cli = Cli(environment | settings, capsys, monkeypatch)
        made.append(cli)
        return cli

    yield make
    for cli in made:
        for program in cli.programs:
            if program.poll() is None:
                program.kill()
            program.communicate()


@pytest.fixture
def cli(sandbox: RunningSandbox, make_cli: MakeCli) -> Cli:
    return make_cli(sandbox.url)


@pytest.fixture
def lively(lively_sandbox: RunningSandbox, make_cli: MakeCli) -> Cli:
    return make_cli(lively_sandbox.url)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A payment is presented again at once: what it meets here does not change with time."""
    monkeypatch.setattr("x402sms.paying.RETRY_PAUSES", (0.0, 0.0, 0.0))


@pytest.fixture
def intent() -> str:
    """A name no other test has bought under: the sandbox settles each but once, as a chain does."""
    return f"signup-test-{secrets.token_hex(4)}"


def orders_of(sandbox: RunningSandbox) -> list[dict[str, Any]]:
    """Everyone's orders, newest first, by the sandbox's own account."""
    answer = httpx.get(f"{sandbox.origin}/_sandbox/orders", trust_env=False)
    orders = answer.json()
    assert isinstance(orders, list)
    return orders


def newest_order(sandbox: RunningSandbox) -> dict[str, Any]:
    return orders_of(sandbox)[0]


def bought_at(sandbox: RunningSandbox, *, number: int = 1) -> str:
    """The id of the newest order, once so many are paid for: be the buyer told of it or not."""
    until = time.monotonic() + 30
    while len(orders := sandbox.orders_of(ADDRESS)) < number:
        assert time.monotonic() < until
        time.sleep(0.01)
    return orders[-1][0]


def challenge_of(sandbox: RunningSandbox) -> dict[str, str]:
    """The headers of a 402, to be answered by a server that then misbehaves."""
    answer = httpx.get(f"{sandbox.url}/services", trust_env=False)
    return {"PAYMENT-REQUIRED": answer.headers["PAYMENT-REQUIRED"]}


Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


def serving(answer: Answer) -> AbstractContextManager[str]:
    """A host that answers every request as told; gives its base URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that hung up is no news; in this process stderr is the command's."""

    @contextmanager
    def serve() -> Iterator[str]:
        with Server(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}/api/v2"
            finally:
                server.shutdown()
                thread.join()

    return serve()


def reply(
    handler: http.server.BaseHTTPRequestHandler,
    status: int,
    headers: dict[str, str],
    body: bytes = b"{}",
) -> None:
    """An answer with exactly these headers, `Date` included only if it is among them."""
    handler.send_response_only(status)
    for name, value in {"Content-Type": "application/json", **headers}.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
