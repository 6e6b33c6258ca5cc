-- take --
-- Nothing where it was given back already: by whoever found it asked for, and thought it lost.
INSERT INTO x402sms.leases ({columns}) VALUES ({values})
ON CONFLICT (id) DO NOTHING;

-- give_back --
-- One that is not there cannot be taken any more. One that the chain has ended stays as it is.
INSERT INTO x402sms.leases AS leases ({columns})
VALUES (%(id)s, %(network)s, %(payer)s, %(worker)s, %(terms)s, %(amount_atomic)s, %(taken_at)s,
    %(expires_at)s, %(settleable_until)s, 'returned')
ON CONFLICT (id) DO UPDATE
    SET state = CASE leases.state WHEN 'open' THEN 'returned' ELSE leases.state END
RETURNING state;

-- return_proven --
UPDATE x402sms.leases SET state = 'proven'
WHERE network = %(network)s AND payer = %(payer)s AND state = 'open'
    AND taken_at - %(slack)s >= %(covered_from)s
    AND settleable_until + %(slack)s < %(chain_time)s
RETURNING {columns};

-- list --
SELECT {columns} FROM x402sms.leases
WHERE NOT %(unreturned)s OR state = 'open'
ORDER BY taken_at DESC, id;
