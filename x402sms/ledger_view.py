"""`sms.payments`: what the ledger says of whoever pays here, in both colours."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from decimal import Decimal

import anyio.to_thread

from x402sms.errors import ConfigError
from x402sms.ledger import Ledger, Payment, Spent
from x402sms.ledger.spending import spent_by
from x402sms.money import to_usdc
from x402sms.protocol.networks import Network
from x402sms.protocol.types import PaymentState
from x402sms.reconcile import Report, reconcile


class Payments:
    """The ledger's view of what this wallet promised on this network. Costs nothing to ask."""

    def __init__(
        self, ledger: Ledger, network: Network, payer: str, rpc_url: str | None = None
    ) -> None:
        self._ledger = ledger
        self._network = network
        self._payer = payer
        self._rpc_url = rpc_url

    def list(self, *, since: int = 0, state: PaymentState | None = None) -> list[Payment]:
        """Newest first; `since` in Unix seconds."""
        return _of(self._network, self._payer, self._ledger.payments(since=since, state=state))

    def get(self, intent_or_nonce: str) -> Payment | None:
        """The payment of an intent or with a nonce, None where there is none."""
        found = _of(self._network, self._payer, self._ledger.find(intent_or_nonce))
        return found[0] if found else None

    def reconcile(self) -> Report:
        """Settle or void by proof what is open; the report says why the rest is not.

        Of this network, whoever paid. Raises ConfigError where no RPC is configured, LedgerError.
        """
        if self._rpc_url is None:
            raise ConfigError("to reconcile, name an RPC: X402SMS_RPC_URL, or rpc_url=")
        from x402sms.chain import Chain  # noqa: PLC0415  web3 takes a second to import

        with Chain(self._rpc_url, self._network) as chain:
            return reconcile(
                self._ledger,
                lambda network: chain if network is self._network else None,
                now=int(time.time()),
            )

    def spent(self, *, since: int = 0, worker: str | None = None) -> Decimal:
        """USDC promised from `since` (Unix seconds) on and not void; with an API key, charged.

        With `worker`, by that one of a fleet.
        """
        ledger, payer, network = self._ledger, self._payer, self._network.caip2
        promised = ledger.spent_atomic(network=network, payer=payer, since=since, worker=worker)
        return to_usdc(promised + ledger.charges.charged_atomic(payer, since=since, worker=worker))

    def spend(self, *, by: str | Sequence[str] = "worker", since: int = 0) -> tuple[Spent, ...]:
        """What was spent from `since` (Unix seconds) on, by "worker", "day" (of UTC), "service",
        "country" or any other label, or by several of them: `by=("worker", "day")`.

        Void payments are not counted. Raises ConfigError for what it cannot be told by.
        """
        groups = self._ledger.spending(since=since)
        networks = (self._network.caip2, "")  # a charge is of no network
        own = (each for each in groups if each.payer == self._payer and each.network in networks)
        return spent_by(own, (by,) if isinstance(by, str) else by)


class AsyncPayments:
    """`Payments`, to be awaited: a ledger may block, so it is asked in a thread."""

    def __init__(self, payments: Payments) -> None:
        self._payments = payments

    async def list(self, *, since: int = 0, state: PaymentState | None = None) -> list[Payment]:
        return await anyio.to_thread.run_sync(lambda: self._payments.list(since=since, state=state))

    async def get(self, intent_or_nonce: str) -> Payment | None:
        return await anyio.to_thread.run_sync(lambda: self._payments.get(intent_or_nonce))

    async def reconcile(self) -> Report:
        return await anyio.to_thread.run_sync(self._payments.reconcile)

    async def spent(self, *, since: int = 0, worker: str | None = None) -> Decimal:
        return await anyio.to_thread.run_sync(
            lambda: self._payments.spent(since=since, worker=worker)
        )

    async def spend(
        self, *, by: str | Sequence[str] = "worker", since: int = 0
    ) -> tuple[Spent, ...]:
        return await anyio.to_thread.run_sync(lambda: self._payments.spend(by=by, since=since))


def _of(network: Network, payer: str, payments: Iterable[Payment]) -> list[Payment]:
    own = (network.caip2, payer)
    return [payment for payment in payments if (payment.network, payment.payer) == own]
