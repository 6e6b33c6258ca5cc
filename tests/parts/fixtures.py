"""The real parts as pytest fixtures. One chain and one server serve a whole test run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from tests.parts.anvil import Anvil, start_anvil
from tests.parts.official_server import OfficialServer, run_official_server
from tests.parts.postgres import Postgres, start_postgres
from tests.parts.usdc import BASE, Deployment, Usdc, deploy_usdc


@dataclass(frozen=True)
class LocalChain:
    """A local Base (or Base Sepolia): the node, and USDC at its real address on it."""

    anvil: Anvil
    usdc: Usdc

    @property
    def rpc_url(self) -> str:
        return self.anvil.rpc_url

    @property
    def now(self) -> int:
        """The time of the newest block."""
        return int(self.anvil.request("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def funded_account(self, amount_atomic: int) -> LocalAccount:
        """A fresh account that holds that much USDC, and no ETH: a payer needs none."""
        account: LocalAccount = Account.create()
        self.usdc.mint(account.address, amount_atomic)
        return account


@contextmanager
def start_chain(deployment: Deployment = BASE) -> Iterator[LocalChain]:
    """A chain of one's own, for a test that moves its clock or breaks it."""
    with start_anvil(deployment.chain_id) as anvil, deploy_usdc(anvil, deployment) as usdc:
        yield LocalChain(anvil, usdc)


@pytest.fixture(scope="session")
def base_chain() -> Iterator[LocalChain]:
    """A local Base, shared by all tests: use fresh accounts, and leave its clock alone."""
    with start_chain() as chain:
        yield chain


@pytest.fixture
def own_chain() -> Iterator[LocalChain]:
    """A local Base for one test."""
    with start_chain() as chain:
        yield chain


@pytest.fixture(scope="session")
def shared_official_server(base_chain: LocalChain) -> Iterator[OfficialServer]:
    """One official server for the whole run. Tests use `official_server`."""
    recipient: str = Account.create().address
    with run_official_server(base_chain.rpc_url, recipient) as server:
        yield server


@pytest.fixture
def official_server(shared_official_server: OfficialServer) -> OfficialServer:
    """The official x402 server on `base_chain`, with nothing served so far."""
    shared_official_server.served.clear()
    return shared_official_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL server for the whole run."""
    with start_postgres() as server:
        yield server
