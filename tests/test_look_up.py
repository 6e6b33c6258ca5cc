"""What became of an authorization: three answers from the chain, and never one taken for another.

Against a real node with Circle's USDC, and against the same node behind somebody who withholds,
bends or refuses its answers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount
from web3.exceptions import ContractLogicError

from tests.parts.fixtures import LocalChain, start_chain
from tests.parts.rpc import Meddler, Refusal, meddling
from tests.parts.usdc import Authorization
from x402sms.chain import Chain, ChainUnreadable
from x402sms.errors import ConfigError
from x402sms.protocol.events import TRANSFER_TOPIC, address_topic
from x402sms.protocol.keccak import keccak256
from x402sms.protocol.networks import BASE, BASE_SEPOLIA
from x402sms.protocol.types import (
    OnChainCancelled,
    OnChainSettled,
    OnChainUnread,
    OnChainUnused,
)
from x402sms.wallet import Wallet

SHOP = "0x00000000000000000000000000000000000000A1"
STRANGER = "0x00000000000000000000000000000000000000A2"
UNKNOWN_TRANSACTION = "0x" + "ab" * 32
PLENTY_OF_ETH = hex(10**18)
A_DAY = 86_400

Open = Callable[..., Chain]


@pytest.fixture
def opened() -> Iterator[Open]:
    with ExitStack() as stack:
        yield lambda url, **options: stack.enter_context(Chain(url, BASE, **options))


@pytest.fixture
def chain(base_chain: LocalChain, opened: Open) -> Chain:
    return opened(base_chain.rpc_url)


def paid(base_chain: LocalChain, amount_atomic: int = 70_000) -> tuple[Authorization, str]:
    """An authorization that was settled, and its transaction."""
    payer = base_chain.funded_account(amount_atomic + 1)
    authorization = base_chain.usdc.sign(payer, to=SHOP, amount_atomic=amount_atomic)
    return authorization, base_chain.usdc.relay(authorization)


def look_up(chain: Chain, authorization: Authorization, at: int, claim: str | None = None) -> Any:
    return chain.look_up(authorization.payer, authorization.nonce, signed_at=at, transaction=claim)


# Settled


def test_a_settled_authorization_is_found_with_what_it_paid_to_whom(
    chain: Chain, base_chain: LocalChain
) -> None:
    signed_at = base_chain.now
    authorization, transaction = paid(base_chain)
    assert look_up(chain, authorization, signed_at) == OnChainSettled(transaction, SHOP, 70_000)


def test_payer_and_nonce_may_be_written_in_any_way(chain: Chain, base_chain: LocalChain) -> None:
    authorization, transaction = paid(base_chain)
    found = chain.look_up(
        authorization.payer.lower(), "0x" + authorization.nonce.hex(), signed_at=base_chain.now
    )
    assert found == OnChainSettled(transaction, SHOP, 70_000)
    with pytest.raises(ValueError, match="32 bytes"):
        chain.look_up(authorization.payer, "0x01", signed_at=0)


def test_a_servers_claim_is_checked_with_its_receipt_and_the_tokens_state(
    base_chain: LocalChain, opened: Open
) -> None:
    authorization, transaction = paid(base_chain)
    with meddling(base_chain.rpc_url) as rpc:
        chain = opened(rpc.url)
        found = look_up(chain, authorization, base_chain.now, transaction.upper().replace("X", "x"))
    assert found == OnChainSettled(transaction, SHOP, 70_000)
    assert rpc.methods == ["eth_chainId", "eth_getTransactionReceipt", "eth_call"]


@pytest.mark.parametrize("claim", ["", "0x", "paid!", UNKNOWN_TRANSACTION, "another's"])
def test_a_false_claim_changes_nothing(chain: Chain, base_chain: LocalChain, claim: str) -> None:
    if claim == "another's":
        claim = paid(base_chain)[1]
    signed_at = base_chain.now
    authorization, transaction = paid(base_chain)
    assert look_up(chain, authorization, signed_at, claim) == OnChainSettled(
        transaction, SHOP, 70_000
    )


def test_nothing_paid_is_a_payment_too(chain: Chain, base_chain: LocalChain) -> None:
    signed_at = base_chain.now
    authorization, transaction = paid(base_chain, 0)
    assert look_up(chain, authorization, signed_at) == OnChainSettled(transaction, SHOP, 0)


@pytest.mark.parametrize("which", [0, 1])
def test_of_two_prices_under_one_nonce_the_chain_knows_which_was_paid(
    chain: Chain, base_chain: LocalChain, which: int
) -> None:
    signed_at, nonce = base_chain.now, os.urandom(32)
    payer = base_chain.funded_account(100)
    offers = [
        base_chain.usdc.sign(payer, to=to, amount_atomic=amount_atomic, nonce=nonce)
        for to, amount_atomic in ((SHOP, 10), (STRANGER, 12))
    ]
    settled = offers.pop(which)
    transaction = base_chain.usdc.relay(settled)
    with pytest.raises(ContractLogicError, match="used or canceled"):
        base_chain.usdc.relay(offers[0])
    assert look_up(chain, offers[0], signed_at) == OnChainSettled(
        transaction, settled.to, settled.amount_atomic
    )


# Unused


def test_an_unused_nonce_comes_with_the_chains_own_time(
    own_chain: LocalChain, opened: Open
) -> None:
    chain, signed_at = opened(own_chain.rpc_url), own_chain.now
    payer = own_chain.funded_account(10)
    authorization = own_chain.usdc.sign(payer, to=SHOP, amount_atomic=10)
    own_chain.anvil.move_clock(A_DAY)
    assert look_up(chain, authorization, signed_at) == OnChainUnused(chain_time=own_chain.now)
    assert look_up(chain, authorization, signed_at, UNKNOWN_TRANSACTION) == OnChainUnused(
        chain_time=own_chain.now
    )


def test_unused_in_a_block_that_the_chain_dropped_proves_nothing(
    base_chain: LocalChain, opened: Open
) -> None:
    def another(params: list[Any], ask: Callable[[], Any]) -> Any:
        block = ask()
        return block if params[0] == "latest" else block | {"hash": UNKNOWN_TRANSACTION}

    payer = base_chain.funded_account(10)
    authorization = base_chain.usdc.sign(payer, to=SHOP, amount_atomic=10)
    with meddling(base_chain.rpc_url, eth_getBlockByNumber=another) as rpc:
        found = look_up(opened(rpc.url), authorization, base_chain.now)
    assert isinstance(found, OnChainUnread)
    assert "the chain changed while it was read" in found.why


# Cancelled


def test_a_cancelled_authorization_is_found(own_chain: LocalChain, opened: Open) -> None:
    chain, signed_at = opened(own_chain.rpc_url), own_chain.now
    wallet, nonce = Wallet.generate(), os.urandom(32)
    own_chain.anvil.request("anvil_setBalance", wallet.address, PLENTY_OF_ETH)
    cancelled = chain.cancel(wallet, nonce, max_cost_wei=10**18)
    assert isinstance(cancelled, OnChainCancelled)
    for claim in (None, cancelled.transaction):
        found = chain.look_up(wallet.address, nonce, signed_at=signed_at, transaction=claim)
        assert found == cancelled


# Where to look


@pytest.mark.parametrize(
    ("most_blocks", "since"), [(1, 0), (1, 9), (2, 5), (7, 61), (50, 61), (2000, 61), (2000, 0)]
)
def test_the_event_is_found_however_far_back_and_in_however_small_ranges(
    own_chain: LocalChain, opened: Open, most_blocks: int, since: int
) -> None:
    chain = opened(own_chain.rpc_url, most_blocks=most_blocks)
    own_chain.anvil.request("anvil_mine", hex(40), hex(2))
    own_chain.anvil.move_clock(2 * A_DAY)
    signed_at = own_chain.now
    authorization, transaction = paid(own_chain)
    own_chain.anvil.request("anvil_mine", hex(since), hex(600))
    assert look_up(chain, authorization, signed_at) == OnChainSettled(transaction, SHOP, 70_000)


@pytest.mark.parametrize("most_blocks", [1, 3, 2000])
def test_the_event_is_found_where_another_machine_paid_long_before(
    own_chain: LocalChain, opened: Open, most_blocks: int
) -> None:
    authorization, transaction = paid(own_chain)
    own_chain.anvil.request("anvil_mine", hex(30), hex(A_DAY))
    found = look_up(
        opened(own_chain.rpc_url, most_blocks=most_blocks), authorization, own_chain.now
    )
    assert found == OnChainSettled(transaction, SHOP, 70_000)


def test_a_node_without_old_states_does_not_say_who_paid_long_before(
    own_chain: LocalChain, opened: Open
) -> None:
    def newest_only(params: list[Any], ask: Callable[[], Any]) -> Any:
        if int(params[1], 16) < newest:
            raise Refusal.error(-32000)
        return ask()

    authorization, _ = paid(own_chain)
    own_chain.anvil.request("anvil_mine", hex(30), hex(A_DAY))
    newest = int(own_chain.anvil.request("eth_blockNumber"), 16)
    with meddling(own_chain.rpc_url, eth_call=newest_only) as rpc:
        found = look_up(opened(rpc.url, most_blocks=3), authorization, own_chain.now)
    assert isinstance(found, OnChainUnread)
    assert "RPC error -32000" in found.why


TOO_MANY_BLOCKS = {
    "an RPC error": Refusal.error(-32005),
    "a bad request": Refusal(400, b"too many blocks"),
    "too large": Refusal(413, b""),
}


def at_most(blocks: int, refusal: Refusal) -> Meddler:
    def meddle(params: list[Any], ask: Callable[[], Any]) -> Any:
        if int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) >= blocks:
            raise refusal
        return ask()

    return meddle


@pytest.mark.parametrize("refusal", TOO_MANY_BLOCKS.values(), ids=TOO_MANY_BLOCKS.keys())
def test_an_rpc_that_refuses_a_range_is_asked_for_halves(
    own_chain: LocalChain, opened: Open, refusal: Refusal
) -> None:
    signed_at = own_chain.now
    authorization, transaction = paid(own_chain)
    own_chain.anvil.request("anvil_mine", hex(50))
    with meddling(own_chain.rpc_url, eth_getLogs=at_most(5, refusal)) as rpc:
        chain = opened(rpc.url)
        assert look_up(chain, authorization, signed_at) == OnChainSettled(transaction, SHOP, 70_000)
        used = list(chain.used_authorizations(authorization.payer, from_block=0))
    assert [each.transaction for each in used] == [transaction]


# Could not be read


def withheld(_: list[Any], ask: Callable[[], Any]) -> Any:
    ask()
    return []


def refused(_: list[Any], ask: Callable[[], Any]) -> Any:
    raise Refusal.error(-32601)


def unavailable(_: list[Any], ask: Callable[[], Any]) -> Any:
    raise Refusal(503, b"")


def cut(_: list[Any], ask: Callable[[], Any]) -> Any:
    raise Refusal(200, b'{"jsonrpc": "2.0", "id": 1, "result": [{"address": "0x833')


def nothing(_: list[Any], ask: Callable[[], Any]) -> Any:
    return None


def number(_: list[Any], ask: Callable[[], Any]) -> Any:
    return "0x1"


def logs_with(**changes: object) -> Meddler:
    return lambda _, ask: [log | changes for log in ask()]


def receipt_with(**changes: object) -> Meddler:
    def meddle(_: list[Any], ask: Callable[[], Any]) -> Any:
        receipt = ask()
        return receipt | changes

    return meddle


def receipt_logs_with(**changes: object) -> Meddler:
    def meddle(_: list[Any], ask: Callable[[], Any]) -> Any:
        receipt = ask()
        return receipt | {"logs": [log | changes for log in receipt["logs"]]}

    return meddle


def without_transfers(_: list[Any], ask: Callable[[], Any]) -> Any:
    receipt = ask()
    topic = "0x" + TRANSFER_TOPIC.hex()
    return receipt | {"logs": [log for log in receipt["logs"] if log["topics"][0] != topic]}


MEDDLERS: dict[str, dict[str, Meddler]] = {
    "the event is withheld": {"eth_getLogs": withheld},
    "logs are refused": {"eth_getLogs": refused},
    "logs are unavailable": {"eth_getLogs": unavailable},
    "logs are cut off": {"eth_getLogs": cut},
    "logs are null": {"eth_getLogs": nothing},
    "logs are a number": {"eth_getLogs": number},
    "logs are another contract's": {"eth_getLogs": logs_with(address=SHOP)},
    "logs are of a far block": {"eth_getLogs": logs_with(blockNumber="0x0")},
    "logs are of no block": {"eth_getLogs": logs_with(blockNumber=None)},
    "logs were removed": {"eth_getLogs": logs_with(removed=True)},
    "logs have no topics": {"eth_getLogs": logs_with(topics=[])},
    "logs are of no transaction": {"eth_getLogs": logs_with(transactionHash=UNKNOWN_TRANSACTION)},
    "the receipt is missing": {"eth_getTransactionReceipt": nothing},
    "the receipt is refused": {"eth_getTransactionReceipt": refused},
    "the receipt is a number": {"eth_getTransactionReceipt": number},
    "the receipt is of a failure": {"eth_getTransactionReceipt": receipt_with(status="0x0")},
    "the receipt has no status": {"eth_getTransactionReceipt": receipt_with(status=None)},
    "the receipt has no logs": {"eth_getTransactionReceipt": receipt_with(logs=[])},
    "the receipt has no transfer": {"eth_getTransactionReceipt": without_transfers},
    "the receipt is another's": {
        "eth_getTransactionReceipt": receipt_logs_with(transactionHash=UNKNOWN_TRANSACTION)
    },
    "the receipt is of another contract": {
        "eth_getTransactionReceipt": receipt_logs_with(address=SHOP)
    },
    "the state is refused": {"eth_call": refused},
    "the state is nothing": {"eth_call": nothing},
    "blocks are refused": {"eth_getBlockByNumber": refused},
    "blocks are of a time without end": {
        "eth_getBlockByNumber": lambda _, ask: ask() | {"timestamp": "0xffffffffffffffffffff"}
    },
    "blocks are others": {
        "eth_getBlockByNumber": lambda params, ask: (
            ask() | ({} if params[0] == "latest" else {"number": "0x1"})
        )
    },
}


@pytest.mark.parametrize("meddlers", MEDDLERS.values(), ids=MEDDLERS.keys())
def test_a_payment_that_settled_is_never_called_unused(
    settled_long_ago: tuple[LocalChain, Authorization, int],
    opened: Open,
    meddlers: dict[str, Meddler],
) -> None:
    local, authorization, signed_at = settled_long_ago
    with meddling(local.rpc_url, **meddlers) as rpc:
        found = look_up(opened(rpc.url, most_blocks=5), authorization, signed_at)
    assert isinstance(found, OnChainUnread)
    assert found.why
    assert rpc.url in found.why


def test_a_state_that_denies_the_receipt_proves_nothing(
    base_chain: LocalChain, opened: Open
) -> None:
    def unused(_: list[Any], ask: Callable[[], Any]) -> Any:
        return "0x" + "00" * 32

    authorization, transaction = paid(base_chain)
    with meddling(base_chain.rpc_url, eth_call=unused) as rpc:
        found = look_up(opened(rpc.url), authorization, base_chain.now, transaction)
    assert isinstance(found, OnChainUnread)
    assert f"the nonce is unused, in spite of {transaction}" in found.why


def test_an_unreachable_rpc_leaves_it_unread(opened: Open, base_chain: LocalChain) -> None:
    authorization, transaction = paid(base_chain)
    with meddling(base_chain.rpc_url) as rpc:
        url = rpc.url
    for claim in (None, transaction):
        found = look_up(opened(url), authorization, base_chain.now, claim)
        assert isinstance(found, OnChainUnread)
        assert "the connection failed" in found.why


def test_an_rpc_on_another_chain_is_a_wrong_setting(base_chain: LocalChain) -> None:
    authorization, transaction = paid(base_chain)
    with Chain(base_chain.rpc_url, BASE_SEPOLIA) as chain:
        for claim in (None, transaction):
            with pytest.raises(ConfigError, match="chain 8453"):
                look_up(chain, authorization, base_chain.now, claim)


@pytest.fixture(scope="module")
def settled_long_ago() -> Iterator[tuple[LocalChain, Authorization, int]]:
    """A chain on which an authorization settled 25 blocks and more than a day ago."""
    with start_chain() as local:
        local.anvil.request("anvil_mine", hex(20), hex(600))
        signed_at = local.now
        authorization, _ = paid(local)
        local.anvil.request("anvil_mine", hex(25), hex(3600))
        yield local, authorization, signed_at


# All that a payer ever paid


def pay(local: LocalChain, payer: LocalAccount, *amounts: int) -> list[str]:
    return [
        local.usdc.relay(local.usdc.sign(payer, to=SHOP, amount_atomic=amount))
        for amount in amounts
    ]


def transfer_plainly(local: LocalChain, payer: str, amount_atomic: int) -> None:
    """By the payer's own transaction, without an authorization."""
    call = keccak256(b"transfer(address,uint256)")[:4] + address_topic(SHOP)
    data = "0x" + (call + amount_atomic.to_bytes(32)).hex()
    local.anvil.request("anvil_setBalance", payer, PLENTY_OF_ETH)
    local.anvil.request("anvil_impersonateAccount", payer)
    local.anvil.request("eth_sendTransaction", {"from": payer, "to": BASE.usdc, "data": data})
    local.anvil.request("evm_mine")  # it mines what was sent by itself, but some time later
    assert local.usdc.transfers(sender=payer)[-1].amount_atomic == amount_atomic


