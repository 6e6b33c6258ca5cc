"""A wallet with play money, for what takes its settings from the environment."""

from __future__ import annotations

import secrets

import pytest

from x402sms import Wallet
from x402sms.sandbox import RunningSandbox


def named_in_environment(sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> Wallet:
    """A new wallet with 10 USDC, which the environment names together with the sandbox."""
    key = "0x" + secrets.token_hex(32)
    monkeypatch.setenv("X402SMS_PRIVATE_KEY", key)
    monkeypatch.setenv("X402SMS_NETWORK", "base-sepolia")
    monkeypatch.setenv("X402SMS_BASE_URL", sandbox.url)
    made = Wallet.from_key(key)
    sandbox.fund(made.address, 10)
    return made
