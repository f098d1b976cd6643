-- Intent: endpoints that are told of events, how far each was told, and the log of deliveries.
-- Safety: creates only; a server that knows nothing of it goes on.

CREATE TABLE webhook_endpoint (
    id               BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    org_id           BLOB    NOT NULL REFERENCES organization (id),
    is_default       INTEGER NOT NULL CHECK (is_default IN (0, 1)),
    enabled          INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    version          INTEGER NOT NULL CHECK (version >= 1),
    -- Sealed under the master key; the second one signs beside it until that time.
    secret           BLOB    NOT NULL,
    previous_secret  BLOB,
    previous_until   INTEGER,
    -- Everything else as JSON, never a secret.
    document         TEXT    NOT NULL
) STRICT;

CREATE INDEX webhook_endpoint_by_org ON webhook_endpoint (org_id, id);
-- The one that the organization's `webhookUrl` manages.
CREATE UNIQUE INDEX webhook_endpoint_default ON webhook_endpoint (org_id) WHERE is_default;

-- How far an endpoint was told: of every event up to this one there is a delivery, or it does not
-- want it. Only ever moves on.
CREATE TABLE webhook_cursor (
    endpoint_id      BLOB    NOT NULL PRIMARY KEY,
    org_id           BLOB    NOT NULL,
    after_seq        INTEGER NOT NULL CHECK (after_seq >= 0),
    -- Since when nothing was accepted.
    failing_since    INTEGER
) STRICT, WITHOUT ROWID;

-- One event on its way to one endpoint.
CREATE TABLE webhook_delivery (
    id               BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    org_id           BLOB    NOT NULL,
    endpoint_id      BLOB    NOT NULL,
    state            TEXT    NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
    event_type       TEXT    NOT NULL,
    -- When the next attempt is due.
    next_at          INTEGER,
    created_at       INTEGER NOT NULL,
    -- All of it as JSON, with the attempts.
    document         TEXT    NOT NULL
) STRICT;

CREATE INDEX webhook_delivery_by_org ON webhook_delivery (org_id, created_at, id);
CREATE INDEX webhook_delivery_by_endpoint ON webhook_delivery (endpoint_id, created_at, id);
-- What waits for its next attempt: few rows, whatever the length of the log.
CREATE INDEX webhook_delivery_due ON webhook_delivery (endpoint_id, next_at)
    WHERE state = 'pending';
