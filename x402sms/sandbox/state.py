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
from x402sms.sandbox.catalogue import Catalogue
from x402sms.sandbox.challenge import Terms
from x402sms.sandbox.clock import Bell, Clock
from x402sms.sandbox.config import SandboxConfig
from x402sms.sandbox.endpoints import endpoint_of
from x402sms.sandbox.faults import Call, Schedule
from x402sms.sandbox.gate import Buyer, Gate
from x402sms.sandbox.orders import Order, OrderBook
from x402sms.sandbox.payments import PaymentRecord
from x402sms.sandbox.rates import Rates
from x402sms.sandbox.settlement import AnvilSettlement, MemorySettlement, Settlement

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
        terms = Terms(config.dialect, config.chain, config.pay_to)
        seed = config.seed if config.fault_seed is None else config.fault_seed
        self.schedule = Schedule(config.fault_list(), seed)
        self.gate = Gate(
            terms,
            self.settlement,
            self.records,
            self.chain_clock,
            Rates(config.rate_limit, self.clock),
            free=config.free,
        )
        self.requests = 0
        self.closing = False
        self.polling = 0  # long-polls in progress

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
            await self.settlement.refund(record.pay_to, record.payer, record.amount_atomic)
            record.refunded_atomic = record.amount_atomic

    def books(self, payer: str) -> tuple[int, int]:
        """What `payer` paid, and what of it was paid back, in atomic units."""
        payer = to_checksum_address(payer)
        paid = [record for record in self.records if record.payer == payer]
        return (
            sum(record.amount_atomic for record in paid),
            sum(record.refunded_atomic for record in paid),
        )

    def orders_of(self, payer: str) -> list[tuple[str, str]]:
        """Id and status of the payer's settled orders, oldest first."""
        orders = self.orders.of(to_checksum_address(payer))
        return [(order.order_id, str(order.status)) for order in reversed(orders)]

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
    header = sandbox.gate.terms.request_header.lower().encode()
    return Call(
        endpoint_of(scope["method"], scope["path"], sandbox.config.api_prefix),
        any(name.lower() == header for name, _ in scope["headers"]),
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
