"""Before anything is imported: no test may ever see a developer's own key, ledger or settings."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

for _name in [name for name in os.environ if name.startswith("X402SMS_")]:
    del os.environ[_name]
# Nor their keyring: one that refuses everything, but where a test brings its own.
os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.option.hypothesis_seed is None:  # a new one each run, but one that can be had again
        config.option.hypothesis_seed = secrets.randbelow(2**32)


def pytest_report_header(config: pytest.Config) -> str:
    seed = config.option.hypothesis_seed
    return f"property tests: the same again with --hypothesis-seed={seed}"


@pytest.fixture(autouse=True)
def _nobody_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder as the working one (no `.env`) and as home (no ledger, no keystore)."""
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytest_plugins = ["tests.parts.fixtures"]
