"""Logs as an RPC may give them: what is exactly USDC's is read, everything else refused."""

from __future__ import annotations

from typing import Any

import pytest
from hexbytes import HexBytes
from hypothesis import given
from hypothesis import strategies as st
from web3 import Web3

from x402sms.chain import usdc_abi
from x402sms.protocol.events import (
    CANCELED_TOPIC,
    TRANSFER_TOPIC,
    USED_TOPIC,
    AuthorizationCanceled,
    AuthorizationUsed,
    Event,
    Settlement,
    Transfer,
    address_topic,
    decode,
    end_of,
    events_in,
    read_log,
    settlements,
)
from x402sms.protocol.networks import BASE
from x402sms.protocol.types import OnChainCancelled, OnChainSettled

PAYER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
SHOP = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
OTHER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
NONCE = bytes(range(32))
TRANSACTION = "0x" + "ab" * 32


def raw_log(marks: list[bytes], contents: bytes = b"", **changes: Any) -> dict[str, Any]:
    log: dict[str, Any] = {
        "address": BASE.usdc,
        "topics": [HexBytes(mark) for mark in marks],
        "data": HexBytes(contents),
        "logIndex": 4,
        "transactionHash": HexBytes(TRANSACTION),
        "blockNumber": 17,
        "removed": False,
    }
    return log | changes


def raw_used(index: int = 4, *, payer: str = PAYER, **changes: Any) -> dict[str, Any]:
    return raw_log([USED_TOPIC, address_topic(payer), NONCE], **({"logIndex": index} | changes))


def raw_canceled() -> dict[str, Any]:
    return raw_log([CANCELED_TOPIC, address_topic(PAYER), NONCE])


def raw_transfer(
    index: int = 5,
    *,
    payer: str = PAYER,
    pay_to: str = SHOP,
    amount_atomic: int = 50_000,
    **changes: Any,
) -> dict[str, Any]:
    topics = [TRANSFER_TOPIC, address_topic(payer), address_topic(pay_to)]
    return raw_log(topics, amount_atomic.to_bytes(32), logIndex=index, **changes)


def read(*raw: dict[str, Any]) -> list[Event]:
    return [decode(read_log(log), BASE.usdc) for log in raw]


def test_the_topics_are_those_of_the_contracts_own_abi() -> None:
    events = {entry["name"]: entry for entry in usdc_abi() if entry["type"] == "event"}
    topics = {
        name: Web3.keccak(text=f"{name}({','.join(each['type'] for each in entry['inputs'])})")
        for name, entry in events.items()
    }
    assert topics == {
        "AuthorizationUsed": USED_TOPIC,
        "AuthorizationCanceled": CANCELED_TOPIC,
        "Transfer": TRANSFER_TOPIC,
    }


def test_the_three_events_are_read_from_raw_logs() -> None:
    used, transfer, canceled = read(raw_used(), raw_transfer(), raw_canceled())
    assert isinstance(used, AuthorizationUsed)
    assert (used.payer, used.nonce) == (PAYER, NONCE)
    assert (used.log.index, used.log.block, used.log.transaction) == (4, 17, TRANSACTION)
    assert isinstance(transfer, Transfer)
    assert (transfer.payer, transfer.pay_to, transfer.amount_atomic) == (PAYER, SHOP, 50_000)
    assert isinstance(canceled, AuthorizationCanceled)
    assert (canceled.payer, canceled.nonce) == (PAYER, NONCE)