@pytest.mark.parametrize("most_blocks", [1, 4, 2000])
def test_all_that_a_payer_paid_is_told_in_order(
    own_chain: LocalChain, opened: Open, most_blocks: int
) -> None:
    chain, payer = opened(own_chain.rpc_url, most_blocks=most_blocks), own_chain.funded_account(99)
    pay(own_chain, own_chain.funded_account(5), 5)  # somebody else
    transactions = pay(own_chain, payer, 3, 1)
    own_chain.anvil.request("anvil_mine", hex(9), hex(600))
    transactions += pay(own_chain, payer, 2)
    transfer_plainly(own_chain, payer.address, 50)

    used = list(chain.used_authorizations(payer.address.lower(), from_block=0))

    assert [(each.amount_atomic, each.transaction) for each in used] == [
        *zip((3, 1, 2), transactions, strict=True)
    ]
    assert {(each.payer, each.pay_to) for each in used} == {(payer.address, SHOP)}
    assert [bytes.fromhex(each.nonce[2:]) for each in used] == [
        each.nonce for each in own_chain.usdc.authorizations_used(payer=payer.address)
    ]
    blocks = [
        own_chain.anvil.request("eth_getBlockByNumber", hex(each.block), False) for each in used
    ]
    assert [each.block_time for each in used] == [int(block["timestamp"], 16) for block in blocks]
    late = list(chain.used_authorizations(payer.address, from_block=used[1].block + 1))
    assert late == used[2:]


