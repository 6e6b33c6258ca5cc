"""`x402sms demo`: the main job against a sandbox in this process, and its books checked."""

import tempfile
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from x402sms.cli.books import Balances, disagreements
from x402sms.cli.code import Result, receive
from x402sms.cli.command import command
from x402sms.cli.options import NONE, Given
from x402sms.cli.output import Output
from x402sms.cli.receipts import short, show_table, total
from x402sms.cli.run import Run
from x402sms.errors import BooksDisagree
from x402sms.money import usdc

if TYPE_CHECKING:
    from x402sms.sandbox import RunningSandbox
    from x402sms.wallet import Wallet

PLAY_MONEY = Decimal("1.00")
CEILING = Decimal("0.50")
SMS_AFTER = 2  # seconds


@dataclass(frozen=True, slots=True)
class Demonstration:
    """`had` and `has` are what was on the throwaway wallet, before and after, in USDC."""

    service: str
    result: Result
    wallet: str
    had: Decimal
    has: Decimal

    def document(self) -> dict[str, Any]:
        return {
            "sandbox": True,
            "service": self.service,
            **self.result.document(),
            "wallet": {
                "address": self.wallet,
                "had": self.had,
                "spent": total(self.result.payments),
                "has": self.has,
            },
            "books_agree": True,
        }


class ThrowawayRun(Run):
    """Has a wallet of its own and no environment: the demo never sees the user's key or ledger."""

    def __init__(self, given: Given, out: Output, wallet: "Wallet") -> None:
        super().__init__(given, out)
        self._throwaway = wallet

    @property
    def environment(self) -> dict[str, str]:
        return {}

    @property
    def has_wallet(self) -> bool:
        return True

    @cached_property
    def wallet(self) -> "Wallet":
        return self._throwaway


def register(app: typer.Typer) -> None:
    command(
        app,
        "demo",
        show=_show,
        options=NONE,
        example="x402sms demo\nx402sms demo discord --json",
    )(demo)


def demo(
    run: Run,
    service: Annotated[
        str, typer.Argument(metavar="[SERVICE]", help="What to get a code for.")
    ] = "telegram",
) -> Demonstration:
    """See the main job done on this machine, without real money.

    Starts a sandbox, makes a throwaway wallet, buys the cheapest number, waits for its SMS and
    prints the receipt. Then it compares the receipt with the sandbox's own books, nonce by
    nonce; the exit status is 0 only if they agree to the atomic unit.
    """
    from x402sms.sandbox import SandboxConfig, running_sandbox

    with (
        tempfile.TemporaryDirectory(prefix="x402sms-demo-") as folder,
        running_sandbox(SandboxConfig(sms_after=SMS_AFTER)) as sandbox,
    ):
        return _demonstrate(run, sandbox, Path(folder), service)


def _demonstrate(run: Run, sandbox: "RunningSandbox", folder: Path, service: str) -> Demonstration:
    from x402sms.money import to_usdc
    from x402sms.wallet import Wallet

    wallet = Wallet.generate()
    sandbox.fund(wallet.address, PLAY_MONEY)
    before = Balances.read(sandbox, wallet.address)
    given = Given(sandbox.url, sandbox.network, str(folder / "payments.db"))
    _introduce(run.out, sandbox, wallet)
    own = ThrowawayRun(given, run.out, wallet)
    try:
        result = receive(own, service, CEILING)
    finally:
        run.facts = own.facts
        own.close()
    after = Balances.read(sandbox, wallet.address)
    found = disagreements(result.payments, sandbox.payments(), before, after)
    if found:
        raise BooksDisagree(
            f"the sandbox's own books do not agree with the receipt: {'; '.join(found)}"
        )
    return Demonstration(
        service, result, wallet.address, to_usdc(before.wallet), to_usdc(after.wallet)
    )


def _introduce(out: Output, sandbox: "RunningSandbox", wallet: "Wallet") -> None:
    out.gap(error=True)
    out.step("demo", "a sandbox on this machine; no real money moves", "bold")
    out.step("sandbox", f"{sandbox.url} on {sandbox.network}")
    out.step("wallet", f"{short(wallet.address)}, a throwaway with {usdc(PLAY_MONEY)} USDC in it")


def _show(out: Output, shown: Demonstration) -> None:
    payments = shown.result.payments
    spent = usdc(total(payments))
    out.fields((("code", shown.result.code or shown.result.text),))
    show_table(out, payments, error=False)
    out.gap()
    out.fields(
        (
            (
                "wallet",
                f"had {usdc(shown.had)} USDC, spent {spent}, has {usdc(shown.has)}",
            ),
            ("books", "the sandbox's own ledger agrees, nonce by nonce, to the atomic unit"),
        )
    )
