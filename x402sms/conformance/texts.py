"""What strangers and callers write comes back as it was, and means nothing to the store."""

from __future__ import annotations

from typing import Final

import pytest

from x402sms.conformance.cases import Cases
from x402sms.conformance.parts import HASH, NOW, ask, attempt, charge, deliver, row, spent
from x402sms.errors import LedgerError
from x402sms.ledger import Ledger
from x402sms.protocol.types import Outcome, PaymentState

TEXTS: Final = {
    "empty": "",
    "quotes": """'; DROP TABLE payments; --"\\""",
    "placeholders": "%s %(intent)s {0} {intent} :intent ? $1 \\u0000",
    "wildcards": "%_*.",
    "spaces": " \t\r\n\u00a0\u2028 ",
    "beyond ASCII": "\u00fc \u65e5\u672c \U0001f4b8 e\u0301",
    "right to left": "\u202ea\u2066b",
    "control": "\x1b[2J\x07\x7f\ufeff",
    "a number": "007",
    "null": "NULL",
    "long": "a\u00e9" * 20_000,
}


class TextCases(Cases):
    """What strangers and callers write comes back as it was, and means nothing to the store."""

    @pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
    def test_a_text_comes_back_as_it_was(self, ledger: Ledger, text: str) -> None:
        ledger.reserve(attempt("another"), [], now=NOW)
        made = attempt(text, url=text, fingerprint=text, template={text: [text]})
        ledger.reserve(made, [], now=NOW)
        refused = Outcome(PaymentState.REFUSED, text, text)

        payment = ledger.record(made, refused, now=NOW)

        assert (payment.intent, payment.url, payment.fingerprint) == (text, text, text)
        assert (payment.reason, payment.transaction) == (text, text)
        assert payment.attempt() == made
        assert ledger.find(text) == [payment]
        assert deliver(ledger, payment, text)
        assert row(ledger, text).delivered == text
        assert len(list(ledger.payments())) == 2

    @pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
    def test_a_text_about_a_charge_comes_back_as_it_was(self, ledger: Ledger, text: str) -> None:
        asked = charge(text, account=text, what=text, url=text)
        assert ask(ledger, asked) is None
        assert ledger.charges.end(asked, PaymentState.SETTLED, order_id=text, now=NOW)
        found = ledger.charges.get(text, text)
        assert found == charge(
            text,
            account=text,
            what=text,
            url=text,
            order_id=text,
            state=PaymentState.SETTLED,
            asked_at=NOW,
            updated_at=NOW,
        )
        ledger.quotes.put(text, text, now=NOW)
        assert ledger.quotes.get(text) == text

    def test_texts_that_look_alike_are_two(self, ledger: Ledger) -> None:
        """No case folding, no trimming, no normal form: a nonce follows from the very text."""
        intents = ["a", "A", "a ", " a", "\u00e9", "e\u0301", "\u00df", "ss"]
        for intent in intents:
            ledger.reserve(attempt(intent), [], now=NOW)
        assert [row(ledger, intent).intent for intent in intents] == intents
        assert spent(ledger) == 10 * len(intents)

    @pytest.mark.parametrize("where", ["intent", "reason"])
    def test_a_nul_is_kept_or_it_is_a_ledger_error_and_nothing_is_written(
        self, ledger: Ledger, where: str
    ) -> None:
        ledger.reserve(attempt("kept"), [], now=NOW)
        before = row(ledger, "kept")
        try:
            if where == "intent":
                ledger.reserve(attempt("a\0b"), [], now=NOW)
            else:
                ledger.record(attempt("kept"), Outcome(PaymentState.VOID, "a\0b"), now=NOW)
        except LedgerError:
            assert list(ledger.payments()) == [before]
        else:
            found = row(ledger, "a\0b" if where == "intent" else "kept")
            assert "a\0b" in (found.intent, found.reason)

    @pytest.mark.parametrize("amount", [2**31, 2**53 + 1, 2**62], ids=["32", "53", "62"])
    def test_an_amount_is_exact_to_the_last_unit(self, ledger: Ledger, amount: int) -> None:
        """Neither a float nor 32 bits: `SpendLimits` allows up to 2^63 - 1 atomic units."""
        ledger.reserve(attempt("a", amount), [], now=NOW)
        payment = ledger.record(
            attempt("a", amount), Outcome(PaymentState.SETTLED, None, HASH), now=NOW
        )
        assert (payment.amount_atomic, payment.reserved_atomic) == (amount, amount)
        assert spent(ledger) == amount
        ask(ledger, charge(amount_atomic=amount))
        assert ledger.charges.charged_atomic("key:1") == amount
