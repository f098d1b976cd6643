-- Intent: what was done beside deciding, and by whom, as a record that only grows.
-- Safety: creates, and adds a column with a default, which rewrites no row; gives up rather than
--         wait.
--
-- Servers of the release before write no acts. What they do meanwhile is not recorded, and nothing
-- is without a number: acts have numbers of their own.
SET LOCAL lock_timeout = '2s';

-- The number of the organization's last act; raised under the lock of the row.
ALTER TABLE ledger_head ADD COLUMN act_seq BIGINT NOT NULL DEFAULT 0 CHECK (act_seq >= 0);

CREATE TABLE act (
    org_id           BYTEA   NOT NULL,
    seq              BIGINT  NOT NULL CHECK (seq >= 1),
    -- The last entry of `spend` before it: the place of the act among the decisions.
    after_spend      BIGINT  NOT NULL CHECK (after_spend >= 0),
    at               BIGINT  NOT NULL,
    kind             TEXT    COLLATE "C" NOT NULL CHECK (kind <> ''),
    -- The id of what it was done to.
    subject          BYTEA   NOT NULL CHECK (octet_length(subject) = 16),
    -- Who did it: a credential and its role, or nobody and `system`.
    actor_key        BYTEA   CHECK (octet_length(actor_key) = 16),
    actor_role       TEXT    COLLATE "C" NOT NULL,
    -- The rest as JSON, never a secret.
    document         TEXT    NOT NULL,
    PRIMARY KEY (org_id, seq)
);

ALTER TABLE act ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON act USING (org_id = (SELECT current_org()));
