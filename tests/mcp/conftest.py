"""The server as a program, against a sandbox that listens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from x402sms.sandbox import RunningSandbox, SandboxConfig, running_sandbox

ROOT = Path(__file__).parents[2]

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="session")
def service() -> Iterator[RunningSandbox]:
    """One for all tests of this folder that need a socket; each looks at its own orders."""
    with running_sandbox(SandboxConfig()) as running:
        yield running


@pytest.fixture
def environment(service: RunningSandbox, tmp_path: Path) -> dict[str, str]:
    """Of a server whose wallet is funded in the sandbox, with a ledger of its own."""
    assert service.funded_key is not None
    inherited = {name: os.environ[name] for name in ("PATH", "HOME")}
    return {
        **inherited,
        "PYTHONPATH": str(ROOT),
        "LC_ALL": "C.UTF-8",
        "X402SMS_PRIVATE_KEY": service.funded_key,
        "X402SMS_NETWORK": service.network,
        "X402SMS_BASE_URL": service.url,
        "X402SMS_LEDGER": str(tmp_path / "payments.db"),
    }


def command(*options: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "x402sms", "mcp", *options]


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Starts `x402sms mcp` with its streams in pipes; whatever still runs is ended."""
    running: list[subprocess.Popen[str]] = []

    def begin(*options: str, **settings: str) -> subprocess.Popen[str]:
        program = subprocess.Popen(
            command(*options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**environment, **settings},
            cwd=tmp_path,
        )
        running.append(program)
        return program

    yield begin
    for program in running:
        if program.poll() is None:
            program.kill()
        for stream in (program.stdin, program.stdout, program.stderr):
            if stream is not None:
                stream.close()
        program.wait(10)


@pytest.fixture
def http_server(start: Start) -> tuple[subprocess.Popen[str], str]:
    """The program that serves HTTP, and its URL."""
    program = start("--http", "--port", "0")
    assert program.stdout is not None
    line = program.stdout.readline()
    return program, json.loads(line)["url"]
