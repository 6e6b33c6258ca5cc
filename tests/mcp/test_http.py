"""The official client over streamable HTTP, and who is not let in."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess

import httpx
import pytest
from mcp import Client

from tests.mcp.agent import ERAS, Agent
from tests.mcp.test_stdio import START, status_of
from tests.mcp.test_tools import OWN, REFERENCE
from x402sms.sandbox import RunningSandbox

Server = tuple["subprocess.Popen[str]", str]


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ERAS)
async def test_an_agent_gets_its_code_and_may_give_up(
    mode: str, http_server: Server, service: RunningSandbox
) -> None:
    program, url = http_server
    async with Client(url, mode=mode) as client:
        agent = await Agent.of(client)
        assert agent.tools.keys() == REFERENCE | OWN
        started = await agent.call("receive_code", **START)
        wait = asyncio.create_task(agent.call("receive_code", job_id=started["job_id"]))
        service.deliver_sms(started["order_id"], "Your code: 552211")
        assert (await wait)["code"] == "552211"
        assert agent.progress
        assert (await agent.refused("create_order", service="x")).kind == "InvalidArguments"
        heard = len(agent.progress)
        given_up = await agent.call("receive_code", **START)
        wait = asyncio.create_task(agent.call("receive_code", job_id=given_up["job_id"]))
        await agent.until_heard(given_up["phone_number"], since=heard)
        wait.cancel()
        await asyncio.wait([wait])
        ended = await agent.refused("receive_code", job_id=given_up["job_id"])
        assert ended.facts["refunded"] == given_up["price"]
        left = await agent.call("receive_code", **START)
    program.send_signal(signal.SIGTERM)
    assert program.wait(15) == 0
    assert status_of(service, started["order_id"]) == "confirmed"
    assert status_of(service, given_up["order_id"]) == "cancelled"
    assert status_of(service, left["order_id"]) == "cancelled"
    assert program.stderr is not None
    assert "Traceback" not in program.stderr.read()


HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "a page", "version": "1"},
    },
}
STRANGERS: dict[str, tuple[dict[str, str], int]] = {
    "another name for this machine": ({"Host": "evil.example"}, 421),
    "another port": ({"Host": "127.0.0.1:1"}, 421),
    "a web page": ({"Origin": "https://evil.example"}, 403),
    "a web page of this machine": ({"Origin": "http://localhost"}, 403),
    "a form": ({"Content-Type": "text/plain"}, 400),
}


def test_only_this_machine_is_answered_and_no_web_page(http_server: Server) -> None:
    program, url = http_server
    accepted = {"Accept": "application/json, text/event-stream"}
    for stranger, (headers, status) in STRANGERS.items():
        answer = httpx.post(url, json=HELLO, headers={**accepted, **headers})
        assert answer.status_code == status, stranger
    assert httpx.post(url, json=HELLO, headers=accepted).status_code == 200
    large = httpx.post(url, content=b"x" * 300_000, headers={"Content-Type": "application/json"})
    assert large.status_code == 413
    outside = socket.gethostbyname(socket.gethostname())
    if not outside.startswith("127."):
        with pytest.raises(OSError):  # noqa: PT011  refused or not reachable, as the system says
            socket.create_connection((outside, httpx.URL(url).port or 0), timeout=2)
    program.send_signal(signal.SIGINT)
    assert program.wait(15) == 0
    assert program.stderr is not None
    said = program.stderr.read().splitlines()
    assert said
    assert all(line.startswith("x402sms mcp: ") and line.isprintable() for line in said)
