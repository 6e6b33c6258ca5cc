from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
from eth_account import Account

from tests.sandbox.paying import Buyer, Wallet
from x402sms.sandbox import RunningSandbox, SandboxConfig, running_sandbox
from x402sms.sandbox.config import DialectName

DIALECTS: tuple[DialectName, ...] = ("v2", "v1", "header")

# Loopback is plain HTTP; reading the machine's certificates for each client takes long.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

MakeBuyer = Callable[..., Buyer]


@pytest.fixture(scope="session", params=DIALECTS)
def sandbox(request: pytest.FixtureRequest) -> Iterator[RunningSandbox]:
    """One for all tests of a dialect: they keep apart by their wallets and leave its clock be."""
    with running_sandbox(SandboxConfig(dialect=request.param)) as running:
        yield running


@pytest.fixture
def own_sandbox() -> Iterator[RunningSandbox]:
    """One that a test may do anything to."""
    with running_sandbox() as running:
        yield running


@pytest.fixture
def make_buyer() -> Iterator[MakeBuyer]:
    with ExitStack() as stack:

        def make(running: RunningSandbox, *, key: str | None = None, funds: str = "10") -> Buyer:
            key = key or Account.create().key.to_0x_hex()
            wallet = Wallet(key, running.network, running.state.config.dialect)
            if funds != "0":
                running.fund(wallet.address, funds)
            client = httpx.Client(base_url=running.url, timeout=20, trust_env=False, verify=NO_TLS)
            return Buyer(stack.enter_context(client), wallet)

        yield make


@pytest.fixture
def buyer(sandbox: RunningSandbox, make_buyer: MakeBuyer) -> Buyer:
    return make_buyer(sandbox)


@pytest.fixture
def own_buyer(own_sandbox: RunningSandbox, make_buyer: MakeBuyer) -> Buyer:
    return make_buyer(own_sandbox)
