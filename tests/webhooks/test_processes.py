"""Real listeners: two programs on one store, restarts, and the sandbox's own webhooks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

import x402sms
from tests.buyer import COLOURS, Colour
from tests.facade import facade
from tests.webhooks.parts import SECRET, body_of, headers_for
from x402sms import Wallet
from x402sms.sandbox import RunningSandbox, SandboxConfig, running_sandbox
from x402sms.virtualsms.effects import Bought

ROOT = Path(x402sms.__file__).parents[1]
EVENTS = 12
PATIENCE = 30  # seconds for anything that takes milliseconds


class Listeners:
    """`x402sms webhooks listen`, as a program, on one store."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "webhooks.db"
        self.handled = folder / "handled"
        self.programs: list[subprocess.Popen[str]] = []

    def start(self, number: int) -> list[str]:
        """The URLs of so many more."""
        handler = f"sh -c 'echo $X402SMS_EVENT_ID >> {self.handled}'"
        command = [sys.executable, "-W", "error", "-m", "x402sms", "webhooks", "listen", "--json"]
        command += ["--port", "0", "--store", str(self.store), "--exec", handler]
        started = [
            subprocess.Popen(
                command,
                text=True,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(ROOT), "X402SMS_WEBHOOK_SECRET": SECRET},
            )
            for _ in range(number)
        ]
        self.programs += started
        return [json.loads(_line(program))["listening"] for program in started]

    def stop(self) -> list[str]:
        """What they printed since they were ready; each has ended well."""
        for program in self.programs:
            program.send_signal(signal.SIGINT)
        printed = [program.communicate(timeout=PATIENCE)[0] for program in self.programs]
        assert [program.returncode for program in self.programs] == [0] * len(self.programs)
        self.programs.clear()
        return [line for each in printed for line in each.splitlines()]

    def handled_once_there_are(self, number: int) -> list[str]:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            ids = self.handled.read_text().split() if self.handled.exists() else []
            if len(ids) >= number:
                return ids
            time.sleep(0.01)
        pytest.fail("the events are not handled")


def _line(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    return program.stdout.readline()


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[Listeners]:
    made = Listeners(tmp_path)
    yield made
    for program in made.programs:
        program.kill()
        program.communicate()


def post(url: str, body: bytes) -> int:
    return httpx.post(url, content=body, headers=headers_for(body), trust_env=False).status_code


def test_two_processes_on_one_store_handle_each_event_once_and_know_it_after_a_restart(
    listeners: Listeners,
) -> None:
    now = time.time()
    bodies = [body_of(number, at=now) for number in range(EVENTS)]
    urls = listeners.start(2)
    with ThreadPoolExecutor(8) as threads:
        deliveries = [(url, body) for body in bodies for url in urls for _ in range(2)]
        assert set(threads.map(post, *zip(*deliveries, strict=True))) == {200}
    wanted = sorted(json.loads(body)["id"] for body in bodies)
    assert sorted(listeners.handled_once_there_are(EVENTS)) == wanted
    printed = [json.loads(line)["id"] for line in listeners.stop()]
    assert sorted(printed) == wanted

    [url] = listeners.start(1)
    another = body_of(EVENTS, at=now)
    assert {post(url, body) for body in [*bodies, another]} == {200}
    listeners.handled_once_there_are(EVENTS + 1)
    assert [json.loads(line)["id"] for line in listeners.stop()] == [json.loads(another)["id"]]
    assert len(listeners.handled.read_text().split()) == EVENTS + 1


FAULTS: list[tuple[set[str], float, int]] = [  # how long is waited, and how many polls are paid
    ({"webhook-duplicate", "webhook-forged"}, 60, 0),
    ({"webhook-reorder"}, 2.2, 1),  # behind an event that comes only after the code
    ({"webhook-lost"}, 2.2, 1),
]


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A listener's store and URL."""
    listeners = Listeners(tmp_path_factory.mktemp("listening"))
    [url] = listeners.start(1)
    yield listeners.store, url
    listeners.stop()


@pytest.fixture(scope="module")
def sandbox(listening: tuple[Path, str]) -> Iterator[RunningSandbox]:
    """One that posts its webhooks to the listener."""
    with running_sandbox(SandboxConfig(webhook_url=listening[1], webhook_secret=SECRET)) as running:
        yield running


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    ("faults", "timeout", "polls"), FAULTS, ids=[",".join(sorted(each[0])) for each in FAULTS]
)
def test_a_job_ends_on_the_sandboxs_webhook_whatever_befalls_that(
    faults: set[str],
    timeout: float,
    polls: int,
    colour: Colour,
    sandbox: RunningSandbox,
    listening: tuple[Path, str],
) -> None:
    wallet = Wallet.generate()
    sandbox.fund(wallet.address, 10)
    sandbox.set_faults(dict.fromkeys(faults, 1.0))

    def deliver(event: Any) -> None:
        if isinstance(event, Bought):
            sandbox.deliver_sms(event.order.order_id, "Your Telegram code is 48291")

    with facade(
        colour,
        wallet=wallet,
        network="base-sepolia",
        base_url=sandbox.url,
        ledger=":memory:",
        webhooks=listening[0],
    ) as sms:
        code = sms.receive_code("telegram", max_price="1", timeout=timeout, on_event=deliver)
        paid = [row.url for row in sms.payments.list()]
        sms.mailbox.close()
    assert code.code == "48291"
    assert sum("/sms" in url for url in paid) == polls
