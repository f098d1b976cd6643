-- Intent: what people were asked is listed without reading the record. Few rows are in it.
-- Safety: reads the record once while nothing is decided.
CREATE INDEX spend_asked ON spend (org_id, seq) WHERE verdict = 'pending_approval';
