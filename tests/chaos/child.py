"""A process that pays and may be killed at any point; run as `python -m tests.chaos.child`.

It stays single-threaded with everything imported, and forks one process for each life that it is
told of: so a life costs milliseconds, and none inherits anything of another. Told on stdin, one
JSON array of lives a line, all begun at once; answers with one array of deaths when all have ended.
"""

from __future__ import annotations

import gc
import json
import mmap
import os
import select
import signal
import ssl
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypedDict

import httpx

from x402sms import SpendLimits, Wallet, X402Transport
from x402sms.chain import Chain, ChainUnreadable
from x402sms.errors import AlreadyPaid, PaymentError, SpendLimitExceeded
from x402sms.ledger import SQLiteLedger
from x402sms.paying import Local
from x402sms.protocol.networks import BASE
from x402sms.protocol.types import PaymentState

LONGEST_LIFE: Final = 60  # seconds, then SIGALRM ends it
_NOTE: Final = 64
_NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_TIMEOUT: Final = httpx.Timeout(30)

# Where a life can be told to die, as `before` and `after` each of these.
EFFECTS: Final = ("Recall", "Reserve", "Sign", "CheckChain", "Record", "Settle")
SENDS: Final = ("Send", "paid Send")


class Life(TypedDict):
    """What one process is to do, and when it is killed: after `kill_after` seconds by its parent,
    or the `at`th time that it comes to the point `die`, by its own hand, or not at all."""

    key: str
    url: str
    rpc_url: str | None
    ledger: str
    intents: Sequence[str]
    total: str | None
    kill_after: float | None
    die: str | None
    at: int


class Death(TypedDict):
    """How a life ended: by which signal (0: by itself), after which point, with what result."""

    signal: int
    point: str
    result: dict[str, int]


class _Note:
    """What a process writes down for its parent: still there when it was killed."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _NOTE)

    def write(self, text: str) -> None:
        self._memory[:] = text.encode().ljust(_NOTE, b"\0")

    def read(self) -> str:
        return self._memory[:].rstrip(b"\0").decode()

    def close(self) -> None:
        self._memory.close()


class _Points:
    """Notes each point that is passed, and dies where it was told to."""

    def __init__(self, note: _Note, life: Life) -> None:
        self._note = note
        self._die, self._left = life["die"], life["at"]

    def passed(self, point: str) -> None:
        self._note.write(point)
        if point == self._die:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class _Wire(httpx.HTTPTransport):
    def __init__(self, points: _Points) -> None:
        super().__init__(verify=_NO_TLS)
        self._points = points

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        name = "paid Send" if "payment-signature" in request.headers else "Send"
        self._points.passed(f"before {name}")
        response = super().handle_request(request)
        self._points.passed(f"after {name}")
        return response


class _Transport(X402Transport):
    """The transport under test; it only says where it is."""

    def __init__(self, points: _Points, wallet: Wallet, **settings: Any) -> None:
        super().__init__(wallet, transport=_Wire(points), **settings)
        self._points = points

    def perform_here(self, effect: Local) -> object:
        name = type(effect).__name__
        self._points.passed(f"before {name}")
        result = super().perform_here(effect)
        self._points.passed(f"after {name}")
        return result


def live(life: Life, note: _Note) -> dict[str, int]:
    """Buy under every intent that the ledger does not call settled yet."""
    ends: Counter[str] = Counter()
    limits = SpendLimits(per_call=None, per_day=None, total=life["total"])
    with SQLiteLedger(life["ledger"]) as ledger:
        transport = _Transport(
            _Points(note, life),
            Wallet.from_key(life["key"]),
            network="base",
            ledger=ledger,
            limits=limits,
            rpc_url=life["rpc_url"],
            retry_pauses=(0.01, 0.05),
        )
        with httpx.Client(transport=transport, timeout=_TIMEOUT) as client:
            for intent in life["intents"]:
                if not _is_settled(ledger, intent):
                    ends[_buy(client, life["url"], intent)] += 1
    return dict(ends)


def _is_settled(ledger: SQLiteLedger, intent: str) -> bool:
    return any(row.state is PaymentState.SETTLED for row in ledger.find(intent))


def _buy(client: httpx.Client, url: str, intent: str) -> str:
    try:
        response = client.get(url, extensions={"x402": {"intent": intent}})
    except SpendLimitExceeded:
        return "over budget"
    except AlreadyPaid:
        return "paid already"
    except PaymentError:
        return "open"  # the next life goes on with it
    return "delivered" if response.is_success else "open"


@dataclass(frozen=True)
class _Process:
    pid: int
    note: _Note
    ended: int  # a pipe that is at its end once the process is

    def kill_at(self, moment: float) -> None:
        """Or leave it be, if it ends before that. Not reaped, it keeps its number either way."""
        select.select([self.ended], [], [], max(0, moment - time.monotonic()))
        os.kill(self.pid, signal.SIGKILL)

    def reap(self) -> int:
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.ended)
        return status


def _begin(life: Life) -> _Process:
    note = _Note()
    ended, held = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(LONGEST_LIFE)
            note.write(json.dumps(live(life, note)))
            status = 0
        except BaseException:  # noqa: BLE001  it ends here, whatever it was
            traceback.print_exc()
        finally:
            os._exit(status)  # nothing of the parent's is flushed or closed here
    os.close(held)
    return _Process(pid, note, ended)


def _run(lives: Sequence[Life]) -> list[Death]:
    begun = time.monotonic()
    processes = [_begin(life) for life in lives]
    kills = [(life["kill_after"], at) for at, life in enumerate(lives)]
    for after, at in sorted((after, at) for after, at in kills if after is not None):
        processes[at].kill_at(begun + after)
    statuses = [process.reap() for process in processes]
    return [_death(*ended) for ended in zip(statuses, processes, strict=True)]


def _death(status: int, process: _Process) -> Death:
    text = process.note.read()
    process.note.close()
    if os.WIFSIGNALED(status):
        return {"signal": os.WTERMSIG(status), "point": text, "result": {}}
    if os.WEXITSTATUS(status) != 0:
        raise RuntimeError(f"a process failed after {text!r}")
    result: dict[str, int] = json.loads(text)
    return {"signal": 0, "point": "the end", "result": result}


def _warm_up() -> None:
    """Load what loads on first use, so that a life does not begin with that."""
    nobody = "http://127.0.0.1:1"
    with httpx.Client(transport=httpx.HTTPTransport(verify=_NO_TLS)) as client:
        try:
            client.get(nobody)
        except httpx.TransportError:
            pass
    with Chain(nobody, BASE) as chain:
        try:
            chain.head()
        except ChainUnreadable:
            pass
    Wallet.generate()
    gc.freeze()


def main() -> None:
    _warm_up()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_run(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
