-- What a payment is presented with, so that the same one can be presented again.
ALTER TABLE payments ADD COLUMN template TEXT NOT NULL DEFAULT '{}';
UPDATE payments SET template = CASE dialect
    WHEN 'v2' THEN json_object('x402Version', 2, 'accepted', json(requirements))
    ELSE json_object(
        'x402Version', 1, 'scheme', 'exact',
        'network', CASE network WHEN 'eip155:8453' THEN 'base' ELSE 'base-sepolia' END)
END;
ALTER TABLE payments DROP COLUMN requirements;

-- A purchase that was priced anew has several amounts under one nonce, of which at most one can
-- settle: amount_atomic is the last, reserved_atomic the largest, and that is what counts.
-- first_at is when the first of them was promised: where to begin to look on the chain; after
-- settleable_until, the latest valid_before of all, none of them can settle.
ALTER TABLE payments ADD COLUMN reserved_atomic INTEGER NOT NULL DEFAULT 0
    CHECK (reserved_atomic >= 0);
ALTER TABLE payments ADD COLUMN first_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE payments ADD COLUMN settleable_until INTEGER NOT NULL DEFAULT 0;
UPDATE payments SET reserved_atomic = amount_atomic, first_at = created_at,
    settleable_until = valid_before;

-- Whom the earlier of them would pay, if not pay_to: any one of them may settle.
ALTER TABLE payments ADD COLUMN other_recipients TEXT NOT NULL DEFAULT '';

-- A cancelled authorization has used up its nonce: the intent can never be paid.
ALTER TABLE payments ADD COLUMN nonce_burnt INTEGER NOT NULL DEFAULT 0
    CHECK (nonce_burnt IN (0, 1));

-- What the payment brought, such as an order's id. A purchase without it was paid in vain, so far.
ALTER TABLE payments ADD COLUMN delivered TEXT;

-- How often it was reserved to be sent. What another process may have sent is not void because
-- this one could not connect.
ALTER TABLE payments ADD COLUMN presentations INTEGER NOT NULL DEFAULT 1;
