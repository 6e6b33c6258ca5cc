"""Fixtures for the tests of what is built on x402sms: VirtualSMS in this process, no real money.

`virtualsms` is the service, `sms` and `async_sms` are clients of it with a funded wallet, and
`rest_sms` is one with an API key. Nobody waits: the time is virtual. `@pytest.mark.virtualsms(...)`
takes settings of `SandboxConfig`.

Every test run of every user loads this module: what it needs, it loads where a fixture is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from x402sms.client import AsyncClient, Client
    from x402sms.sandbox import InProcessSandbox
    from x402sms.testing import PaidCall, PlacedOrder, VirtualClock, VirtualSMS

__all__ = ["PaidCall", "PlacedOrder", "VirtualClock", "VirtualSMS"]

COOLDOWN = 120  # seconds in which the service refuses a cancel and a swap

_MARKER = (
    "virtualsms(**settings): settings of x402sms.sandbox.SandboxConfig for the fixture "
    "`virtualsms`, such as cooldown=0, sms_after=5 or faults={'no-stock': 1}"
)


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from x402sms import testing

    value: object = getattr(testing, name)
    return value


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def virtualsms(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[VirtualSMS]:
    """VirtualSMS in this process, in virtual time; it refuses a cancel for 120 s, as the real one.

    While it is there no `X402SMS_*` variable, `.env` or stored API key of yours is read: no test
    can pay with them.
    """
    from x402sms.errors import ConfigError

    _alone(monkeypatch, tmp_path)
    with ExitStack() as stack:
        try:
            sandbox = stack.enter_context(_sandbox(request.node))
        except ConfigError as error:  # the extra is missing, or a setting is wrong
            pytest.fail(str(error), pytrace=False)
        from x402sms.testing import VirtualSMS

        yield VirtualSMS(sandbox, stack)


@pytest.fixture
def sms(virtualsms: VirtualSMS) -> Client:
    """A client of `virtualsms` with a funded wallet, the default limits and an empty ledger."""
    return virtualsms.client()


@pytest.fixture
def rest_sms(virtualsms: VirtualSMS) -> Client:
    """A client of `virtualsms` that pays from an account's balance, with an API key."""
    return virtualsms.client(api_key=virtualsms.api_key)


@pytest.fixture
def async_sms(virtualsms: VirtualSMS) -> AsyncClient:
    """`sms` to be awaited, under anyio's pytest plugin or pytest-asyncio."""
    return virtualsms.async_client()


def _sandbox(node: pytest.Item) -> AbstractContextManager[InProcessSandbox]:
    """As the test's markers, its class's and its module's want it. Raises ConfigError."""
    from x402sms.errors import ConfigError
    from x402sms.sandbox import SandboxConfig, asgi_sandbox

    settings: dict[str, Any] = {"virtual_time": True, "cooldown": COOLDOWN}
    for marker in reversed(list(node.iter_markers("virtualsms"))):
        if marker.args:
            raise ConfigError("the marker virtualsms takes settings by name, such as cooldown=0")
        settings |= marker.kwargs
    known = {field.name for field in fields(SandboxConfig)}
    if unknown := settings.keys() - known:
        raise ConfigError(
            f"the marker virtualsms: no setting {', '.join(sorted(unknown))}; "
            f"there are {', '.join(sorted(known))}"
        )
    return asgi_sandbox(SandboxConfig(**settings))


def _alone(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Nothing of whoever runs the tests is read: no wallet, no setting, no key that a top-up kept.

    A key that a test tops up is kept in `folder`.
    """
    for name in [name for name in os.environ if name.startswith("X402SMS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("x402sms.config._dotenv", lambda path: {})
    monkeypatch.setattr("x402sms.api_keys.keys_path", lambda: folder / "virtualsms" / "api_keys")
    monkeypatch.setattr("x402sms.api_keys._in_keyring", lambda host: [])
    monkeypatch.setattr("x402sms.api_keys._to_keyring", lambda host, key: False)
    # Before a payment is presented again, a client waits in real time.
    monkeypatch.setattr("x402sms.paying.RETRY_PAUSES", (0, 0, 0))
