"""`x402sms sandbox`: the service on this machine, to build against without money."""

from typing import Annotated, Literal

import typer

from x402sms.cli.command import command
from x402sms.cli.options import NONE
from x402sms.cli.output import Output
from x402sms.cli.run import Run


def register(app: typer.Typer) -> None:
    command(
        app,
        "sandbox",
        show=_show,
        options=NONE,
        example="x402sms sandbox --port 8402 --sms-after 5",
    )(sandbox)


def sandbox(
    run: Run,
    *,
    port: Annotated[int, typer.Option(metavar="N", help="0 takes a free one.")] = 0,
    network: Annotated[
        Literal["base-sepolia", "base"], typer.Option(help="The network it asks to be paid on.")
    ] = "base-sepolia",
    dialect: Annotated[
        Literal["v1", "v2", "header"], typer.Option(help="How it writes its challenges.")
    ] = "v2",
    settlement: Annotated[
        Literal["memory", "anvil"], typer.Option(help="Where payments settle.")
    ] = "memory",
    rpc_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The anvil to settle on, on this machine.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed, the same catalogue.")] = 1,
    sms_after: Annotated[
        float | None,
        typer.Option(metavar="S", help="An SMS comes by itself after so many seconds."),
    ] = None,
) -> None:
    """Run the service on this machine until Ctrl-C; no real money.

    Prints one line of JSON when it is ready: url, network, pay_to, funded_key (a throwaway key
    with play money), rpc_url. Listens on loopback only.
    """
    from x402sms.sandbox import SandboxConfig, serve

    serve(
        SandboxConfig(
            port=port,
            network=network,
            dialect=dialect,
            settlement=settlement,
            rpc_url=rpc_url,
            seed=seed,
            sms_after=sms_after,
        )
    )


def _show(out: Output, nothing: None) -> None:
    """It printed its line when it was ready; there is no more to say."""
