"""Where a ledger is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from x402sms.conformance.parts import NOW, attempt
from x402sms.errors import ConfigError
from x402sms.ledger import Ledger, default_ledger_path, open_ledger
from x402sms.limits import SpendLimits


@pytest.mark.parametrize(
    "location",
    [
        lambda folder: folder / "x.db",
        lambda folder: str(folder / "x.db"),
        lambda folder: f"sqlite:///{folder}/x.db",
    ],
    ids=["path", "text", "url"],
)
def test_a_ledger_is_opened_at_a_path_or_a_url(
    location: Callable[[Path], str | Path], tmp_path: Path
) -> None:
    open_ledger(location(tmp_path)).close()
    assert (tmp_path / "x.db").is_file()


def test_the_users_own_ledger_is_in_the_data_folder(tmp_path: Path) -> None:
    assert default_ledger_path().is_relative_to(tmp_path)
    open_ledger().close()
    assert default_ledger_path().is_file()
    assert default_ledger_path().parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("url", ["mysql://host/db", "redis://x", "http://host/ledger"])
def test_a_ledger_of_another_kind_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError, match="no ledger of the kind"):
        open_ledger(url)
    assert os.listdir() == []


@pytest.mark.parametrize("location", ["", "sqlite:///", "a\0b"], ids=["empty", "url", "NUL"])
def test_a_path_that_is_none_is_a_config_error(location: str) -> None:
    with pytest.raises(ConfigError, match="no path of a ledger"):
        open_ledger(location)
    assert os.listdir() == []


def test_a_reservation_is_quick_enough_to_stand_before_every_payment(ledger: Ledger) -> None:
    started = time.monotonic()
    for number in range(20):
        ledger.reserve(attempt(str(number)), SpendLimits(total="1").budgets, now=NOW)
    assert time.monotonic() - started < 10
