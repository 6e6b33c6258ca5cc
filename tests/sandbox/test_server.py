"""Starting, being ready and stopping: as a thread and as a program."""

from __future__ import annotations

import builtins
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sandbox.conftest import MakeBuyer
from x402sms.errors import ConfigError
from x402sms.sandbox import SandboxConfig, running_sandbox
from x402sms.sandbox.__main__ import main

ROOT = Path(__file__).parents[2]


@contextmanager
def _program(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    command = [sys.executable, "-W", "error", "-m", "x402sms.sandbox", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as running:
        try:
            assert running.stdout is not None
            yield running, json.loads(running.stdout.readline())
        finally:
            running.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_program_says_when_it_is_ready_and_stops_when_told(number: signal.Signals) -> None:
    with _program("--dialect", "v1", "--seed", "9") as (running, ready):
        given = {"url", "network", "pay_to", "funded_key", "rpc_url", "api_key", "webhook_secret"}
        assert set(ready) == given
        assert ready["url"].startswith("http://127.0.0.1:")
        assert (ready["network"], ready["rpc_url"]) == ("base-sepolia", None)
        answer = httpx.get(ready["url"] + "/services", trust_env=False)
        assert answer.status_code == 402
        assert answer.json()["accepts"][0]["payTo"] == ready["pay_to"]
        running.send_signal(number)
        rest, errors = running.communicate(timeout=15)
        assert (running.returncode, rest, errors) == (0, "", "")


def test_a_port_that_is_taken_is_a_configuration_error() -> None:
    with running_sandbox() as first:
        port = int(first.origin.rpartition(":")[2])
        with (
            pytest.raises(ConfigError, match=f"port {port}"),
            running_sandbox(SandboxConfig(port=port)),
        ):
            pass
        command = [sys.executable, "-m", "x402sms.sandbox", "--port", str(port)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        ended = subprocess.run(
            command, capture_output=True, text=True, env=environment, check=False
        )
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.startswith(f"error: cannot listen on 127.0.0.1 port {port}: ")


def test_stopping_ends_long_polls_unpaid_and_leaves_no_thread(make_buyer: MakeBuyer) -> None:
    before = set(threading.enumerate())
    with ThreadPoolExecutor(1) as threads:
        with running_sandbox() as running:
            buyer = make_buyer(running)
            order_id = buyer.order()["order_id"]
            poll = threads.submit(buyer.pay, "GET", f"/orders/{order_id}/sms?timeout=180")
            running.wait_for_pollers(1)
        answer = poll.result()
        assert answer.status_code == 503
        assert len(running.state.records) == 1
    assert set(threading.enumerate()) == before


def test_the_key_is_fresh_each_time_and_the_address_paid_to_is_not() -> None:
    with running_sandbox() as first, running_sandbox() as second:
        assert first.funded_key != second.funded_key
        assert first.pay_to == second.pay_to
        assert first.funded_key is not None
        assert first.funded_key not in repr(first.state.config)
        assert first.api_key != second.api_key
        assert first.account == second.account


def test_secrets_that_are_given_are_not_shown() -> None:
    config = SandboxConfig(api_key="sk_test_seen", webhook_secret="whsec_seen", funded_key="0xseen")
    assert "seen" not in repr(config)


def test_a_server_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def startup(*args: object) -> None:
        raise OSError("no more files")

    monkeypatch.setattr("uvicorn.Server.startup", startup)
    with pytest.raises(RuntimeError, match="did not start") as failed, running_sandbox():
        pass
    assert isinstance(failed.value.__cause__, OSError)


def test_waiting_for_a_long_poll_that_never_begins_gives_up() -> None:
    with running_sandbox() as running, pytest.raises(TimeoutError, match="0 long-polls"):
        running.wait_for_pollers(1, timeout=0.01)


def test_tests_that_ask_for_nonsense_are_told_so() -> None:
    with running_sandbox() as running:
        with pytest.raises(ValueError, match="only moves forward"):
            running.advance(-1)
        with pytest.raises(ValueError, match="no such service or country: telegram, XX"):
            running.set_stock("telegram", "XX", 1)


@pytest.mark.parametrize("arguments", [["--settlement", "anvil"], ["--port", "-1"]])
def test_the_program_explains_a_wrong_configuration(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("arguments", [["--funded", "much"], ["--host", "192.0.2.1"]])
def test_the_program_refuses_what_it_does_not_know(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"network": "mainnet"},
        {"dialect": "v3"},
        {"settlement": "paypal"},
        {"settlement": "anvil"},
        {"settlement": "anvil", "rpc_url": "http://192.0.2.1:8545"},
        {"settlement": "anvil", "rpc_url": "https://localhost:8545"},
        {"port": 70000},
        {"cooldown": -1},
        {"sms_after": -1.0},
        {"funded": Decimal("-1")},
        {"funded": Decimal("0.0000001")},
        {"pay_to": "0x" + "0" * 40},
        {"pay_to": "nobody"},
        {"api_key": "sk_with a space"},
        {"account_balance": Decimal("-1")},
        {"webhook_url": "http://192.0.2.1/hook"},
        {"webhook_url": "https://localhost/hook"},
        {"webhook_url": "http://127.0.0.1@192.0.2.1/hook"},
        {"webhook_url": "http://127.0.0.1:port/hook"},
        {"webhook_secret": ""},
        {"webhook_form": "base64"},
        {"webhook_retry_seconds": (1, -1)},
    ],
)
def test_a_wrong_configuration_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SandboxConfig(**wrong)


def test_a_key_that_is_none_is_refused_without_being_shown() -> None:
    config = SandboxConfig(funded_key="0xnot-a-key")
    with pytest.raises(ConfigError, match="funded_key") as refused, running_sandbox(config):
        pass
    assert "not-a-key" not in str(refused.value)


def test_without_fastapi_the_sandbox_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_fastapi(name: str, *args: Any) -> Any:
        if name.partition(".")[0] == "fastapi":
            raise ModuleNotFoundError(name=name)
        return real(name, *args)

    kept = {name: module for name, module in sys.modules.items() if "x402sms.sandbox" in name}
    for name in kept:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without_fastapi)
    with pytest.raises(ConfigError, match=r"pip install 'x402sms\[sandbox\]'"):
        importlib.import_module("x402sms.sandbox")
