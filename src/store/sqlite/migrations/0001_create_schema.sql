-- Intent: the first schema: catalogue, counters and the record of decisions.
-- Safety: creates only; nothing to migrate.
--
-- Ids are 16 bytes, times are microseconds since 1970 in UTC, money is minor units. Tables with a
-- document keep their rowid: in a table without one, long rows make a deep tree that is slow to
-- search.

CREATE TABLE organization (
    id               BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    slug             TEXT    NOT NULL UNIQUE,
    frozen           INTEGER NOT NULL CHECK (frozen IN (0, 1)),
    version          INTEGER NOT NULL CHECK (version >= 1),
    -- The whole organization as JSON; the columns above are what is searched and compared.
    document         TEXT    NOT NULL
) STRICT;

CREATE TABLE signing_key (
    org_id           BLOB    NOT NULL REFERENCES organization (id),
    key_id           TEXT    NOT NULL,
    public_key       BLOB    NOT NULL CHECK (length(public_key) = 32),
    sealed           BLOB    NOT NULL,
    created_at       INTEGER NOT NULL,
    PRIMARY KEY (org_id, key_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE agent (
    id               BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    org_id           BLOB    NOT NULL REFERENCES organization (id),
    name             TEXT    NOT NULL CHECK (name <> ''),
    status           TEXT    NOT NULL CHECK (status IN ('active', 'suspended', 'decommissioned')),
    current_mandate  BLOB,
    version          INTEGER NOT NULL CHECK (version >= 1),
    document         TEXT    NOT NULL,
    UNIQUE (org_id, name)
) STRICT;

CREATE INDEX agent_by_status ON agent (org_id, status, name);

CREATE TABLE mandate (
    id               BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    org_id           BLOB    NOT NULL REFERENCES organization (id),
    agent_id         BLOB    NOT NULL REFERENCES agent (id),
    status           TEXT    NOT NULL
        CHECK (status IN ('draft', 'active', 'paused', 'expired', 'revoked')),
    version          INTEGER NOT NULL CHECK (version >= 1),
    document         TEXT    NOT NULL
) STRICT;

CREATE INDEX mandate_by_org ON mandate (org_id, id);
CREATE INDEX mandate_by_status ON mandate (org_id, status, id);
CREATE INDEX mandate_by_agent ON mandate (agent_id, id);
-- One active mandate for each agent, whatever the code above it believes.
CREATE UNIQUE INDEX mandate_one_active ON mandate (agent_id) WHERE status = 'active';

-- Versions before the present one; never changed.
CREATE TABLE mandate_version (
    mandate_id       BLOB    NOT NULL,
    version          INTEGER NOT NULL,
    org_id           BLOB    NOT NULL,
    document         TEXT    NOT NULL,
    PRIMARY KEY (mandate_id, version)
) STRICT;

CREATE TABLE api_key (
    id               BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    org_id           BLOB    NOT NULL REFERENCES organization (id),
    agent_id         BLOB,
    role             TEXT    NOT NULL CHECK (role IN ('admin', 'agent', 'reader')),
    digest           BLOB    NOT NULL CHECK (length(digest) = 32),
    expires_at       INTEGER,
    last_used_at     INTEGER,
    revoked_at       INTEGER,
    -- Everything else as JSON, never the secret.
    document         TEXT    NOT NULL
) STRICT;

CREATE INDEX api_key_by_org ON api_key (org_id, id);
CREATE INDEX api_key_by_agent ON api_key (agent_id) WHERE agent_id IS NOT NULL;
-- The credentials that keep an organization manageable, among very many others.
CREATE INDEX api_key_admin ON api_key (org_id) WHERE role = 'admin' AND revoked_at IS NULL;

-- Answers to mutations that carried an idempotency key.
CREATE TABLE receipt (
    org_id           BLOB    NOT NULL,
    key              TEXT    NOT NULL,
    request_hash     BLOB    NOT NULL CHECK (length(request_hash) = 16),
    reply            TEXT    NOT NULL,
    created_at       INTEGER NOT NULL,
    PRIMARY KEY (org_id, key)
) STRICT;

-- What was charged in one window of a period. A new window is a new row: nothing is ever reset. A
-- row has what the record says up to an entry; later entries are summed up on top of it, all of
-- them where there is no row. A row that would not be kept up any more must be deleted.
CREATE TABLE counter (
    mandate_id       BLOB    NOT NULL,
    subject          TEXT    NOT NULL,
    starts_at        INTEGER NOT NULL,
    -- Exclusive; the largest integer for a window that never ends.
    ends_at          INTEGER NOT NULL,
    spent            INTEGER NOT NULL CHECK (spent >= 0),
    held             INTEGER NOT NULL CHECK (held >= 0),
    -- The last entry of the record that is in it.
    through          INTEGER NOT NULL,
    PRIMARY KEY (mandate_id, subject, starts_at)
) STRICT, WITHOUT ROWID;

-- The record of decisions: appended, then only its state, settlement and refund change.
CREATE TABLE spend (
    seq              INTEGER NOT NULL PRIMARY KEY,
    id               BLOB    NOT NULL CHECK (length(id) = 16),
    org_id           BLOB    NOT NULL,
    agent_id         BLOB    NOT NULL,
    mandate_id       BLOB,
    decided_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    verdict          TEXT    NOT NULL
        CHECK (verdict IN ('approved', 'rejected', 'pending_approval')),
    state            TEXT    NOT NULL,
    amount           INTEGER NOT NULL CHECK (amount >= 0),
    settled          INTEGER CHECK (settled BETWEEN 0 AND amount),
    refunded         INTEGER CHECK (refunded BETWEEN 0 AND settled),
    currency         TEXT    NOT NULL,
    vendor           TEXT    NOT NULL,
    category         TEXT,
    idempotency_key  TEXT    NOT NULL,
    request_hash     BLOB    NOT NULL CHECK (length(request_hash) = 16),
    -- All approvals under the mandate before this entry: differences are sliding windows.
    approvals_before INTEGER NOT NULL,
    sum_before       INTEGER NOT NULL,
    -- The rest of the request and what the decision was based on, as JSON.
    evidence         TEXT    NOT NULL
) STRICT;

-- What the record is searched by. These tables get an entry some time after it was recorded. How
-- far they surely are is in `indexed`; the server keeps the rest in memory (store/sqlite/tail).
CREATE TABLE spend_by_id (
    id               BLOB    NOT NULL PRIMARY KEY,
    seq              INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE spend_by_agent (
    agent_id         BLOB    NOT NULL,
    seq              INTEGER NOT NULL,
    PRIMARY KEY (agent_id, seq)
) STRICT, WITHOUT ROWID;

-- Approvals and holds, by mandate and time; columns as in `spend`.
CREATE TABLE approval (
    mandate_id       BLOB    NOT NULL,
    decided_at       INTEGER NOT NULL,
    seq              INTEGER NOT NULL,
    approvals_before INTEGER NOT NULL,
    sum_before       INTEGER NOT NULL,
    amount           INTEGER NOT NULL,
    PRIMARY KEY (mandate_id, decided_at, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE indexed (
    -- Every entry up to this one is in all three.
    through          INTEGER NOT NULL,
    -- How many counters were deleted: the server must not go on with what it has in memory.
    forgotten        INTEGER NOT NULL
) STRICT;
INSERT INTO indexed (through, forgotten) VALUES (0, 0);

CREATE TRIGGER counter_forgotten AFTER DELETE ON counter BEGIN
    UPDATE indexed SET forgotten = forgotten + 1;
END;

-- Money that waits for a person: few rows, whatever the length of the record.
CREATE INDEX spend_pending ON spend (agent_id) WHERE state = 'pending_approval';
