"""`x402sms spend`: who spent it, and what for. The ledger, read here; no wallet, no cost."""

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from x402sms.cli.command import command
from x402sms.cli.options import LEDGER, WALLET
from x402sms.cli.output import Output
from x402sms.cli.run import Run
from x402sms.money import usdc

if TYPE_CHECKING:
    from x402sms.ledger import Spending, Spent

_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_AGO = re.compile("([1-9][0-9]{0,4})([mhdw])", re.ASCII)
_DATE = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Table:
    """`since` is when it begins (Unix seconds, 0: with the first). `left_out` are the networks of
    which this table is not, `void` is how many payments proved never to have been made, `on_lease`
    the USDC that workers hold of the budgets, spent or not."""

    by: tuple[str, ...]
    since: int
    network: str
    rows: "tuple[Spent, ...]"
    total: "Spent"
    void: int
    left_out: tuple[str, ...]
    on_lease: Decimal

    def document(self) -> dict[str, Any]:
        return {
            "by": self.by,
            "since": datetime.fromtimestamp(self.since, UTC) if self.since else None,
            "network": self.network,
            "rows": [{"by": row.by, "road": row.road, **_sums(row)} for row in self.rows],
            "total": _sums(self.total),
            "void": self.void,
            "left_out": self.left_out,
            "on_lease": self.on_lease,
        }


def register(app: typer.Typer) -> None:
    command(
        app,
        "spend",
        show=_show,
        options=(*WALLET, *LEDGER),
        example="x402sms spend\nx402sms spend --by service --by country --since 7d\n"
        "x402sms spend --by worker --by day --json",
    )(spend)


def spend(
    run: Run,
    by: Annotated[
        list[str] | None,
        typer.Option(
            "--by",
            metavar="NAME",
            help="worker, day (of UTC), service, country or any label; several, one after the "
            "other. Else worker.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN", help="90m, 12h, 7d or 4w ago, or a date (of UTC) such as 2026-11-30."
        ),
    ] = None,
) -> Table:
    """Show what was spent: by whom of a fleet, for which service, on which day.

    Settled is paid. Open is promised and not proven to be paid or void: it counts as spent. What
    is void is not counted, what was refunded is not taken off. Of one network, whichever wallet
    paid, and with it what accounts' balances were charged.
    """
    from x402sms.ledger.spending import checked_keys, spent_by, summed
    from x402sms.protocol.types import PaymentState

    keys, start = checked_keys(by or ("worker",)), _start(since)
    network = run.settings.network
    groups = list(run.ledger.spending(since=start))
    shown = [group for group in groups if group.network in (network.caip2, "")]
    rows = spent_by(shown, keys)
    return Table(
        by=keys,
        since=start,
        network=network.name,
        rows=rows,
        total=summed(rows),
        void=sum(group.count for group in shown if group.state is PaymentState.VOID),
        left_out=_left_out(groups, network.caip2),
        on_lease=_on_lease(run, network.caip2),
    )


def _on_lease(run: Run, caip2: str) -> Decimal:
    from x402sms.money import to_usdc

    leases = run.ledger.leases
    held = () if leases is None else leases.list(unreturned=True)
    return to_usdc(sum(lease.amount_atomic for lease in held if lease.network == caip2))


def _left_out(groups: "Sequence[Spending]", caip2: str) -> tuple[str, ...]:
    from x402sms.protocol.networks import find_network

    others = {group.network for group in groups} - {caip2, ""}
    known = {other: find_network(other) for other in sorted(others)}
    return tuple(other if found is None else found.name for other, found in known.items())


def _start(since: str | None) -> int:
    """Unix seconds. Raises ValueError."""
    if since is None:
        return 0
    if (ago := _AGO.fullmatch(since)) is not None:
        return max(0, int(time.time()) - int(ago[1]) * _SECONDS[ago[2]])
    with suppress(ValueError):  # the calendar has no such day
        if _DATE.fullmatch(since) is not None:
            return max(0, int(datetime.fromisoformat(f"{since}T00:00:00+00:00").timestamp()))
    raise ValueError("--since is how long ago, such as 90m, 12h, 7d or 4w, or a date: 2026-11-30")


def _sums(row: "Spent") -> dict[str, Any]:
    return {"count": row.count, "settled": row.settled, "open": row.open, "total": row.total}


def _show(out: Output, table: Table) -> None:
    if not table.rows:
        out.note("nothing spent")
    else:
        both = table.rows[0].road is not None
        blank = [""] * (len(table.by) - 1 + both)
        out.table(
            (*table.by, *(["road"] if both else []), "count", "USDC settled", "open", "total"),
            (_cells(row, both=both) for row in table.rows),
            total=("total", *blank, *_sums(table.total).values()),
        )
    for note in _notes(table):
        out.note(note)


def _cells(row: "Spent", *, both: bool) -> tuple[object, ...]:
    names = [value or "-" for value in row.by.values()]
    return (*names, *([row.road] if both else []), *_sums(row).values())


def _notes(table: Table) -> list[str]:
    notes = []
    if table.total.open:
        notes.append(
            "open: promised, and not proven to be paid or void; it counts as spent. "
            "`x402sms payments reconcile` finds out what a wallet paid"
        )
    if table.void:
        notes.append(f"not counted: {table.void} void, which were never paid")
    if table.on_lease:
        notes.append(
            f"not counted: {usdc(table.on_lease)} USDC on lease, of which workers know what is "
            "spent; see `x402sms leases`"
        )
    if table.left_out:
        notes.append(
            f"not shown: what was paid on {', '.join(table.left_out)}; name the network with "
            "--network"
        )
    return notes
