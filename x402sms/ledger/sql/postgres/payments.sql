-- reserve --
-- The row of a nonce takes the authorization that was signed last, as the newest of all.
INSERT INTO x402sms.payments ({columns}) VALUES ({values})
ON CONFLICT (network, payer, nonce) DO UPDATE SET id = excluded.id, {replaced};

-- insert --
INSERT INTO x402sms.payments ({columns}) VALUES ({values})
ON CONFLICT (network, payer, nonce) DO NOTHING;

-- find --
SELECT {columns} FROM x402sms.payments
WHERE network = %(network)s AND payer = %(payer)s AND nonce = %(nonce)s;

-- search --
SELECT {columns} FROM x402sms.payments
WHERE intent = %(intent)s OR nonce = %(nonce)s
ORDER BY id DESC;

-- list --
SELECT {columns} FROM x402sms.payments
WHERE created_at >= %(since)s AND (%(state)s::text IS NULL OR state = %(state)s)
ORDER BY id DESC;

-- latest --
SELECT greatest(
    (SELECT coalesce(max(created_at), 0) FROM x402sms.payments),
    (SELECT coalesce(max(taken_at), 0) FROM x402sms.leases)
);

-- spent --
-- Whole minutes from their sums (the triggers' work), the one that the window begins in by the row.
SELECT (
    SELECT coalesce(sum(atomic), 0) FROM x402sms.promised
    WHERE network = %(network)s AND payer = %(payer)s AND minute > %(after)s::bigint / 60
        AND (%(worker)s::text IS NULL OR worker = %(worker)s)
) + (
    SELECT coalesce(sum(reserved_atomic), 0) FROM x402sms.payments
    WHERE network = %(network)s AND payer = %(payer)s AND state != 'void'
        AND created_at > %(after)s AND created_at < (%(after)s::bigint / 60 + 1) * 60
        AND (%(worker)s::text IS NULL OR worker = %(worker)s)
) - coalesce((
    SELECT reserved_atomic FROM x402sms.payments
    WHERE network = %(network)s AND payer = %(payer)s AND nonce = %(nonce)s AND state != 'void'
        AND created_at > %(after)s AND (%(worker)s::text IS NULL OR worker = %(worker)s)
), 0) + x402sms.leased(%(network)s, %(payer)s, %(after)s, %(worker)s);

-- spent_at --
SELECT (
    SELECT coalesce(sum(reserved_atomic), 0) FROM x402sms.payments
    WHERE network = %(network)s AND payer = %(payer)s AND created_at > %(after)s AND state != 'void'
        AND nonce != %(nonce)s
        AND (pay_to = %(pay_to)s OR strpos(other_recipients, %(pay_to)s) > 0)
        AND (%(worker)s::text IS NULL OR worker = %(worker)s)
) + x402sms.leased(%(network)s, %(payer)s, %(after)s, %(worker)s);

-- record --
UPDATE x402sms.payments
SET state = %(state)s, reason = %(reason)s, transaction = %(transaction)s,
    nonce_burnt = %(burnt)s, updated_at = %(now)s
WHERE network = %(network)s AND payer = %(payer)s AND nonce = %(nonce)s
    AND state NOT IN ('settled', 'void')
    AND (NOT %(never_sent)s OR (presentations = 1 AND valid_before = %(valid_before)s))
    AND (%(chain_time)s::bigint IS NULL OR settleable_until < %(chain_time)s);

-- settle --
UPDATE x402sms.payments
SET state = 'settled', verified = true, nonce_burnt = false, reason = NULL,
    transaction = %(transaction)s, pay_to = %(pay_to)s, other_recipients = '',
    amount_atomic = %(amount_atomic)s, reserved_atomic = %(amount_atomic)s, updated_at = %(now)s
WHERE network = %(network)s AND payer = %(payer)s AND nonce = %(nonce)s AND NOT verified;

-- void --
UPDATE x402sms.payments
SET state = 'void', reason = %(reason)s, nonce_burnt = nonce_burnt OR %(burnt)s,
    updated_at = %(now)s
WHERE network = %(network)s AND payer = %(payer)s AND nonce = %(nonce)s AND NOT verified
    AND (
        %(burnt)s
        OR (presentations = %(presentations)s AND settleable_until = %(settleable_until)s)
    );

-- delivered --
UPDATE x402sms.payments SET delivered = %(what)s
WHERE network = %(network)s AND payer = %(payer)s AND nonce = %(nonce)s
    AND (delivered IS NULL OR delivered = %(what)s)
    AND NOT EXISTS (
        SELECT 1 FROM x402sms.payments
        WHERE network = %(network)s AND payer = %(payer)s
            AND delivered = %(what)s AND nonce != %(nonce)s
    );
