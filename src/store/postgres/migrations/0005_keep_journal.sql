-- Intent: everything that happened to an organization as one numbered, chained sequence.
-- Safety: creates; decisions from before are appended by servers, in small steps. The one column it
--         adds rewrites `mandate`, which is small; gives up rather than wait.
SET LOCAL lock_timeout = '2s';

-- An entry of the journal: a decision, an act, or what follows from decisions.
CREATE TABLE journal (
    org_id           BYTEA    NOT NULL,
    -- Without a hole in the organization.
    seq              BIGINT   NOT NULL CHECK (seq >= 1),
    at               BIGINT   NOT NULL,
    kind             TEXT     COLLATE "C" NOT NULL,
    -- Where the content is: 1 in `spend`, 2 in `act`, 3 in `body`.
    source           SMALLINT NOT NULL CHECK (source IN (1, 2, 3)),
    -- The decision or act that it is, or follows from.
    source_seq       BIGINT   NOT NULL,
    -- SHA-256 of the chain before it, of this row and of its content.
    chain            BYTEA    NOT NULL CHECK (octet_length(chain) = 32),
    body             TEXT     CHECK ((body IS NULL) = (source <> 3)),
    PRIMARY KEY (org_id, seq)
);

-- The end of an organization's journal, and how much of `spend` and `act` is in it. Whoever appends
-- has this row; nobody waits for it.
CREATE TABLE journal_head (
    org_id           BYTEA   NOT NULL PRIMARY KEY REFERENCES organization (id),
    seq              BIGINT  NOT NULL,
    -- Empty before the first entry.
    chain            BYTEA   NOT NULL,
    spend_seq        BIGINT  NOT NULL,
    act_seq          BIGINT  NOT NULL
) WITH (fillfactor = 20);

INSERT INTO journal_head (org_id, seq, chain, spend_seq, act_seq)
    SELECT id, 0, '', 0, 0 FROM organization;

CREATE OR REPLACE FUNCTION begin_record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger_head (org_id, seq, floor) VALUES (NEW.id, 0, 0);
    INSERT INTO journal_head (org_id, seq, chain, spend_seq, act_seq) VALUES (NEW.id, 0, '', 0, 0);
    RETURN NULL;
END $$;

-- Parts of budgets that were reached: each is told once for a window and a limit.
CREATE TABLE budget_mark (
    mandate_id       BYTEA   NOT NULL,
    starts_at        BIGINT  NOT NULL,
    percent          BIGINT  NOT NULL,
    limit_minor      BIGINT  NOT NULL,
    org_id           BYTEA   NOT NULL,
    PRIMARY KEY (mandate_id, starts_at, percent, limit_minor)
);

-- What was signed of the chain, now and then.
CREATE TABLE journal_checkpoint (
    org_id           BYTEA   NOT NULL,
    seq              BIGINT  NOT NULL,
    chain            BYTEA   NOT NULL CHECK (octet_length(chain) = 32),
    at               BIGINT  NOT NULL,
    key_id           TEXT    COLLATE "C" NOT NULL,
    signature        TEXT    COLLATE "C" NOT NULL,
    PRIMARY KEY (org_id, seq)
);

-- When mandates end by the clock: a text of UTC, which sorts as time does but for parts of a
-- second.
ALTER TABLE mandate ADD COLUMN ends_at TEXT COLLATE "C"
    GENERATED ALWAYS AS (document::json -> 'policy' ->> 'valid_until') STORED;
CREATE INDEX mandate_ending ON mandate (ends_at) WHERE status IN ('active', 'paused');

ALTER TABLE journal            ENABLE ROW LEVEL SECURITY;
ALTER TABLE journal_head       ENABLE ROW LEVEL SECURITY;
ALTER TABLE budget_mark        ENABLE ROW LEVEL SECURITY;
ALTER TABLE journal_checkpoint ENABLE ROW LEVEL SECURITY;

CREATE POLICY tenant ON journal            USING (org_id = (SELECT current_org()));
CREATE POLICY tenant ON journal_head       USING (org_id = (SELECT current_org()));
CREATE POLICY tenant ON budget_mark        USING (org_id = (SELECT current_org()));
CREATE POLICY tenant ON journal_checkpoint USING (org_id = (SELECT current_org()));

-- Where there is something new: numbers alone, in one look at all of them; and which mandates of
-- whom have ended, each of which is then written in its organization's name.
CREATE POLICY any_org ON ledger_head FOR SELECT
    USING ((SELECT current_setting('quetra.org', true)) = '*');
CREATE POLICY any_org ON journal_head FOR SELECT
    USING ((SELECT current_setting('quetra.org', true)) = '*');
CREATE POLICY any_org ON mandate FOR SELECT
    USING ((SELECT current_setting('quetra.org', true)) = '*');
