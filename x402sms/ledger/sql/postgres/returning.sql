-- there --
SELECT {columns} FROM x402sms.payments
WHERE network = %(network)s AND payer = %(payer)s AND nonce = ANY(%(nonces)s);

-- put --
-- All in one statement: the payer's lock is held meanwhile, and the server may be far away.
INSERT INTO x402sms.payments ({columns})
SELECT {columns} FROM json_populate_recordset(NULL::x402sms.payments, %(rows)s::json)
ON CONFLICT (network, payer, nonce) DO UPDATE SET {replaced};