@pytest.mark.parametrize("from_block", [-1, 10**9])
def test_a_block_that_is_not_there_is_not_the_end_of_the_list(
    chain: Chain, from_block: int
) -> None:
    with pytest.raises(ChainUnreadable, match=f"block {from_block} is asked for"):
        list(chain.used_authorizations(SHOP, from_block=from_block))


def only_used(_: list[Any], ask: Callable[[], Any]) -> Any:
    return [log for log in ask() if log["topics"][0] != "0x" + TRANSFER_TOPIC.hex()]


@pytest.mark.parametrize("meddler", [only_used, refused, cut, logs_with(address=SHOP)])
def test_a_list_with_a_gap_is_no_list(
    base_chain: LocalChain, opened: Open, meddler: Meddler
) -> None:
    authorization, _ = paid(base_chain)
    with meddling(base_chain.rpc_url, eth_getLogs=meddler) as rpc:
        used = opened(rpc.url).used_authorizations(authorization.payer, from_block=0)
        with pytest.raises(ChainUnreadable):
            list(used)


def test_a_refusal_halfway_is_raised_after_what_was_read(
    own_chain: LocalChain, opened: Open
) -> None:
    payer = own_chain.funded_account(9)
    pay(own_chain, payer, 1)
    newest = int(own_chain.anvil.request("eth_blockNumber"), 16)
    own_chain.anvil.request("anvil_mine", hex(5))

    def until_newest(params: list[Any], ask: Callable[[], Any]) -> Any:
        if int(params[0]["toBlock"], 16) > newest:
            raise Refusal.error(-32005)
        return ask()

    with meddling(own_chain.rpc_url, eth_getLogs=until_newest) as rpc:
        used = opened(rpc.url).used_authorizations(payer.address, from_block=0)
        assert next(used).amount_atomic == 1
        with pytest.raises(ChainUnreadable, match=f"events of blocks {newest + 1} to"):
            next(used)
