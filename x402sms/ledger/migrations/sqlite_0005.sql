-- Who of a fleet promised it (worker), what it was for (labels, a JSON object with sorted names), and
-- the slice of a shared budget that it was spent from (lease). Made anew for its unique key, which
-- begins with the nonce, so that one index finds a payment by that too.
CREATE TABLE payments_anew (
    id               INTEGER PRIMARY KEY,
    intent           TEXT    NOT NULL,
    fingerprint      TEXT    NOT NULL,
    method           TEXT    NOT NULL,
    url              TEXT    NOT NULL,
    network          TEXT    NOT NULL,  -- CAIP-2
    asset            TEXT    NOT NULL,
    payer            TEXT    NOT NULL,
    pay_to           TEXT    NOT NULL,
    amount_atomic    INTEGER NOT NULL CHECK (amount_atomic >= 0),
    valid_after      INTEGER NOT NULL,
    valid_before     INTEGER NOT NULL,
    nonce            TEXT    NOT NULL,
    dialect          TEXT    NOT NULL,
    template         TEXT    NOT NULL,
    state            TEXT    NOT NULL
        CHECK (state IN ('reserved', 'settled', 'refused', 'unknown', 'void')),
    reason           TEXT,
    "transaction"    TEXT,
    verified         INTEGER NOT NULL CHECK (verified IN (0, 1)),
    reserved_atomic  INTEGER NOT NULL CHECK (reserved_atomic >= 0),
    first_at         INTEGER NOT NULL,
    settleable_until INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    other_recipients TEXT    NOT NULL,
    presentations    INTEGER NOT NULL,
    nonce_burnt      INTEGER NOT NULL CHECK (nonce_burnt IN (0, 1)),
    delivered        TEXT,
    worker           TEXT    NOT NULL DEFAULT '',
    labels           TEXT    NOT NULL DEFAULT '',
    lease            TEXT    NOT NULL DEFAULT '',
    UNIQUE (nonce, payer, network)
) STRICT;
INSERT INTO payments_anew (
    id, intent, fingerprint, method, url, network, asset, payer, pay_to, amount_atomic, valid_after,
    valid_before, nonce, dialect, template, state, reason, "transaction", verified, reserved_atomic,
    first_at, settleable_until, created_at, updated_at, other_recipients, presentations,
    nonce_burnt, delivered)
SELECT
    id, intent, fingerprint, method, url, network, asset, payer, pay_to, amount_atomic, valid_after,
    valid_before, nonce, dialect, template, state, reason, "transaction", verified, reserved_atomic,
    first_at, settleable_until, created_at, updated_at, other_recipients, presentations,
    nonce_burnt, delivered
FROM payments;
DROP TABLE payments;
ALTER TABLE payments_anew RENAME TO payments;

-- By time first: also for when the last payment of anyone was promised.
CREATE INDEX payments_by_time ON payments (created_at, network, payer);
CREATE INDEX payments_by_intent ON payments (intent);
CREATE INDEX payments_by_delivery ON payments (delivered) WHERE delivered IS NOT NULL;

ALTER TABLE charges ADD COLUMN worker TEXT NOT NULL DEFAULT '';
ALTER TABLE charges ADD COLUMN labels TEXT NOT NULL DEFAULT '';

-- What this worker took from the budgets of a shared ledger, to spend it from this file alone.
CREATE TABLE leases (
    id               TEXT    NOT NULL PRIMARY KEY,
    network          TEXT    NOT NULL,
    payer            TEXT    NOT NULL,
    worker           TEXT    NOT NULL,
    terms            TEXT    NOT NULL,
    amount_atomic    INTEGER NOT NULL CHECK (amount_atomic >= 0),
    taken_at         INTEGER NOT NULL,
    expires_at       INTEGER NOT NULL,
    settleable_until INTEGER NOT NULL,
    state            TEXT    NOT NULL CHECK (state IN ('asked', 'open', 'closed', 'returned'))
) STRICT;
CREATE INDEX leases_unreturned ON leases (state) WHERE state != 'returned';
CREATE INDEX payments_by_lease ON payments (lease, state, nonce, reserved_atomic) WHERE lease != '';

