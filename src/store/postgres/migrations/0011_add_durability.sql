-- Intent: find which durabilities mandates in force ask for, whoever's they are.
-- Safety: adds a column that may be null, which rewrites nothing, and an index with a row only for
--         mandates that ask; gives up rather than wait.
SET LOCAL lock_timeout = '2s';

ALTER TABLE mandate ADD COLUMN durability TEXT COLLATE "C"
    CHECK (durability IN ('fast', 'durable', 'strict'));
CREATE INDEX mandate_durability ON mandate (durability)
    WHERE durability IS NOT NULL AND status IN ('active', 'paused');
