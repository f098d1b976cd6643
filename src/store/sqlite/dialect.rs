//! The catalogue's statements that SQLite has in its own words.
//!
//! Not here: the ones that every database understands (`sql/statement`).

// The index of the agent, not the one of the organization: a `+` keeps a column from any index.
pub(super) const LIST_MANDATES_BY_AGENT: &str = "SELECT document FROM mandate
    WHERE agent_id = $5 AND id < $2 AND +org_id = $1 AND ($4 IS NULL OR status = $4)
    ORDER BY id DESC LIMIT $3";

pub(super) const FORGET_COUNTERS: &str = "DELETE FROM counter
    WHERE mandate_id = $1 AND subject NOT IN (SELECT value FROM json_each($2))";

pub(super) const CREATE_KEY: &str =
    "INSERT INTO api_key (id, org_id, agent_id, role, digest, expires_at,
        last_used_at, revoked_at, document)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9
    WHERE $3 IS NULL OR EXISTS (SELECT 1 FROM agent
        WHERE id = $3 AND org_id = $2 AND status <> 'decommissioned')";

pub(super) const TOUCH_KEY: &str = "UPDATE api_key
    SET last_used_at = max(coalesce(last_used_at, $2), $2),
        url_used_at = CASE WHEN $3 IS NULL THEN url_used_at
            ELSE max(coalesce(url_used_at, $3), $3) END
    WHERE id = $1";

pub(super) const REVOKE_KEY: &str = "UPDATE api_key SET revoked_at = $3
    WHERE id = $1 AND org_id = $2 AND revoked_at IS NULL
    AND (role <> 'admin' OR expires_at <= $3 OR EXISTS (
        SELECT 1 FROM api_key other INDEXED BY api_key_admin
        WHERE other.org_id = $2 AND other.role = 'admin' AND other.revoked_at IS NULL
        AND other.id <> $1 AND (other.expires_at IS NULL OR other.expires_at > $3)))";

// There is one server, which tells every endpoint.
pub(super) const OWN_ENDPOINTS: Option<&str> = None;
pub(super) const DISOWN_ENDPOINTS: Option<&str> = None;

pub(super) const OWNED_ENDPOINTS: &str = "SELECT e.org_id, e.id, e.version,
        (SELECT min(d.next_at) FROM webhook_delivery d
            WHERE d.endpoint_id = e.id AND d.state = 'pending')
    FROM webhook_endpoint e WHERE e.enabled AND length($1) = 16";

pub(super) const TELL_ENDPOINTS: &str = "UPDATE webhook_cursor
    SET after_seq = max(after_seq, told.value ->> 'after'), failing_since = told.value ->> 'failing'
    FROM json_each($2) told
    WHERE endpoint_id = unhex(told.value ->> 'endpoint') AND org_id = $1";

// A `+` keeps a column from any index.
pub(super) const LIST_DELIVERIES_BY_ENDPOINT: &str = "SELECT document FROM webhook_delivery
    WHERE +org_id = $1 AND endpoint_id = $2 AND (created_at, id) < ($3, $4) AND created_at >= $5
        AND ($6 = '' OR state = $6) AND ($7 = '' OR event_type = $7)
    ORDER BY created_at DESC, id DESC LIMIT $8";

pub(super) const RECORD_DELIVERIES: &str = "INSERT INTO webhook_delivery
        (id, org_id, endpoint_id, state, event_type, next_at, created_at, document)
    SELECT unhex(made.value ->> 'id'), $1, e.id, made.value ->> 'state', made.value ->> 'type',
        made.value ->> 'next', made.value ->> 'created', made.value ->> 'document'
    FROM json_each($2) made
    JOIN webhook_endpoint e ON e.id = unhex(made.value ->> 'endpoint') AND e.org_id = $1
    WHERE NOT EXISTS (SELECT 1 FROM webhook_delivery d WHERE d.id = unhex(made.value ->> 'id')
        AND d.state = 'pending' AND d.next_at > made.value ->> 'attempted')
    ON CONFLICT (id) DO UPDATE
    SET state = excluded.state, next_at = excluded.next_at, document = excluded.document";

pub(super) const DELETE_SOME_DELIVERIES: &str = "DELETE FROM webhook_delivery WHERE id IN (
    SELECT id FROM webhook_delivery WHERE endpoint_id = $1 AND +org_id = $2
    ORDER BY created_at LIMIT $3)";

pub(super) const FORGET_DELIVERIES: &str = "DELETE FROM webhook_delivery WHERE id IN (
    SELECT id FROM webhook_delivery d
    WHERE +d.org_id = $1 AND d.endpoint_id = $2 AND d.state <> 'pending'
        AND d.created_at < max($3, coalesce((SELECT k.created_at FROM webhook_delivery k
            WHERE k.endpoint_id = $2 ORDER BY k.created_at DESC LIMIT 1 OFFSET $4), $3))
    ORDER BY d.created_at LIMIT $5)";

// The lane writes through the same turn, so nothing is recorded between the number and the commit.
pub(super) const RECORD_ACT: &str = "INSERT INTO act
        (org_id, after_spend, at, kind, subject, actor_key, actor_role, document)
    VALUES ($1, (SELECT coalesce(max(seq), 0) FROM spend), $2, $3, $4, $5, $6, $7)";

/// What has to be written to the file and leaves it as it was; no caller's key is empty.
pub(super) const TRY_WRITING: &[&str] = &[
    "INSERT INTO receipt (org_id, key, request_hash, reply, created_at)
        VALUES ($1, '', zeroblob(16), '', 0)",
    "DELETE FROM receipt WHERE org_id = $1 AND key = ''",
];

/// The planner here knows every index that it could use.
pub(super) const BY_INDEX: Option<&str> = None;
