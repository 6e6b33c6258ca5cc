"""The suite that is shipped, over each ledger of ours, as whoever has their own would run it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from x402sms.conformance import LedgerConformance, LoneLedgerConformance
from x402sms.conformance.cases import OpenLedger
from x402sms.ledger import open_ledger


class TestFile(LedgerConformance):
    examples = 10  # the reference is the same statements in memory

    @pytest.fixture
    def open_ledger(self, tmp_path: Path) -> OpenLedger:
        return lambda: open_ledger(tmp_path / "payments.db")


class TestMemory(LoneLedgerConformance):
    examples = 10

    @pytest.fixture
    def open_ledger(self) -> OpenLedger:
        return lambda: open_ledger(":memory:")


class TestPostgres(LedgerConformance):
    @pytest.fixture
    def open_ledger(self, empty_postgres: str) -> OpenLedger:
        return lambda: open_ledger(empty_postgres)


def test_no_case_takes_the_place_of_another_groups() -> None:
    cases = Counter(
        name for group in LedgerConformance.__mro__ for name in vars(group) if "test_" in name
    )
    assert [name for name, times in cases.items() if times > 1] == []
    assert len(cases) > 70
