"""Tables and lists of fields on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from x402sms.cli.output import LABEL_WIDTH, cell
from x402sms.money import usdc

# Colour only where a glance must tell: what is done, what is not known, what went wrong.
STYLES = {
    "settled": "green",
    "unknown": "bold yellow",
    "reserved": "bold yellow",
    "refused": "red",
    "void": "dim",
    "open": "bold yellow",
    "unread": "bold yellow",
    "contradicted": "red",
}


def print_table(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    total: Sequence[object] | None = None,
) -> None:
    """Numbers stand to the right, amounts of a column with the same number of decimals."""
    table = Table(
        box=box.SIMPLE if total else None,  # with a line above the sums
        show_edge=False,
        show_header=bool(rows),
        show_footer=total is not None,
        header_style="dim",
        border_style="dim",
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    every = [*rows, *([] if total is None else [total])]
    texts = [_column([row[at] for row in every]) for at in range(len(columns))]
    for at, (name, column) in enumerate(zip(columns, texts, strict=True)):
        numeric = bool(rows) and all(isinstance(row[at], int | Decimal) for row in rows)
        table.add_column(
            name,
            footer=Text(column[-1], style="bold") if total else "",
            justify="right" if numeric else "left",
            overflow="fold",
        )
    for at in range(len(rows)):
        row = [column[at] for column in texts]
        table.add_row(*(Text(text, style=STYLES.get(text, "")) for text in row))
    console.print(table)


def print_fields(console: Console, pairs: Sequence[tuple[str, object]]) -> None:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True, min_width=LABEL_WIDTH - 2)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        text = cell(value)
        grid.add_row(name, Text(text, style=STYLES.get(text, "")))
    console.print(grid)


def print_step(console: Console, label: str, text: str, style: str) -> None:
    """A line of progress; what does not fit goes on below its beginning."""
    grid = Table.grid(padding=0)
    grid.add_column(style="dim", no_wrap=True, width=len(label))
    grid.add_column(overflow="fold")
    grid.add_row(Text(label), Text(text, style=style))
    console.print(grid)


def _column(values: Sequence[object]) -> list[str]:
    amounts = [value for value in values if isinstance(value, Decimal)]
    places = max((len(usdc(amount).partition(".")[2]) for amount in amounts), default=0)
    return [
        usdc(value, places=places) if isinstance(value, Decimal) else cell(value)
        for value in values
    ]
