"""What routes were last paid by: in this process at once, and in the ledger for the next one."""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections import OrderedDict

from x402sms.errors import LedgerError
from x402sms.ledger import Ledger
from x402sms.protocol import strict_json
from x402sms.protocol.effects import Quote

logger = logging.getLogger("x402sms")

MOST_ROUTES = 1_000
LONGEST = 32_768  # characters: a server does not get to fill the ledger


class RememberedQuotes:
    """Never raises for a ledger that fails: without it each call asks what it costs."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Quote | None] = OrderedDict()

    def at_hand(self, route: str) -> bool:
        """Whether `get` need not ask the ledger."""
        return route in self._known

    def get(self, route: str) -> Quote | None:
        with self._lock:
            if route in self._known:
                self._known.move_to_end(route)
                return self._known[route]
        try:
            text = self._ledger.quotes.get(route)
        except LedgerError:
            logger.warning("the ledger does not say what was paid last: it is asked", exc_info=True)
            return None
        quote = None if text is None else _read(text)
        self._keep(route, quote)
        return quote

    def put(self, route: str, quote: Quote | None, *, now: int) -> None:
        """None, and what is too long to keep: forget it."""
        with self._lock:
            if route in self._known and self._known[route] == quote:
                return
        text = None if quote is None else _text(quote)
        self._keep(route, None if text is None else quote)
        try:
            self._ledger.quotes.put(route, text, now=now)
        except LedgerError:
            logger.warning("the ledger does not remember what was paid", exc_info=True)

    def _keep(self, route: str, quote: Quote | None) -> None:
        with self._lock:
            self._known[route] = quote
            self._known.move_to_end(route)
            while len(self._known) > MOST_ROUTES:
                self._known.popitem(last=False)


def _text(quote: Quote) -> str | None:
    """None for what is too long."""
    body = base64.b64encode(quote.body).decode("ascii")
    text = json.dumps({"headers": quote.headers, "body": body, "bought": quote.bought})
    return text if len(text) <= LONGEST else None


def _read(text: str) -> Quote | None:
    """None for what another version, or another program, wrote."""
    if len(text) > LONGEST:
        return None
    try:
        kept = strict_json.loads(text)
        headers = tuple((str(name), str(value)) for name, value in kept["headers"])
        return Quote(headers, base64.b64decode(kept["body"]), str(kept["bought"]))
    except (ValueError, KeyError, TypeError):
        return None
