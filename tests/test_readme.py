"""The README's own lines, run as they stand: against the sandbox and the official server."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.parts.fixtures import LocalChain
from tests.parts.official_server import OfficialServer
from x402sms import Client, Wallet
from x402sms.pytest_plugin import VirtualSMS
from x402sms.sandbox import RunningSandbox, SandboxConfig, running_sandbox

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
KEY = "0x" + "5a" * 32


def block(language: str, containing: str) -> str:
    [found] = [
        text
        for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
        if containing in text
    ]
    return str(found)


@pytest.fixture
def sandbox() -> Iterator[RunningSandbox]:
    with running_sandbox(SandboxConfig(sms_after=0.2)) as running:
        running.fund(Wallet.from_key(KEY).address, 10)
        yield running


@pytest.fixture
def env(sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    settings = {
        "X402SMS_PRIVATE_KEY": KEY,
        "X402SMS_NETWORK": "base-sepolia",
        "X402SMS_BASE_URL": sandbox.url,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return dict(os.environ)


def printed(program: str, **names: object) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(program, "README.md", "exec"), dict(names))  # noqa: S102  the README's own code
    return out.getvalue()


@pytest.mark.usefixtures("env")
def test_the_ten_lines_of_python() -> None:
    assert re.search(
        r"enter \+\d+\n\d{6} for 0\.\d+ USDC\n$", printed(block("python", "sms.meter()"))
    )


@pytest.mark.usefixtures("env")
def test_the_line_with_an_intent_buys_once_however_often_it_is_run(sandbox: RunningSandbox) -> None:
    with Client() as sms:
        for _ in range(3):
            printed(block("python", "signup-test-7"), sms=sms)
    assert [payment["method"] for payment in sandbox.payments()] == ["POST"]


@pytest.mark.usefixtures("env")
def test_the_lines_from_a_wallet_to_a_key_pay_once_however_often_they_are_run(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X402SMS_MAX_PER_CALL", "5")
    for _ in range(2):
        shown = printed(block("python", "paying.topup"))
        assert re.fullmatch(r"\+\d+\n\d{6}\n", shown)
    assert [payment["amount_atomic"] for payment in sandbox.payments()] == ["5000000"]


def test_the_lines_of_a_test(virtualsms: VirtualSMS, sms: Client) -> None:
    program: dict[str, Any] = {}
    exec(block("python", "virtualsms.sms_arrives"), program)  # noqa: S102  the README's own code
    program["test_our_site_sends_a_code"](virtualsms, sms)


def test_the_lines_for_any_other_api(
    base_chain: LocalChain, official_server: OfficialServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    wallet = Wallet.generate()
    base_chain.usdc.mint(wallet.address, 50_000)
    monkeypatch.setattr(Wallet, "from_env", lambda: wallet)
    shown = printed(block("python", "X402Transport("), URL=f"{official_server.url}/paid/weather")
    assert shown.startswith("0.010000 settled 0x")


def test_the_ten_lines_of_shell(env: dict[str, str], sandbox: RunningSandbox) -> None:
    script = block("sh", "x402sms code")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=env | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert re.search(r"^the code is \d{6}$", run.stdout, re.MULTILINE)
    assert len(sandbox.payments()) >= 7


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z]+)", README))))
def test_every_make_target_that_is_named_exists(target: str) -> None:
    named = subprocess.run(
        ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert named.returncode == 0, named.stderr
