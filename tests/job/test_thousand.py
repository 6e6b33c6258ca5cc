"""A thousand jobs at once on one client, over real sockets."""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from x402sms import AsyncClient, SpendLimits, Wallet
from x402sms.money import to_usdc
from x402sms.pooling import AsyncPooledTransport
from x402sms.protocol.types import PaymentState
from x402sms.sandbox import RunningSandbox, SandboxConfig, running_sandbox
from x402sms.virtualsms.job import Code

JOBS = 1000
# The client's own pool has 100 places: as safe, but whenever httpcore gives a connection out, it
# looks from each idle one at all others, which takes longer than the jobs do.
PLACES = 20
CALLS = 4  # paid ones of each: the offers, the number, one poll, the confirmation
MOST_MIB = 300  # 0.3 MiB a job, the server's side included


class _Peak(set[Any]):
    """How many connections the server had at most."""

    most = 0

    def add(self, element: Any) -> None:
        super().add(element)
        self.most = max(self.most, len(self))


@pytest.fixture
def sandbox() -> Iterator[RunningSandbox]:
    config = SandboxConfig(sms_after=0.2, funded=Decimal(1000))
    with running_sandbox(config) as running:
        running.set_price("telegram", "US", "0.05")
        running.set_stock("telegram", "US", JOBS)
        yield running


@pytest.mark.no_cover  # all that it runs is covered elsewhere; tracing it would take a minute more
@pytest.mark.anyio
async def test_a_thousand_jobs_at_once_all_end_right(
    sandbox: RunningSandbox, tmp_path: Path
) -> None:
    connections = _Peak()
    sandbox._server.server_state.connections = connections
    assert sandbox.funded_key is not None
    wallet = Wallet.from_key(sandbox.funded_key)
    began, memory = time.perf_counter(), _mib()
    async with AsyncClient(
        wallet,
        network="base-sepolia",
        base_url=sandbox.url,
        limits=SpendLimits(per_day=None),
        ledger=tmp_path / "ledger.db",
        requests_per_minute=None,
        transport=AsyncPooledTransport(max_connections=PLACES),
    ) as sms:
        codes = await asyncio.gather(
            *(sms.receive_code("telegram", country="US", max_price="0.05") for _ in range(JOBS))
        )
        took, grown = time.perf_counter() - began, _mib() - memory
        print(  # noqa: T201
            f"\n{JOBS} jobs: {took:.1f} s, {connections.most} connections, +{grown:.0f} MiB"
        )

        _each_has_its_own(codes)
        _each_has_what_was_sent(sandbox, codes)
        assert connections.most <= PLACES
        assert grown < MOST_MIB

        states = Counter(payment.state for payment in sms.ledger.payments())
        assert states == {PaymentState.SETTLED: JOBS * CALLS}
        paid, refunded = sandbox.books(wallet.address)
        assert (to_usdc(paid), refunded) == (sum(code.cost for code in codes), 0)
        assert to_usdc(paid) == await sms.payments.spent()
    nonces = [payment["nonce"] for payment in sandbox.payments()]
    assert len(set(nonces)) == len(nonces) == JOBS * CALLS


def _each_has_its_own(codes: list[Code]) -> None:
    for ours in (
        [code.order_id for code in codes],
        [code.phone_number for code in codes],
    ):
        assert len(set(ours)) == JOBS
    assert all(code.warnings == () for code in codes)
    assert {code.cost for code in codes} == {Decimal("0.054")}


def _each_has_what_was_sent(sandbox: RunningSandbox, codes: list[Code]) -> None:
    sent = {order.order_id: order for order in sandbox.state.orders.all()}
    assert {str(order.status) for order in sent.values()} == {"confirmed"}
    for code in codes:
        order = sent[code.order_id]
        assert code.phone_number == order.phone_number
        assert [code.code] == [sms.code for sms in order.messages]


def _mib() -> float:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
