"""The same sandbox, settling in Circle's contract on a local chain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from eth_account import Account

from tests.parts.anvil import start_anvil
from tests.parts.fixtures import LocalChain
from tests.sandbox.conftest import NO_TLS, MakeBuyer
from tests.sandbox.paying import Buyer, asked_atomic, encode, settlement_of
from x402sms.errors import ConfigError
from x402sms.sandbox import RunningSandbox, SandboxConfig, running_sandbox

ORDER = {"service": "telegram", "country": "US"}
FUNDS = 5_000_000


def _config(rpc_url: str) -> SandboxConfig:
    # An address to be paid at that nothing else on the shared chain pays.
    pay_to = Account.create().address
    return SandboxConfig(network="base", settlement="anvil", rpc_url=rpc_url, pay_to=pay_to)


@pytest.fixture
def on_chain(base_chain: LocalChain) -> Iterator[RunningSandbox]:
    with running_sandbox(_config(base_chain.rpc_url)) as running:
        yield running


@pytest.fixture
def payer(on_chain: RunningSandbox, base_chain: LocalChain, make_buyer: MakeBuyer) -> Buyer:
    account = base_chain.funded_account(FUNDS)
    return make_buyer(on_chain, key="0x" + bytes(account.key).hex(), funds="0")


def test_a_payment_settles_in_the_contract(
    on_chain: RunningSandbox, base_chain: LocalChain, payer: Buyer
) -> None:
    response = payer.pay("GET", "/me/balance")
    assert response.json()["balance"] == "4.999"
    assert base_chain.usdc.balance(payer.address) == FUNDS - 1000
    (used,) = base_chain.usdc.authorizations_used(payer=payer.address)
    report = settlement_of(response, "v2")
    assert (report["success"], report["transaction"]) == (True, used.transaction)
    (record,) = on_chain.payments()
    assert record["nonce"] == "0x" + used.nonce.hex()
    assert on_chain.balance(on_chain.pay_to) == 1000
    assert (on_chain.rpc_url, on_chain.funded_key) == (base_chain.rpc_url, None)


def test_a_refund_comes_back_on_the_chain(
    on_chain: RunningSandbox, base_chain: LocalChain, payer: Buyer
) -> None:
    order_id = payer.order()["order_id"]
    payer.post(f"/orders/{order_id}/cancel")
    assert base_chain.usdc.balance(payer.address) == FUNDS - 1000
    refunded = on_chain.payments()[0]
    assert refunded["refunded_atomic"] == refunded["amount_atomic"]
    paid, returned = on_chain.books(payer.address)
    assert FUNDS - base_chain.usdc.balance(payer.address) == paid - returned == 1000


def test_an_authorization_that_was_used_elsewhere_is_refused(
    on_chain: RunningSandbox, base_chain: LocalChain, payer: Buyer
) -> None:
    nonce = b"\x42" * 32
    account = Account.from_key(payer.wallet.key)
    elsewhere = base_chain.usdc.sign(account, to=account.address, amount_atomic=1, nonce=nonce)
    base_chain.usdc.relay(elsewhere)
    challenge = payer.ask("POST", "/orders", json=ORDER)
    document = payer.wallet.document(challenge, nonce="0x" + nonce.hex())
    response = payer.send("POST", "/orders", encode(document), json=ORDER)
    reason = settlement_of(response, "v2")["errorReason"]
    assert reason == "invalid_exact_evm_nonce_already_used"
    assert on_chain.payments() == []
    assert payer.get("/orders")["total"] == 0


def test_payments_beyond_the_balance_that_arrive_together_settle_while_it_lasts(
    on_chain: RunningSandbox, base_chain: LocalChain, make_buyer: MakeBuyer
) -> None:
    price = asked_atomic(make_buyer(on_chain, funds="0").ask("POST", "/orders", json=ORDER))
    account = base_chain.funded_account(price * 2 + 1)
    poor = make_buyer(on_chain, key="0x" + bytes(account.key).hex(), funds="0")
    challenge = poor.ask("POST", "/orders", json=ORDER)
    headers = [encode(poor.wallet.document(challenge)) for _ in range(4)]

    async def send() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=20, trust_env=False, verify=NO_TLS) as client:
            return await asyncio.gather(
                *(
                    client.post(
                        on_chain.url + "/orders",
                        json=ORDER,
                        headers={poor.wallet.header_name: header},
                    )
                    for header in headers
                )
            )

    answers = asyncio.run(send())
    assert sorted(answer.status_code for answer in answers) == [200, 200, 402, 402]
    reasons = {
        settlement_of(answer, "v2")["errorReason"] for answer in answers if answer.is_client_error
    }
    assert reasons == {"insufficient_funds"}
    assert base_chain.usdc.balance(poor.address) == 1
    assert len(base_chain.usdc.authorizations_used(payer=poor.address)) == 2
    assert len(on_chain.state.orders.of(poor.address)) == 2


def test_replays_that_arrive_together_settle_once(
    on_chain: RunningSandbox, base_chain: LocalChain, payer: Buyer
) -> None:
    header = encode(payer.wallet.document(payer.ask("POST", "/orders", json=ORDER)))

    async def send() -> list[httpx.Response]:
        headers = {payer.wallet.header_name: header}
        async with httpx.AsyncClient(timeout=20, trust_env=False, verify=NO_TLS) as client:
            posts = [
                client.post(on_chain.url + "/orders", json=ORDER, headers=headers) for _ in range(4)
            ]
            return await asyncio.gather(*posts)

    answers = asyncio.run(send())
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len(base_chain.usdc.authorizations_used(payer=payer.address)) == 1


def test_money_cannot_be_made_by_the_sandbox_on_a_chain(
    on_chain: RunningSandbox, payer: Buyer
) -> None:
    wanted = {"address": payer.address, "amount": "1"}
    assert payer.http.post(f"{on_chain.origin}/_sandbox/fund", json=wanted).status_code == 400


def test_a_chain_that_is_not_base_or_has_no_usdc_is_a_configuration_error() -> None:
    for chain_id, complaint in ((1, "has id 1, not 8453"), (8453, "no USDC contract")):
        with start_anvil(chain_id) as anvil:
            config = _config(anvil.rpc_url)
            with pytest.raises(ConfigError, match=complaint), running_sandbox(config):
                pass
    with pytest.raises(ConfigError, match="no chain answers"), running_sandbox(config):
        pass


def test_something_that_is_no_chain_is_a_configuration_error() -> None:
    with running_sandbox() as other:
        for path in ("/api/v2/orders", "/openapi.json"):
            config = _config(other.origin + path)
            with pytest.raises(ConfigError, match="no chain answers"), running_sandbox(config):
                pass
