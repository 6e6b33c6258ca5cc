"""`x402sms webhooks listen`: its lines, the program it runs, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.conftest import KEY, ROOT, MakeCli
from tests.webhooks.parts import SECRET, body_of, headers_for, signature
from x402sms.cli.webhooks import ProgramFailed, execute_on
from x402sms.clock import SystemClock
from x402sms.virtualsms.webhooks import Event, parse_event
from x402sms.webhooks import EventStore

LISTEN = ("webhooks", "listen", "--port", "0", "--store", "webhooks.db")
ODD_ID = "evt\x1b[31m\x00\n1\ud83d"


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "no program": (("--exec", ""), "--exec names no program"),
    "a quote that is open": (("--exec", "sh -c 'x"), "--exec cannot be read: No closing quotation"),
    "no path of a URL": (("--path", "hooks"), "begins with a slash"),
    "an address of another machine": (("--host", "192.0.2.1"), "cannot listen on 192.0.2.1"),
    "no address": (("--host", "no such host"), "is no address of this machine"),
    "a store that is a folder": (("--store", "."), "is a directory"),
    "a port that is none": (("--port", "70000"), "--port"),
}


@pytest.mark.parametrize(("options", "says"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_said_and_nothing_listens(
    options: tuple[str, ...], says: str, make_cli: MakeCli
) -> None:
    ended = make_cli(X402SMS_WEBHOOK_SECRET=SECRET)(*LISTEN, *options)
    assert (ended.status, ended.out) == (2, "")
    assert says in ended.err
    assert SECRET not in ended.err


def test_a_port_that_is_taken_is_said(make_cli: MakeCli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        ended = make_cli(X402SMS_WEBHOOK_SECRET=SECRET)(*LISTEN, "--port", port)
    assert ended.status == 2
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in ended.err


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "the secret of the webhooks is empty: set X402SMS_WEBHOOK_SECRET"),
        ({"X402SMS_WEBHOOK_SECRET_FILE": "no-such-file"}, "cannot read the file no-such-file"),
    ],
    ids=["none", "a file that is not there"],
)
def test_without_a_secret_nothing_listens(
    settings: dict[str, str], says: str, make_cli: MakeCli
) -> None:
    ended = make_cli(**settings)(*LISTEN)
    assert (ended.status, ended.out) == (2, "")
    assert says in ended.err


def test_a_missing_extra_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "starlette.py").write_text("raise ModuleNotFoundError(name='starlette')")
    ended = subprocess.run(
        [sys.executable, "-m", "x402sms", *LISTEN],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "", "X402SMS_WEBHOOK_SECRET": SECRET},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 2
    assert "pip install 'x402sms[webhooks]'" in ended.stderr


class Listening:
    """The program, once it listens."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self.program = program
        assert program.stderr is not None
        self.ready = program.stderr.readline()
        self.url = self.ready.split()[2]

    def post(self, body: bytes, headers: dict[str, str] | None = None) -> int:
        headers = headers_for(body) if headers is None else headers
        return httpx.post(self.url, content=body, headers=headers, trust_env=False).status_code

    def end(self, how: signal.Signals) -> tuple[int, str, str]:
        self.program.send_signal(how)
        out, err = self.program.communicate(timeout=30)
        return self.program.returncode, out, err


