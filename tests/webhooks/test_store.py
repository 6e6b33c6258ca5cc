"""The store of events: each once, for threads, processes, restarts and handlers that crash."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

import x402sms
from tests.webhooks.parts import NOW, body_of
from x402sms.errors import ConfigError, EventStoreError
from x402sms.ledger import SQLiteLedger
from x402sms.virtualsms.webhooks import parse_event
from x402sms.webhooks import EventStore
from x402sms.webhooks.store import LEASE, MOST_TRIES, PAUSE, REMEMBERED, SPARE

DAY = 24 * 3600
ROOT = Path(x402sms.__file__).parents[1]


class Clock:
    def __init__(self, now: float = NOW) -> None:
        self.at = now

    def now(self) -> float:
        return self.at

    def time(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        raise AssertionError("a store does not sleep")

    async def sleep_async(self, seconds: float) -> None:
        raise AssertionError("a store does not sleep")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "webhooks.db"


@pytest.fixture
def store(path: Path, clock: Clock) -> Iterator[EventStore]:
    with EventStore(path, clock=clock) as opened:
        yield opened


def add(store: EventStore, number: int = 1, *, due: bool = False, **more: object) -> bool:
    body = body_of(number, **more)
    return store.add(parse_event(body), body, due=due)


def id_of(number: int = 1) -> str:
    return f"evt_{number:026}"


def test_an_event_is_new_once(store: EventStore) -> None:
    assert [add(store), add(store), add(store, 2)] == [True, False, True]


def test_it_is_known_after_a_restart(path: Path, store: EventStore) -> None:
    add(store)
    store.close()
    with EventStore(path, clock=Clock()) as again:
        assert add(again) is False
        assert [sms.content for sms in again.messages("ord_1")] == ["Your Telegram code is 00001"]


def test_the_file_is_its_owners_alone(path: Path, store: EventStore) -> None:
    add(store)
    names = ("webhooks.db", "webhooks.db-wal", "webhooks.db-shm")
    modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
    assert modes == dict.fromkeys(names, 0o600)
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_messages_of_an_order_are_its_own_oldest_first_however_they_came(
    store: EventStore,
) -> None:
    later = "2030-01-01T00:00:00Z"
    add(store, 3, data={"received_at": later})
    add(store, 1)
    add(store, 2, data={"order_id": "ord_2"})
    add(store, 4, type="order.confirmed")
    messages = store.messages("ord_1")
    assert [sms.content[-5:] for sms in messages] == ["00001", "00003"]
    assert (messages[0].model_extra or {})["phone_number"] == "+447700900101"
    assert store.messages("ord_3") == []


def test_without_times_they_are_in_the_order_in_which_they_came(
    store: EventStore, clock: Clock
) -> None:
    for number in (2, 1):
        add(store, number, created_at=None, data={"received_at": None})
        clock.at += 1
    assert [sms.content[-5:] for sms in store.messages("ord_1")] == ["00002", "00001"]


def test_an_event_without_a_text_has_an_empty_one(store: EventStore) -> None:
    add(store, data={"full_text": None})
    [sms] = store.messages("ord_1")
    assert (sms.content, (sms.model_extra or {})["code"]) == ("", "00001")


def test_a_body_that_this_version_cannot_read_hides_no_other(store: EventStore) -> None:
    store.add(parse_event(body_of(1)), b"of another version", due=True)
    add(store, 2, due=True)
    assert [sms.content[-5:] for sms in store.messages("ord_1")] == ["00002"]
    assert [event.id for event in store.due(9)] == [id_of(2)]


def test_what_is_older_than_it_remembers_is_refused_and_only_then_forgotten(
    store: EventStore, clock: Clock
) -> None:
    event = parse_event(body_of())
    add(store)
    assert store.remembers(event)
    clock.at += REMEMBERED - 1
    assert store.remembers(event)
    clock.at += 2
    assert not store.remembers(event)
    add(store, 2, at=clock.at)
    assert len(store.messages("ord_1")) == 2
    clock.at += SPARE
    add(store, 3, at=clock.at)
    assert len(store.messages("ord_1")) == 2


def test_what_does_not_say_when_it_was_made_is_never_forgotten(
    store: EventStore, clock: Clock
) -> None:
    add(store, created_at=None)
    clock.at += 1000 * DAY
    add(store, 2, at=clock.at)
    assert store.remembers(parse_event(body_of(created_at=None)))
    assert add(store, created_at=None) is False


def test_an_old_event_that_is_kept_all_the_same_is_kept_as_long(store: EventStore) -> None:
    assert add(store, at=NOW - 100 * DAY)
    assert add(store, at=NOW - 100 * DAY) is False


def test_threads_add_each_event_once(store: EventStore) -> None:
    start = threading.Barrier(8)

    def all_of_them(_: int) -> int:
        start.wait(10)
        return sum(add(store, number) for number in range(20))

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(all_of_them, range(8))) == 20


PROCESS = """
import sys
from tests.webhooks.parts import body_of
from x402sms.virtualsms.webhooks import parse_event
from x402sms.webhooks import EventStore
with EventStore(sys.argv[1]) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    added = claimed = 0
    for number in range(100):
        body = body_of(number)
        added += store.add(parse_event(body), body)
        claimed += store.claim(parse_event(body).id) == 1
    print(added, claimed)
