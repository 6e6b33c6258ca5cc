"""USDC on one chain."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from types import TracebackType
from typing import Any, Final, Self

from eth_typing import BlockNumber
from web3 import Web3
from web3.types import BlockIdentifier

from x402sms.chain import gas
from x402sms.chain.rpc import Head, Rpc, bytes32, integer
from x402sms.chain.search import EventSearch
from x402sms.errors import CannotCancel, ChainUnreadable
from x402sms.protocol.cancellation import Cancellation
from x402sms.protocol.events import (
    CANCELED_TOPIC,
    TRANSFER_TOPIC,
    USED_TOPIC,
    Settlement,
    address_topic,
    end_of,
    settlements,
)
from x402sms.protocol.networks import Network
from x402sms.protocol.types import (
    OnChain,
    OnChainCancelled,
    OnChainSettled,
    OnChainUnread,
    OnChainUnused,
)

MOST_BLOCKS = 2000
# Before a signature's time by our own clock, which may be ahead of the chain's.
_SLACK_SECONDS: Final = 900
_HASH: Final = re.compile(r"0x[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class UsedAuthorization:
    """An authorization that settled. `nonce` is `0x` + 64 hex digits, `block_time` Unix seconds."""

    payer: str
    nonce: str
    pay_to: str
    amount_atomic: int
    transaction: str
    block: int
    block_time: int


class Chain:
    """One network's USDC, read through one RPC. Usable from several threads; close it.

    Before the first answer it makes sure that the RPC is on `network`, and raises ConfigError
    when it is not. `timeout` bounds each request in seconds; none is retried. `most_blocks` is
    how many blocks' events are asked for at once, and less where the RPC refuses so many.
    """

    def __init__(
        self,
        rpc_url: str,
        network: Network,
        *,
        timeout: float = 10,
        most_blocks: int = MOST_BLOCKS,
    ) -> None:
        self._rpc = Rpc(rpc_url, network, timeout)
        self._search = EventSearch(self._rpc, most_blocks)
        self._usdc = self._rpc.web3.eth.contract(
            address=Web3.to_checksum_address(network.usdc), abi=usdc_abi()
        )

    def __repr__(self) -> str:
        return f"<Chain {self.network.name} at {self._rpc.where}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the RPC."""
        self._rpc.close()

    @property
    def network(self) -> Network:
        return self._rpc.network

    def chain_id(self) -> int:
        """The RPC's chain id, asked anew. Raises ConfigError if it is not the network's."""
        return self._rpc.chain_id()

    def head(self) -> Head:
        """The newest block. Read a nonce at its number to know both at one moment."""
        return self._rpc.block()

    def now(self) -> int:
        """The chain's time: the newest block's timestamp, in Unix seconds."""
        return self.head().timestamp

    def block_time(self, number: int) -> int:
        """The timestamp of a block, in Unix seconds."""
        return self._rpc.block(number).timestamp

    def balance(self, address: str) -> int:
        """The atomic USDC that `address` holds."""
        balance_of = self._usdc.functions.balanceOf(Web3.to_checksum_address(address))
        return self._rpc.read("the USDC balance", lambda: integer(balance_of.call()))

    def authorization_state(
        self, payer: str, nonce: bytes | str, *, block: int | None = None
    ) -> bool:
        """Whether an authorization of `payer` with `nonce` was used or cancelled.

        As of the newest block, or of `block`: behind one URL there may be several nodes, and one
        that lags would say "unused" of a nonce that another has seen used.
        """
        state = self._usdc.functions.authorizationState(
            Web3.to_checksum_address(payer), bytes32(nonce)
        )
        at: BlockIdentifier = "latest" if block is None else BlockNumber(block)
        return self._rpc.read(
            "the authorization's state", lambda: bool(state.call(block_identifier=at))
        )

    def domain_separator(self) -> bytes:
        """The EIP-712 domain separator that the USDC contract itself computes."""
        separator = self._usdc.functions.DOMAIN_SEPARATOR()
        return self._rpc.read("the domain separator", lambda: bytes(separator.call()))

    def look_up(
        self,
        payer: str,
        nonce: bytes | str,
        *,
        signed_at: int,
        transaction: str | None = None,
    ) -> OnChain:
        """What became of an authorization that was signed at `signed_at` (Unix seconds).

        `transaction` is where a server says that it settled: looked at first, believed never.
        Does not raise ChainUnreadable: whatever does not add up to proof is OnChainUnread. Raises
        ConfigError where the RPC is on another chain.
        """
        payer, nonce = Web3.to_checksum_address(payer), bytes32(nonce)
        try:
            if transaction is not None and _HASH.fullmatch(transaction.lower()):
                claimed = self._end_in(transaction.lower(), payer, nonce)
                if claimed is not None:
                    return self._confirmed(claimed, payer, nonce)
            head = self.head()
            if not self.authorization_state(payer, nonce, block=head.number):
                return self._unused(head)
            found = self._find_transaction(payer, nonce, signed_at, head)
            end = self._end_in(found, payer, nonce)
        except ChainUnreadable as error:
            return OnChainUnread(str(error))
        if end is None:
            where = self._rpc.where
            return OnChainUnread(f"{where} shows an event, but no transaction {found} with it")
        return end

    def used_authorizations(self, payer: str, *, from_block: int) -> Iterator[UsedAuthorization]:
        """Every authorization of `payer` that settled from that block on, oldest first.

        Raises ChainUnreadable, maybe after some, rather than leave out what the RPC did not give.
        What no reader can notice is an RPC that hides both events of a payment; behind one URL
        may be a node that has not heard of the newest blocks, so read again for the last seconds.
        """
        payer = Web3.to_checksum_address(payer)
        head = self.head()
        if not 0 <= from_block <= head.number:
            raise self._rpc.unreadable(f"block {from_block} is asked for, {head.number} is newest")
        topics: list[bytes | list[bytes]] = [[USED_TOPIC, TRANSFER_TOPIC], address_topic(payer)]
        for events in self._search.events(topics, from_block, head.number):
            yield from map(
                self._dated, self._rpc.read("the transfers", partial(settlements, events))
            )

    def estimate_cancel(self, gas_payer: str) -> gas.CancelEstimate:
        """What cancelling costs `gas_payer` in ETH, at most, and whether it has that."""
        return gas.estimate(self._rpc, Web3.to_checksum_address(gas_payer))

    def cancel(
        self,
        wallet: gas.DigestSigner,
        nonce: bytes | str,
        *,
        max_cost_wei: int,
        gas_payer: gas.DigestSigner | None = None,
        timeout: float = 60,
    ) -> OnChainCancelled:
        """Burn an unused nonce of `wallet`, so that no authorization with it can ever settle.

        Costs ETH of `gas_payer` (by default the wallet itself), at most `max_cost_wei`: what
        `estimate_cancel` said it `needs`. Waits up to `timeout` seconds for the transaction.
        Raises CannotCancel where nothing was cancelled, ChainUnreadable where that is not known.
        """
        cancellation = Cancellation(self.network, wallet.address, bytes32(nonce))
        if self.authorization_state(wallet.address, nonce):
            raise CannotCancel(
                "nothing sent: the authorization was used or cancelled already; "
                "`x402sms payments reconcile` finds out which"
            )
        payer_of_gas = gas_payer or wallet
        sent = gas.send(
            self._rpc,
            cancellation,
            wallet.sign_digest(cancellation.digest()),
            gas_payer=payer_of_gas,
            cost=self.estimate_cancel(payer_of_gas.address),
            max_cost=max_cost_wei,
        )
        return gas.wait_for(self._search, cancellation, sent, timeout)

    def _unused(self, head: Head) -> OnChainUnused:
        """Proof only if the block, whose number the nonce was read at, is still that block."""
        if self._rpc.block(head.number) != head:
            raise self._rpc.unreadable("the chain changed while it was read")
        return OnChainUnused(chain_time=head.timestamp)

    def _end_in(
        self, transaction: str, payer: str, nonce: bytes
    ) -> OnChainSettled | OnChainCancelled | None:
        """What that transaction did to the authorization, by its receipt."""
        receipt = self._search.receipt(transaction)
        if receipt is None:
            return None
        return self._rpc.read(
            f"the events of {transaction}", lambda: end_of(payer, nonce, receipt.events)
        )

    def _confirmed(
        self, end: OnChainSettled | OnChainCancelled, payer: str, nonce: bytes
    ) -> OnChainSettled | OnChainCancelled:
        # A node may still have the receipt of a block that the chain has dropped. Not asked for
        # at that block: a node keeps the newest states only, and receipts for ever.
        if not self.authorization_state(payer, nonce):
            raise self._rpc.unreadable(f"the nonce is unused, in spite of {end.transaction}")
        return end

    def _find_transaction(self, payer: str, nonce: bytes, signed_at: int, head: Head) -> str:
        """The transaction in which a nonce ended that is used at `head`."""
        first = self._search.block_before(signed_at - _SLACK_SECONDS, head)
        found = self._transaction_between(payer, nonce, first, head.number)
        if found is None and first and self._used_by(first, payer, nonce):
            # Before it was signed here: by another machine with the same key and intent.
            block = 1 + self._search.last_before(
                lambda number: self._used_by(number, payer, nonce), first
            )
            found = self._transaction_between(payer, nonce, block, block)
        if found is None:
            raise self._rpc.unreadable("the nonce is used, but no event shows how")
        return found

    def _used_by(self, block: int, payer: str, nonce: bytes) -> bool:
        return self.authorization_state(payer, nonce, block=block)

    def _transaction_between(self, payer: str, nonce: bytes, first: int, last: int) -> str | None:
        topics: list[bytes | list[bytes]] = [
            [USED_TOPIC, CANCELED_TOPIC],
            address_topic(payer),
            nonce,
        ]
        for events in self._search.events(topics, first, last):
            for event in events:
                return event.log.transaction
        return None

    def _dated(self, settlement: Settlement) -> UsedAuthorization:
        return UsedAuthorization(
            payer=settlement.payer,
            nonce="0x" + settlement.nonce.hex(),
            pay_to=settlement.pay_to,
            amount_atomic=settlement.amount_atomic,
            transaction=settlement.transaction,
            block=settlement.block,
            block_time=self._rpc.block(settlement.block).timestamp,
        )


def usdc_abi() -> list[dict[str, Any]]:
    """The entries of the USDC contract's ABI that a payer needs."""
    text = files("contracts_abi").joinpath("FiatTokenV2_2.json").read_text(encoding="utf-8")
    abi: list[dict[str, Any]] = json.loads(text)
    return abi
