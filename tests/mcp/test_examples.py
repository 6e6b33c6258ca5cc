"""The configurations of the docs, tried: each starts the server that it names and gets a code."""

from __future__ import annotations

import json
import os
import re
import runpy
import sys
import tomllib
from pathlib import Path
from typing import Any

import anyio
import pytest
from eth_keyfile.keyfile import create_keyfile_json
from mcp import Client, StdioServerParameters

from tests.mcp.agent import Agent
from tests.mcp.conftest import ROOT
from tests.mcp.test_stdio import START
from x402sms.cli import main
from x402sms.sandbox import RunningSandbox

FOLDER = ROOT / "examples" / "mcp"
STDIO = [
    "claude_desktop_config.json",
    "claude_code.mcp.json",
    "cursor.mcp.json",
    "vscode.mcp.json",
    "codex.config.toml",
]
HTTP = "http.mcp.json"


def server_in(name: str) -> dict[str, Any]:
    """The one server of a configuration, in whichever of the clients' forms."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    document = tomllib.loads(text) if name.endswith(".toml") else json.loads(text)
    (servers,) = document.values()
    assert list(servers) == ["x402sms"]
    found: dict[str, Any] = servers["x402sms"]
    return found


def filled_in(text: str, home: Path) -> str:
    """What a client, or whoever copies the file, puts in the place of a variable."""
    for variable in ("${HOME}", "${userHome}", "/home/you"):
        text = text.replace(variable, str(home))
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@pytest.fixture(scope="session")
def home(service: RunningSandbox, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a keystore and its password, as the configurations name them."""
    home = tmp_path_factory.mktemp("home")
    folder = home / ".config" / "x402sms"
    folder.mkdir(parents=True)
    assert service.funded_key is not None
    key = bytes.fromhex(service.funded_key[2:])
    # The quick sort: a keystore of ours takes a second to open, by design.
    keystore = create_keyfile_json(key, b"open sesame", kdf="pbkdf2", iterations=1)
    (folder / "keystore.json").write_text(json.dumps(keystore))
    (folder / "password").write_text("open sesame\n")
    return home


@pytest.mark.anyio
async def test_each_configuration_starts_a_server_that_gets_a_code(
    home: Path, service: RunningSandbox, tmp_path: Path
) -> None:
    async with anyio.create_task_group() as group:  # each takes a second to start
        for name in STDIO:
            group.start_soon(_try, name, home, service, tmp_path / f"{name}.db", name=name)


async def _try(name: str, home: Path, service: RunningSandbox, ledger: Path) -> None:
    named = server_in(name)
    settings = {key: filled_in(text, home) for key, text in named["env"].items()}
    assert settings["X402SMS_NETWORK"] == "base-sepolia"
    assert not any("KEY" in key and key.endswith(("PRIVATE_KEY", "API_KEY")) for key in settings)
    given = StdioServerParameters(
        command=named["command"],
        args=named["args"],
        env={
            **settings,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "X402SMS_BASE_URL": service.url,
            "X402SMS_LEDGER": str(ledger),
        },
    )
    async with Client(given) as client:
        agent = await Agent.of(client)
        started = await agent.call("receive_code", **START)
        service.deliver_sms(started["order_id"], "Your code: 552211")
        got = await agent.call("receive_code", job_id=started["job_id"])
        assert got["code"] == "552211"
        limits = {each["name"]: each["limit"] for each in (await agent.call("spending"))["limits"]}
        assert limits == {"per_call": "0.30", "per_day": "1.00"}


def test_the_configuration_for_http_names_the_port_that_is_served_by_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert server_in(HTTP) == {"type": "http", "url": "http://127.0.0.1:8404/mcp"}
    assert main(["mcp", "--help"]) == 0
    assert "8404" in capsys.readouterr().out


def test_every_configuration_is_tried_and_in_the_docs() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {*STDIO, HTTP}
    docs = (ROOT / "docs" / "mcp.md").read_text(encoding="utf-8")
    for path in FOLDER.iterdir():
        assert f"(../examples/mcp/{path.name})" in docs


def test_an_agent_with_a_budget_stops_where_it_is_used_up(
    environment: dict[str, str],
    service: RunningSandbox,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    path = str(ROOT / "examples" / "agent_with_budget.py")
    monkeypatch.setattr(sys, "argv", [path, "telegram", "0.15"])
    for _ in range(2):
        service.plan_sms(after=0)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(path, run_name="__main__")
    out, said = capfd.readouterr()
    assert ended.value.code == 0
    assert out.count("code: ") == 2
    assert "over the limit total of 0.15" in out
    assert "2 codes" in out
    assert "Traceback" not in said
