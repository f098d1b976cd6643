-- Intent: everything that happened to an organization as one numbered, chained sequence.
-- Safety: creates only. Decisions from before are appended by the server, in small steps.

-- An entry of the journal: a decision, an act, or what follows from decisions.
CREATE TABLE journal (
    org_id           BLOB    NOT NULL CHECK (length(org_id) = 16),
    -- Without a hole in the organization.
    seq              INTEGER NOT NULL CHECK (seq >= 1),
    at               INTEGER NOT NULL,
    kind             TEXT    NOT NULL,
    -- Where the content is: 1 in `spend`, 2 in `act`, 3 in `body`.
    source           INTEGER NOT NULL CHECK (source IN (1, 2, 3)),
    -- The decision or act that it is, or follows from.
    source_seq       INTEGER NOT NULL,
    -- SHA-256 of the chain before it, of this row and of its content.
    chain            BLOB    NOT NULL CHECK (length(chain) = 32),
    body             TEXT    CHECK ((body IS NULL) = (source <> 3)),
    PRIMARY KEY (org_id, seq)
) STRICT, WITHOUT ROWID;

-- How much of `spend` and `act` is in it.
CREATE TABLE journal_position (
    spend            INTEGER NOT NULL,
    act              INTEGER NOT NULL
) STRICT;
INSERT INTO journal_position (spend, act) VALUES (0, 0);

-- Parts of budgets that were reached: each is told once for a window and a limit.
CREATE TABLE budget_mark (
    mandate_id       BLOB    NOT NULL,
    starts_at        INTEGER NOT NULL,
    percent          INTEGER NOT NULL,
    limit_minor      INTEGER NOT NULL,
    org_id           BLOB    NOT NULL,
    PRIMARY KEY (mandate_id, starts_at, percent, limit_minor)
) STRICT, WITHOUT ROWID;

-- What was signed of the chain, now and then.
CREATE TABLE journal_checkpoint (
    org_id           BLOB    NOT NULL,
    seq              INTEGER NOT NULL,
    chain            BLOB    NOT NULL CHECK (length(chain) = 32),
    at               INTEGER NOT NULL,
    key_id           TEXT    NOT NULL,
    signature        TEXT    NOT NULL,
    PRIMARY KEY (org_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER journal_stays BEFORE UPDATE ON journal BEGIN
    SELECT RAISE(ABORT, 'an entry of the journal never changes');
END;

CREATE TRIGGER journal_remains BEFORE DELETE ON journal BEGIN
    SELECT RAISE(ABORT, 'an entry of the journal is never deleted');
END;

CREATE TRIGGER journal_checkpoint_stays BEFORE UPDATE ON journal_checkpoint BEGIN
    SELECT RAISE(ABORT, 'a checkpoint never changes');
END;

CREATE TRIGGER journal_checkpoint_remains BEFORE DELETE ON journal_checkpoint BEGIN
    SELECT RAISE(ABORT, 'a checkpoint is never deleted');
END;

-- When mandates end by the clock: a text of UTC, which sorts as time does but for parts of a
-- second.
ALTER TABLE mandate ADD COLUMN ends_at TEXT
    GENERATED ALWAYS AS (json_extract(document, '$.policy.valid_until')) VIRTUAL;
CREATE INDEX mandate_ending ON mandate (ends_at) WHERE status IN ('active', 'paused');
