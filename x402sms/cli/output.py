"""Where a command's words go: results on stdout, everything else on stderr; JSON or for people.

On a terminal with colour and aligned; into a pipe as tab-separated lines without either.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from x402sms.cli.failures import Failure
from x402sms.money import usdc
from x402sms.text import one_line

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")
LONGEST_CELL = 1000
LABEL_WIDTH = 11


class Output:
    """Prints. `fancy` and `fancy_error` say whether stdout and stderr are terminals."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.fancy = _is_fancy(sys.stdout)
        self.fancy_error = _is_fancy(sys.stderr)

    @cached_property
    def console(self) -> Console:
        return _console(error=False)

    @cached_property
    def error_console(self) -> Console:
        return _console(error=True)

    def columns(self, *, error: bool) -> float:
        """How wide a line of stdout or stderr may be."""
        if not (self.fancy_error if error else self.fancy):
            return math.inf
        return (self.error_console if error else self.console).width

    def result(self, value: T, show: Callable[[Output, T], None]) -> None:
        """The command's result, on stdout. None: the command has printed it itself."""
        if self.as_json and value is not None:
            self.document(value)
        else:
            show(self, value)
        sys.stdout.flush()

    def failure(self, failure: Failure) -> None:
        """An error: a sentence on stderr, or its document on stdout."""
        if failure.trace is not None:
            sys.stderr.write(failure.trace)
        if self.as_json:
            self.document({"error": error_document(failure)})
            sys.stdout.flush()
        elif self.fancy_error:
            from rich.text import Text

            text = Text.assemble(("error: ", "bold red"), failure.message)
            self.error_console.print(text)
        else:
            self.note(f"error: {failure.message}")

    def document(self, value: object) -> None:
        """ASCII: whatever the terminal's encoding, and with no control character in it."""
        print(json.dumps(value, indent=2, default=jsonable))

    def line(self, text: str) -> None:
        """One bare line of the result."""
        print(one_line(text, LONGEST_CELL))

    def gap(self, *, error: bool = False) -> None:
        """An empty line on a terminal."""
        if self.fancy_error if error else self.fancy:
            print(file=sys.stderr if error else sys.stdout)

    def step(self, label: str, text: str, style: str = "") -> None:
        """A line of progress on stderr: what, and the news of it."""
        start = f"{label:<{LABEL_WIDTH}}"
        if not self.fancy_error:
            print(f"{start}{cell(text)}", file=sys.stderr, flush=True)
            return
        from x402sms.cli.tables import print_step

        print_step(self.error_console, start, cell(text), style)

    def note(self, text: str) -> None:
        """A line on stderr: progress, or how to go on."""
        if self.fancy_error:
            self.error_console.print(text, style="dim")
        else:
            print(one_line(text, 4 * LONGEST_CELL), file=sys.stderr, flush=True)

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        total: Sequence[object] | None = None,
        error: bool = False,
    ) -> None:
        """A table, with its sums below; into a pipe, the rows without a head."""
        if self.fancy_error if error else self.fancy:
            from x402sms.cli.tables import print_table

            print_table(self.error_console if error else self.console, columns, list(rows), total)
            return
        stream = sys.stderr if error else sys.stdout
        for row in (*rows, *([] if total is None else [total])):
            print("\t".join(cell(value) for value in row), file=stream, flush=error)

    def fields(self, pairs: Iterable[tuple[str, object]]) -> None:
        """Names and values of one thing; what is not known is left out."""
        known = [(name, value) for name, value in pairs if value not in (None, "")]
        if self.fancy:
            from x402sms.cli.tables import print_fields

            print_fields(self.console, known)
        else:
            self.table((), known)


def cell(value: object) -> str:
    """A value as one line for people. What a stranger wrote cannot steer the terminal."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case Decimal():
            return usdc(value)
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        case _:
            return one_line(str(value), LONGEST_CELL)


def jsonable(value: Any) -> Any:
    """What json does not know: Decimals are strings, moments ISO 8601 in UTC."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if hasattr(value, "document"):
        return value.document()
    if is_dataclass(value):
        return {item.name: getattr(value, item.name) for item in fields(value)}
    raise TypeError(f"no JSON for a {type(value).__name__}")


def error_document(failure: Failure) -> dict[str, Any]:
    from x402sms.cli.receipts import payment_document

    return {
        "type": failure.kind,
        "message": failure.message,
        "exit_code": failure.exit_code,
        **failure.facts,
        "payments": [payment_document(payment) for payment in failure.payments],
    }


def _is_fancy(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _console(*, error: bool) -> Console:
    from rich.console import Console

    return Console(stderr=error, highlight=False, markup=False, emoji=False)
