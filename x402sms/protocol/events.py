"""What USDC writes into its log when an authorization ends: strictly read, and paired.

Everything here comes from an RPC, which may be wrong or hostile: what is not exactly what the
contract emits raises ValueError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from x402sms.protocol.keccak import checksum_address, keccak256
from x402sms.protocol.types import OnChainCancelled, OnChainSettled

USED_TOPIC = keccak256(b"AuthorizationUsed(address,bytes32)")
CANCELED_TOPIC = keccak256(b"AuthorizationCanceled(address,bytes32)")
TRANSFER_TOPIC = keccak256(b"Transfer(address,address,uint256)")

_TOPICS = frozenset((USED_TOPIC, CANCELED_TOPIC, TRANSFER_TOPIC))
# A ledger holds 64-bit integers, and nobody has more than 9 * 10^12 USDC to transfer.
_TOO_MUCH = 2**63
_LARGEST_NUMBER = 2**63


@dataclass(frozen=True, slots=True)
class Log:
    """One entry of the chain's log. `index` counts within the block, `transaction` is a hash."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    index: int
    transaction: str
    block: int


@dataclass(frozen=True, slots=True)
class AuthorizationUsed:
    """`nonce` of `payer` settled; the transfer is the next log."""

    payer: str
    nonce: bytes
    log: Log


@dataclass(frozen=True, slots=True)
class AuthorizationCanceled:
    """`nonce` of `payer` was cancelled: it is burnt, nothing was paid. (The spelling is USDC's.)"""

    payer: str
    nonce: bytes
    log: Log


@dataclass(frozen=True, slots=True)
class Transfer:
    """USDC that moved."""

    payer: str
    pay_to: str
    amount_atomic: int
    log: Log


Event = AuthorizationUsed | AuthorizationCanceled | Transfer


@dataclass(frozen=True, slots=True)
class Settlement:
    """An authorization that settled: what it was signed for, and what it moved."""

    payer: str
    nonce: bytes
    pay_to: str
    amount_atomic: int
    transaction: str
    block: int


def read_log(raw: Mapping[str, Any]) -> Log:
    """A log as web3 hands it on: bytes and ints, the names JSON-RPC's."""
    if raw.get("removed"):
        raise ValueError("the log is of a block that is no longer part of the chain")
    topics = raw.get("topics")
    if not isinstance(topics, list | tuple) or len(topics) > 4:
        raise ValueError("a log has up to 4 topics")
    return Log(
        address=checksum_address(_text(raw.get("address"))),
        topics=tuple(_bytes(topic, 32) for topic in topics),
        data=_bytes(raw.get("data")),
        index=_number(raw.get("logIndex")),
        transaction="0x" + _bytes(raw.get("transactionHash"), 32).hex(),
        block=_number(raw.get("blockNumber")),
    )


def decode(log: Log, usdc: str) -> Event:
    """The event of the contract `usdc` that this log is. ValueError for any other log."""
    if log.address != usdc:
        raise ValueError("a log of another contract")
    kind, *words = log.topics or (b"",)
    if kind == TRANSFER_TOPIC:
        payer, pay_to = _exactly_two(words)
        amount_atomic = int.from_bytes(_bytes(log.data, 32))
        if amount_atomic >= _TOO_MUCH:
            raise ValueError("a transfer of more USDC than there is")
        return Transfer(_address(payer), _address(pay_to), amount_atomic, log)
    if kind not in (USED_TOPIC, CANCELED_TOPIC):
        raise ValueError("a log of another event")
    payer, nonce = _exactly_two(words)
    if log.data:
        raise ValueError("an authorization's event has no data")
    event = AuthorizationUsed if kind == USED_TOPIC else AuthorizationCanceled
    return event(_address(payer), nonce, log)


def events_in(logs: Iterable[Log], usdc: str) -> list[Event]:
    """The events we know among those of a whole transaction, where others may be."""
    ours = (log for log in logs if log.address == usdc and log.topics[:1] and _known(log))
    return [decode(log, usdc) for log in ours]


def settlements(events: Sequence[Event]) -> list[Settlement]:
    """Each authorization used among `events`, with the transfer it made.

    The contract emits the two one after the other with nothing in between, so that other
    transfers in the same transaction cannot be taken for it. One without the other is no
    answer: ValueError.
    """
    transfers: dict[tuple[str, int], Transfer] = {}
    for event in events:
        if isinstance(event, Transfer):
            transfers[event.log.transaction, event.log.index] = event
    found = []
    for event in events:
        if isinstance(event, AuthorizationUsed):
            transfer = transfers.get((event.log.transaction, event.log.index + 1))
            if transfer is None or transfer.payer != event.payer:
                raise ValueError("an authorization was used, but the transfer it made is not there")
            found.append(
                Settlement(
                    payer=event.payer,
                    nonce=event.nonce,
                    pay_to=transfer.pay_to,
                    amount_atomic=transfer.amount_atomic,
                    transaction=event.log.transaction,
                    block=event.log.block,
                )
            )
    return found


def end_of(
    payer: str, nonce: bytes, events: Sequence[Event]
) -> OnChainSettled | OnChainCancelled | None:
    """What the events of one transaction say became of an authorization; None if nothing."""
    for settlement in settlements(events):
        if (settlement.payer, settlement.nonce) == (payer, nonce):
            return OnChainSettled(
                transaction=settlement.transaction,
                pay_to=settlement.pay_to,
                amount_atomic=settlement.amount_atomic,
            )
    for event in events:
        if isinstance(event, AuthorizationCanceled) and (event.payer, event.nonce) == (
            payer,
            nonce,
        ):
            return OnChainCancelled(transaction=event.log.transaction)
    return None


def address_topic(address: str) -> bytes:
    """An indexed address, as a log's topic."""
    return bytes.fromhex(address[2:]).rjust(32, b"\0")


def _known(log: Log) -> bool:
    return log.topics[0] in _TOPICS


def _exactly_two(words: list[bytes]) -> tuple[bytes, bytes]:
    if len(words) != 2:
        raise ValueError("an event with another number of topics than USDC's")
    return words[0], words[1]


def _address(word: bytes) -> str:
    if any(word[:12]):
        raise ValueError("a topic that is no address")
    return checksum_address("0x" + word[12:].hex())


def _bytes(value: object, length: int | None = None) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("no bytes where a log has bytes")
    if length is not None and len(value) != length:
        raise ValueError(f"{len(value)} bytes where a log has {length}")
    return bytes(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("no text where a log has its address")
    return value


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < _LARGEST_NUMBER:
        raise ValueError("no such number of a block or a log")
    return value
