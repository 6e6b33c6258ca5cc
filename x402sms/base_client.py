"""Settings, wallet, ledger and receipts: what `Client` and `AsyncClient` share. Sends nothing."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast

import httpx

from x402sms.account_books import AccountBooks, identify
from x402sms.api_keys import ApiKey, as_key, load_key
from x402sms.charging import charge_order
from x402sms.clock import Clock, SystemClock
from x402sms.config import API_KEY, Settings, environment, load_settings
from x402sms.errors import ConfigError, LedgerError
from x402sms.exchange import receipt_of
from x402sms.ledger import Ledger, Payment, open_ledger
from x402sms.ledger.base import NOT_KNOWN
from x402sms.ledger_view import Payments
from x402sms.limits import Amount, SpendLimits
from x402sms.ordering import Effect, buy_order
from x402sms.pacing import EXTENSION, REQUESTS_OF_A_CALL, Pace
from x402sms.protocol.eip3009 import intent_nonce
from x402sms.protocol.keccak import checksum_address
from x402sms.protocol.networks import Network
from x402sms.protocol.types import PaymentState, Receipt
from x402sms.purchase import is_loopback, purchase_of
from x402sms.recovery import delivered_orders, match, undelivered
from x402sms.topping_up import TopUpRequest, ask
from x402sms.virtualsms import calls
from x402sms.virtualsms.calls import Call
from x402sms.virtualsms.effects import Earlier
from x402sms.virtualsms.models import Order, Sms
from x402sms.wallet import Signer, Wallet

if TYPE_CHECKING:
    from x402sms.webhooks import EventStore

logger = logging.getLogger("x402sms")

T = TypeVar("T")
REQUESTS_PER_MINUTE = 60  # what the service allows


class Meter:
    """The receipts of a client's calls while `with client.meter()` is open."""

    def __init__(self) -> None:
        self._receipts: dict[str, Receipt] = {}

    def add(self, receipt: Receipt) -> None:
        """What is known now of a payment, in the place of what was known before."""
        self._receipts[receipt.nonce] = receipt

    @property
    def receipts(self) -> list[Receipt]:
        """One a payment, in the order they were made, however the calls ended."""
        return list(self._receipts.values())

    @property
    def total(self) -> Decimal:
        """USDC promised and not known to be void. Refused and unknown payments count."""
        counted = (r.amount for r in self.receipts if r.state is not PaymentState.VOID)
        return sum(counted, Decimal(0))


# The meter of the job whose call this is: a client may run many at once.
_COUNTING: ContextVar[Meter | None] = ContextVar("x402sms_counting", default=None)


@contextmanager
def counted_by(meter: Meter) -> Iterator[None]:
    """What is paid for within, by whatever client, is added to `meter`."""
    token = _COUNTING.set(meter)
    try:
        yield
    finally:
        _COUNTING.reset(token)


class Mailbox(Protocol):
    """Where the webhooks of the service are kept: `x402sms.webhooks.EventStore`."""

    def messages(self, order_id: str) -> Sequence[Sms]:
        """The messages that events told of for an order, oldest first. May block for a moment."""
        ...


