"""`x402sms payments export`: the ledger for other programs."""

import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from x402sms.cli.command import command
from x402sms.cli.options import LEDGER
from x402sms.cli.output import Output
from x402sms.cli.run import Run
from x402sms.errors import ConfigError

if TYPE_CHECKING:
    from x402sms.ledger import Payment

FormatName = Literal["csv", "json"]


@dataclass(frozen=True, slots=True)
class Exported:
    path: str
    format: FormatName
    payments: int


def register(group: typer.Typer) -> None:
    command(
        group,
        "export",
        show=_show,
        options=LEDGER,
        example="x402sms payments export --output payments.csv\nx402sms payments export --json",
    )(export)


def export(
    run: Run,
    form: Annotated[
        FormatName | None, typer.Option("--format", help="csv, or with --json json, unless given.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write this file; else to stdout.")
    ] = None,
) -> Exported | None:
    """Write all payments as CSV or JSON, newest first.

    Amounts are plain decimals, times ISO 8601 in UTC. What a spreadsheet would run as a formula
    has an apostrophe in front, in the CSV only.
    """
    to_stdout = output is None or str(output) == "-"
    chosen: FormatName = form or ("json" if run.out.as_json else "csv")
    if to_stdout and run.out.as_json and chosen == "csv":
        raise ValueError("--json prints JSON: leave out --format csv, or give --output")
    payments = list(run.ledger.payments())
    text = _text(chosen, payments)
    if output is None or to_stdout:
        sys.stdout.write(text)
        return None
    try:
        with output.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}") from None
    return Exported(str(output), chosen, len(payments))


def _text(chosen: FormatName, payments: "list[Payment]") -> str:
    from x402sms.export import to_json, write_csv

    if chosen == "json":
        return to_json(payments) + "\n"
    stream = io.StringIO(newline="")
    write_csv(payments, stream)
    return stream.getvalue()


def _show(out: Output, exported: Exported | None) -> None:
    if exported is not None:
        out.note(f"payments written to {exported.path} as {exported.format}: {exported.payments}")
