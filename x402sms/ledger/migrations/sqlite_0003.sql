-- What was bought from the balance of an account, with an API key: no signature, no nonce, so what
-- keeps a purchase from being made twice is that it was written down before it was asked for.
CREATE TABLE charges (
    account TEXT NOT NULL,
    intent TEXT NOT NULL,
    what TEXT NOT NULL,
    url TEXT NOT NULL,
    amount_atomic INTEGER NOT NULL CHECK (amount_atomic >= 0),
    state TEXT NOT NULL CHECK (state IN ('unknown', 'settled', 'void')),
    order_id TEXT,
    asked_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (account, intent)
);

-- An order is of one purchase. More hours of a rental are a purchase without an order of its own.
CREATE UNIQUE INDEX charges_order ON charges (account, order_id)
    WHERE order_id IS NOT NULL AND state = 'settled';
