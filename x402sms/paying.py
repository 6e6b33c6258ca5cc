"""What both transports share: the settings, and every effect that is not the network's."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, Literal, Protocol, TypeVar, assert_never

from x402sms.errors import ConfigError, LedgerError
from x402sms.ledger import Ledger, Payment, open_ledger
from x402sms.ledger.base import NOT_KNOWN, SharesCommits
from x402sms.limits import SpendLimits
from x402sms.protocol.effects import (
    CheckChain,
    Now,
    Payer,
    Prepay,
    Quote,
    Recall,
    Record,
    Remember,
    Remembered,
    Reserve,
    Settle,
    Sign,
    Stored,
)
from x402sms.protocol.keccak import checksum_address
from x402sms.protocol.labels import checked_worker
from x402sms.protocol.networks import Network, get_network
from x402sms.protocol.types import OnChain, OnChainUnread, Receipt
from x402sms.quoted import RememberedQuotes
from x402sms.text import one_line
from x402sms.wallet import Signer, sign

logger = logging.getLogger("x402sms")

# Seconds before the same payment is presented again, and so how often.
RETRY_PAUSES = (0.5, 1.0, 2.0)

TransportT = TypeVar("TransportT")
Local = Now | Recall | Remembered | Remember | Reserve | Sign | CheckChain | Record | Settle


class ChainReader(Protocol):
    """What is asked of a chain: `x402sms.chain.Chain`, or your own way to read it.

    `look_up` never raises for a chain that cannot be read; it returns OnChainUnread.
    """

    def look_up(
        self, payer: str, nonce: bytes, *, signed_at: int, transaction: str | None = None
    ) -> OnChain: ...

    def close(self) -> None: ...


class Paying(Generic[TransportT]):
    """What both colours share: the settings, and every effect that is not the network's.

    `network` is `base` or `base-sepolia`; `limits` and `ledger` default to `SpendLimits()` and
    the user's own ledger; `transport` is the httpx transport to send through. `on_payment` gets
    the Receipt of each payment, however the call ended. With an `rpc_url` (or a `chain` of your
    own), what a server says of the money is checked against the chain. `max_clock_skew` (seconds,
    None for any) is how far this machine's clock and the server's `Date` may differ; `clock` gives
    Unix seconds. After an unclear end (no answer, a 5xx, a 402 that answers a payment) the same
    payment is presented again after each of `retry_pauses` (seconds), never another one.

    `prepay`: "always" pays with the first request wherever the same request was paid for before, as
    it was then; "auto" only what reads (GET) and costs at most 0.01 USDC. If the price has moved,
    the answer is a 402 and the new one is signed under the same nonce: one settlement at most,
    within your ceilings; a seller that takes more than it asks may take a price that has fallen.
    An answer that settles nothing (a 404, a call that is free now) leaves what was offered counted
    like any promise, and the next call asks. `Receipt.prepaid` says whether it held, `risked` what
    was offered.

    `worker` names who of a fleet this is (1 to 100 printable characters), for the budgets of each
    worker and for `x402sms spend --by worker`.

    Per request: `extensions={"x402": {"intent": "invoice-7", "max_amount": "0.05"}}`, and
    `"labels": {"campaign": "spring"}`, at most 8 words for what it is for. The answer to a paid
    call carries its `Receipt` in `response.extensions["x402"]`.

    Sending raises PaymentError (see `x402sms.errors`), ClockSkew, LedgerError, and httpx's own.
    """

    def __init__(
        self,
        wallet: Signer,
        *,
        network: str | Network = "base",
        limits: SpendLimits | None = None,
        ledger: Ledger | None = None,
        transport: TransportT | None = None,
        on_payment: Callable[[Receipt], None] | None = None,
        rpc_url: str | None = None,
        chain: ChainReader | None = None,
        max_clock_skew: int | None = 120,
        retry_pauses: Sequence[float] | None = None,
        clock: Callable[[], float] = time.time,
        prepay: Prepay | Literal["never", "auto", "always"] = Prepay.NEVER,
        worker: str = "",
    ) -> None:
        limits = SpendLimits() if limits is None else limits
        limits.check_worker(checked_worker(worker))
        self._wallet = wallet
        self._payer = Payer(
            _address(wallet),
            get_network(network),
            limits,
            max_clock_skew,
            tuple(RETRY_PAUSES if retry_pauses is None else retry_pauses),
            _prepay(prepay),
            worker,
        )
        self._rpc_url = None if rpc_url is None else _http_url(rpc_url)
        self._chain = chain
        self._chain_lock = threading.Lock()
        self._owns_chain = chain is None
        self._budgets = limits.budgets
        self._transport = self.make_transport() if transport is None else transport
        self._on_payment = on_payment
        self._clock = clock
        self._owns_ledger = ledger is None
        self._ledger = open_ledger() if ledger is None else ledger
        self.quotes = RememberedQuotes(self._ledger)

    def make_transport(self) -> TransportT:
        raise NotImplementedError

    def perform_here(self, effect: Local) -> object:
        match effect:
            case Now():
                return int(self._clock())
            case Recall() | Remembered() | Remember():
                return self._recall(effect)
            case Reserve():
                self._ledger.reserve(effect.attempt, self._budgets, now=int(self._clock()))
                return None
            case Sign():
                return sign(self._wallet, effect.authorization)
            case CheckChain():
                return self._check_chain(effect)
            case Record() | Settle():
                return self._record(effect)
            case _:
                assert_never(effect)

    def in_one_commit(self) -> AbstractContextManager[None]:
        """What is written in the block is committed once, where the ledger can do that."""
        return self._ledger.together() if isinstance(self._ledger, SharesCommits) else nullcontext()

    @property
    def reads_chain(self) -> bool:
        return self._chain is not None or self._rpc_url is not None

    def _reader(self) -> ChainReader:
        with self._chain_lock:  # threads that come at once share one
            if self._chain is None:
                from x402sms.chain import Chain  # noqa: PLC0415  web3 takes a second to import

                self._chain = Chain(str(self._rpc_url), self._payer.network)
            return self._chain

    def _recall(self, effect: Recall | Remembered | Remember) -> Stored | Quote | None:
        match effect:
            case Remembered():
                return self.quotes.get(effect.route)
            case Remember():
                self.quotes.put(effect.route, effect.quote, now=int(self._clock()))
                return None
            case Recall():
                return self._stored(effect)

    def _stored(self, effect: Recall) -> Stored | None:
        payment = self._payment(effect.nonce)
        if payment is None or payment.fingerprint == NOT_KNOWN:
            return None  # of a rebuilt row nothing can be presented again
        return Stored(payment.attempt(), payment.state, payment.receipt())

    def _payment(self, nonce: bytes) -> Payment | None:
        return self._ledger.get(
            network=self._payer.network.caip2,
            payer=self._payer.address,
            nonce="0x" + nonce.hex(),
        )

    def _check_chain(self, effect: CheckChain) -> OnChain | None:
        if not self.reads_chain:
            return None
        authorization = effect.attempt.authorization
        try:
            payment = self._payment(authorization.nonce)
            return self._reader().look_up(
                authorization.payer,
                authorization.nonce,
                signed_at=authorization.valid_after if payment is None else payment.first_at,
                transaction=effect.transaction,
            )
        except Exception as error:  # no reason to lose an answer that is paid
            logger.exception("the chain could not be asked about %s", authorization.nonce_hex)
            return OnChainUnread(one_line(f"{type(error).__name__}: {error}"))

    def _record(self, effect: Record | Settle) -> Receipt:
        attempt, now = effect.attempt, int(self._clock())
        if isinstance(effect, Record):
            return self._ledger.record(attempt, effect.outcome, now=now).receipt()
        payment = Payment.reserved(attempt, now)
        return self._ledger.settle_from_chain(payment, effect.found, now=now).receipt()

    def log_failure(self, effect: Local, error: LedgerError) -> None:
        """The ledger failed, and so does the call."""
        if isinstance(effect, (Record, Settle)):
            logger.error(
                "the end of the payment %s is not written down: in the ledger it stays open",
                effect.attempt.authorization.nonce_hex,
                exc_info=error,
            )

    def tell(self, receipt: Receipt | None) -> None:
        """The callback gets the receipt. Its faults must not cost the caller a paid answer."""
        if receipt is None or self._on_payment is None:
            return
        try:
            self._on_payment(receipt)
        except Exception:
            logger.exception("on_payment failed; the payment itself is made and recorded")

    def close_own(self) -> None:
        """Close what was opened here: the chain's connections, and a ledger that was not given."""
        if self._chain is not None and self._owns_chain:
            self._chain.close()
        if self._owns_ledger:
            self._ledger.close()


def _prepay(given: str) -> Prepay:
    try:
        return Prepay(given)
    except ValueError:
        raise ConfigError(f'prepay is "never", "auto" or "always", not {given!r}') from None


def _http_url(rpc_url: str) -> str:
    """Looked at now: at the first payment it would be too late."""
    if not rpc_url.startswith(("https://", "http://")):
        raise ConfigError("the RPC URL is not a URL such as https://host/path (it is not shown)")
    return rpc_url


def _address(wallet: Signer) -> str:
    if not isinstance(wallet, Signer):
        raise ConfigError(
            f"a {type(wallet).__name__} cannot sign: give a Wallet, or anything with .address and "
            ".sign_typed_data(...)"
        )
    try:
        return checksum_address(wallet.address)
    except ValueError as error:
        raise ConfigError(f"the wallet's address is {error}") from None
