"""The two classes to derive from."""

from __future__ import annotations

from x402sms.conformance.again import AgainCases
from x402sms.conformance.budgets import BudgetCases
from x402sms.conformance.charges import ChargeCases
from x402sms.conformance.promises import PromiseCases
from x402sms.conformance.proofs import ProofCases
from x402sms.conformance.quotes import QuoteCases
from x402sms.conformance.reference import ReferenceCases
from x402sms.conformance.shared import ClosingCases, SharedCases, ThreadCases
from x402sms.conformance.texts import TextCases


class LoneLedgerConformance(
    PromiseCases,
    BudgetCases,
    AgainCases,
    ProofCases,
    ChargeCases,
    QuoteCases,
    TextCases,
    ThreadCases,
    ClosingCases,
    ReferenceCases,
):
    """For a ledger that is gone with its object, and that only this one object writes to."""


class LedgerConformance(LoneLedgerConformance, SharedCases):
    """For a ledger that is kept and shared: what any Client or transport may be given."""
