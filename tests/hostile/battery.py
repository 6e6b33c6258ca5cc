"""The third party's battery, as a command and as a single facilitator in one mode."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hostile_facilitator.adapter import HostileServer  # type: ignore[import-untyped]

from tests.hostile.pay_once import REPORT, Report

ROOT: Final = Path(__file__).parents[2]
COMMAND: Final = (sys.executable, "-m", "hostile_facilitator.cli")
CLIENT_TIMEOUT: Final = 1.5
_RUN_SECONDS: Final = 120
_PURCHASE_SECONDS: Final = 30


@dataclass(frozen=True)
class Run:
    """One run of the whole battery: its result, what it printed, each purchase by its mode."""

    result: dict[str, Any]
    table: str
    reports: dict[str, Report]

    @property
    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = self.result["summary"]
        return summary

    @property
    def settlements(self) -> dict[str, int]:
        return {row["mode"]: row["distinct"] for row in self.result["results"]}

    def __str__(self) -> str:
        purchases = "\n".join(f"    {mode:22} {report}" for mode, report in self.reports.items())
        return f"{self.table}\n{purchases}"


def purchase(buyer: str) -> list[str]:
    return [sys.executable, "-m", "tests.hostile.pay_once", buyer]


def run_battery(buyer: str, folder: Path) -> Run:
    """`hostile-facilitator test` on that buyer, files in `folder`. Ends what it started."""
    result, reports = folder / f"{buyer}.json", folder / f"{buyer}.jsonl"
    options = ["--client-timeout", str(CLIENT_TIMEOUT), "--json", str(result)]
    with subprocess.Popen(
        [*COMMAND, "test", *options, "--", *purchase(buyer)],
        cwd=ROOT,
        env=os.environ | {REPORT: str(reports)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        process_group=0,
    ) as battery:
        try:
            table, _ = battery.communicate(timeout=_RUN_SECONDS)
        except BaseException:
            os.killpg(battery.pid, signal.SIGKILL)  # with the purchase that it waits for
            raise
    assert result.exists(), table
    rows = json.loads(result.read_text(encoding="utf-8"))
    return Run(rows, table, _by_mode(rows["results"], reports))


def _by_mode(rows: list[dict[str, Any]], reports: Path) -> dict[str, Report]:
    """The control is bought first and listed last."""
    modes = [row["mode"] for row in [*rows[-1:], *rows[:-1]]]
    return dict(zip(modes, _read(reports), strict=True))


@contextmanager
def facilitator(mode: str) -> Iterator[tuple[str, Any]]:
    """The battery's facilitator in that mode: where it is, and itself, which counts."""
    server = HostileServer(mode=mode, client_timeout_s=CLIENT_TIMEOUT)
    with server:
        try:
            yield f"http://127.0.0.1:{server.port}", server
        finally:
            server._httpd.shutdown()
            server._httpd.server_close()  # it leaves its socket open


@dataclass(frozen=True)
class Bought:
    """One purchase in one mode: what the facilitator counted, and what the buyer says."""

    settlements: int
    reconciled: bool
    report: Report


def buy_once(buyer: str, mode: str, folder: Path) -> Bought:
    reports = folder / f"{buyer}-{mode}.jsonl"
    with facilitator(mode) as (url, server):
        subprocess.run(
            purchase(buyer),
            cwd=ROOT,
            env=os.environ
            | {
                "FACILITATOR_URL": url,
                "HOSTILE_CLIENT_TIMEOUT": str(CLIENT_TIMEOUT),
                REPORT: str(reports),
            },
            check=True,
            timeout=_PURCHASE_SECONDS,
        )
        [report] = _read(reports)
        return Bought(server.distinct_payments, server.reconcile_calls > 0, report)


def _read(reports: Path) -> list[Report]:
    lines = reports.read_text(encoding="utf-8").splitlines()
    return [Report(**json.loads(line)) for line in lines]
