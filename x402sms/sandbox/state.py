"""One running sandbox: its parts, and what tests may do to it from outside the API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from eth_account import Account
from eth_utils.address import to_checksum_address
from fastapi import Request
from starlette.types import Scope

from x402sms.errors import ConfigError
from x402sms.money import parse_usdc
from x402sms.sandbox.accounts import Accounts, new_key
from x402sms.sandbox.buyer import Buyer
from x402sms.sandbox.catalogue import Catalogue
from x402sms.sandbox.challenge import Terms
from x402sms.sandbox.clock import Bell, Clock
from x402sms.sandbox.config import DialectName, SandboxConfig
from x402sms.sandbox.endpoints import TOP_UP, endpoint_of
from x402sms.sandbox.faults import Call, Schedule
from x402sms.sandbox.gate import Gate
from x402sms.sandbox.orders import Order, OrderBook
from x402sms.sandbox.payments import PaymentRecord
from x402sms.sandbox.rates import Rates
from x402sms.sandbox.rest import Desk, is_rest
from x402sms.sandbox.settlement import AnvilSettlement, MemorySettlement, Settlement
from x402sms.sandbox.webhooks import Webhooks

TOP_UP_DIALECT: DialectName = "v1"

# Where a request's scope names its sandbox, when one application serves many.
SCOPE_KEY = "x402sms.sandbox"


class Sandbox:
    """Belongs to one event loop; nothing in it may be touched from another thread.

    `clock` moves orders; `chain_clock` judges the time windows of payments.
    """

    def __init__(self, config: SandboxConfig) -> None:
        self.config = config
        self.bell = Bell()
        self.clock = Clock(self.bell, still=config.virtual_time)
        self.chain_clock = Clock(self.bell)
        self.catalogue = Catalogue(config.seed, price_drift=config.price_drift)
        self.orders = OrderBook(
            self.catalogue,
            self.clock,
            self.bell,
            seed=config.seed,
            order_seconds=config.order_seconds,
            cooldown=config.cooldown,
            sms_after=config.sms_after,
        )
        self.records: list[PaymentRecord] = []
        self.settlement = self._settlement()
        self.funded_key = config.funded_key
        self._fund_own_key()
        self.accounts = Accounts(config.seed, self.clock.now)
        self.api_key = config.api_key or new_key()
        self.account = self.accounts.new()
        self.accounts.admit(self.account, self.api_key)
        self.accounts.deposit(self.account, parse_usdc(config.account_balance), "/")
        rates = Rates(config.rate_limit, self.clock)
        seed = config.seed if config.fault_seed is None else config.fault_seed
        self.schedule = Schedule(config.fault_list(), seed)
        self._gates: dict[DialectName, Gate] = {
            dialect: Gate(
                Terms(dialect, config.chain, config.pay_to),
                self.settlement,
                self.records,
                self.chain_clock,
                rates,
                free=config.free,
            )
            for dialect in (config.dialect, TOP_UP_DIALECT)
        }
        self.gate = self._gates[config.dialect]
        self.webhooks = Webhooks(
            self.schedule,
            self.chain_clock.now,
            secret=config.webhook_secret,
            form=config.webhook_form,
            seed=config.seed,
            live=config.vocabulary == "live",
        )
        self._tell_webhooks()
        self.desk = Desk(self.accounts, rates, self.clock.now)
        self.requests = 0
        self.closing = False
        self.polling = 0  # long-polls in progress

    def gate_of(self, route: str | None) -> Gate:
        """A top-up has one dialect, whatever the rest of the API speaks."""
        return self._gates[TOP_UP_DIALECT] if route == TOP_UP else self.gate

    def close(self) -> None:
        """End every long-poll, unpaid."""
        self.closing = True
        self.bell.ring()

    @contextmanager
    def poll(self) -> Iterator[None]:
        """Counts the long-poll within, so that a test can know that one has begun."""
        self.polling += 1
        self.bell.ring()
        try:
            yield
        finally:
            self.polling -= 1
            self.bell.ring()

    async def until_polling(self, count: int, seconds: float) -> None:
        """Return once exactly `count` long-polls are in progress; TimeoutError after `seconds`."""
        deadline = Clock(self.bell)
        end = deadline.now() + seconds
        while self.polling != count:
            left = end - deadline.now()
            if left <= 0:
                raise TimeoutError(f"{self.polling} long-polls in progress, not {count}")
            await self.bell.wait(left)

    async def refund(self, order: Order) -> None:
        """Pay back all that was paid for `order`."""
        for record in order.charges:
            account = self.accounts.of_id(record.payer)
            if account is None:
                await self.settlement.refund(record.pay_to, record.payer, record.amount_atomic)
            else:
                self.accounts.refund(account, record)
            record.refunded_atomic = record.amount_atomic

    async def balance(self, payer: str) -> int:
        """What a wallet or an account holds, in atomic units."""
        account = self.accounts.of_id(payer)
        if account is None:
            return await self.settlement.balance(payer)
        return account.balance_atomic

    async def fund(self, payer: str, amount_atomic: int) -> None:
        """Give a wallet or an account so much more; ValueError where that cannot be done."""
        account = self.accounts.of_id(payer)
        if account is None:
            await self.settlement.fund(payer, amount_atomic)
        else:
            self.accounts.deposit(account, amount_atomic, "/")

    def books(self, payer: str) -> tuple[int, int]:
        """What a wallet or an account paid, and what of it was paid back, in atomic units."""
        account = self.accounts.of_id(payer)
        if account is not None:
            return account.spent(), account.refunded()
        payer = to_checksum_address(payer)
        paid = [record for record in self.records if record.payer == payer]
        return (
            sum(record.amount_atomic for record in paid),
            sum(record.refunded_atomic for record in paid),
        )

    def orders_of(self, payer: str) -> list[tuple[str, str]]:
        """Id and status of the payer's settled orders, oldest first."""
        known = self.accounts.of_id(payer) is not None
        orders = self.orders.of(payer if known else to_checksum_address(payer))
        return [(order.order_id, str(order.status)) for order in reversed(orders)]

    def happened(self, kind: str, order: Order) -> None:
        """A caller did something to an order, and it is settled."""
        self.webhooks.order(kind, order, self.clock.now())

    def _tell_webhooks(self) -> None:
        """From here on; what the sandbox's own account begins with was no deposit."""
        self.orders.tell = self.webhooks.order
        self.accounts.on_deposit = self.webhooks.deposited
        self.accounts.on_purchase = self.webhooks.purchased

    def _settlement(self) -> Settlement:
        config = self.config
        if config.settlement == "anvil":
            assert config.rpc_url is not None  # noqa: S101  SandboxConfig made sure
            return AnvilSettlement(config.rpc_url, config.chain)
        return MemorySettlement(self.chain_clock.now)

    def _fund_own_key(self) -> None:
        if not isinstance(self.settlement, MemorySettlement):
            return
        if self.funded_key is None:
            self.funded_key = Account.create().key.to_0x_hex()
        address = address_of(self.funded_key)
        self.settlement.balances[address] = parse_usdc(self.config.funded)


def address_of(key: str) -> str:
    """The checksummed address of a private key in hex."""
    try:
        return str(Account.from_key(key).address)
    except ValueError:
        # Without the cause: it may quote the key.
        raise ConfigError("funded_key is not a private key: 0x and 64 hex digits") from None


def call_of(scope: Scope) -> Call:
    sandbox = sandbox_in(scope)
    route = endpoint_of(scope["method"], scope["path"], sandbox.config.api_prefix)
    header = sandbox.gate_of(route).terms.request_header.lower().encode()
    rest = route != TOP_UP and is_rest(scope["headers"])
    return Call(
        route,
        rest or any(name.lower() == header for name, _ in scope["headers"]),
        rest,
        sandbox.schedule,
    )


def sandbox_in(scope: Scope) -> Sandbox:
    sandbox = scope.get(SCOPE_KEY) or scope["app"].state.sandbox
    assert isinstance(sandbox, Sandbox)  # noqa: S101  create_app put it there
    return sandbox


def sandbox_of(request: Request) -> Sandbox:
    return sandbox_in(request.scope)


def buyer_of(request: Request) -> Buyer:
    buyer = request.state.buyer
    assert isinstance(buyer, Buyer)  # noqa: S101  the gate put it there
    return buyer