class BaseClient:
    """Settings, wallet, ledger and receipts: what both colours have. Sends nothing itself."""

    def __init__(
        self,
        wallet: Signer | None,
        *,
        network: str | Network | None,
        base_url: str | None,
        api_key: ApiKey | None,
        limits: SpendLimits | None,
        ledger: Ledger | str | os.PathLike[str] | None,
        rpc_url: str | None,
        on_payment: Callable[[Receipt], None] | None,
        requests_per_minute: int | Literal["auto"] | None,
        prepay: Literal["auto", "never", "always"],
        worker: str | None,
        webhooks: Mailbox | str | os.PathLike[str] | None,
        clock: Clock | None,
    ) -> None:
        # Nowhere a name for the environment: a traceback that shows locals would show the key.
        settings = load_settings(
            environment(),
            network=network,
            base_url=base_url,
            limits=limits,
            ledger=os.fspath(ledger) if isinstance(ledger, str | os.PathLike) else None,
            rpc_url=rpc_url,
            worker=worker,
        )
        settings.limits.check_worker(settings.worker)
        self._wallet, self.api_key = _credentials(wallet, api_key, settings.rest_url)
        if self._wallet is None:
            settings = replace(settings, base_url=settings.rest_url)
        self.settings: Settings = settings
        self._owns_ledger = ledger is None or isinstance(ledger, str | os.PathLike)
        self.ledger: Ledger = (
            open_ledger(self.settings.ledger)
            if ledger is None or isinstance(ledger, str | os.PathLike)
            else ledger
        )
        self.last_receipt: Receipt | None = None
        self._on_payment = on_payment
        self.mailbox, self._own_store = _mailbox(webhooks)
        self.clock: Clock = SystemClock() if clock is None else clock
        if requests_per_minute == "auto":
            local = is_loopback(httpx.URL(self.settings.base_url).host)
            requests_per_minute = None if local else REQUESTS_PER_MINUTE
        self.pace = (
            None if requests_per_minute is None else Pace(requests_per_minute, clock=self.clock)
        )
        self.prepay = prepay
        self._meters: list[Meter] = []
        self.books: AccountBooks | None = self._books()

    @property
    def wallet(self) -> Signer:
        """What pays. Raises ConfigError where an API key is used instead."""
        if self._wallet is None:
            raise ConfigError(
                "this client has an API key and no wallet: what is bought comes from the account's "
                "balance. Give it a wallet to pay per call, or to top up"
            )
        return self._wallet

    @contextmanager
    def meter(self) -> Iterator[Meter]:
        """Collect what this client pays for: `with sms.meter() as m: ...; m.total`."""
        meter = Meter()
        self._meters.append(meter)
        try:
            yield meter
        finally:
            self._meters.remove(meter)

    def _paid(self, receipt: Receipt) -> None:
        self.last_receipt = receipt
        for meter in self._meters:
            meter.add(receipt)
        self.count(receipt)
        if self._on_payment is not None:
            self._on_payment(receipt)

    def count(self, receipt: Receipt) -> None:
        """What the job that makes a call has paid, also if that was found out only later."""
        if (counting := _COUNTING.get()) is not None:
            counting.add(receipt)

    @contextmanager
    def turn(self, request: httpx.Request) -> Iterator[None]:
        """The places of a call among the requests of a minute: for its price and its payment."""
        if self.pace is None:
            yield
            return
        requests = REQUESTS_OF_A_CALL if self.books is None else 1
        with self.pace.turn(requests) as turn:
            request.extensions[EXTENSION] = turn
            yield

    def _read(self, response: httpx.Response) -> httpx.Response:
        """An answer that is whole: what it cost is known, if not before then now."""
        receipt = receipt_of(response)
        if receipt is not None:
            self.last_receipt = receipt
            self.count(receipt)
        return response

    def payment(self, nonce: str) -> Payment | None:
        """This wallet's payment with that nonce."""
        network, payer = self.settings.network.caip2, checksum_address(self.wallet.address)
        return self.ledger.get(network=network, payer=payer, nonce=nonce)

    def match(self, payment: Payment, orders: list[Order]) -> tuple[Order | None, bool]:
        """The order that the payment bought, among those that no other payment has.

        With it, whether another buyer was quicker on the way: an equal order may be in a newer
        list then.
        """
        orders = [order for order in orders if not order.is_final]
        order, contested = self._claimed(payment, orders)
        if order is not None:
            found = f"the answer was lost; found {order.order_id} in GET /orders"
            self.last_receipt = replace(payment.receipt(), reason=found)
            self.count(self.last_receipt)
        return order, contested

    def _claimed(self, payment: Payment, orders: list[Order]) -> tuple[Order | None, bool]:
        if payment.delivered is not None:
            own = (order for order in orders if order.order_id == payment.delivered)
            return next(own, None), False
        known = list(self.ledger.payments())
        taken = delivered_orders(known)
        others = [each for each in undelivered(known, payment.url) if each.nonce != payment.nonce]
        contested = bool(taken & {order.order_id for order in orders})
        while order := match([payment], orders, taken, self.fingerprint, others).get(payment.nonce):
            if self._note_delivered(payment.payer, payment.nonce, order):
                return order, contested
            contested = True
            taken.add(order.order_id)
        return None, contested or bool(match([payment], orders, taken, self.fingerprint))

    def delivered(self, receipt: Receipt, order: Order) -> bool:
        """Write down which order a payment brought: a note that must not cost the order.

        False: another payment is known to have brought it.
        """
        try:
            return self._note_delivered(receipt.payer, receipt.nonce, order)
        except LedgerError:
            logger.exception("the ledger does not know that %s was delivered", order.order_id)
            return True

    def _note_delivered(self, payer: str, nonce: str, order: Order) -> bool:
        return self.ledger.note_delivered(
            network=self.settings.network.caip2, payer=payer, nonce=nonce, what=order.order_id
        )

    def earlier(self, intent: str, purchase: str) -> Earlier | None:
        """What the ledger has under an intent, and whether it is that purchase."""
        if self.books is not None:
            return self.books.earlier(intent, purchase)
        network, payer = self.settings.network, checksum_address(self.wallet.address)
        payment = self.payment("0x" + intent_nonce(network, payer, intent).hex())
        if payment is None:
            return None
        # All that is bought so is bought at one address, whatever the order is of.
        fits = self.fingerprint(calls.create_order("any", "XX"), purchase)
        return Earlier(
            payment.delivered,
            str(payment.state),
            fits=payment.fingerprint in (fits, NOT_KNOWN),
        )

    def fingerprint(self, call: Call[Order], purchase: str | None = None) -> str:
        """What the ledger knows the purchase by that `call` would be."""
        return purchase_of(self.build_request(call, purchase=purchase)).fingerprint

    def buying(
        self, call: Call[Order], request: httpx.Request, max_price: Amount | None
    ) -> Generator[Effect, Any, Order]:
        """The order that `request`, built from `call`, buys: with a payment, or from a balance."""
        if self.books is None:
            return buy_order(self, call, request)
        return charge_order(self.books, call, request, max_price)

    def _charged(
        self, call: Call[T], request: httpx.Request, max_price: Amount | None
    ) -> Generator[Effect, Any, T] | None:
        """`buying`, where a call that buys comes from a balance. All that buy bring an order."""
        if self.books is None or not call.buys:
            return None
        bought: Any = self.buying(cast("Call[Order]", call), request, max_price)
        return cast("Generator[Effect, Any, T]", bought)

    def _identified(self, call: Call[Any], request: httpx.Request) -> httpx.Request:
        """Without a signature, a request that buys says by a header which purchase it is."""
        if self.books is not None and call.buys:
            identify(request)
        return request

    def _topup(
        self,
        amount: Amount,
        api_key: str | ApiKey | None,
        new_account: bool,  # noqa: FBT001  both colours pass their own on
        metadata: Mapping[str, str] | None,
        intent: str | None,
    ) -> TopUpRequest:
        """May block: a ledger and a store of keys are asked."""
        payer = checksum_address(self.wallet.address)  # ConfigError: a top-up is paid from one
        onto_new = ask(self.settings, amount, None, metadata)
        key = self.api_key if api_key is None else as_key(api_key)
        if new_account:
            return onto_new
        if key is None and intent is not None:
            # The one that brought the key which is stored by now: it is that one again.
            nonce = "0x" + intent_nonce(self.settings.network, payer, intent).hex()
            earlier, request = self.payment(nonce), self.build_request(onto_new.call)
            if earlier is not None and earlier.fingerprint == purchase_of(request).fingerprint:
                return onto_new
        if key is None:
            key = _key_around(self.settings.rest_url)
        return ask(self.settings, amount, key, metadata)

    def build_request(
        self,
        call: Call[Any],
        *,
        intent: str | None = None,
        purchase: str | None = None,
        max_price: Amount | None = None,
    ) -> httpx.Request:
        """`call` as an httpx request. `intent` names the purchase, `purchase` says what it buys
        where another request may stand in for this one."""
        raise NotImplementedError

    def _books(self) -> AccountBooks | None:
        """With an API key and no wallet, what is bought comes from a balance."""
        if self._wallet is not None or self.api_key is None:
            return None
        settings = self.settings
        return AccountBooks(
            self.api_key, self.ledger, settings.limits, self.clock, self._paid, settings.worker
        )

    def _ledger_view(self) -> Payments:
        key = self.api_key
        payer = (
            key.account
            if self._wallet is None and key is not None
            else checksum_address(self.wallet.address)
        )
        return Payments(self.ledger, self.settings.network, payer, self.settings.rpc_url)

    def _close_own(self) -> None:
        """What was opened here: not a ledger or a mailbox that was given."""
        if self._owns_ledger:
            self.ledger.close()
        if self._own_store is not None:
            self._own_store.close()


