from __future__ import annotations

import pytest
from eth_account import Account
from eth_account.messages import _hash_eip191_message, encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from x402sms.errors import ConfigError
from x402sms.money import UINT256_MAX
from x402sms.protocol.eip3009 import (
    BACKDATE_SECONDS,
    SHORTEST_WINDOW,
    Authorization,
    intent_nonce,
    validity_window,
)
from x402sms.protocol.keccak import checksum_address, keccak256
from x402sms.protocol.networks import (
    BASE,
    BASE_SEPOLIA,
    NETWORKS,
    Network,
    find_network,
    get_network,
)
from x402sms.wallet import Wallet

PAYER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
OTHER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"

addresses = st.binary(min_size=20, max_size=20).map(lambda raw: checksum_address("0x" + raw.hex()))
words = st.one_of(st.integers(0, UINT256_MAX), st.integers(0, 10**9))
authorizations = st.builds(
    Authorization,
    network=st.sampled_from(NETWORKS),
    payer=addresses,
    pay_to=addresses,
    amount_atomic=words,
    valid_after=words,
    valid_before=words,
    nonce=st.binary(min_size=32, max_size=32),
)


@settings(max_examples=1000, deadline=None)
@given(authorizations)
def test_the_digest_is_the_one_eth_account_makes_of_the_same_typed_data(
    authorization: Authorization,
) -> None:
    message = encode_typed_data(
        authorization.domain_data(), authorization.message_types(), authorization.message_data()
    )
    assert authorization.digest() == _hash_eip191_message(message)


def test_the_digest_is_right_when_the_typed_data_is_written_by_hand() -> None:
    authorization = Authorization(BASE, PAYER, OTHER, 10_000, 1, 2, b"\7" * 32)
    message = encode_typed_data(
        full_message={
            "primaryType": "TransferWithAuthorization",
            "types": {
                "EIP712Domain": [
                    {"name": "name", "type": "string"},
                    {"name": "version", "type": "string"},
                    {"name": "chainId", "type": "uint256"},
                    {"name": "verifyingContract", "type": "address"},
                ],
                "TransferWithAuthorization": [
                    {"name": "from", "type": "address"},
                    {"name": "to", "type": "address"},
                    {"name": "value", "type": "uint256"},
                    {"name": "validAfter", "type": "uint256"},
                    {"name": "validBefore", "type": "uint256"},
                    {"name": "nonce", "type": "bytes32"},
                ],
            },
            "domain": {
                "name": "USD Coin",
                "version": "2",
                "chainId": 8453,
                "verifyingContract": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
            },
            "message": {
                "from": PAYER,
                "to": OTHER,
                "value": 10_000,
                "validAfter": 1,
                "validBefore": 2,
                "nonce": "0x" + "07" * 32,
            },
        }
    )
    assert authorization.digest() == _hash_eip191_message(message)


@settings(max_examples=50, deadline=None)
@given(authorizations, st.integers(1, 2**250))
def test_the_signature_recovers_to_the_key_that_signed(
    authorization: Authorization, secret: int
) -> None:
    wallet = Wallet.from_key(f"{secret:064x}")
    message = encode_typed_data(
        authorization.domain_data(), authorization.message_types(), authorization.message_data()
    )
    signature = wallet.sign_digest(authorization.digest())
    assert Account.recover_message(message, signature=signature) == wallet.address


def test_each_field_of_an_authorization_is_in_its_digest() -> None:
    fields = {
        "network": (BASE, BASE_SEPOLIA),
        "payer": (PAYER, OTHER),
        "pay_to": (PAYER, OTHER),
        "amount_atomic": (1, 2),
        "valid_after": (1, 2),
        "valid_before": (1, 2),
        "nonce": (b"\1" * 32, b"\2" * 32),
    }
    first = {name: pair[0] for name, pair in fields.items()}
    digests = {Authorization(**first).digest()}  # type: ignore[arg-type]
    for name, pair in fields.items():
        digests.add(Authorization(**(first | {name: pair[1]})).digest())  # type: ignore[arg-type]
    assert len(digests) == 1 + len(fields)


def test_the_domain_separators_are_those_of_usdc_on_each_chain() -> None:
    assert (
        BASE.domain_separator.hex()
        == "02fa7265e7c5d81118673727957699e4d68f74cd74b7db77da710fe8a2c7834f"
    )
    for network in NETWORKS:
        domain = {
            "name": network.domain_name,
            "version": network.domain_version,
            "chainId": network.chain_id,
            "verifyingContract": network.usdc,
        }
        types = {"X": [{"name": "x", "type": "uint256"}]}
        assert encode_typed_data(domain, types, {"x": 0}).header == network.domain_separator


