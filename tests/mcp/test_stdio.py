"""The official client starts `x402sms mcp` as a program and talks to it over its streams."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from tests.mcp.agent import ERAS, Agent
from tests.mcp.conftest import ROOT, Start, command
from tests.mcp.test_tools import OWN, REFERENCE
from x402sms.cli import main
from x402sms.cli.mcp import client_of
from x402sms.cli.options import Given
from x402sms.cli.output import Output
from x402sms.cli.run import Run
from x402sms.sandbox import RunningSandbox, SandboxConfig, running_sandbox
from x402sms.webhooks import EventStore

START: dict[str, Any] = {"service": "telegram", "max_price": "0.50"}


def parameters(environment: dict[str, str], *options: str) -> StdioServerParameters:
    program, *arguments = command(*options)
    return StdioServerParameters(command=program, args=arguments, env=environment)


def status_of(service: RunningSandbox, order_id: str) -> str:
    return next(str(each.status) for each in service.orders() if each.order_id == order_id)


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ERAS)
async def test_an_agent_gets_its_code_is_stopped_by_a_limit_and_leaves_nothing_open(
    mode: str, environment: dict[str, str], service: RunningSandbox
) -> None:
    given = parameters(environment, "--max-per-call", "0.50")
    async with Client(given, mode=mode) as client:
        agent = await Agent.of(client)
        assert agent.tools.keys() == REFERENCE | OWN
        started = await agent.call("receive_code", **START)
        wait = asyncio.create_task(agent.call("receive_code", job_id=started["job_id"]))
        service.deliver_sms(started["order_id"], "Your code: 552211")
        assert (await wait)["code"] == "552211"
        assert agent.progress
        refusal = await agent.refused(
            "create_order", service="telegram", country="GB", max_price="5", rental_hours=720
        )
        assert refusal.facts["limit"] == "per_call"
        heard = len(agent.progress)
        given_up = await agent.call("receive_code", **START)
        wait = asyncio.create_task(agent.call("receive_code", job_id=given_up["job_id"]))
        await agent.until_heard(given_up["phone_number"], since=heard)
        wait.cancel()
        await asyncio.wait([wait])
        ended = await agent.refused("receive_code", job_id=given_up["job_id"])
        assert ended.facts["refunded"] == given_up["price"]
        left = await agent.call("receive_code", **START)
    assert status_of(service, started["order_id"]) == "confirmed"
    assert status_of(service, given_up["order_id"]) == "cancelled"
    assert status_of(service, left["order_id"]) == "cancelled"


class Wire:
    """JSON-RPC by hand: every line of stdout is a message, or the test fails."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self.program = program
        self._next = 0
        hello = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "by hand", "version": "1"},
        }
        self.ask("initialize", hello)
        self.send({"method": "notifications/initialized"})

    def ask(self, method: str, given: dict[str, Any]) -> dict[str, Any]:
        self._next += 1
        self.send({"id": self._next, "method": method, "params": given})
        assert self.program.stdout is not None
        while True:
            message = json.loads(self.program.stdout.readline())
            assert message["jsonrpc"] == "2.0"
            if message.get("id") == self._next:
                answer: dict[str, Any] = message["result"]
                return answer

    def call(self, tool: str, **given: Any) -> dict[str, Any]:
        answer = self.ask("tools/call", {"name": tool, "arguments": given})
        document: dict[str, Any] = answer["structuredContent"]
        return document

    def send(self, message: dict[str, Any]) -> None:
        assert self.program.stdin is not None
        self.program.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.program.stdin.flush()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_cancels_what_is_open_and_ends_the_program(
    number: signal.Signals, status: int, start: Start, service: RunningSandbox
) -> None:
    program = start()
    started = Wire(program).call("receive_code", **START)
    program.send_signal(number)
    assert program.wait(10) == status
    assert status_of(service, started["order_id"]) == "cancelled"
    assert program.stdout is not None
    assert program.stderr is not None
    assert program.stdout.read() == ""
    said = program.stderr.read()
    assert started["order_id"] in said
    assert "Traceback" not in said


def test_an_order_that_cannot_be_cancelled_yet_is_told_of_as_the_client_leaves(
    start: Start,
) -> None:
    with running_sandbox(SandboxConfig(cooldown=120)) as service:
        program = start(X402SMS_BASE_URL=service.url, X402SMS_PRIVATE_KEY=str(service.funded_key))
        started = Wire(program).call("receive_code", **START)
        _, said = program.communicate(timeout=10)
        assert program.returncode == 0
        assert f"x402sms orders cancel {started['order_id']}" in said
        assert "Traceback" not in said


def test_a_client_that_is_gone_is_no_crash(start: Start, service: RunningSandbox) -> None:
    program = start()
    wire = Wire(program)
    started = wire.call("receive_code", **START)
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdout.close()
    assert program.stdin is not None
    wire.send({"id": 99, "method": "tools/list", "params": {}})
    program.stdin.close()
    assert program.wait(10) == 1
    assert status_of(service, started["order_id"]) == "cancelled"
    said = program.stderr.read()
    assert "gone" in said
    assert "Traceback" not in said


WRONG: dict[str, tuple[dict[str, str], list[str], str]] = {
    "no wallet": ({"X402SMS_PRIVATE_KEY": ""}, [], "X402SMS_PRIVATE_KEY"),
    "a wrong network": ({}, ["--network", "ethereum"], "ethereum"),
    "a wrong limit": ({}, ["--max-per-call", "much"], "per_call"),
    "a wrong port": ({}, ["--http", "--port", "99999"], "--port"),
    "a port that is taken": ({}, ["--http", "--port", "TAKEN"], "cannot listen on 127.0.0.1"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_setting_is_said_on_stderr_with_status_2(
    wrong: str,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings, options, words = WRONG[wrong]
    for name, value in {**environment, **settings}.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status = main(["mcp", *(port if option == "TAKEN" else option for option in options)])
    out, said = capsys.readouterr()
    assert (status, out) == (2, "")
    assert words in said
    assert "Traceback" not in said


def test_without_its_extra_it_says_what_to_install(environment: dict[str, str]) -> None:
    without = (
        "import sys; sys.modules['mcp'] = sys.modules['mcp_types'] = None\n"
        "from x402sms.cli import main\n"
        "sys.exit(main(['mcp']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", without],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'x402sms[mcp]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.anyio
@pytest.mark.parametrize("named_by", ["option", "environment"])
async def test_its_jobs_end_on_webhooks_where_those_are_kept(
    named_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, given = str(tmp_path / "webhooks.db"), Given(ledger=":memory:")
    if named_by == "option":
        given = replace(given, webhooks=store)
    else:
        monkeypatch.setenv("X402SMS_WEBHOOKS", store)
    monkeypatch.setenv("X402SMS_API_KEY", "sk_live_0123")
    async with client_of(Run(given, Output(as_json=False))) as sms:
        assert isinstance(sms.mailbox, EventStore)