-- Payments of a lease that is no longer open, which the shared ledger has otherwise or not at all.
CREATE TABLE unpassed (
    network TEXT NOT NULL,
    payer   TEXT NOT NULL,
    nonce   TEXT NOT NULL,
    PRIMARY KEY (nonce, payer, network)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER payment_promised_again AFTER INSERT ON payments
WHEN new.lease != ''
    AND EXISTS (SELECT 1 FROM leases WHERE id = new.lease AND state IN ('closed', 'returned'))
BEGIN
    INSERT INTO unpassed SELECT new.network, new.payer, new.nonce
    WHERE NOT EXISTS (
        SELECT 1 FROM unpassed
        WHERE network = new.network AND payer = new.payer AND nonce = new.nonce);
END;
CREATE TRIGGER payment_went_on AFTER UPDATE ON payments
WHEN new.lease != ''
    AND EXISTS (SELECT 1 FROM leases WHERE id = new.lease AND state IN ('closed', 'returned'))
BEGIN
    INSERT INTO unpassed SELECT new.network, new.payer, new.nonce
    WHERE NOT EXISTS (
        SELECT 1 FROM unpassed
        WHERE network = new.network AND payer = new.payer AND nonce = new.nonce);
END;

-- What counts against the budgets, added up by the minute, so that a window of a day is some
-- minutes' sums and not all of its payments. Kept by the triggers alone: whatever writes a payment,
-- the sum goes with it in the same transaction.
CREATE TABLE promised (
    network TEXT    NOT NULL,
    payer   TEXT    NOT NULL,
    minute  INTEGER NOT NULL,  -- created_at / 60
    worker  TEXT    NOT NULL,
    atomic  INTEGER NOT NULL CHECK (atomic >= 0),
    PRIMARY KEY (network, payer, minute, worker)
) STRICT, WITHOUT ROWID;
INSERT INTO promised
SELECT network, payer, created_at / 60, worker, sum(reserved_atomic) FROM payments
WHERE state != 'void' GROUP BY network, payer, created_at / 60, worker;

-- None of these statements can meet a conflict: in a trigger, the outer OR REPLACE would decide it.
CREATE TRIGGER payment_promised AFTER INSERT ON payments WHEN new.state != 'void'
BEGIN
    INSERT INTO promised SELECT new.network, new.payer, new.created_at / 60, new.worker, 0
    WHERE NOT EXISTS (
        SELECT 1 FROM promised WHERE network = new.network AND payer = new.payer
            AND minute = new.created_at / 60 AND worker = new.worker);
    UPDATE promised SET atomic = atomic + new.reserved_atomic
    WHERE network = new.network AND payer = new.payer
        AND minute = new.created_at / 60 AND worker = new.worker;
END;

-- A row that is replaced is deleted: with recursive_triggers, which every connection of ours sets.
CREATE TRIGGER payment_gone AFTER DELETE ON payments WHEN old.state != 'void'
BEGIN
    UPDATE promised SET atomic = atomic - old.reserved_atomic
    WHERE network = old.network AND payer = old.payer
        AND minute = old.created_at / 60 AND worker = old.worker;
END;

CREATE TRIGGER payment_changed AFTER UPDATE ON payments
WHEN (old.state = 'void') != (new.state = 'void')
    OR old.reserved_atomic != new.reserved_atomic OR old.created_at != new.created_at
    OR old.network != new.network OR old.payer != new.payer OR old.worker != new.worker
BEGIN
    UPDATE promised SET atomic = atomic - old.reserved_atomic
    WHERE old.state != 'void' AND network = old.network AND payer = old.payer
        AND minute = old.created_at / 60 AND worker = old.worker;
    INSERT INTO promised SELECT new.network, new.payer, new.created_at / 60, new.worker, 0
    WHERE new.state != 'void' AND NOT EXISTS (
        SELECT 1 FROM promised WHERE network = new.network AND payer = new.payer
            AND minute = new.created_at / 60 AND worker = new.worker);
    UPDATE promised SET atomic = atomic + new.reserved_atomic
    WHERE new.state != 'void' AND network = new.network AND payer = new.payer
        AND minute = new.created_at / 60 AND worker = new.worker;
END;
