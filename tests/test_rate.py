"""Sixty requests a minute: a client keeps to them by itself, and waits out a 429 all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from x402sms import AsyncClient, Client, Wallet
from x402sms.errors import RateLimited
from x402sms.sandbox import InProcessSandbox, SandboxConfig, asgi_sandbox
from x402sms.testing import VirtualClock
from x402sms.virtualsms.effects import Paused

LIMIT = 60
CALLS = 100
JOBS = 40


class SandboxTime(VirtualClock):
    """Many sleep at once: whoever sleeps moves it on to the moment that is waited for."""

    async def sleep_async(self, seconds: float) -> None:
        until = self.now() + seconds
        await anyio.lowlevel.checkpoint()
        if self.now() < until:
            self.sleep(until - self.now())


@pytest.fixture
def strict() -> Iterator[InProcessSandbox]:
    """A service that counts, and holds to it."""
    config = SandboxConfig(
        network="base", virtual_time=True, cooldown=120, sms_after=20, rate_limit=LIMIT
    )
    with asgi_sandbox(config) as sandbox:
        yield sandbox


def settings(sandbox: InProcessSandbox, **more: Any) -> dict[str, Any]:
    return {
        "wallet": Wallet.from_key(sandbox.funded_key or ""),
        "network": "base",
        "base_url": sandbox.url,
        "ledger": ":memory:",
        "clock": SandboxTime(sandbox),
        **more,
    }


def test_a_client_keeps_to_sixty_requests_a_minute(strict: InProcessSandbox) -> None:
    began = strict.now()
    with Client(
        **settings(
            strict, transport=strict.sync_transport, prepay="never", requests_per_minute=LIMIT
        )
    ) as sms:
        for _ in range(CALLS):
            sms.countries.list()
    # Two requests each, of which the first 60 go at once.
    assert strict.now() - began >= 60 * (2 * CALLS // LIMIT - 1)


def test_a_client_without_that_limit_is_told_so(strict: InProcessSandbox) -> None:
    with Client(
        **settings(strict, transport=strict.sync_transport, requests_per_minute=None)
    ) as sms:
        for _ in range(LIMIT):
            sms.countries.list()
        with pytest.raises(RateLimited) as caught:
            sms.countries.list()
    assert caught.value.retry_after is not None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("per_minute", "is_told"), [(LIMIT, False), (None, True)], ids=["limited", "unlimited"]
)
async def test_jobs_at_once_share_the_minute_and_all_end_with_a_code(
    strict: InProcessSandbox, per_minute: int | None, is_told: bool
) -> None:
    events: list[Any] = []
    codes: list[str | None] = []

    async with AsyncClient(
        **settings(strict, transport=strict.transport, requests_per_minute=per_minute)
    ) as sms:

        async def job() -> None:
            code = await sms.receive_code(
                "telegram", max_price="1", timeout=1_000, swap_after=900, on_event=events.append
            )
            codes.append(code.code)

        async with anyio.create_task_group() as tasks:
            for _ in range(JOBS):
                tasks.start_soon(job)

    assert len(codes) == JOBS
    assert all(codes)
    assert any(isinstance(event, Paused) for event in events) is is_told


@pytest.mark.parametrize(
    ("base_url", "limited"),
    [
        ("https://x402.virtualsms.io/api/v2", True),
        ("http://127.0.0.1:8402/api/v2", False),
        ("http://localhost:8402/api/v2", False),
    ],
    ids=["the service", "this machine", "localhost"],
)
def test_only_a_service_elsewhere_has_the_limit_by_default(base_url: str, limited: bool) -> None:
    with Client(Wallet.generate(), base_url=base_url, ledger=":memory:") as sms:
        assert (sms.pace is not None) is limited
