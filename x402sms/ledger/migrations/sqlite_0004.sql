-- What a route was last paid by, so that the next call there can pay with its first request.
CREATE TABLE quotes (
    route TEXT NOT NULL PRIMARY KEY,
    quote TEXT NOT NULL,
    seen_at INTEGER NOT NULL
);
