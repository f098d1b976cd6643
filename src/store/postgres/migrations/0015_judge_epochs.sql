-- Intent: of each epoch that is over it is known up to where it is recorded, and whether its log
--         was found complete then: what it had leased at `durable` and did not spend is free.
-- Safety: adds columns that may be null, which rewrites nothing; a server that knows nothing of
--         them goes on, and frees as little as before.
SET LOCAL lock_timeout = '2s';

-- The number of its last entry that is recorded; -1 if none is, null while entries may come.
ALTER TABLE shard_epoch ADD COLUMN end_seq BIGINT;
-- False if its log was put back, if an entry was given up, or if a server knows of an answer that
-- is not recorded. Null while entries may come.
ALTER TABLE shard_epoch ADD COLUMN is_sound BOOLEAN;
