-- One row a purchase. (network, payer, nonce) finds it on the chain: the USDC contract's
-- AuthorizationUsed event is indexed by payer and nonce.
CREATE TABLE payments (
    id            INTEGER PRIMARY KEY,
    intent        TEXT    NOT NULL,
    fingerprint   TEXT    NOT NULL,
    method        TEXT    NOT NULL,
    url           TEXT    NOT NULL,
    network       TEXT    NOT NULL,  -- CAIP-2
    asset         TEXT    NOT NULL,
    payer         TEXT    NOT NULL,
    pay_to        TEXT    NOT NULL,
    amount_atomic INTEGER NOT NULL CHECK (amount_atomic >= 0),
    valid_after   INTEGER NOT NULL,
    valid_before  INTEGER NOT NULL,
    nonce         TEXT    NOT NULL,
    dialect       TEXT    NOT NULL,
    requirements  TEXT    NOT NULL,  -- the accepted entry, as JSON
    state         TEXT    NOT NULL 
        CHECK (state IN ('reserved', 'settled', 'refused', 'unknown', 'void')),
    reason        TEXT,
    "transaction" TEXT,              -- its hash, where the server named one
    verified      INTEGER NOT NULL DEFAULT 0 CHECK (verified IN (0, 1)),
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    UNIQUE (network, payer, nonce)
) STRICT;

-- The budgets add up a payer's promises since some time.
CREATE INDEX payments_by_time ON payments (network, payer, created_at);
