-- Intent: receipts that are older than they are promised to be kept are found without reading all.
-- Safety: reads a table that only mutations with a key write to, while nothing is decided.
CREATE INDEX receipt_by_age ON receipt (org_id, created_at);
