-- begin --
-- All SET LOCAL, in one message: a pooler in front may give each transaction another session.
-- No statement_timeout: it would end the wait for a synchronous standby with a mere warning, and
-- the commit would pass for durable. How long the client waits for an answer is bounded there.
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SET LOCAL search_path = pg_catalog;
SET LOCAL statement_timeout = 0;
SET LOCAL lock_timeout = '{lock_seconds}s';
SET LOCAL idle_in_transaction_session_timeout = '{idle_seconds}s';

-- durable --
-- A server or role may be set to commit before anything is on disk. Not here.
SELECT set_config('synchronous_commit', 'on', true)
WHERE current_setting('synchronous_commit') IN ('off', 'local');

-- not_durable --
SET LOCAL synchronous_commit = off;

-- flush --
-- It has to write something to the log: a commit of nothing waits for nothing.
SELECT pg_logical_emit_message(true, 'x402sms', '');
COMMIT;

-- lock --
-- Until the transaction ends. READ COMMITTED: the next statement sees what the last holder wrote.
SELECT pg_advisory_xact_lock({lock});

-- has_version --
SELECT to_regclass('x402sms.schema_version') IS NOT NULL;

-- version --
SELECT application, version FROM x402sms.schema_version;

-- state --
SELECT current_setting('server_encoding'), to_regnamespace('x402sms') IS NOT NULL,
    (SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('x402sms'));

-- make_schema --
CREATE SCHEMA x402sms;

-- set_version --
UPDATE x402sms.schema_version SET version = %(version)s;