def until(true: Callable[[], Any]) -> None:
    limit = time.monotonic() + 30
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_each_event_is_a_line_and_the_programs_input_without_our_secrets(
    make_cli: MakeCli, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    program = tmp_path / "on_event.sh"
    program.write_text('cat > event; env > environment; echo "done"; touch ended; exit 3')
    cli = make_cli(
        X402SMS_WEBHOOK_SECRET_FILE="secret",
        X402SMS_PRIVATE_KEY=KEY,
        X402SMS_API_KEY="sk_live_never",
        X402SMS_RPC_URL="https://rpc.example/v2/never",
        X402SMS_NETWORK="base-sepolia",
    )
    listening = Listening(cli.start(*LISTEN, "--path", "/hooks", "--exec", f"sh {program}"))
    assert listening.url.endswith("/hooks")
    assert "this machine only" in listening.ready
    body = body_of(at=time.time(), id=ODD_ID, data={"full_text": "code \x1b[2J 00001"})
    assert listening.post(body) == 200
    assert listening.post(body) == 200
    assert listening.post(body, {}) == 401
    assert httpx.get(listening.url, trust_env=False).status_code == 405
    assert httpx.post(listening.url + "/x", trust_env=False).status_code == 404
    until((tmp_path / "ended").exists)
    status, out, err = listening.end(signal.SIGINT)
    assert status == 0
    [line] = out.splitlines()
    assert line.isprintable()
    assert " order.sms_received " in line
    assert "ord_1 +447700900101 00001 code [2J 00001" in line
    assert err.splitlines()[0] == "done"  # a program's output is none of ours
    assert "was not handled: it is tried again later: sh ended with status 3" in err
    told = json.loads((tmp_path / "event").read_text())
    assert (told["type"], told["data"]["code"]) == ("order.sms_received", "00001")
    assert told["data"]["full_text"] == "code \x1b[2J 00001"
    environment = (tmp_path / "environment").read_text()
    assert "X402SMS_EVENT_ID=evt[31m 1\ufffd\n" in environment
    assert "X402SMS_EVENT_TYPE=order.sms_received\n" in environment
    assert "X402SMS_EVENT_ORDER_ID=ord_1\n" in environment
    assert "X402SMS_NETWORK=base-sepolia\n" in environment
    for secret in (KEY, "never", SECRET, signature(body)):
        assert secret not in environment + err + out


def test_without_a_program_it_prints_json_lines_until_it_is_ended(make_cli: MakeCli) -> None:
    listening = Listening(make_cli(X402SMS_WEBHOOK_SECRET=SECRET).start(*LISTEN, "--json"))
    unknown = body_of(at=time.time(), type="number.renewed", data={"a": 1})
    assert listening.post(unknown) == 200
    assert listening.post(b"{") == 400
    status, out, err = listening.end(signal.SIGTERM)
    assert status == 0
    ready, event = (json.loads(line) for line in out.splitlines())
    assert ready == {"listening": listening.url}
    assert (event["type"], event["data"]["a"]) == ("number.renewed", 1)
    assert err.startswith("warning: a signed webhook was refused: no event can be read")


class InTwoMinutes(SystemClock):
    def time(self) -> float:
        return super().time() + 120


def test_it_ends_where_nobody_reads_its_lines_and_the_event_is_due_again(
    make_cli: MakeCli, tmp_path: Path
) -> None:
    cli = make_cli(X402SMS_WEBHOOK_SECRET=SECRET)
    listening = Listening(cli.start(*LISTEN, "--exec", "touch handled"))
    assert listening.program.stdout is not None
    listening.program.stdout.close()
    assert listening.post(body_of(at=time.time())) == 200
    assert listening.program.wait(timeout=30) == 1
    assert listening.program.stderr is not None
    assert "was not handled: it is tried again later" in listening.program.stderr.read()
    assert not (tmp_path / "handled").exists()
    with EventStore(tmp_path / "webhooks.db", clock=InTwoMinutes()) as store:
        assert len(store.due(9)) == 1


# The program itself


def event() -> Event:
    return parse_event(body_of())


def runs(text: str) -> list[str]:
    return ["sh", "-c", text]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("program", "says"),
    [
        (["no-such-program"], "no-such-program cannot be run"),
        (["a\0b"], "cannot be run"),
        (runs("exit 7"), "sh ended with status 7"),
        (runs("kill -9 $$"), "sh ended with status -9"),
    ],
    ids=["not there", "no name", "a status", "a signal"],
)
async def test_a_program_that_fails_is_said(program: list[str], says: str) -> None:
    with pytest.raises(ProgramFailed, match=says):
        await execute_on(program, event(), 30)


@pytest.mark.anyio
async def test_a_program_that_takes_too_long_is_ended_with_all_that_it_started(
    tmp_path: Path,
) -> None:
    child = tmp_path / "child"
    with pytest.raises(ProgramFailed, match=r"sh was stopped after 0\.2 s"):
        await execute_on(runs(f"sleep 60 & echo $! > {child}; wait"), event(), 0.2)
    number = int(child.read_text())
    until(lambda: not _runs(number))


def _runs(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.anyio
async def test_a_program_need_not_read_what_it_is_told() -> None:
    large = parse_event(body_of(data={"full_text": "x" * 60_000}))
    await execute_on(runs("exec <&-"), large, 30)


@pytest.mark.anyio
async def test_a_program_has_no_terminal_of_ours() -> None:
    session = "$(cut -d' ' -f6 /proc/$$/stat)"
    await execute_on(runs(f"test {session} != {os.getsid(0)}"), event(), 30)
