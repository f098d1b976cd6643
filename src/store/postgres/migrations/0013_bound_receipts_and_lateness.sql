-- Intent: receipts that are older than they are promised to be kept are found without reading all;
-- and of each record it is known how much later than its time an entry was ever written.
-- Safety: adds only, and reads one table that mutations with a key write to; a server that knows
-- nothing of it goes on, and what it projects late is found as before.
SET LOCAL lock_timeout = '2s';

CREATE INDEX receipt_by_age ON receipt (org_id, created_at);

-- Microseconds. What is decided in Redis is written a while later; what is decided here never is.
ALTER TABLE ledger_head ADD COLUMN late_micros BIGINT NOT NULL DEFAULT 0 CHECK (late_micros >= 0);
-- An outbox stops when its oldest entry is a day old, so nothing is later than that.
UPDATE ledger_head SET late_micros = 86400000000
    WHERE EXISTS (SELECT 1 FROM lease WHERE lease.org_id = ledger_head.org_id);