def test_the_table_of_networks_is_pinned() -> None:
    assert [
        (each.caip2, each.name, each.chain_id, each.usdc, each.domain_name, each.domain_version)
        for each in NETWORKS
    ] == [
        (
            "eip155:8453",
            "base",
            8453,
            "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
            "USD Coin",
            "2",
        ),
        (
            "eip155:84532",
            "base-sepolia",
            84532,
            "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
            "USDC",
            "2",
        ),
    ]
    for network in NETWORKS:
        assert checksum_address(network.usdc) == network.usdc
        for name in (network.name, network.caip2):
            assert find_network(name) is get_network(name) is network
        assert get_network(network) is network


@pytest.mark.parametrize("name", ["", "Base", "eip155:1", "ethereum", "8453", "base "])
def test_a_network_that_is_not_pinned_is_refused(name: str) -> None:
    assert find_network(name) is None
    with pytest.raises(ConfigError, match="base, base-sepolia"):
        get_network(name)


def test_a_network_of_ones_own_making_is_refused() -> None:
    evil = Network("base", "Base", 1, OTHER, "USD Coin", "2")
    with pytest.raises(ConfigError, match="not one of the networks"):
        get_network(evil)


def test_keccak_is_ethereums_and_not_sha3() -> None:
    assert (
        keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    )


def test_the_nonce_of_an_intent_is_a_pure_function_of_all_that_it_names() -> None:
    nonces = {
        intent_nonce(network, payer, intent)
        for network in NETWORKS
        for payer in (PAYER, OTHER)
        for intent in ("invoice-7", "invoice-8", "Invoice-7", "invoice-7 ", "")
    }
    assert len(nonces) == 2 * 2 * 5
    assert all(len(nonce) == 32 for nonce in nonces)
    assert intent_nonce(BASE, PAYER, "a") == intent_nonce(BASE, PAYER, "a")
    assert intent_nonce(BASE, PAYER.lower(), "a") == intent_nonce(BASE, PAYER, "a")


def test_the_nonce_of_an_intent_never_changes_between_versions() -> None:
    # A purchase begun with an older version must be found, not paid again, by a newer one.
    assert intent_nonce(BASE, PAYER, "invoice-7") == keccak256(
        b"x402sms/intent/1"
        + (8453).to_bytes(32)
        + bytes.fromhex("833589fCD6eDb6E08f4c7C32D4f71b54bdA02913")
        + bytes.fromhex(PAYER[2:])
        + b"invoice-7"
    )


@settings(deadline=None)
@given(
    first=st.tuples(st.sampled_from(NETWORKS), addresses, st.text(max_size=60)),
    second=st.tuples(st.sampled_from(NETWORKS), addresses, st.text(max_size=60)),
)
def test_different_purchases_have_different_nonces(
    first: tuple[Network, str, str], second: tuple[Network, str, str]
) -> None:
    assert (intent_nonce(*first) == intent_nonce(*second)) == (first == second)


@settings(deadline=None)
@given(
    now=st.integers(0, 2**40),
    asked=st.none() | st.integers(1, 10**12),
    needed=st.integers(0, 10**6),
    longest=st.integers(SHORTEST_WINDOW, 3600),
)
def test_a_window_is_open_now_and_never_longer_than_we_allow(
    now: int, asked: int | None, needed: int, longest: int
) -> None:
    valid_after, valid_before = validity_window(now, asked=asked, needed=needed, longest=longest)

    assert 0 <= valid_after <= now < valid_before
    assert now - valid_after <= BACKDATE_SECONDS
    assert SHORTEST_WINDOW <= valid_before - now <= longest
    if asked is not None:
        assert valid_before - now >= min(asked, longest)
        assert valid_before - now >= min(needed, longest)


@pytest.mark.parametrize(
    ("asked", "needed", "seconds"),
    [
        pytest.param(60, 0, 60, id="as long as the server asks"),
        pytest.param(1, 0, SHORTEST_WINDOW, id="long enough to settle at all"),
        pytest.param(60, 210, 210, id="outlives a long poll"),
        pytest.param(315_360_000, 0, 300, id="not ten years"),
        pytest.param(60, 10_000, 300, id="not for the longest read time-out"),
        pytest.param(None, 0, 300, id="ours, where the server names none"),
    ],
)
def test_a_window_lasts(asked: int | None, needed: int, seconds: int) -> None:
    assert validity_window(1000, asked=asked, needed=needed, longest=300) == (400, 1000 + seconds)


@pytest.mark.parametrize(
    "address",
    [
        # The examples of EIP-55.
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0xde709f2102306220921060314715629080e2fb77",
    ],
)
def test_addresses_are_written_with_the_capitals_of_eip_55(address: str) -> None:
    assert checksum_address(address) == address
    assert checksum_address(address.lower()) == address
    assert checksum_address("0x" + address[2:].upper()) == address
    swapped = "0x" + address[2:].swapcase()
    if address[2:] not in (address[2:].lower(), address[2:].upper()):
        with pytest.raises(ValueError, match="checksum"):
            checksum_address(swapped)
