"""What every group of cases stands on: the ledgers under test, opened and closed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from x402sms.ledger import Ledger

OpenLedger = Callable[[], Ledger]


class Cases:
    """`open_ledger` is the one fixture that whoever tests a backend supplies."""

    @pytest.fixture
    def ledger(self, open_ledger: OpenLedger) -> Iterator[Ledger]:
        """An empty ledger."""
        with closing(open_ledger()) as opened:
            yield opened
