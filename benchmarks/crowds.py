"""The crowd of `crowd.py` of each side in turn, and their table."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from benchmarks.crowd import BARE, OURS
from benchmarks.report import ratio, table
from benchmarks.sides import COINCURVE, NATIVE


def crowds(url: str, calls: int, rounds: int) -> str:
    seen: dict[str, list[dict[str, float]]] = {side: [] for side in (BARE, OURS, NATIVE, COINCURVE)}
    for _ in range(rounds):
        for side, results in seen.items():
            results.append(_run(side, url, calls))
    medians = {
        side: {name: statistics.median(each[name] for each in results) for name in results[0]}
        for side, results in seen.items()
    }
    rows = [
        (
            side,
            f"{got['per_second']:.0f}",
            *(
                ratio(got["per_second"], medians[each]["per_second"])
                for each in (NATIVE, COINCURVE)
            ),
            f"{got['p50']:.2f}",
            f"{got['p99']:.2f}",
            f"{got['cpu_ms']:.2f}",
            f"{got['peak_mb']:.0f}",
        )
        for side, got in medians.items()
    ]
    columns = ["client", "calls/s", "÷ as installed", "÷ with coincurve", "p50 s", "p99 s"]
    columns += ["CPU ms a call", "peak MB"]
    return table(f"{calls:,} concurrent paid calls over loopback", columns, rows)


def _run(side: str, url: str, calls: int) -> dict[str, float]:
    program = [sys.executable, "-m", "benchmarks.crowd", side, url, str(calls)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)  # noqa: S603  ours
    result: dict[str, float] = json.loads(done.stdout)
    return result
