-- no-transaction
-- Intent: what ends by itself is found by its time. Few rows are in it.
-- Safety: made beside the decisions that go on; one that fails is dropped and made again.
CREATE INDEX CONCURRENTLY spend_due ON spend (due_at) WHERE due_at IS NOT NULL;
