"""Finding events over ranges that an RPC may refuse, from a moment whose block is not known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import requests
from eth_typing import HexStr
from web3 import Web3
from web3.exceptions import TransactionNotFound, Web3RPCError
from web3.types import FilterParams

from x402sms.chain.rpc import Head, Rpc, integer
from x402sms.protocol.events import Event, Log, decode, events_in, read_log

# What an RPC says to a range, or to an answer, that is too large for it.
_TOO_LARGE = (400, 413)


@dataclass(frozen=True, slots=True)
class TransactionReceipt:
    """What a transaction that was mined did; nothing (no events) if it failed."""

    succeeded: bool
    events: list[Event]


class EventSearch:
    """The events of one network's USDC. At most `most_blocks` are asked for at once."""

    def __init__(self, rpc: Rpc, most_blocks: int) -> None:
        self._rpc = rpc
        self._most_blocks = most_blocks
        self._usdc = rpc.network.usdc

    def receipt(self, transaction: str) -> TransactionReceipt | None:
        """None where the RPC knows no receipt of that transaction."""
        return self._rpc.read(
            f"the receipt of {transaction}", lambda: self._known_receipt(transaction)
        )

    def events(
        self, topics: Sequence[bytes | list[bytes]], first: int, last: int
    ) -> Iterator[list[Event]]:
        """Those with these topics, a list for each range of blocks, oldest first.

        A range that the RPC refuses is asked for in halves. Raises ChainUnreadable rather than
        leave out a block.
        """
        most = self._most_blocks
        while first <= last:
            until = min(first + most - 1, last)
            found = self._events_of_range(topics, first, until)
            if found is None:
                most = (until - first + 1) // 2
                continue
            yield found
            first = until + 1

    def block_before(self, moment: int, head: Head) -> int:
        """A block from before `moment` (Unix seconds), not much older than need be."""
        return self.last_before(
            lambda number: self._rpc.block(number).timestamp >= moment,
            head.number,
            exactly=False,
        )

    def last_before(
        self, is_after: Callable[[int], bool], newest: int, *, exactly: bool = True
    ) -> int:
        """The last block before `is_after` became true, which it is of `newest`; 0 if none is.

        Looks near the newest first, where most of what is searched for is. If not `exactly`, a
        block up to a range older will do.
        """
        step, after = self._most_blocks, newest
        while (before := max(newest - step, 0)) and is_after(before):
            step, after = step * 2, before
        while after - before > (1 if exactly else self._most_blocks):
            middle = (before + after) // 2
            if is_after(middle):
                after = middle
            else:
                before = middle
        return before

    def _events_of_range(
        self, topics: Sequence[bytes | list[bytes]], first: int, last: int
    ) -> list[Event] | None:
        """None where the RPC refuses a range that can be made smaller."""
        wanted: FilterParams = {
            "address": Web3.to_checksum_address(self._usdc),
            "topics": [_hex(topic) for topic in topics],
            "fromBlock": Web3.to_hex(first),
            "toBlock": Web3.to_hex(last),
        }

        def ask() -> list[Event] | None:
            try:
                answer: Any = self._rpc.web3.eth.get_logs(wanted)
            except (Web3RPCError, requests.HTTPError) as error:
                if first == last or not _may_be_too_large(error):
                    raise
                return None
            logs = sorted((read_log(raw) for raw in answer), key=_place)
            for log in logs:
                if not first <= log.block <= last:
                    raise ValueError("a log of a block that was not asked for")
            return [decode(log, self._usdc) for log in logs]

        return self._rpc.read(f"the events of blocks {first} to {last}", ask)

    def _known_receipt(self, transaction: str) -> TransactionReceipt | None:
        try:
            receipt = self._rpc.web3.eth.get_transaction_receipt(HexStr(transaction))
        except TransactionNotFound:
            return None
        logs = [read_log(raw) for raw in receipt["logs"]]
        if any(log.transaction != transaction for log in logs):
            raise ValueError("a receipt with logs of another transaction")
        status = integer(receipt["status"])
        return TransactionReceipt(
            succeeded=status == 1,
            events=events_in(logs, self._usdc) if status == 1 else [],
        )


def _may_be_too_large(error: Web3RPCError | requests.HTTPError) -> bool:
    if isinstance(error, Web3RPCError):
        return True
    return error.response is not None and error.response.status_code in _TOO_LARGE


def _place(log: Log) -> tuple[int, int]:
    return log.block, log.index


def _hex(topic: bytes | list[bytes]) -> Any:
    if isinstance(topic, list):
        return [Web3.to_hex(each) for each in topic]
    return Web3.to_hex(topic)
