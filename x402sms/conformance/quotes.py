"""What routes were last paid by."""

from __future__ import annotations

from x402sms.conformance.cases import Cases
from x402sms.conformance.parts import NOW
from x402sms.ledger import Ledger


class QuoteCases(Cases):
    """What routes were last paid by."""

    def test_a_route_has_its_last_quote(self, ledger: Ledger) -> None:
        assert ledger.quotes.get("GET /a") is None

        ledger.quotes.put("GET /a", "first", now=NOW)
        ledger.quotes.put("GET /a", "second", now=NOW)
        ledger.quotes.put("GET /b", "other", now=NOW)

        assert (ledger.quotes.get("GET /a"), ledger.quotes.get("GET /b")) == ("second", "other")
        ledger.quotes.put("GET /a", None, now=NOW)
        assert (ledger.quotes.get("GET /a"), ledger.quotes.get("GET /b")) == (None, "other")
