"""Options that several commands share, declared once. A key is never among them."""

import inspect
from dataclasses import dataclass
from typing import Annotated, Any

import typer

BaseUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Where the API is; else X402SMS_BASE_URL, else the network's own host."
    ),
]
NetworkName = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="base or base-sepolia; else X402SMS_NETWORK, else base."),
]
LedgerPath = Annotated[
    str | None,
    typer.Option(
        metavar="PATH", help="The ledger, or its URL; else X402SMS_LEDGER, else your own."
    ),
]
MaxPerCall = Annotated[
    str | None,
    typer.Option(metavar="USD", help="Sign for no single payment above this; else 1.00."),
]
RpcUrl = Annotated[
    str | None, typer.Option(metavar="URL", help="An RPC of the network; else X402SMS_RPC_URL.")
]
Webhooks = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Where `x402sms webhooks listen` keeps its events: wait for those, and poll less; "
        "else X402SMS_WEBHOOKS.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]
PaymentArgument = Annotated[
    str,
    typer.Argument(
        metavar="INTENT_OR_NONCE", help="An intent, a nonce, or a nonce as receipts show it."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

MaxPrice = Annotated[str | None, typer.Option(metavar="USD", help="Above this price, pay nothing.")]
Intent = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="A name for this purchase: what it buys is paid at most once under it, however often "
        "the command is run.",
    ),
]
ServiceArgument = Annotated[
    str, typer.Argument(metavar="SERVICE", help="A service's id, such as telegram.")
]
CountryArgument = Annotated[
    str,
    typer.Argument(
        metavar="COUNTRY", help="Two letters (ISO 3166-1), such as GB; a name costs a lookup."
    ),
]
OrderArgument = Annotated[str, typer.Argument(metavar="ORDER_ID", help="The order's id.")]
Limit = Annotated[
    int, typer.Option(min=1, metavar="N", help="At most so many; each page is a paid call.")
]


@dataclass(frozen=True, slots=True)
class Given:
    """The shared options of one command, as given; None where not."""

    base_url: str | None = None
    network: str | None = None
    ledger: str | None = None
    max_per_call: str | None = None
    rpc_url: str | None = None
    webhooks: str | None = None


_SHARED: dict[str, Any] = {
    "base_url": BaseUrl,
    "network": NetworkName,
    "ledger": LedgerPath,
    "max_per_call": MaxPerCall,
    "rpc_url": RpcUrl,
    "webhooks": Webhooks,
}
NONE: tuple[str, ...] = ()
SERVICE = ("base_url", "network", "ledger", "max_per_call")
LEDGER = ("ledger",)
WALLET = ("network",)
CHAIN = ("network", "rpc_url")
LEDGER_AND_CHAIN = ("network", "ledger", "rpc_url")
JOB = (*SERVICE, "webhooks")
EVERYTHING = (*SERVICE, "rpc_url")


def parameters(names: tuple[str, ...]) -> list[inspect.Parameter]:
    """The shared options of these names, and `--json`, as parameters of a function."""
    shared = [_parameter(name, _SHARED[name], None) for name in names]
    return [*shared, _parameter("as_json", AsJson, False)]


def _parameter(name: str, annotation: object, default: object) -> inspect.Parameter:
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=default, annotation=annotation)
