"""What cancels an authorization, byte for byte as eth_account and web3 would make it."""

from __future__ import annotations

from eth_account import Account
from eth_account.messages import _hash_eip191_message, encode_typed_data
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hypothesis import given, settings
from hypothesis import strategies as st
from web3 import Web3

from x402sms.chain import usdc_abi
from x402sms.money import UINT256_MAX
from x402sms.protocol.cancellation import Cancellation, GasTransaction
from x402sms.protocol.keccak import checksum_address
from x402sms.protocol.networks import NETWORKS
from x402sms.wallet import Wallet

KEY = "0x" + "4c" * 32
WALLET = Wallet.from_key(KEY)

addresses = st.binary(min_size=20, max_size=20).map(lambda raw: checksum_address("0x" + raw.hex()))
words = st.one_of(st.integers(0, 300), st.integers(0, 2**64), st.integers(0, UINT256_MAX))
cancellations = st.builds(
    Cancellation,
    network=st.sampled_from(NETWORKS),
    payer=addresses,
    nonce=st.binary(min_size=32, max_size=32),
)
transactions = st.builds(
    GasTransaction,
    chain_id=st.integers(0, 2**32),
    sequence=words,
    max_priority_fee_per_gas=words,
    max_fee_per_gas=words,
    gas=words,
    to=addresses,
    data=st.one_of(st.binary(max_size=80), st.binary(min_size=250, max_size=300)),
)


@settings(deadline=None)
@given(cancellations)
def test_the_digest_is_the_one_eth_account_makes_of_the_same_typed_data(
    cancellation: Cancellation,
) -> None:
    network = cancellation.network
    message = encode_typed_data(
        {
            "name": network.domain_name,
            "version": network.domain_version,
            "chainId": network.chain_id,
            "verifyingContract": network.usdc,
        },
        {
            "CancelAuthorization": [
                {"name": "authorizer", "type": "address"},
                {"name": "nonce", "type": "bytes32"},
            ]
        },
        {"authorizer": cancellation.payer, "nonce": cancellation.nonce},
    )
    assert cancellation.digest() == _hash_eip191_message(message)


@settings(deadline=None, max_examples=20)
@given(cancellations)
def test_the_call_is_the_one_web3_makes_from_the_contracts_abi(cancellation: Cancellation) -> None:
    signature = WALLET.sign_digest(cancellation.digest())
    contract = Web3().eth.contract(abi=usdc_abi())
    r, s, v = signature[:32], signature[32:64], signature[64]
    expected = contract.encode_abi(
        "cancelAuthorization", [cancellation.payer, cancellation.nonce, v, r, s]
    )
    assert Web3.to_hex(cancellation.call(signature)) == expected


@settings(deadline=None)
@given(transactions)
def test_a_transaction_is_hashed_and_written_as_eth_account_does(
    transaction: GasTransaction,
) -> None:
    fields = {
        "type": 2,
        "chainId": transaction.chain_id,
        "nonce": transaction.sequence,
        "maxPriorityFeePerGas": transaction.max_priority_fee_per_gas,
        "maxFeePerGas": transaction.max_fee_per_gas,
        "gas": transaction.gas,
        "to": transaction.to,
        "value": 0,
        "data": transaction.data,
    }
    assert transaction.digest() == TypedTransaction.from_dict(fields).hash()
    signed = Account.sign_transaction(fields, KEY)
    assert transaction.signed(WALLET.sign_digest(transaction.digest())) == signed.raw_transaction
