-- Intent: who may spend from Redis, and what is leased to it.
-- Safety: creates only; a server that knows nothing of it goes on.
--
-- The protocol is in docs/PROTOCOL.md. Rows are locked in this order: shard_authority, ledger_head,
-- then counter and lease.
--
-- A shard and its epochs are about a Redis, not about a tenant: no `org_id`, and no policy.

-- The Redis that a shard's organizations are spent from, and how far its outbox is recorded.
CREATE TABLE shard_authority (
    shard            SMALLINT NOT NULL PRIMARY KEY CHECK (shard BETWEEN 0 AND 63),
    epoch            BIGINT   NOT NULL CHECK (epoch >= 1),
    -- The replication id of the process that holds the epoch.
    replication_id   TEXT     COLLATE "C" NOT NULL,
    -- Whether the epoch is in Redis' outbox; nothing is leased to it before.
    begun            BOOLEAN  NOT NULL,
    -- The last entry of the outbox that is recorded here.
    position_epoch   BIGINT   NOT NULL CHECK (position_epoch >= 0),
    position_seq     BIGINT   NOT NULL CHECK (position_seq >= 0),
    -- The time of the latest decision that is recorded here: a new epoch goes on from it.
    floor            BIGINT   NOT NULL,
    -- When the epoch was taken.
    taken_at         BIGINT   NOT NULL
) WITH (fillfactor = 20);

-- Every epoch there was; a process that was superseded is never believed again.
CREATE TABLE shard_epoch (
    shard            SMALLINT NOT NULL,
    epoch            BIGINT   NOT NULL,
    replication_id   TEXT     COLLATE "C" NOT NULL,
    state            TEXT     NOT NULL CHECK (state IN ('claimed', 'begun', 'ended')),
    PRIMARY KEY (shard, epoch)
);

-- What one epoch still holds of one counter. It counts like money that is spent. A counter's row
-- may be forgotten and summed up again, so leases are not a column of it.
CREATE TABLE lease (
    org_id           BYTEA   NOT NULL DEFAULT current_org(),
    mandate_id       BYTEA    NOT NULL,
    subject          TEXT     COLLATE "C" NOT NULL,
    starts_at        BIGINT   NOT NULL,
    shard            SMALLINT NOT NULL,
    epoch            BIGINT   NOT NULL,
    -- The last lease that was granted, and its amount; it is sent until it is installed.
    number           BIGINT   NOT NULL CHECK (number >= 1),
    amount           BIGINT   NOT NULL CHECK (amount >= 0),
    -- What is leased and not recorded as spent yet.
    leased           BIGINT   NOT NULL CHECK (leased >= 0),
    -- The weakest level that was answered from it.
    level            TEXT     NOT NULL CHECK (level IN ('fast', 'durable', 'strict')),
    -- The limit it was leased under; under a lower one it has to come back first.
    limit_minor      BIGINT   NOT NULL,
    PRIMARY KEY (mandate_id, subject, starts_at, shard, epoch)
) WITH (fillfactor = 50);

CREATE INDEX lease_by_epoch ON lease (shard, epoch) WHERE leased > 0;

ALTER TABLE lease ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON lease USING (org_id = (SELECT current_org()));
-- Whose leases an epoch that is over still has; each is given back in its organization's name.
CREATE POLICY any_org ON lease FOR SELECT
    USING ((SELECT current_setting('quetra.org', true)) = '*');
