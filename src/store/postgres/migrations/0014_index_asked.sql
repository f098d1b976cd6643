-- no-transaction
-- Intent: what people were asked is listed without reading the record. Few rows are in it.
-- Safety: made beside the decisions that go on; one that fails is dropped and made again.
CREATE INDEX CONCURRENTLY spend_asked ON spend (org_id, seq) WHERE verdict = 'pending_approval';
