"""The events that were received, in one SQLite file: each once, however often it is delivered."""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime
from pathlib import Path

from x402sms.clock import Clock, SystemClock
from x402sms.errors import ConfigError, EventStoreError, WebhookUnreadable
from x402sms.ledger.database import Database
from x402sms.ledger.sqlite_file import Schema, migration_in, number
from x402sms.virtualsms.models import Sms
from x402sms.virtualsms.webhooks import Event, SmsReceived, parse_event

REMEMBERED = 7 * 24 * 3600  # seconds; the service retries a delivery for hours
SPARE = 24 * 3600  # seconds that an event is kept beyond that: a clock may be set back
MOST_TRIES = 5  # of a handler, for one event
LEASE = 600  # seconds that a handler has an event for itself
PAUSE = 60  # seconds before what failed is handled again, and so much more each time

_ADD = """
    INSERT OR IGNORE INTO events (id, order_id, created_at, stored_at, body, due)
    VALUES (?, ?, ?, ?, ?, ?)
"""
_FORGET = "DELETE FROM events WHERE created_at < :before AND stored_at < :before"
_CLAIM = """
    UPDATE events SET due = 1, tries = tries + 1, not_before = :until
    WHERE id = :id AND NOT done AND not_before <= :now AND tries < :most
"""
# Only for whoever still has it: after a lease that ran out it may be another's.
_MINE = "WHERE id = ? AND NOT done AND tries = ?"
_DUE = """
    SELECT body FROM events
    WHERE due AND NOT done AND not_before <= ? AND tries < ? ORDER BY stored_at, rowid LIMIT ?
"""


class EventStore(Database):
    """Where events are kept: by path, or `":memory:"`; None is `webhooks.db` beside your ledger.

    Safe for threads and for processes; the file is readable by its owner only, since it holds
    the texts of messages. An event is known again for `remembered` seconds after its
    `created_at`, then it is deleted, and refused as too old; one without a `created_at` is never
    forgotten. Every method raises EventStoreError where the file fails.
    """

    schema = Schema(
        "a store of webhooks",
        0x78343077,  # "x40w"
        1,
        lambda version: migration_in("x402sms.webhooks", version),
    )

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        remembered: int = REMEMBERED,
        clock: Clock | None = None,
    ) -> None:
        location = os.fspath(default_store_path() if path is None else path)
        if not location or "\0" in location:
            raise ConfigError(f"{location!r} is no path of a store of webhooks")
        self._remembered = remembered
        self._clock = SystemClock() if clock is None else clock
        super().__init__(os.path.expanduser(location))

    def remembers(self, event: Event) -> bool:
        """Whether a second delivery of it would be known for one; else it is to be refused."""
        made = _created(event)
        return made is None or made > self._clock.time() - self._remembered

    def add(self, event: Event, body: bytes, *, due: bool = False) -> bool:
        """Keep an event, on disk when this returns. False: it was here already.

        `due`: a handler is to have it, after a crash at the latest (see `claim`).
        """
        now = self._now()
        row = (event.id, event.order_id, _created(event), now, bytes(body), due)
        with self._transaction("FULL") as connection:
            connection.execute(_FORGET, {"before": now - self._remembered - SPARE})
            return connection.execute(_ADD, row).rowcount == 1

    def messages(self, order_id: str) -> list[Sms]:
        """The messages that events told of for an order, oldest first.

        `phone_number` and `code` of the event are in `model_extra`; `content` is empty where the
        event had no text.
        """
        with self._transaction(begin="BEGIN") as connection:
            rows = connection.execute(
                "SELECT body, stored_at FROM events WHERE order_id = ? ORDER BY stored_at, rowid",
                (order_id,),
            ).fetchall()
        told = [(event, stored) for body, stored in rows if (event := _read(body)) is not None]
        received = [(event, stored) for event, stored in told if isinstance(event, SmsReceived)]
        # Deliveries overtake each other; the service's own times say which came first.
        received.sort(key=lambda each: _moment(*each))
        return [event.sms for event, _ in received]

    def claim(self, event_id: str, *, lease: int = LEASE) -> int:
        """Which try of handling it this is, and nobody else's for `lease` seconds; 0: it is done,
        somebody is at it, or it failed too often.

        At least once: whoever crashes never says `done`, and once the lease is over the event is
        `due` again. So a handler may see an event a second time, and never two have it at a time.
        """
        now = self._now()
        with self._transaction("FULL") as connection:
            wanted = {"id": event_id, "now": now, "until": now + lease, "most": MOST_TRIES}
            if connection.execute(_CLAIM, wanted).rowcount != 1:
                return 0
            return number(connection, "SELECT tries FROM events WHERE id = ?", (event_id,))

    def done(self, event_id: str, tried: int) -> None:
        """It was handled by the try that `claim` gave, and no handler gets it again."""
        with self._transaction("FULL") as connection:
            connection.execute(
                f"UPDATE events SET done = 1 {_MINE}",  # noqa: S608  a constant of this module
                (event_id, tried),
            )

    def failed(self, event_id: str, tried: int) -> bool:
        """The handler failed, and the event is due again later. False: that was the last try."""
        later = self._now() + tried * PAUSE
        with self._transaction() as connection:
            connection.execute(
                f"UPDATE events SET not_before = ? {_MINE}",  # noqa: S608  as above
                (later, event_id, tried),
            )
        return tried < MOST_TRIES

    def due(self, most: int) -> list[Event]:
        """Events for a handler that nobody has now: of a crash, or of a try that failed."""
        with self._transaction(begin="BEGIN") as connection:
            rows = connection.execute(_DUE, (self._now(), MOST_TRIES, most)).fetchall()
        return [event for (body,) in rows if (event := _read(body)) is not None]

    def _now(self) -> int:
        return int(self._clock.time())

    def _failure(self, why: str) -> EventStoreError:
        return EventStoreError(
            f"the store of webhooks {self._path} cannot be used: {why}. Nothing was paid, and no "
            "event was taken: the service delivers it again for some hours. Free some space, set "
            "the permissions, or name another file"
        )


def default_store_path() -> Path:
    """`webhooks.db` in the user's data folder, where the ledger is."""
    from platformdirs import user_data_path  # noqa: PLC0415  only needed without a path

    return user_data_path("x402sms") / "webhooks.db"


def _created(event: Event) -> int | None:
    return None if event.created_at is None else math.floor(event.created_at.timestamp())


def _read(body: bytes) -> Event | None:
    try:
        return parse_event(body)
    except WebhookUnreadable:  # of an x402sms that read more
        return None


def _moment(event: SmsReceived, stored: int) -> datetime:
    told = event.data.received_at or event.created_at
    return datetime.fromtimestamp(stored, UTC) if told is None else told
