-- One row an event: its id is the same in each delivery, so the second one is no event.
CREATE TABLE events (
    id         TEXT    PRIMARY KEY,
    order_id   TEXT,
    created_at INTEGER,           -- Unix seconds, by the service; NULL where it does not say
    stored_at  INTEGER NOT NULL,
    body       BLOB    NOT NULL,  -- as it was signed
    due        INTEGER NOT NULL DEFAULT 0 CHECK (due IN (0, 1)),  -- a handler is to have it
    tries      INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,  -- until then a handler has it, or it is left alone
    done       INTEGER NOT NULL DEFAULT 0 CHECK (done IN (0, 1))
) STRICT;

CREATE INDEX events_by_order ON events (order_id);
CREATE INDEX events_by_age ON events (created_at);
CREATE INDEX events_due ON events (not_before) WHERE due AND NOT done;
