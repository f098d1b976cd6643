-- Intent: the first schema: catalogue, counters and the record of decisions.
-- Safety: creates only; nothing to migrate.
--
-- Ids are 16 bytes, times are microseconds since 1970 in UTC, money is minor units. What is
-- compared or sorted as text is compared byte by byte, whatever the database's locale is.

-- The organization whose rows this transaction is about, as `SET LOCAL quetra.org` has it in
-- hexadecimal digits; none if nothing is set, or where the server looks over all of them (`*`).
CREATE FUNCTION current_org() RETURNS BYTEA LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT decode(nullif(nullif(current_setting('quetra.org', true), ''), '*'), 'hex')
$$;

CREATE TABLE organization (
    id               BYTEA   NOT NULL PRIMARY KEY CHECK (octet_length(id) = 16),
    slug             TEXT    COLLATE "C" NOT NULL UNIQUE,
    frozen           BOOLEAN NOT NULL,
    version          BIGINT  NOT NULL CHECK (version >= 1),
    -- The whole organization as JSON; the columns above are what is searched and compared.
    document         TEXT    NOT NULL
);

-- The end of an organization's record. Whoever decides for the organization, or changes anything a
-- decision depends on, locks this row first: it is the organization's turn to write.
CREATE TABLE ledger_head (
    org_id           BYTEA   NOT NULL PRIMARY KEY REFERENCES organization (id),
    -- The sequence number of the last entry.
    seq              BIGINT  NOT NULL CHECK (seq >= 0),
    -- No later entry may be earlier than this.
    floor            BIGINT  NOT NULL
) WITH (fillfactor = 20);

CREATE FUNCTION begin_record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger_head (org_id, seq, floor) VALUES (NEW.id, 0, 0);
    RETURN NULL;
END $$;

-- No organization is without one, whoever made it.
CREATE TRIGGER begin_record AFTER INSERT ON organization
    FOR EACH ROW EXECUTE FUNCTION begin_record();

CREATE TABLE signing_key (
    org_id           BYTEA   NOT NULL REFERENCES organization (id),
    key_id           TEXT    COLLATE "C" NOT NULL,
    public_key       BYTEA   NOT NULL CHECK (octet_length(public_key) = 32),
    sealed           BYTEA   NOT NULL,
    created_at       BIGINT  NOT NULL,
    PRIMARY KEY (org_id, key_id)
);

CREATE TABLE agent (
    id               BYTEA   NOT NULL PRIMARY KEY CHECK (octet_length(id) = 16),
    org_id           BYTEA   NOT NULL REFERENCES organization (id),
    name             TEXT    COLLATE "C" NOT NULL CHECK (name <> ''),
    status           TEXT    NOT NULL CHECK (status IN ('active', 'suspended', 'decommissioned')),
    current_mandate  BYTEA,
    version          BIGINT  NOT NULL CHECK (version >= 1),
    document         TEXT    NOT NULL,
    UNIQUE (org_id, name)
);

CREATE INDEX agent_by_status ON agent (org_id, status, name);

CREATE TABLE mandate (
    id               BYTEA   NOT NULL PRIMARY KEY CHECK (octet_length(id) = 16),
    org_id           BYTEA   NOT NULL REFERENCES organization (id),
    agent_id         BYTEA   NOT NULL REFERENCES agent (id),
    status           TEXT    NOT NULL
        CHECK (status IN ('draft', 'active', 'paused', 'expired', 'revoked')),
    version          BIGINT  NOT NULL CHECK (version >= 1),
    document         TEXT    NOT NULL
);

CREATE INDEX mandate_by_org ON mandate (org_id, id);
CREATE INDEX mandate_by_status ON mandate (org_id, status, id);
CREATE INDEX mandate_by_agent ON mandate (agent_id, id);
-- One active mandate for each agent, whatever the code above it believes.
CREATE UNIQUE INDEX mandate_one_active ON mandate (agent_id) WHERE status = 'active';

-- Versions before the present one; never changed.
CREATE TABLE mandate_version (
    mandate_id       BYTEA   NOT NULL,
    version          BIGINT  NOT NULL,
    org_id           BYTEA   NOT NULL,
    document         TEXT    NOT NULL,
    PRIMARY KEY (mandate_id, version)
);

CREATE TABLE api_key (
    id               BYTEA   NOT NULL PRIMARY KEY CHECK (octet_length(id) = 16),
    org_id           BYTEA   NOT NULL REFERENCES organization (id),
    agent_id         BYTEA,
    role             TEXT    NOT NULL CHECK (role IN ('admin', 'agent', 'reader')),
    digest           BYTEA   NOT NULL CHECK (octet_length(digest) = 32),
    expires_at       BIGINT,
    last_used_at     BIGINT,
    revoked_at       BIGINT,
    -- Everything else as JSON, never the secret.
    document         TEXT    NOT NULL
);

CREATE INDEX api_key_by_org ON api_key (org_id, id);
CREATE INDEX api_key_by_agent ON api_key (agent_id) WHERE agent_id IS NOT NULL;
-- The credentials that keep an organization manageable, among very many others.
CREATE INDEX api_key_admin ON api_key (org_id) WHERE role = 'admin' AND revoked_at IS NULL;

