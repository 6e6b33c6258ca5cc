"""What a running command has at hand: settings, ledger and client, each made when first used."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from x402sms.cli.options import Given
from x402sms.cli.output import Output

if TYPE_CHECKING:
    from x402sms.chain import Chain
    from x402sms.cli.watched import WatchedLedger
    from x402sms.client import Client
    from x402sms.config import Settings
    from x402sms.ledger import Charge, Payment
    from x402sms.protocol.networks import Network
    from x402sms.wallet import Wallet


class Run:
    """One run of one command."""

    def __init__(self, given: Given, out: Output) -> None:
        self.given = given
        self.out = out
        self.facts: dict[str, Any] = {}  # for the document of an error
        self.summary = ""  # of what it cost, told last

    @property
    def environment(self) -> dict[str, str]:
        """`X402SMS_*`, with `--max-per-call` in place of its variable. Not kept: it has the key."""
        from x402sms.config import environment

        found = environment()
        if self.given.max_per_call is not None:
            found["X402SMS_MAX_PER_CALL"] = self.given.max_per_call
        return found

    @cached_property
    def settings(self) -> Settings:
        from x402sms.config import load_settings

        return load_settings(
            self.environment,
            network=self.given.network,
            base_url=self.given.base_url,
            ledger=self.given.ledger,
            rpc_url=self.given.rpc_url,
        )

    @cached_property
    def wallet(self) -> Wallet:
        from x402sms.cli.keys import wallet_from

        return wallet_from(self.environment)

    @property
    def has_wallet(self) -> bool:
        """Whether one is named; else an API key may be."""
        from x402sms.wallet import Wallet

        return Wallet.is_in(self.environment)

    @cached_property
    def ledger(self) -> WatchedLedger:
        from x402sms.cli.watched import WatchedLedger
        from x402sms.ledger import open_ledger

        return WatchedLedger(open_ledger(self.settings.ledger))

    @cached_property
    def client(self) -> Client:
        from x402sms.client import Client

        return Client(ledger=self.ledger, **self.for_client())

    def for_client(self) -> dict[str, Any]:
        """What a client of either colour is made with, but for its ledger."""
        settings = self.settings
        return {
            # Without a wallet it finds an API key, or says what there could be.
            "wallet": self.wallet if self.has_wallet else None,
            "network": settings.network,
            "base_url": settings.base_url,
            "limits": settings.limits,
            "rpc_url": settings.rpc_url,
            "worker": settings.worker,
            "webhooks": self.given.webhooks or self.environment.get("X402SMS_WEBHOOKS"),
        }

    @cached_property
    def chain(self) -> Chain:
        """Raises ConfigError where no RPC is named."""
        from x402sms.chain import Chain
        from x402sms.errors import ConfigError

        settings = self.settings
        if settings.rpc_url is None:
            raise ConfigError(
                f"this is read from the chain: name an RPC of {settings.network.title} with "
                "X402SMS_RPC_URL or --rpc-url"
            )
        return Chain(settings.rpc_url, settings.network)

    def chain_for(self, network: Network) -> Chain | None:
        """None for another network than the one that is set: the RPC is of that one."""
        return self.chain if network == self.settings.network else None

    @property
    def made(self) -> list[Payment]:
        """What this command promised so far, oldest first, whatever became of it.

        With it, what an earlier one paid for and this one took over.
        """
        return self.ledger.made if "ledger" in vars(self) else []

    @property
    def charged(self) -> list[Charge]:
        """What this command asked for with an API key and may have been charged, oldest first."""
        made = self.ledger.charges.made if "ledger" in vars(self) else []
        return [charge for charge in made if charge.state != "void"]

    def is_purchase(self, payment: Payment) -> bool:
        """Whether it is for a number."""
        return (payment.method, payment.url) == ("POST", self.orders_url)

    @cached_property
    def orders_url(self) -> str:
        from x402sms.virtualsms import calls

        return str(self.client.build_request(calls.create_order("telegram", "GB")).url)

    def close(self) -> None:
        if "client" in vars(self):
            self.client.close()
        if "chain" in vars(self):
            self.chain.close()
        if "ledger" in vars(self):
            self.ledger.close()
