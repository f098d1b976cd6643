-- Intent: the decisions from before have their names, and the first part its bound.
-- Safety: waits for nobody and keeps nobody waiting, however long it reads: what is decided
--         meanwhile is named by its own server.
SET LOCAL lock_timeout = '2s';

INSERT INTO spend_by_id (id, org_id, seq, decided_at)
    SELECT id, org_id, seq, decided_at FROM spend
    ON CONFLICT DO NOTHING;
ALTER TABLE spend VALIDATE CONSTRAINT spend_of_first_part;