"""


def test_processes_add_and_claim_each_event_once(path: Path) -> None:
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(path)],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("go\n")
        program.stdin.flush()
    ended = [program.communicate(timeout=60)[0].split() for program in programs]
    assert sum(int(added) for added, _ in ended) == 100
    assert sum(int(claimed) for _, claimed in ended) == 100


# Handlers


def test_one_has_it_and_nobody_after_it_is_done(store: EventStore) -> None:
    add(store)
    assert [store.claim(id_of()), store.claim(id_of())] == [1, 0]
    store.done(id_of(), 1)
    assert (store.claim(id_of()), store.due(9)) == (0, [])


def test_what_a_crash_left_is_due_once_its_lease_is_over(store: EventStore, clock: Clock) -> None:
    add(store)
    assert store.claim(id_of()) == 1
    clock.at += LEASE - 1
    assert (store.due(9), store.claim(id_of())) == ([], 0)
    clock.at += 1
    assert [event.id for event in store.due(9)] == [id_of()]
    assert store.claim(id_of()) == 2


def test_whoever_outlives_its_lease_does_not_end_the_try_of_another(
    store: EventStore, clock: Clock
) -> None:
    add(store)
    store.claim(id_of())
    clock.at += LEASE
    store.claim(id_of())
    store.done(id_of(), 1)
    store.failed(id_of(), 1)
    clock.at += LEASE
    assert store.claim(id_of()) == 3


def test_what_fails_is_due_after_longer_and_longer_pauses_and_then_given_up(
    store: EventStore, clock: Clock
) -> None:
    add(store)
    for tried in range(1, MOST_TRIES + 1):
        assert store.claim(id_of()) == tried
        assert store.failed(id_of(), tried) is (tried < MOST_TRIES)
        clock.at += tried * PAUSE - 1
        assert store.due(9) == []
        clock.at += 1
    assert (store.claim(id_of()), store.due(9)) == (0, [])


def test_what_was_kept_for_a_handler_and_never_claimed_is_due(store: EventStore) -> None:
    add(store, 1, due=True)
    add(store, 2)  # nobody was to handle it
    assert [event.id for event in store.due(9)] == [id_of(1)]


def test_what_nobody_added_is_not_claimed(store: EventStore) -> None:
    assert store.claim("evt_other") == 0


# Files that cannot be used


def test_a_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (text)")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(EventStoreError, match=r"another program, not a store of webhooks"):
        EventStore(path)
    assert path.read_bytes() == before


def test_a_ledger_is_no_store_and_a_store_no_ledger(tmp_path: Path, path: Path) -> None:
    SQLiteLedger(tmp_path / "payments.db").close()
    with pytest.raises(EventStoreError, match="another program"):
        EventStore(tmp_path / "payments.db")
    EventStore(path).close()
    with pytest.raises(Exception, match="not a ledger of x402sms"):
        SQLiteLedger(path)


@pytest.mark.parametrize("location", ["", "a\0b"])
def test_a_path_that_is_none_is_a_setting_that_is_wrong(location: str) -> None:
    with pytest.raises(ConfigError, match="no path of a store"):
        EventStore(location)


def test_a_folder_or_a_file_that_is_gone_is_said_with_its_path(path: Path, tmp_path: Path) -> None:
    with pytest.raises(EventStoreError, match="is a directory"):
        EventStore(tmp_path)
    with EventStore(path) as store:
        path.unlink()
        with pytest.raises(EventStoreError, match="deleted or replaced") as caught:
            store.messages("ord_1")
    assert str(path) in str(caught.value)
    assert "Nothing was paid" in str(caught.value)


def test_without_a_path_it_lies_beside_the_ledger(tmp_path: Path) -> None:
    with EventStore() as store:
        add(store)
    assert [each.name for each in tmp_path.rglob("webhooks.db")] == ["webhooks.db"]


def test_one_in_memory_is_gone_with_it() -> None:
    with EventStore(":memory:", clock=Clock()) as store:
        assert add(store)
    with EventStore(":memory:", clock=Clock()) as store:
        assert add(store)
    assert not os.listdir(".")
