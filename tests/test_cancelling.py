"""Cancelling an authorization on the chain: the one thing that costs ETH, and says so first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from web3.exceptions import ContractLogicError

from tests.parts.fixtures import LocalChain
from tests.parts.rpc import Refusal, meddling
from tests.parts.usdc import Authorization
from x402sms.chain import CannotCancel, Chain, ChainUnreadable, to_eth
from x402sms.protocol.networks import BASE
from x402sms.protocol.types import OnChainCancelled
from x402sms.wallet import Wallet

SHOP = "0x00000000000000000000000000000000000000A1"
ETH = 10**18
DATA_FEES = "0x420000000000000000000000000000000000000F"
KEY = "0x" + "5e" * 32


@pytest.fixture
def chain(base_chain: LocalChain) -> Iterator[Chain]:
    with Chain(base_chain.rpc_url, BASE) as chain:
        yield chain


def rich_wallet(local: LocalChain, wei: int = ETH) -> Wallet:
    wallet = Wallet.generate()
    local.anvil.request("anvil_setBalance", wallet.address, hex(wei))
    return wallet


def eth_of(local: LocalChain, address: str) -> int:
    return int(local.anvil.request("eth_getBalance", address, "latest"), 16)


def transactions_of(local: LocalChain, address: str) -> int:
    return int(local.anvil.request("eth_getTransactionCount", address, "latest"), 16)


def signed(local: LocalChain, key: str) -> tuple[Wallet, Authorization]:
    """A wallet with ETH and USDC, and an authorization that it signed."""
    account, wallet = Account.from_key(key), Wallet.from_key(key)
    local.usdc.mint(wallet.address, 10)
    local.anvil.request("anvil_setBalance", wallet.address, hex(ETH))
    return wallet, local.usdc.sign(account, to=SHOP, amount_atomic=10)


def fresh_key() -> str:
    return "0x" + os.urandom(32).hex()


def test_a_cancelled_authorization_can_never_settle(chain: Chain, base_chain: LocalChain) -> None:
    wallet, authorization = signed(base_chain, fresh_key())
    cost = chain.estimate_cancel(wallet.address)
    assert (cost.gas_payer, cost.has, cost.missing) == (wallet.address, ETH, 0)

    cancelled = chain.cancel(wallet, authorization.nonce, max_cost_wei=cost.needs)

    assert isinstance(cancelled, OnChainCancelled)
    assert chain.authorization_state(wallet.address, authorization.nonce)
    with pytest.raises(ContractLogicError, match="used or canceled"):
        base_chain.usdc.relay(authorization)
    assert chain.balance(wallet.address) == 10
    assert 0 < ETH - eth_of(base_chain, wallet.address) <= cost.needs


def test_the_gas_can_be_paid_by_another_wallet(chain: Chain, base_chain: LocalChain) -> None:
    payer, friend, nonce = Wallet.generate(), rich_wallet(base_chain), os.urandom(32)
    for _ in range(2):  # the second one follows the first
        cancelled = chain.cancel(payer, nonce, max_cost_wei=ETH, gas_payer=friend)
        assert cancelled.transaction.startswith("0x")
        nonce = os.urandom(32)
    assert eth_of(base_chain, payer.address) == 0
    assert transactions_of(base_chain, friend.address) == 2


def test_nothing_of_a_wallet_is_used_but_its_address_and_digests(
    chain: Chain, base_chain: LocalChain
) -> None:
    class Digests:
        def __init__(self, wallet: Wallet) -> None:
            self.address = wallet.address
            self.sign_digest = wallet.sign_digest

    cancelled = chain.cancel(
        Digests(rich_wallet(base_chain)), "0x" + os.urandom(32).hex(), max_cost_wei=ETH
    )
    assert isinstance(cancelled, OnChainCancelled)


@pytest.mark.parametrize("has", [0, 1, 10**12])
def test_without_enough_eth_it_says_how_much_is_missing_and_where(
    chain: Chain, base_chain: LocalChain, has: int
) -> None:
    wallet, nonce = rich_wallet(base_chain, has), os.urandom(32)
    cost = chain.estimate_cancel(wallet.address)
    assert (cost.has, cost.missing) == (has, cost.needs - has)
    assert (cost.has_eth, cost.needs_eth) == (to_eth(has), to_eth(cost.needs))
    with pytest.raises(CannotCancel, match="nothing sent") as caught:
        chain.cancel(wallet, nonce, max_cost_wei=ETH)
    assert caught.value.gas_payer == wallet.address
    assert caught.value.missing_wei > 0
    assert f"send it {to_eth(caught.value.missing_wei):f} ETH" in str(caught.value)
    assert wallet.address in str(caught.value)
    assert not chain.authorization_state(wallet.address, nonce)
    assert transactions_of(base_chain, wallet.address) == 0


def test_what_is_used_already_is_not_cancelled(chain: Chain, base_chain: LocalChain) -> None:
    wallet, authorization = signed(base_chain, fresh_key())
    base_chain.usdc.relay(authorization)
    with pytest.raises(CannotCancel, match="nothing sent: the authorization was used") as caught:
        chain.cancel(wallet, authorization.nonce, max_cost_wei=ETH)
    assert caught.value.gas_payer is None
    assert transactions_of(base_chain, wallet.address) == 0


def test_it_costs_no_more_than_was_agreed_to(chain: Chain, base_chain: LocalChain) -> None:
    wallet = rich_wallet(base_chain)
    cost = chain.estimate_cancel(wallet.address)
    with pytest.raises(CannotCancel, match=r"0\.000000000000000001 was agreed to"):
        chain.cancel(wallet, os.urandom(32), max_cost_wei=1)
    assert eth_of(base_chain, wallet.address) == ETH
    # Less than for a base fee that doubles, but enough for today's.
    enough = cost.needs - cost.gas * cost.base_fee_per_gas // 2
    chain.cancel(wallet, os.urandom(32), max_cost_wei=enough)
    assert ETH - eth_of(base_chain, wallet.address) <= enough


def test_an_authorization_that_settles_in_the_meantime_is_not_called_cancelled(
    chain: Chain, base_chain: LocalChain
) -> None:
    wallet, authorization = signed(base_chain, fresh_key())

    def overtaken(_: list[Any], ask: Callable[[], Any]) -> Any:
        base_chain.usdc.relay(authorization)
        return ask()

    with (
        meddling(base_chain.rpc_url, eth_sendRawTransaction=overtaken) as rpc,
        Chain(rpc.url, BASE) as overtaken_chain,
        pytest.raises(CannotCancel, match="the USDC contract refused"),
    ):
        overtaken_chain.cancel(wallet, authorization.nonce, max_cost_wei=ETH)
    assert chain.balance(wallet.address) == 0


def test_a_success_without_the_event_is_not_called_cancelled(base_chain: LocalChain) -> None:
    def without_logs(_: list[Any], ask: Callable[[], Any]) -> Any:
        return ask() | {"logs": []}

    with (
        meddling(base_chain.rpc_url, eth_getTransactionReceipt=without_logs) as rpc,
        Chain(rpc.url, BASE) as chain,
        pytest.raises(ChainUnreadable, match="shows no cancellation"),
    ):
        chain.cancel(rich_wallet(base_chain), os.urandom(32), max_cost_wei=ETH)


def test_what_the_rpc_did_with_it_is_not_known_when_it_does_not_say(
    base_chain: LocalChain,
) -> None:
    def lost(_: list[Any], ask: Callable[[], Any]) -> Any:
        ask()
        raise Refusal(502, b"")

    wallet, nonce = rich_wallet(base_chain), os.urandom(32)
    with (
        meddling(base_chain.rpc_url, eth_sendRawTransaction=lost) as rpc,
        Chain(rpc.url, BASE) as chain,
        pytest.raises(ChainUnreadable, match=r"0x[0-9a-f]{64}, which may still be mined"),
    ):
        chain.cancel(wallet, nonce, max_cost_wei=ETH)
    assert rpc.methods.count("eth_sendRawTransaction") == 1
    assert base_chain.usdc.authorization_state(wallet.address, nonce)


def test_it_waits_until_the_transaction_is_mined(own_chain: LocalChain) -> None:
    asked = 0

    def mined_later(_: list[Any], ask: Callable[[], Any]) -> Any:
        nonlocal asked
        asked += 1
        if asked == 3:
            own_chain.anvil.request("evm_mine")
        return ask()

    own_chain.anvil.request("evm_setAutomine", False)
    with (
        meddling(own_chain.rpc_url, eth_getTransactionReceipt=mined_later) as rpc,
        Chain(rpc.url, BASE) as chain,
    ):
        chain.cancel(rich_wallet(own_chain), os.urandom(32), max_cost_wei=ETH)
    assert asked == 3


def test_it_does_not_wait_for_ever(own_chain: LocalChain) -> None:
    own_chain.anvil.request("evm_setAutomine", False)
    with (
        Chain(own_chain.rpc_url, BASE) as chain,
        pytest.raises(ChainUnreadable, match=r"sent but not mined within 0 s; it still may be"),
    ):
        chain.cancel(rich_wallet(own_chain), os.urandom(32), max_cost_wei=ETH, timeout=0)


def returning(answer: bytes) -> str:
    """A contract that answers every call with these bytes, at most 32."""
    word = answer.ljust(32, b"\0")
    # PUSH32 word, PUSH0, MSTORE, PUSH1 length, PUSH0, RETURN
    return "0x7f" + word.hex() + "5f5260" + f"{len(answer):02x}" + "5ff3"


def test_base_asks_for_a_transactions_bytes_as_well(own_chain: LocalChain) -> None:
    with Chain(own_chain.rpc_url, BASE) as chain:
        wallet = rich_wallet(own_chain)
        without = chain.estimate_cancel(wallet.address)
        own_chain.anvil.request("anvil_setCode", DATA_FEES, returning((12_345).to_bytes(32)))
        cost = chain.estimate_cancel(wallet.address)
        assert (without.data_fee, cost.data_fee) == (0, 12_345)
        assert cost.needs == cost.gas * cost.max_fee_per_gas + 12_345
        own_chain.anvil.request("anvil_setCode", DATA_FEES, returning(b"\1\2"))
        with pytest.raises(ChainUnreadable, match="the data fee"):
            chain.estimate_cancel(wallet.address)


def test_a_signed_cancellation_leaves_only_when_it_is_sent(base_chain: LocalChain) -> None:
    """Whoever has it can burn the nonce, so an estimate must not need it."""
    account = Account.from_key(KEY)
    nonce = bytes(range(32))
    domain = {
        "name": BASE.domain_name,
        "version": BASE.domain_version,
        "chainId": BASE.chain_id,
        "verifyingContract": BASE.usdc,
    }
    fields = [{"name": "authorizer", "type": "address"}, {"name": "nonce", "type": "bytes32"}]
    typed = encode_typed_data(
        domain,
        {"CancelAuthorization": fields},
        {"authorizer": account.address, "nonce": nonce},
    )
    signature = account.sign_message(typed).signature[:64].hex()
    bodies: list[str] = []

    def heard(params: list[Any], ask: Callable[[], Any]) -> Any:
        bodies.append(str(params))
        return ask()

    methods = ("eth_call", "eth_getBlockByNumber", "eth_estimateGas", "eth_getTransactionCount")
    with (
        meddling(
            base_chain.rpc_url, eth_sendRawTransaction=heard, **dict.fromkeys(methods, heard)
        ) as rpc,
        Chain(rpc.url, BASE) as chain,
    ):
        base_chain.anvil.request("anvil_setBalance", account.address, "0x0")
        with pytest.raises(CannotCancel):
            chain.cancel(Wallet.from_key(KEY), nonce, max_cost_wei=ETH)
        assert signature not in "".join(bodies)
        base_chain.anvil.request("anvil_setBalance", account.address, hex(ETH))
        chain.cancel(Wallet.from_key(KEY), nonce, max_cost_wei=ETH)
        assert signature in bodies[-1]
        assert signature not in "".join(bodies[:-1])


@pytest.mark.parametrize(
    ("wei", "eth"),
    [(0, "0"), (1, "0.000000000000000001"), (10**18, "1"), (15 * 10**17, "1.5"), (10**20, "100")],
)
def test_ether_is_written_exactly(wei: int, eth: str) -> None:
    assert f"{to_eth(wei):f}" == eth
    assert to_eth(wei) == Decimal(wei) / 10**18
