"""`kill -9` at any moment of a payment, again and again: what was begun is finished, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from signal import SIGKILL
from typing import Final

import pytest
from eth_account import Account

from tests.chaos.child import EFFECTS, SENDS, Death, Life
from tests.chaos.nursery import Nursery, running_nursery
from tests.chaos.parts import (
    ONE_USDC,
    assert_books_agree,
    intents_of,
    key_of,
    nonce_of,
    paid_on_chain,
    reconciled,
    tell,
)
from tests.parts.fixtures import LocalChain
from tests.parts.official_server import WEATHER_ATOMIC, OfficialServer, run_official_server
from x402sms import Wallet

KILLS = 100
# By the clock a kill falls where time is spent; what takes microseconds is aimed at.
AIMED_AT: Final = [
    f"{when} {what}"
    for what in (*SENDS, *EFFECTS)
    if what != "Record"  # with an RPC, the end of an undisturbed payment is a Settle
    for when in ("before", "after")
]
LONGEST = 0.12  # seconds; a payment takes about half of that
OVERDUE = 5.0


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with running_nursery() as nursery:
        yield nursery


class Doom:
    """How the next life is killed: in turn by the clock, and at a point that it comes to."""

    def __init__(self, seed: str) -> None:
        self._dice = Random(seed)  # noqa: S311  to repeat
        self._points: list[str] = []
        self._by_clock = self._dice.random() < 0.5

    def next(self) -> tuple[float, str | None, int]:
        self._by_clock = not self._by_clock
        if self._by_clock:
            return self._dice.uniform(0, LONGEST), None, 0
        if not self._points:
            self._points = self._dice.sample(AIMED_AT, len(AIMED_AT))
        # Should it never come to the point, it finishes its list or the clock ends it.
        return OVERDUE, self._points.pop(), self._dice.randint(1, 2)


@dataclass
class Payer:
    """One wallet, whose processes buy at the official server, each with the ledger it is given.

    That server does not replay: what a killed process has paid for is found on the chain only.
    """

    seed: str
    chain: LocalChain
    server: OfficialServer

    def life(self, book: Path, count: int, doom: Doom | None = None) -> Life:
        """A process that buys under the first `count` intents; killed where there is a doom."""
        after, die, at = (None, None, 0) if doom is None else doom.next()
        return {
            "key": key_of(self.seed),
            "url": f"{self.server.url}/paid/weather",
            "rpc_url": self.chain.rpc_url,
            "ledger": str(book),
            "intents": intents_of(self.seed, count),
            "total": None,
            "kill_after": after,
            "die": die,
            "at": at,
        }


@pytest.fixture
def payer(seed: str, own_chain: LocalChain) -> Iterator[Payer]:
    own_chain.usdc.mint(Wallet.from_key(key_of(seed)).address, 100 * ONE_USDC)
    with run_official_server(own_chain.rpc_url, Account.create().address) as server:
        yield Payer(seed, own_chain, server)


def test_killed_a_hundred_times_it_settles_each_purchase_once(
    payer: Payer, nursery: Nursery, tmp_path: Path
) -> None:
    book = tmp_path / "ledger.db"
    doom = Doom(payer.seed)
    deaths: list[Death] = []
    while kills(deaths) < KILLS and len(deaths) < 2 * KILLS:
        # The list grows, so that a life rarely comes to its end before it is killed.
        deaths += nursery.run(payer.life(book, len(deaths) + 1, doom))
    count = len(deaths)
    [last] = nursery.run(payer.life(book, count))
    points = Counter(death["point"] for death in deaths)
    tell(f"{kills(deaths)} kills in {len(deaths)} lives; the last life: {last['result']}")
    tell(f"killed after {points.most_common()}")

    assert kills(deaths) >= KILLS
    assert last["signal"] == 0
    assert_each_is_settled_once(payer, count, book)
    assert points.keys() >= {"before Reserve", "after Reserve", "after Sign", "after paid Send"}


def test_two_that_share_only_the_key_are_killed_and_settle_each_purchase_once(
    payer: Payer, nursery: Nursery, tmp_path: Path
) -> None:
    books = [tmp_path / "one.db", tmp_path / "other.db"]
    dooms = [Doom(f"{payer.seed}:{book.name}") for book in books]
    deaths: list[Death] = []
    while kills(deaths) < 2 * KILLS and len(deaths) < 4 * KILLS:
        count = len(deaths) // 2 + 1
        deaths += nursery.run(*map(payer.life, books, (count, count), dooms))
    count = len(deaths) // 2
    last = nursery.run(*map(payer.life, books, (count, count)))
    tell(f"{kills(deaths)} kills in {len(deaths)} lives, two at a time")
    tell(f"the last lives: {[death['result'] for death in last]}")

    assert kills(deaths) >= 2 * KILLS
    assert [death["signal"] for death in last] == [0, 0]
    assert_each_is_settled_once(payer, count, *books)


def kills(deaths: list[Death]) -> int:
    return sum(death["signal"] == SIGKILL for death in deaths)


def assert_each_is_settled_once(payer: Payer, count: int, *books: Path) -> None:
    """Each intent, on the chain, and in every ledger: each knows of all, whoever paid."""
    wallet = Wallet.from_key(key_of(payer.seed))
    paid = paid_on_chain(payer.chain, wallet.address)
    ledgers = [reconciled(payer.chain, book) for book in books]
    assert_books_agree(paid, *ledgers)
    nonces = {nonce_of(wallet, intent) for intent in intents_of(payer.seed, count)}
    assert {each.nonce for each in paid} == nonces
    assert sum(each.amount_atomic for each in paid) == count * WEATHER_ATOMIC
    assert all(rows.keys() == nonces for rows in ledgers)
    tell(f"{len(paid)} payments on the chain for {count} intents")
