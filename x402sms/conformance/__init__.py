"""What every ledger must do, as tests for whoever keeps payments in a store of their own.

    from x402sms.conformance import LedgerConformance

    class TestOurLedger(LedgerConformance):
        @pytest.fixture
        def open_ledger(self, tmp_path):
            return lambda: OurLedger(tmp_path / "payments")

`open_ledger` is the one thing to supply: a fixture that returns a callable. Each test gets a ledger
in which nothing is, and opens it as often as it calls. A ledger that only its own object knows, as
in memory, is held against `LoneLedgerConformance`. See docs/ledgers.md.
"""

from __future__ import annotations

from x402sms.errors import ConfigError

try:
    import hypothesis as _hypothesis  # noqa: F401  the cases need both
    import pytest
except ModuleNotFoundError as missing:
    if missing.name not in {"hypothesis", "pytest"}:
        raise
    raise ConfigError("the tests for ledgers need: pip install 'x402sms[conformance]'") from missing

# A failure shows what was compared, as in a test module. It must be said before they are loaded.
pytest.register_assert_rewrite(
    *(
        f"{__name__}.{module}"
        for module in (
            "again",
            "budgets",
            "charges",
            "parts",
            "promises",
            "proofs",
            "quotes",
            "reference",
            "shared",
            "texts",
        )
    )
)

from x402sms.conformance.suite import (  # noqa: E402  as said above
    LedgerConformance,
    LoneLedgerConformance,
)

__all__ = ["LedgerConformance", "LoneLedgerConformance"]