WRONG = {
    "of another contract": raw_used(address=OTHER),
    "of no contract": raw_used(address="USDC"),
    "of a number": raw_used(address=7),
    "of a dropped block": raw_used(removed=True),
    "without topics": raw_log([]),
    "of another event": raw_log([b"\1" * 32, address_topic(PAYER), NONCE]),
    "used, without a nonce": raw_log([USED_TOPIC, address_topic(PAYER)]),
    "used, with one more topic": raw_log([USED_TOPIC, address_topic(PAYER), NONCE, NONCE]),
    "used, with data": raw_used(data=HexBytes(b"\0" * 32)),
    "used, by no address": raw_log([USED_TOPIC, b"\1" + address_topic(PAYER)[1:], NONCE]),
    "cancelled, with too few topics": raw_log([CANCELED_TOPIC]),
    "transfer, without a recipient": raw_log([TRANSFER_TOPIC, NONCE], bytes(32)),
    "transfer, to no address": raw_log([TRANSFER_TOPIC, address_topic(PAYER), NONCE], bytes(32)),
    "transfer, without an amount": raw_transfer(data=HexBytes(b"")),
    "transfer, of two amounts": raw_transfer(data=HexBytes(bytes(64))),
    "transfer, of more than there is": raw_transfer(amount_atomic=2**63),
    "transfer, of everything": raw_transfer(amount_atomic=2**256 - 1),
    "with five topics": raw_log([USED_TOPIC] * 5),
    "with a short topic": raw_log([USED_TOPIC[:31], address_topic(PAYER), NONCE]),
    "with a topic as text": raw_used(topics=["0x" + USED_TOPIC.hex()]),
    "with data as text": raw_used(data="0x"),
    "with a huge index": raw_used(logIndex=2**63),
    "with a negative block": raw_used(blockNumber=-1),
    "with a block as text": raw_used(blockNumber="0x11"),
    "with true as its block": raw_used(blockNumber=True),
    "pending": raw_used(blockNumber=None),
    "with a short hash": raw_used(transactionHash=HexBytes(b"\xab" * 31)),
}


@pytest.mark.parametrize("log", WRONG.values(), ids=WRONG.keys())
def test_a_log_that_is_not_usdcs_is_refused(log: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read(log)


@pytest.mark.parametrize("missing", sorted(raw_used().keys() - {"removed"}))
def test_a_log_with_a_part_missing_is_refused(missing: str) -> None:
    log = raw_used()
    del log[missing]
    with pytest.raises(ValueError, match=r"\w"):
        read(log)


def test_an_authorization_is_paired_with_the_transfer_right_after_it() -> None:
    events = read(
        raw_transfer(3, amount_atomic=1),  # a transfer of the payer's that has nothing to do
        raw_used(4),
        raw_transfer(5),
        raw_transfer(6, amount_atomic=2),
    )
    assert settlements(events) == [
        Settlement(
            payer=PAYER,
            nonce=NONCE,
            pay_to=SHOP,
            amount_atomic=50_000,
            transaction=TRANSACTION,
            block=17,
        )
    ]


LONELY = {
    "there is none": [raw_used()],
    "it came before": [raw_transfer(3), raw_used(4)],
    "something came between": [raw_used(4), raw_transfer(6)],
    "it is of another payer": [raw_used(4), raw_transfer(5, payer=OTHER)],
    "it is of another transaction": [
        raw_used(4),
        raw_transfer(5, transactionHash=HexBytes(b"\xcd" * 32)),
    ],
}


@pytest.mark.parametrize("logs", LONELY.values(), ids=LONELY.keys())
def test_an_authorization_without_its_transfer_is_refused(logs: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="the transfer it made is not there"):
        settlements(read(*logs))


def test_a_receipt_tells_how_one_authorization_ended() -> None:
    settled = read(raw_used(), raw_transfer())
    assert end_of(PAYER, NONCE, settled) == OnChainSettled(TRANSACTION, SHOP, 50_000)
    assert end_of(PAYER, NONCE, read(raw_canceled())) == OnChainCancelled(TRANSACTION)
    for events in (settled, read(raw_canceled())):
        assert end_of(OTHER, NONCE, events) is None
        assert end_of(PAYER, bytes(32), events) is None
    assert end_of(PAYER, NONCE, []) is None


def test_a_receipt_may_hold_other_contracts_and_other_events() -> None:
    approval = raw_log([b"\2" * 32, address_topic(PAYER), address_topic(SHOP)], bytes(32))
    nothing = raw_log([])
    stranger = raw_used(address=OTHER)
    logs = [read_log(raw) for raw in (approval, nothing, stranger, raw_used(), raw_transfer())]
    assert events_in(logs, BASE.usdc) == read(raw_used(), raw_transfer())


def test_an_event_of_ours_that_is_malformed_is_not_passed_over_in_a_receipt() -> None:
    with pytest.raises(ValueError, match="number of topics"):
        events_in([read_log(raw_log([USED_TOPIC]))], BASE.usdc)


values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=9), st.binary(max_size=33)
)


@given(st.sampled_from(sorted(raw_used())), st.one_of(values, st.lists(values, max_size=5)))
def test_whatever_a_part_of_a_log_is_it_is_read_or_refused(name: str, value: object) -> None:
    try:
        (event,) = read(raw_used() | {name: value})
    except ValueError:
        return
    assert isinstance(event, AuthorizationUsed)
    assert (event.payer, event.nonce) == (PAYER, NONCE)
