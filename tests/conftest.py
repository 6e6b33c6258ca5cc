"""Before anything is imported: no test may ever see a developer's own key, ledger or settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

for _name in [name for name in os.environ if name.startswith("X402SMS_")]:
    del os.environ[_name]


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
