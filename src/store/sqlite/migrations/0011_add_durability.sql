-- Intent: find which durabilities mandates in force ask for, whoever's they are.
-- Safety: adds a column that may be null, and an index with a row only for mandates that ask.
ALTER TABLE mandate ADD COLUMN durability TEXT
    CHECK (durability IN ('fast', 'durable', 'strict'));
CREATE INDEX mandate_durability ON mandate (durability)
    WHERE durability IS NOT NULL AND status IN ('active', 'paused');
