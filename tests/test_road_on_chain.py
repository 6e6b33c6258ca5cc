"""The whole road on a real chain: the sandbox settles Circle's USDC on anvil."""

from __future__ import annotations

from typing import Any

import pytest

from tests.buyer import COLOURS, Colour
from tests.facade import facade
from tests.parts.fixtures import LocalChain, start_chain
from tests.parts.usdc import BASE_SEPOLIA
from tests.shop import DIALECTS, DialectName
from x402sms import Wallet
from x402sms.money import parse_usdc
from x402sms.sandbox import SandboxConfig, running_sandbox
from x402sms.virtualsms.effects import Bought


@pytest.fixture(scope="module")
def sepolia() -> Any:
    with start_chain(BASE_SEPOLIA) as chain:
        yield chain


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_code_is_bought_with_usdc(
    colour: Colour, dialect: DialectName, sepolia: LocalChain
) -> None:
    wallet = Wallet.generate()
    sepolia.usdc.mint(wallet.address, parse_usdc("1"))
    config = SandboxConfig(dialect=dialect, settlement="anvil", rpc_url=sepolia.rpc_url)
    with running_sandbox(config) as sandbox:

        def deliver(event: Any) -> None:
            if isinstance(event, Bought):
                sandbox.deliver_sms(event.order.order_id, "Your code is 730114")

        with (
            facade(
                colour,
                wallet=wallet,
                network="base-sepolia",
                base_url=sandbox.url,
                ledger=":memory:",
                rpc_url=sepolia.rpc_url,
            ) as sms,
            sms.meter() as meter,
        ):
            code = sms.receive_code("telegram", max_price="0.50", on_event=deliver)
            assert all(receipt.verified for receipt in meter.receipts)
            assert sms.payments.reconcile().findings == ()  # the chain has shown them all
        assert code.code == "730114"
        spent = parse_usdc(meter.total)
        assert sepolia.usdc.balance(wallet.address) == parse_usdc("1") - spent
        on_chain = sepolia.usdc.authorizations_used(payer=wallet.address)
        assert {"0x" + used.nonce.hex() for used in on_chain} == {
            receipt.nonce for receipt in meter.receipts
        }
        assert [payment["nonce"] for payment in sandbox.payments()] == [
            receipt.nonce for receipt in meter.receipts
        ]
