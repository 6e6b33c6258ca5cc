"""The conformance suite over it: `pytest examples/own_ledger`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dict_ledger import DictLedger, Store

from x402sms.conformance import LedgerConformance
from x402sms.ledger import Ledger


class TestDictLedger(LedgerConformance):
    @pytest.fixture
    def open_ledger(self) -> Callable[[], Ledger]:
        store = Store()  # a new one for each test: in it is nothing
        return lambda: DictLedger(store)
