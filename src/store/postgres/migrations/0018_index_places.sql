-- no-transaction
-- Intent: the key that a part of the record has.
-- Safety: made beside the decisions that go on; one that fails is dropped and made again.
CREATE UNIQUE INDEX CONCURRENTLY spend_place ON spend (org_id, seq, decided_at);
