"""What routes were last paid by: kept for the next process, and no reason to fail for."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.ledger.conftest import Reopen
from x402sms import quoted
from x402sms.conformance.parts import NOW
from x402sms.errors import LedgerError
from x402sms.ledger import Ledger, postgres_quotes, quotes
from x402sms.protocol.effects import Quote
from x402sms.quoted import RememberedQuotes

QUOTE = Quote((("payment-required", "e30="),), b"\xff{}", "f" * 64)
OTHER = Quote((), b"", "e" * 64)


def test_of_too_many_routes_the_oldest_are_forgotten(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for store in (quotes, postgres_quotes):
        monkeypatch.setattr(store, "MOST_ROUTES", 3)
    for number in range(5):
        ledger.quotes.put(f"GET /{number}", "quote", now=NOW + number)

    assert [ledger.quotes.get(f"GET /{number}") for number in range(5)] == [None] * 2 + [
        "quote"
    ] * 3


def test_another_process_has_it_too(reopen: Reopen) -> None:
    RememberedQuotes(reopen()).put("GET /a", QUOTE, now=NOW)

    assert RememberedQuotes(reopen()).get("GET /a") == QUOTE


def test_what_is_at_hand_is_not_asked_for_again(ledger: Ledger) -> None:
    remembered = RememberedQuotes(ledger)
    assert not remembered.at_hand("GET /a")
    assert remembered.get("GET /a") is None
    assert remembered.at_hand("GET /a")
    remembered.put("GET /a", QUOTE, now=NOW)
    ledger.close()

    assert remembered.get("GET /a") == QUOTE
    remembered.put("GET /a", QUOTE, now=NOW)  # nothing new: the ledger is left alone


def test_a_ledger_that_fails_costs_a_request_and_no_more(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    remembered = RememberedQuotes(ledger)
    ledger.close()
    with pytest.raises(LedgerError):
        ledger.quotes.get("GET /a")

    assert remembered.get("GET /a") is None
    remembered.put("GET /a", QUOTE, now=NOW)

    assert remembered.get("GET /a") == QUOTE
    assert "the ledger" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"headers": 7}',
        '{"headers": [["a"]]}',
        '{"headers": [], "body": 1}',
        pytest.param("[" * 30_000, id="deeper than any parser goes"),
        pytest.param(json.dumps({"headers": [], "body": "A" * 40_000, "bought": ""}), id="huge"),
        pytest.param('{"headers": [], "body": "", "bought": "", "body": ""}', id="a key twice"),
    ],
)
def test_what_cannot_be_read_is_forgotten(ledger: Ledger, text: str) -> None:
    ledger.quotes.put("GET /a", text, now=NOW)

    assert RememberedQuotes(ledger).get("GET /a") is None


def test_what_is_huge_is_not_kept(ledger: Ledger) -> None:
    remembered = RememberedQuotes(ledger)
    remembered.put("GET /a", QUOTE, now=NOW)
    remembered.put("GET /a", replace(QUOTE, body=b"{" * 30_000), now=NOW)

    assert remembered.get("GET /a") is None
    assert ledger.quotes.get("GET /a") is None


def test_a_clock_that_was_ahead_does_not_push_out_what_comes_later(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for store in (quotes, postgres_quotes):
        monkeypatch.setattr(store, "MOST_ROUTES", 2)
    for number, now in enumerate([NOW + 9_999, NOW + 9_999, NOW, NOW + 1]):
        ledger.quotes.put(f"GET /{number}", "quote", now=now)

    assert [ledger.quotes.get(f"GET /{number}") for number in (2, 3)] == ["quote", "quote"]


def test_memory_is_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quoted, "MOST_ROUTES", 2)
    remembered = RememberedQuotes(ledger)
    asked: list[Any] = [QUOTE, OTHER, QUOTE]
    for number, quote in enumerate(asked):
        remembered.put(f"GET /{number}", quote, now=NOW)

    assert [remembered.at_hand(f"GET /{number}") for number in range(3)] == [False, True, True]
    assert remembered.get("GET /0") == QUOTE  # from the ledger
