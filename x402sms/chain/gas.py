"""Sending the one transaction that x402sms ever sends: a cancellation, paid in ETH."""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from eth_typing import HexStr
from web3 import Web3
from web3.types import TxParams

from x402sms.chain.rpc import Rpc, integer
from x402sms.chain.search import EventSearch, TransactionReceipt
from x402sms.errors import CannotCancel, ChainUnreadable
from x402sms.protocol.cancellation import Cancellation, GasTransaction
from x402sms.protocol.events import end_of
from x402sms.protocol.keccak import keccak256
from x402sms.protocol.types import OnChainCancelled

# Circle's contract takes about 62,000; the rest is not charged.
CANCEL_GAS = 100_000
_POLL_SECONDS = 0.25

# OP Stack chains, which Base is, charge for a transaction's bytes as well, by a contract at this
# address on each of them. It gives an upper bound for an unsigned transaction's size.
_DATA_FEES = "0x420000000000000000000000000000000000000F"
_UPPER_BOUND = keccak256(b"getL1FeeUpperBound(uint256)")[:4]
_UNSIGNED_SIZE = 320
_WEI_DIGITS = 18


class DigestSigner(Protocol):
    """What a transaction needs of a wallet: r‖s‖v over 32 bytes. `Wallet` is one."""

    @property
    def address(self) -> str: ...

    def sign_digest(self, digest: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class CancelEstimate:
    """What a cancellation costs at most, in ETH, and what `gas_payer` has. Amounts in wei.

    `data_fee` is what Base asks on top of the gas.
    """

    gas_payer: str
    gas: int
    base_fee_per_gas: int
    max_priority_fee_per_gas: int
    data_fee: int
    has: int

    @property
    def max_fee_per_gas(self) -> int:
        """Good for as long as the base fee does not double."""
        return 2 * self.base_fee_per_gas + self.max_priority_fee_per_gas

    @property
    def needs(self) -> int:
        return self.gas * self.max_fee_per_gas + self.data_fee

    @property
    def missing(self) -> int:
        return max(self.needs - self.has, 0)

    @property
    def needs_eth(self) -> Decimal:
        return to_eth(self.needs)

    @property
    def has_eth(self) -> Decimal:
        return to_eth(self.has)

    @property
    def missing_eth(self) -> Decimal:
        return to_eth(self.missing)

    def fee_within(self, max_cost: int) -> int:
        """The highest fee a unit of gas for at most `max_cost` wei in all.

        Raises CannotCancel where `gas_payer` has not `needs`, or no miner would take it now.
        """
        if self.missing:
            raise CannotCancel(
                f"nothing sent: a cancellation may cost up to {self.needs_eth:f} ETH of gas, and "
                f"{self.gas_payer} has {self.has_eth:f}: send it {self.missing_eth:f} ETH on this "
                "network, or wait until the authorization has expired",
                gas_payer=self.gas_payer,
                missing_wei=self.missing,
            )
        allowed = (max_cost - self.data_fee) // self.gas
        if allowed < self.base_fee_per_gas + self.max_priority_fee_per_gas:
            raise CannotCancel(
                f"nothing sent: a cancellation may cost up to {self.needs_eth:f} ETH of gas now, "
                f"and {to_eth(max_cost):f} was agreed to",
                gas_payer=self.gas_payer,
            )
        return min(allowed, self.max_fee_per_gas)


def to_eth(wei: int) -> Decimal:
    """Exact, without trailing zeros and without an exponent."""
    whole, fraction = divmod(wei, 10**_WEI_DIGITS)
    return Decimal(f"{whole}.{fraction:0{_WEI_DIGITS}d}".rstrip("0").removesuffix("."))


def estimate(rpc: Rpc, gas_payer: str) -> CancelEstimate:
    address = Web3.to_checksum_address(gas_payer)
    eth = rpc.web3.eth
    return CancelEstimate(
        gas_payer=gas_payer,
        gas=CANCEL_GAS,
        base_fee_per_gas=rpc.read(
            "the base fee", lambda: integer(eth.get_block("latest")["baseFeePerGas"])
        ),
        max_priority_fee_per_gas=rpc.read(
            "the priority fee", lambda: integer(eth.max_priority_fee)
        ),
        data_fee=rpc.read("the data fee", lambda: _data_fee(rpc)),
        has=rpc.read("the ETH balance", lambda: integer(eth.get_balance(address))),
    )


def send(
    rpc: Rpc,
    cancellation: Cancellation,
    signature: bytes,
    *,
    gas_payer: DigestSigner,
    cost: CancelEstimate,
    max_cost: int,
) -> str:
    """Hand the cancellation to the RPC; the transaction's hash. Nothing is sent twice."""
    address = Web3.to_checksum_address(gas_payer.address)
    transaction = GasTransaction(
        chain_id=rpc.network.chain_id,
        sequence=rpc.read(
            "the number of transactions",
            lambda: integer(rpc.web3.eth.get_transaction_count(address, "pending")),
        ),
        max_priority_fee_per_gas=cost.max_priority_fee_per_gas,
        max_fee_per_gas=cost.fee_within(max_cost),
        gas=cost.gas,
        to=rpc.network.usdc,
        data=cancellation.call(signature),
    )
    raw = transaction.signed(gas_payer.sign_digest(transaction.digest()))
    sent = Web3.to_hex(keccak256(raw))
    rpc.read(
        f"whether it took the cancellation {sent}, which may still be mined,",
        lambda: rpc.web3.eth.send_raw_transaction(raw),
    )
    return sent


def wait_for(
    search: EventSearch, cancellation: Cancellation, sent: str, timeout: float
) -> OnChainCancelled:
    """What the transaction did, once it is mined."""
    receipt = _mined(search, sent, timeout)
    if not receipt.succeeded:
        raise CannotCancel(
            f"the USDC contract refused the cancellation {sent}: the authorization was used or "
            "cancelled in the meantime; `x402sms payments reconcile` finds out"
        )
    end = end_of(cancellation.payer, cancellation.nonce, receipt.events)
    if not isinstance(end, OnChainCancelled):
        raise ChainUnreadable(f"the transaction {sent} succeeded, but shows no cancellation")
    return end


def _mined(search: EventSearch, sent: str, timeout: float) -> TransactionReceipt:
    until = time.monotonic() + timeout
    while (receipt := search.receipt(sent)) is None:
        if time.monotonic() >= until:
            raise ChainUnreadable(
                f"the cancellation {sent} was sent but not mined within {timeout:g} s; it still "
                "may be: `x402sms payments reconcile` finds out"
            )
        time.sleep(_POLL_SECONDS)
    return receipt


def _data_fee(rpc: Rpc) -> int:
    """0 on a chain that has no such fee."""
    call: TxParams = {
        "to": Web3.to_checksum_address(_DATA_FEES),
        "data": HexStr(Web3.to_hex(_UPPER_BOUND + _UNSIGNED_SIZE.to_bytes(32))),
    }
    answer = bytes(rpc.web3.eth.call(call))
    if len(answer) not in (0, 32):
        raise ValueError("no fee")
    return int.from_bytes(answer)
