-- Intent: what was done beside deciding, and by whom, as a record that only grows.
-- Safety: creates only; nothing to migrate. What was done before is not known any more.
CREATE TABLE act (
    seq              INTEGER NOT NULL PRIMARY KEY,
    org_id           BLOB    NOT NULL CHECK (length(org_id) = 16),
    -- The last entry of `spend` before it: the place of the act among the decisions.
    after_spend      INTEGER NOT NULL CHECK (after_spend >= 0),
    at               INTEGER NOT NULL,
    kind             TEXT    NOT NULL CHECK (kind <> ''),
    -- The id of what it was done to.
    subject          BLOB    NOT NULL CHECK (length(subject) = 16),
    -- Who did it: a credential and its role, or nobody and `system`.
    actor_key        BLOB    CHECK (length(actor_key) = 16),
    actor_role       TEXT    NOT NULL,
    -- The rest as JSON, never a secret.
    document         TEXT    NOT NULL
) STRICT;

CREATE TRIGGER act_stays BEFORE UPDATE ON act BEGIN
    SELECT RAISE(ABORT, 'an act never changes');
END;

CREATE TRIGGER act_remains BEFORE DELETE ON act BEGIN
    SELECT RAISE(ABORT, 'an act is never deleted');
END;
