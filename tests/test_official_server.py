"""Against other people's parts: the official x402 server and facilitator, Circle's USDC, anvil."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from eth_account import Account

from tests.buyer import COLOURS, Buyer, Colour, receipt_of
from tests.parts.fixtures import LocalChain
from tests.parts.official_server import (
    ECHO_ATOMIC,
    WEATHER_ATOMIC,
    OfficialServer,
    run_official_server,
)
from x402sms import PaymentState, Wallet
from x402sms.chain import Chain
from x402sms.errors import PaymentRefused, PaymentUnknown
from x402sms.protocol.networks import BASE

ONE_USDC = 1_000_000


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> Colour:
    colour: Colour = request.param
    return colour


@pytest.fixture
def buyer(colour: Colour, base_chain: LocalChain) -> Buyer:
    """A wallet with 1 USDC on the local Base, sending over real HTTP."""
    wallet = Wallet.generate()
    base_chain.usdc.mint(wallet.address, ONE_USDC)
    return Buyer(colour, None, wallet=wallet)


def test_a_paid_get_and_a_paid_post_pay_exactly_their_prices(
    buyer: Buyer, base_chain: LocalChain, official_server: OfficialServer
) -> None:
    before = base_chain.usdc.balance(official_server.pay_to)
    weather = buyer.get(f"{official_server.url}/paid/weather")
    echo = buyer.post(f"{official_server.url}/paid/echo", json={"hello": "world"})
    assert weather.is_success
    assert echo.json() == {"hello": "world"}
    assert official_server.served == ["GET /paid/weather", "POST /paid/echo"]
    paid = WEATHER_ATOMIC + ECHO_ATOMIC
    assert base_chain.usdc.balance(official_server.pay_to) == before + paid
    assert base_chain.usdc.balance(buyer.wallet.address) == ONE_USDC - paid


def test_a_server_of_version_1_is_paid_as_well(
    buyer: Buyer, base_chain: LocalChain, official_server: OfficialServer
) -> None:
    before = base_chain.usdc.balance(official_server.pay_to)
    assert buyer.get(f"{official_server.url}/v1/weather").is_success
    assert base_chain.usdc.balance(official_server.pay_to) == before + WEATHER_ATOMIC


def test_the_ledger_finds_its_payment_on_the_chain(
    buyer: Buyer, base_chain: LocalChain, official_server: OfficialServer
) -> None:
    receipt = receipt_of(buyer.get(f"{official_server.url}/paid/weather"))
    [row] = buyer.payments
    assert (row.state, row.transaction) == (PaymentState.SETTLED, receipt.transaction)
    with Chain(base_chain.rpc_url, BASE) as chain:
        assert chain.authorization_state(row.payer, row.nonce)
    [used] = base_chain.usdc.authorizations_used(payer=row.payer)
    [transfer] = base_chain.usdc.transfers(sender=row.payer)
    assert used.nonce == bytes.fromhex(row.nonce[2:])
    assert (transfer.to, transfer.amount_atomic) == (row.pay_to, row.amount_atomic)
    assert used.transaction == transfer.transaction == row.transaction


def test_what_is_free_is_free(buyer: Buyer, official_server: OfficialServer) -> None:
    assert buyer.get(f"{official_server.url}/free").is_success
    assert buyer.payments == []


def test_a_handler_that_fails_is_not_paid_and_the_ledger_does_not_claim_to_know(
    buyer: Buyer, base_chain: LocalChain, official_server: OfficialServer
) -> None:
    with pytest.raises(PaymentUnknown, match="answered 500 without a settlement"):
        buyer.get(f"{official_server.url}/paid/broken")
    assert [row.state for row in buyer.payments] == [PaymentState.UNKNOWN]
    assert base_chain.usdc.balance(buyer.wallet.address) == ONE_USDC


def test_an_empty_wallet_is_refused_by_the_facilitator(
    colour: Colour, official_server: OfficialServer
) -> None:
    buyer = Buyer(colour, None)
    with pytest.raises(PaymentRefused, match="send USDC to it") as caught:
        buyer.get(f"{official_server.url}/paid/weather")
    assert caught.value.amount == Decimal("0.01")
    assert [row.state for row in buyer.payments] == [PaymentState.REFUSED]
    assert official_server.served == []


def test_a_recipient_in_lower_case_is_paid(buyer: Buyer, base_chain: LocalChain) -> None:
    """web3 takes only checksummed addresses, so the one we sign and send is checksummed."""
    recipient = Account.create().address
    with run_official_server(base_chain.rpc_url, recipient.lower()) as server:
        assert buyer.get(f"{server.url}/paid/weather").is_success
    assert base_chain.usdc.balance(recipient) == WEATHER_ATOMIC


def test_one_nonce_settles_once_whatever_else_changes(
    buyer: Buyer, base_chain: LocalChain, official_server: OfficialServer
) -> None:
    """Two machines that share only the key and the intent: the contract takes one payment."""
    url = f"{official_server.url}/paid/weather"
    assert buyer.get(url, x402={"intent": "invoice-7"}).is_success
    elsewhere = Buyer(buyer.colour, None, wallet=buyer.wallet)
    with pytest.raises(PaymentUnknown, match="nonce_already_used"):
        elsewhere.get(url, x402={"intent": "invoice-7"})
    assert base_chain.usdc.balance(buyer.wallet.address) == ONE_USDC - WEATHER_ATOMIC


def test_the_domain_separator_is_the_contracts_own(base_chain: LocalChain) -> None:
    assert base_chain.usdc.domain_separator() == BASE.domain_separator
    with Chain(base_chain.rpc_url, BASE) as chain:
        assert chain.domain_separator() == BASE.domain_separator
    pinned = "02fa7265e7c5d81118673727957699e4d68f74cd74b7db77da710fe8a2c7834f"
    assert BASE.domain_separator.hex() == pinned


def test_a_ledger_row_holds_what_is_presented_with_the_payment(
    buyer: Buyer, official_server: OfficialServer
) -> None:
    buyer.get(f"{official_server.url}/paid/weather")
    [row] = buyer.payments
    template = json.loads(row.template)
    assert template["x402Version"] == 2
    assert (template["accepted"]["amount"], row.amount_atomic) == (
        str(WEATHER_ATOMIC),
        WEATHER_ATOMIC,
    )
