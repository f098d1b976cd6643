-- Intent: endpoints that are told of events, how far each was told and by which server, and the log
-- of deliveries.
-- Safety: creates only; a server that knows nothing of it goes on.

CREATE TABLE webhook_endpoint (
    id               BYTEA   NOT NULL PRIMARY KEY CHECK (octet_length(id) = 16),
    org_id           BYTEA   NOT NULL REFERENCES organization (id),
    is_default       BOOLEAN NOT NULL,
    enabled          BOOLEAN NOT NULL,
    version          BIGINT  NOT NULL CHECK (version >= 1),
    -- Sealed under the master key; the second one signs beside it until that time.
    secret           BYTEA   NOT NULL,
    previous_secret  BYTEA,
    previous_until   BIGINT,
    -- Everything else as JSON, never a secret.
    document         TEXT    NOT NULL
);

CREATE INDEX webhook_endpoint_by_org ON webhook_endpoint (org_id, id);
-- The one that the organization's `webhookUrl` manages.
CREATE UNIQUE INDEX webhook_endpoint_default ON webhook_endpoint (org_id) WHERE is_default;

-- How far an endpoint was told: of every event up to this one there is a delivery, or it does not
-- want it. Only ever moves on. One server at a time tells it, for as long as its lease lasts by the
-- clock of the database; two at a time would only tell things twice.
CREATE TABLE webhook_cursor (
    endpoint_id      BYTEA   NOT NULL PRIMARY KEY,
    org_id           BYTEA   NOT NULL,
    after_seq        BIGINT  NOT NULL CHECK (after_seq >= 0),
    -- Since when nothing was accepted.
    failing_since    BIGINT,
    owner            BYTEA,
    owned_until      TIMESTAMPTZ NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);

-- One event on its way to one endpoint.
CREATE TABLE webhook_delivery (
    id               BYTEA   NOT NULL PRIMARY KEY CHECK (octet_length(id) = 16),
    org_id           BYTEA   NOT NULL,
    endpoint_id      BYTEA   NOT NULL,
    state            TEXT    NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
    event_type       TEXT    COLLATE "C" NOT NULL,
    -- When the next attempt is due.
    next_at          BIGINT,
    created_at       BIGINT  NOT NULL,
    -- All of it as JSON, with the attempts.
    document         TEXT    NOT NULL
);

CREATE INDEX webhook_delivery_by_org ON webhook_delivery (org_id, created_at, id);
CREATE INDEX webhook_delivery_by_endpoint ON webhook_delivery (endpoint_id, created_at, id);
-- What waits for its next attempt: few rows, whatever the length of the log.
CREATE INDEX webhook_delivery_due ON webhook_delivery (endpoint_id, next_at)
    WHERE state = 'pending';

ALTER TABLE webhook_endpoint ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_cursor   ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_delivery ENABLE ROW LEVEL SECURITY;

CREATE POLICY tenant ON webhook_endpoint USING (org_id = (SELECT current_org()));
CREATE POLICY tenant ON webhook_cursor   USING (org_id = (SELECT current_org()));
CREATE POLICY tenant ON webhook_delivery USING (org_id = (SELECT current_org()));

-- A server looks for what it may tell over all organizations; what it then reads and writes of
-- each, it does in that one's name.
CREATE POLICY any_org ON webhook_endpoint FOR SELECT
    USING ((SELECT current_setting('quetra.org', true)) = '*');
CREATE POLICY any_org ON webhook_cursor FOR SELECT
    USING ((SELECT current_setting('quetra.org', true)) = '*');
CREATE POLICY any_org_told ON webhook_cursor FOR UPDATE
    USING ((SELECT current_setting('quetra.org', true)) = '*');
CREATE POLICY any_org ON webhook_delivery FOR SELECT
    USING ((SELECT current_setting('quetra.org', true)) = '*');