-- Answers to mutations that carried an idempotency key.
CREATE TABLE receipt (
    org_id           BYTEA   NOT NULL,
    key              TEXT    COLLATE "C" NOT NULL,
    request_hash     BYTEA   NOT NULL CHECK (octet_length(request_hash) = 16),
    reply            TEXT    NOT NULL,
    created_at       BIGINT  NOT NULL,
    PRIMARY KEY (org_id, key)
);

-- What was charged in one window of a period. A new window is a new row: nothing is ever reset. A
-- missing row is summed up from the record, so one that would not be kept up must be deleted.
CREATE TABLE counter (
    org_id           BYTEA   NOT NULL DEFAULT current_org(),
    mandate_id       BYTEA   NOT NULL,
    subject          TEXT    COLLATE "C" NOT NULL,
    starts_at        BIGINT  NOT NULL,
    -- Exclusive; the largest integer for a window that never ends.
    ends_at          BIGINT  NOT NULL,
    spent            BIGINT  NOT NULL CHECK (spent >= 0),
    held             BIGINT  NOT NULL CHECK (held >= 0),
    PRIMARY KEY (mandate_id, subject, starts_at)
) WITH (fillfactor = 50);

-- The record of decisions: appended, then only its state, settlement and refund change. Every
-- organization has its own sequence, without a hole and in the order of time.
CREATE TABLE spend (
    org_id           BYTEA   NOT NULL,
    seq              BIGINT  NOT NULL CHECK (seq >= 1),
    -- A derived id is decided once, whichever servers are asked at the same time.
    id               BYTEA   NOT NULL UNIQUE CHECK (octet_length(id) = 16),
    agent_id         BYTEA   NOT NULL,
    mandate_id       BYTEA,
    decided_at       BIGINT  NOT NULL,
    updated_at       BIGINT  NOT NULL,
    verdict          TEXT    NOT NULL
        CHECK (verdict IN ('approved', 'rejected', 'pending_approval')),
    state            TEXT    NOT NULL,
    amount           BIGINT  NOT NULL CHECK (amount >= 0),
    settled          BIGINT  CHECK (settled BETWEEN 0 AND amount),
    refunded         BIGINT  CHECK (refunded BETWEEN 0 AND settled),
    currency         TEXT    NOT NULL,
    vendor           TEXT    COLLATE "C" NOT NULL,
    category         TEXT    COLLATE "C",
    idempotency_key  TEXT    NOT NULL,
    request_hash     BYTEA   NOT NULL CHECK (octet_length(request_hash) = 16),
    -- All approvals under the mandate before this entry: differences are sliding windows.
    approvals_before BIGINT  NOT NULL,
    sum_before       BIGINT  NOT NULL,
    -- The rest of the request and what the decision was based on, as JSON.
    evidence         TEXT    NOT NULL,
    PRIMARY KEY (org_id, seq)
);

CREATE INDEX spend_by_agent ON spend (agent_id, seq);
-- Approvals and holds, by mandate and in order: tallies and sliding windows are read here alone.
CREATE INDEX spend_approval ON spend (mandate_id, decided_at, seq)
    INCLUDE (approvals_before, sum_before, amount) WHERE verdict <> 'rejected';
-- Money that waits for a person: few rows, whatever the length of the record.
CREATE INDEX spend_pending ON spend (agent_id) WHERE state = 'pending_approval';

-- The second wall between organizations: a role that does not own the tables sees and writes only
-- the rows of `current_org()`, whatever a statement forgets to ask. Each policy asks once for a
-- statement, not for each row. The owner, who migrates, dumps and restores, is not bound by it.
ALTER TABLE organization    ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger_head     ENABLE ROW LEVEL SECURITY;
ALTER TABLE signing_key     ENABLE ROW LEVEL SECURITY;
ALTER TABLE agent           ENABLE ROW LEVEL SECURITY;
ALTER TABLE mandate         ENABLE ROW LEVEL SECURITY;
ALTER TABLE mandate_version ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_key         ENABLE ROW LEVEL SECURITY;
ALTER TABLE receipt         ENABLE ROW LEVEL SECURITY;
ALTER TABLE counter         ENABLE ROW LEVEL SECURITY;
ALTER TABLE spend           ENABLE ROW LEVEL SECURITY;

CREATE POLICY tenant ON organization    USING (id = (SELECT current_org()));
CREATE POLICY tenant ON ledger_head     USING (org_id = (SELECT current_org()));
CREATE POLICY tenant ON signing_key     USING (org_id = (SELECT current_org()));
CREATE POLICY tenant ON agent           USING (org_id = (SELECT current_org()));
CREATE POLICY tenant ON mandate         USING (org_id = (SELECT current_org()));
CREATE POLICY tenant ON mandate_version USING (org_id = (SELECT current_org()));
CREATE POLICY tenant ON api_key         USING (org_id = (SELECT current_org()));
CREATE POLICY tenant ON receipt         USING (org_id = (SELECT current_org()));
CREATE POLICY tenant ON counter         USING (org_id = (SELECT current_org()));
CREATE POLICY tenant ON spend           USING (org_id = (SELECT current_org()));

-- The list of organizations at the start; and credentials, which say whose they are only when they
-- are found, and whose uses are written down together.
CREATE POLICY any_org ON organization FOR SELECT
    USING ((SELECT current_setting('quetra.org', true)) = '*');
CREATE POLICY any_org ON api_key FOR SELECT
    USING ((SELECT current_setting('quetra.org', true)) = '*');
CREATE POLICY any_org_used ON api_key FOR UPDATE
    USING ((SELECT current_setting('quetra.org', true)) = '*');
