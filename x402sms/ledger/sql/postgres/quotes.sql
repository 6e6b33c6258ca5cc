-- get --
SELECT quote FROM x402sms.quotes WHERE route = %(route)s;

-- put --
-- Later than all others whatever the clock says: one that was ahead must not push it out at once.
INSERT INTO x402sms.quotes (route, quote, seen_at)
SELECT %(route)s, %(quote)s, greatest(%(now)s, max(seen_at) + 1) FROM x402sms.quotes
ON CONFLICT (route) DO UPDATE SET quote = excluded.quote, seen_at = excluded.seen_at;

-- forget --
DELETE FROM x402sms.quotes WHERE route = %(route)s;

-- bound --
DELETE FROM x402sms.quotes WHERE route IN (
    SELECT route FROM x402sms.quotes ORDER BY seen_at DESC, route DESC OFFSET %(most)s
    FOR UPDATE SKIP LOCKED
);
