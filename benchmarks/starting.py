"""What it takes to start: imports and `x402sms --help`, each in a process of its own."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from benchmarks.report import ratio, table

OURS = "what a paying client of ours needs"
OFFICIAL = "the same of the official x402"
FLOOR = "httpx, pydantic"
IMPORTS = {
    FLOOR: "import httpx, pydantic",
    "import x402sms": "import x402sms",
    OURS: "from x402sms import AsyncX402Transport, SpendLimits, Wallet, X402Transport, open_ledger",
    "... and the service's client": "from x402sms import AsyncClient, Client",
    OFFICIAL: (
        "import x402, x402.http.clients.httpx, x402.mechanisms.evm.exact.register, "
        "x402.mechanisms.evm.signers"
    ),
    "x402sms --help": (
        "import contextlib, io, runpy\nsys.argv = ['x402sms', '--help']\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    runpy.run_module('x402sms', run_name='__main__')"
    ),
}
# From the start of the interpreter: imports read files, and that is part of it.
_PROGRAM = """
import sys
{statement}
import json, os, resource, time
used = resource.getrusage(resource.RUSAGE_SELF)
started = int(open("/proc/self/stat").read().rpartition(")")[2].split()[19])
ticks = os.sysconf("SC_CLK_TCK")
alive = time.clock_gettime(time.CLOCK_BOOTTIME) - started / ticks
peak = int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) / 1024
print(json.dumps([alive, used.ru_utime + used.ru_stime, peak]))
"""


def starts(rounds: int) -> str:
    """Seconds since the interpreter was started, its processor's time, and its peak memory."""
    taken: dict[str, list[list[float]]] = {name: [] for name in ("python alone", *IMPORTS)}
    for _ in range(rounds):
        for name, seen in taken.items():
            seen.append(_run(IMPORTS.get(name, "")))
    medians = {
        name: [statistics.median(column) for column in zip(*seen, strict=True)]
        for name, seen in taken.items()
    }
    rows = [
        (
            name,
            f"{wall:.2f}",
            f"{cpu:.2f}",
            f"{memory:.0f}",
            ratio(wall, medians[FLOOR][0]),
            ratio(wall, medians[OFFICIAL][0]),
        )
        for name, (wall, cpu, memory) in medians.items()
    ]
    columns = ("a process that runs", "s", "CPU s", "MB", f"÷ {FLOOR}", "÷ official")
    return table("Starting", columns, rows)


def _run(statement: str) -> list[float]:
    program = [sys.executable, "-c", _PROGRAM.format(statement=statement)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)  # noqa: S603  ours
    seconds: list[float] = json.loads(done.stdout)
    return seconds
