-- ask --
INSERT INTO x402sms.charges ({columns}) VALUES ({values})
ON CONFLICT (account, intent) DO UPDATE SET id = excluded.id, {replaced};

-- find --
SELECT {columns} FROM x402sms.charges WHERE account = %(account)s AND intent = %(intent)s;

-- list --
SELECT {columns} FROM x402sms.charges WHERE asked_at >= %(since)s ORDER BY asked_at DESC, id DESC;

-- latest --
SELECT coalesce(max(asked_at), 0) FROM x402sms.charges;

-- spent --
SELECT coalesce(sum(amount_atomic), 0) FROM x402sms.charges
WHERE account = %(account)s AND asked_at > %(after)s AND state != 'void'
    AND (%(worker)s::text IS NULL OR worker = %(worker)s);

-- end --
-- An order is of one purchase: nothing is written where another one has it.
UPDATE x402sms.charges AS charge
SET state = %(state)s, order_id = coalesce(%(order_id)s::text, order_id),
    amount_atomic = coalesce(%(amount_atomic)s::bigint, amount_atomic), updated_at = %(now)s
WHERE account = %(account)s AND intent = %(intent)s
    AND (
        state != 'settled'
        OR (%(state)s = 'settled' AND order_id IS NOT DISTINCT FROM %(order_id)s::text)
    )
    AND (%(state)s != 'void' OR %(asked_at)s IN (0, asked_at))
    AND NOT EXISTS (
        SELECT 1 FROM x402sms.charges AS other
        WHERE other.account = charge.account AND other.intent != charge.intent
            AND other.order_id = coalesce(%(order_id)s::text, charge.order_id)
            AND other.state = 'settled' AND %(state)s = 'settled'
    );
