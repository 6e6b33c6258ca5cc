"""`x402sms mcp`: the service for agents."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, cast

import typer

from x402sms.cli.command import command
from x402sms.cli.failures import describe
from x402sms.cli.options import JOB
from x402sms.cli.output import Output
from x402sms.cli.run import Run

if TYPE_CHECKING:
    from x402sms.client import AsyncClient
    from x402sms.ledger import Payment
    from x402sms.mcp_server import Told
    from x402sms.protocol.types import Receipt


def register(app: typer.Typer) -> None:
    command(
        app,
        "mcp",
        show=_show,
        options=JOB,
        example="x402sms mcp --network base-sepolia --max-per-call 0.30\n"
        "x402sms mcp --http --port 8404",
        status=_exit_status,
    )(mcp)


def mcp(
    run: Run,
    *,
    http: Annotated[
        bool, typer.Option("--http", help="Serve HTTP on loopback instead of stdin and stdout.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="With --http; 0 takes a free one.")
    ] = 8404,
) -> int | None:
    """Serve the service to an agent over MCP: 20 tools, your wallet, your limits.

    Without --http it speaks on stdin and stdout to whoever started it, as clients of MCP do. With
    it, it prints one line of JSON when it is ready: url. Whoever can reach that on this machine
    can spend what the limits allow. When it ends, the orders of receive_code that still wait for
    an SMS are cancelled for their refund; those of create_order stay open.
    """
    from x402sms.mcp_server import serve_http, serve_stdio

    run.settings  # noqa: B018  a wrong setting is said before anything is served
    if http:
        return serve_http(lambda: client_of(run), told, port) or None
    return serve_stdio(lambda: client_of(run), told) or None


def client_of(run: Run) -> "AsyncClient":
    from x402sms.client import AsyncClient

    return AsyncClient(ledger=run.settings.ledger, **run.for_client())


def told(error: BaseException, receipts: "Sequence[Receipt]" = ()) -> "Told":
    """An error as the command line tells it, for an agent."""
    from x402sms.mcp_server import Told

    # Of what was paid, `describe` only asks whether there is any.
    failure = describe(error, cast("Sequence[Payment]", receipts))
    return Told(failure.kind, failure.message, failure.exit_code, failure.facts)


def _exit_status(status: int | None) -> int:
    return status or 0


def _show(out: Output, status: int | None) -> None:
    """What there was to say was said while it served."""
