-- get --
SELECT quote FROM x402sms.quotes WHERE route = %(route)s;

-- put --
INSERT INTO x402sms.quotes (route, quote, seen_at) VALUES (%(route)s, %(quote)s, %(now)s)
ON CONFLICT (route) DO UPDATE SET quote = excluded.quote, seen_at = excluded.seen_at;

-- forget --
DELETE FROM x402sms.quotes WHERE route = %(route)s;

-- bound --
DELETE FROM x402sms.quotes WHERE route IN (
    SELECT route FROM x402sms.quotes ORDER BY seen_at DESC, route DESC OFFSET %(most)s
    FOR UPDATE SKIP LOCKED
);
