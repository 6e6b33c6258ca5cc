"""The tables, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.measure import Sample


def table(heading: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"## {heading}", "", _row(columns), _row(["---"] * len(columns))]
    return "\n".join([*lines, *(_row(row) for row in rows)]) + "\n"


def timings(heading: str, samples: dict[str, Sample], *, references: Sequence[str]) -> str:
    """Medians with their spread, and as a multiple of each reference's."""
    columns = [heading, "median ms", "p10 to p90", "CPU ms"]
    columns += [f"÷ {_short(reference)}" for reference in references]
    rows = []
    for name, sample in samples.items():
        low, high = sample.spread
        row = [name, f"{sample.median:.3f}", f"{low:.3f} to {high:.3f}", f"{sample.cpu_median:.3f}"]
        rows.append(row + [f"{sample.median / samples[each].median:.2f}" for each in references])
    return table(heading, columns, rows)


def ratio(value: float, reference: float) -> str:
    return f"{value / reference:.2f}"


def _short(name: str) -> str:
    return name.removeprefix("official x402").strip(", ")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