def _credentials(
    wallet: Signer | None, api_key: ApiKey | None, rest_url: str
) -> tuple[Signer | None, ApiKey | None]:
    """Arguments before the environment, and there a wallet before a key; then a key that a top-up
    stored. With a wallet calls are paid one by one, and a key is only what a top-up adds to."""
    if wallet is not None or api_key is not None:
        return wallet, api_key
    if Wallet.is_in(environment()):
        return Wallet.from_env(environment()), None
    key = _key_around(rest_url)
    # Without one either, the wallet's complaint says what there could be.
    return (Wallet.from_env(environment()), None) if key is None else (None, key)


def _key_around(rest_url: str) -> ApiKey | None:
    """The environment's API key, else the one that a top-up stored."""
    env = environment()
    found = ApiKey(env[API_KEY]) if API_KEY in env else None
    del env  # a traceback that shows locals must not show it
    return load_key(rest_url) if found is None else found


def _mailbox(
    webhooks: Mailbox | str | os.PathLike[str] | None,
) -> tuple[Mailbox | None, EventStore | None]:
    """Where to look, and the store that was opened for it here."""
    if webhooks is None or not isinstance(webhooks, str | os.PathLike):
        return webhooks, None
    from x402sms.webhooks import EventStore  # noqa: PLC0415  only where webhooks are used

    store = EventStore(webhooks)
    return store, store
