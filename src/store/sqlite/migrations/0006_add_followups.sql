-- Intent: a decision can be approved or denied by people, end by itself, and be settled for more.
-- Safety: adds columns that may be null, and an index with a row only for what ends by itself.
--
-- `settled` and `refunded` are bounded by what was approved, and a constraint cannot be changed:
-- where more was settled, within the mandate's tolerance, the new columns have the real amounts.
ALTER TABLE spend ADD COLUMN due_at INTEGER;
ALTER TABLE spend ADD COLUMN paid INTEGER CHECK (paid >= 0);
ALTER TABLE spend ADD COLUMN repaid INTEGER CHECK (repaid BETWEEN 0 AND paid);
-- What people said, and whether it was settled late, as JSON.
ALTER TABLE spend ADD COLUMN followup TEXT;

-- What ends by itself, and when.
CREATE INDEX spend_due ON spend (due_at) WHERE due_at IS NOT NULL;
