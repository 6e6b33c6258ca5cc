"""`x402sms leases`: what workers took from the budgets of a shared ledger. Read there, no cost."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from x402sms.cli.command import command
from x402sms.cli.failures import utc
from x402sms.cli.options import LEDGER
from x402sms.cli.output import Output
from x402sms.cli.receipts import short
from x402sms.cli.run import Run
from x402sms.errors import ConfigError

if TYPE_CHECKING:
    from x402sms.ledger.lease import Lease


@dataclass(frozen=True, slots=True)
class Row:
    """A lease, for `--json` with its amount and moments as such."""

    lease: "Lease"

    def document(self) -> dict[str, Any]:
        return lease_document(self.lease)


def register(app: typer.Typer) -> None:
    command(
        app,
        "leases",
        show=_show,
        options=LEDGER,
        example="x402sms leases --ledger postgresql://x402sms@db.internal/payments",
    )(list_leases)


def list_leases(
    run: Run,
    everything: Annotated[
        bool, typer.Option("--all", help="Those that were returned as well.")
    ] = False,
) -> list[Row]:
    """List the slices of the budgets that workers spend by themselves, newest first.

    One that is open counts in full: what is spent of it only its worker's own ledger knows. It is
    returned when its worker takes the next or closes, when that worker's ledger is opened again
    after a crash, or by `x402sms payments rebuild` where that ledger is lost.
    """
    leases = run.ledger.leases
    if leases is None:
        raise ConfigError(
            "this ledger has no leases, since only one machine has it: name the one that workers "
            "share with --ledger or X402SMS_LEDGER (postgresql://...)"
        )
    return [Row(lease) for lease in leases.list(unreturned=not everything)]


def lease_document(lease: "Lease") -> dict[str, Any]:
    from x402sms.money import to_usdc

    return {
        "id": lease.id,
        "worker": lease.worker,
        "network": lease.network,
        "payer": lease.payer,
        "amount": to_usdc(lease.amount_atomic),
        "taken_at": _moment(lease.taken_at),
        "expires_at": _moment(lease.expires_at),
        "settleable_until": _moment(lease.settleable_until),
        "state": lease.state,
    }


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _show(out: Output, rows: list[Row]) -> None:
    if not rows:
        out.note("no leases")
    out.table(("worker", "USDC", "payer", "expires", "state"), (_columns(row) for row in rows))


def _columns(row: Row) -> tuple[object, ...]:
    from x402sms.money import to_usdc

    lease, state = row.lease, str(row.lease.state)
    if state == "open" and lease.expires_at <= time.time():
        state = "expired, counts"
    amount = to_usdc(lease.amount_atomic)
    return lease.worker, amount, short(lease.payer), utc(lease.expires_at), state
