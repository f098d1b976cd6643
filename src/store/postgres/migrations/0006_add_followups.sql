-- Intent: a decision can be approved or denied by people, end by itself, and be settled for more.
-- Safety: adds columns that may be null, which rewrites nothing.
--
-- `settled` and `refunded` are bounded by what was approved, for servers of the release before:
-- where more was settled, within the mandate's tolerance, the new columns have the real amounts.
SET LOCAL lock_timeout = '2s';

ALTER TABLE spend ADD COLUMN due_at BIGINT;
ALTER TABLE spend ADD COLUMN paid BIGINT CHECK (paid >= 0);
ALTER TABLE spend ADD COLUMN repaid BIGINT CHECK (repaid BETWEEN 0 AND paid);
-- What people said, and whether it was settled late, as JSON.
ALTER TABLE spend ADD COLUMN followup TEXT;

-- What ends by itself is looked for in all organizations at once; each is ended in its own name.
CREATE POLICY any_org_due ON spend FOR SELECT
    USING ((SELECT current_setting('quetra.org', true)) = '*' AND due_at IS NOT NULL);
