-- by_day --
-- A day is one of UTC. What is settled cost its amount, what is open may cost what is reserved.
SELECT 'x402', network, payer, created_at / 86400, worker, labels, state, count(*),
    sum(CASE WHEN state = 'settled' THEN amount_atomic ELSE reserved_atomic END)::bigint
FROM x402sms.payments WHERE created_at >= %(since)s
GROUP BY network, payer, created_at / 86400, worker, labels, state
UNION ALL
SELECT 'rest', '', account, asked_at / 86400, worker, labels, state, count(*),
    sum(amount_atomic)::bigint
FROM x402sms.charges WHERE asked_at >= %(since)s
GROUP BY account, asked_at / 86400, worker, labels, state;
