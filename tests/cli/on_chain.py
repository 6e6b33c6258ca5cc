"""The service settling Circle's USDC on a local Base Sepolia, and buyers whom things happen to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.cli.conftest import Cli, MakeCli
from tests.losing import Losing
from tests.parts.fixtures import LocalChain, start_chain
from tests.parts.usdc import BASE_SEPOLIA, Authorization
from x402sms import Client, Wallet, X402SMSError
from x402sms.ledger import Payment, open_ledger
from x402sms.money import parse_usdc
from x402sms.sandbox import RunningSandbox, SandboxConfig, running_sandbox
from x402sms.wallet import sign

ETH = 10**18


@dataclass(frozen=True)
class Shop:
    """`sandbox` settles on `chain`."""

    chain: LocalChain
    sandbox: RunningSandbox

    def customer(self, make_cli: MakeCli) -> Customer:
        """With a fresh wallet of 10 USDC and no ETH, and an empty ledger."""
        key = "0x" + os.urandom(32).hex()
        wallet = Wallet.from_key(key)
        self.chain.usdc.mint(wallet.address, parse_usdc("10"))
        cli = make_cli(self.sandbox.url, X402SMS_PRIVATE_KEY=key)
        return Customer(self, wallet, cli)


@dataclass(frozen=True)
class Customer:
    """Someone at a command line. Without `--rpc-url` no command of theirs reads the chain."""

    shop: Shop
    wallet: Wallet
    cli: Cli

    @property
    def rpc(self) -> tuple[str, str]:
        return "--rpc-url", self.shop.chain.rpc_url

    def buy(self, *more: str) -> dict[str, Any]:
        order = self.cli("orders", "create", "telegram", "HR", "--json", *more).json
        assert isinstance(order, dict)
        return order

    def promise(self, intent: str) -> None:
        """A purchase whose payment never gets there."""
        self._fail_to_buy(intent, _NeverArrives(lambda _: None))

    def lose(self, intent: str) -> None:
        """A purchase that is paid and made, and whose answers are all lost."""
        self._fail_to_buy(intent, Losing(lambda _: "drop"))

    def row(self, intent: str) -> Payment:
        (payment,) = self.rows(intent)
        return payment

    def rows(self, intent: str | None = None, *, ledger: str | None = None) -> list[Payment]:
        found = open_ledger(ledger or self.cli.environment["X402SMS_LEDGER"])
        try:
            return list(found.payments() if intent is None else found.find(intent))
        finally:
            found.close()

    def give_eth(self, wei: int = ETH) -> None:
        self.shop.chain.anvil.request("anvil_setBalance", self.wallet.address, hex(wei))

    @property
    def paid_on_chain(self) -> int:
        """By authorizations: what went out, refunds not counted."""
        sent = self.shop.chain.usdc.transfers(sender=self.wallet.address)
        return sum(transfer.amount_atomic for transfer in sent)

    def _fail_to_buy(self, intent: str, transport: httpx.BaseTransport) -> None:
        with Client(
            self.wallet,
            network="base-sepolia",
            base_url=self.shop.sandbox.url,
            ledger=self.cli.environment["X402SMS_LEDGER"],
            transport=transport,
        ) as client:
            try:
                client.orders.create("telegram", "HR", intent=intent)
            except X402SMSError:
                return
        raise AssertionError("it was bought")


def signed(customer: Customer, payment: Payment) -> Authorization:
    """What the wallet signed for that payment, for somebody to relay."""
    authorization = payment.attempt().authorization
    return Authorization(
        payer=payment.payer,
        to=payment.pay_to,
        amount_atomic=payment.amount_atomic,
        valid_after=payment.valid_after,
        valid_before=payment.valid_before,
        nonce=authorization.nonce,
        signature=bytes(sign(customer.wallet, authorization)),
    )


class _NeverArrives(Losing):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if "payment-signature" in request.headers:
            raise httpx.WriteError("the connection was lost")
        return super().handle_request(request)


@contextmanager
def open_shop(**settings: Any) -> Iterator[Shop]:
    with start_chain(BASE_SEPOLIA) as chain:
        config = SandboxConfig(settlement="anvil", rpc_url=chain.rpc_url, **settings)
        with running_sandbox(config) as sandbox:
            yield Shop(chain, sandbox)
