"""`x402sms sandbox`: the service on this machine, to build against without money."""

from decimal import Decimal
from typing import Annotated, Literal

import typer

from x402sms.cli.command import command
from x402sms.cli.options import NONE
from x402sms.cli.output import Output
from x402sms.cli.run import Run
from x402sms.errors import ConfigError
from x402sms.money import parse_usdc, to_usdc


def register(app: typer.Typer) -> None:
    command(
        app,
        "sandbox",
        show=_show,
        options=NONE,
        example="x402sms sandbox --port 8402 --sms-after 5 --fault drop-after-settle=0.3",
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
    cooldown: Annotated[
        int, typer.Option(metavar="S", help="Cancel and swap are refused for so many seconds.")
    ] = 0,
    virtual_time: Annotated[
        bool,
        typer.Option("--virtual-time", help="A long-poll moves the clock instead of waiting."),
    ] = False,
    vocabulary: Annotated[
        Literal["reference", "live"],
        typer.Option(help="The API reference's words, or those the live service was seen to use."),
    ] = "reference",
    rate_limit: Annotated[
        int | None, typer.Option(metavar="N", help="Requests of one caller a minute; else any.")
    ] = None,
    price_drift: Annotated[
        int | None, typer.Option(metavar="N", help="A price moves each time it was asked so often.")
    ] = None,
    account_balance: Annotated[
        str, typer.Option(metavar="USD", help="What the account of the API key begins with.")
    ] = "100",
    webhook_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where to post what happens, on this machine."),
    ] = None,
    webhook_secret: Annotated[
        str | None, typer.Option(metavar="SECRET", help="Signs what is posted; else a random one.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=P", help="What goes wrong, and how probably; repeat it for more."
        ),
    ] = None,
    fault_seed: Annotated[
        int | None, typer.Option(metavar="N", help="The same seed, the same faults; else --seed.")
    ] = None,
    slow_seconds: Annotated[
        float, typer.Option(metavar="S", help="How long the fault slow holds an answer back.")
    ] = 0.2,
) -> None:
    """Run the service on this machine until Ctrl-C; no real money.

    Prints one line of JSON when it is ready: url, network, pay_to, funded_key (a throwaway key
    with play money), rpc_url, api_key (of an account with play money, for REST),
    webhook_secret. Listens on loopback only.

    --fault NAME=P, or 'NAME@POST /orders=P' for one endpoint. Before the request is processed:
    drop-before (connection closed), rate-limit (429), error-500, html-502-before. Meanwhile:
    no-stock, wrong-price (asks ten times as much), stock-ends (after the challenge),
    sms-beats-cancel, swap-none, confirm-fails, unknown-status, reorder (messages), duplicate
    (processed twice). Once it has settled: slow, drop-after-settle (closed without an answer),
    html-502, plain-error, truncate. Of webhooks: webhook-lost, webhook-forged (a wrong signature
    first), webhook-stale (hours old), webhook-duplicate, webhook-reorder.
    """
    from x402sms.sandbox import Fault, SandboxConfig, serve

    serve(
        SandboxConfig(
            port=port,
            network=network,
            dialect=dialect,
            settlement=settlement,
            rpc_url=rpc_url,
            seed=seed,
            sms_after=sms_after,
            cooldown=cooldown,
            virtual_time=virtual_time,
            vocabulary=vocabulary,
            rate_limit=rate_limit,
            price_drift=price_drift,
            account_balance=_dollars(account_balance),
            webhook_url=webhook_url,
            webhook_secret=webhook_secret,
            faults=[Fault.parse(text) for text in fault or []],
            fault_seed=fault_seed,
            slow_seconds=slow_seconds,
        )
    )


def _dollars(text: str) -> Decimal:
    try:
        return to_usdc(parse_usdc(text))
    except ValueError as error:
        raise ConfigError(f"--account-balance: {error}") from error


def _show(out: Output, nothing: None) -> None:
    """It printed its line when it was ready; there is no more to say."""
