//! The catalogue's statements that Postgres has in its own words.
//!
//! Not here: the ones that every database understands (`sql/statement`).

pub(super) const LIST_MANDATES_BY_AGENT: &str = "SELECT document FROM mandate
    WHERE agent_id = $5 AND id < $2 AND org_id = $1 AND ($4::text IS NULL OR status = $4)
    ORDER BY id DESC LIMIT $3";

pub(super) const FORGET_COUNTERS: &str = "DELETE FROM counter
    WHERE mandate_id = $1
    AND subject NOT IN (SELECT value FROM json_array_elements_text($2::json))";

pub(super) const CREATE_KEY: &str =
    "INSERT INTO api_key (id, org_id, agent_id, role, digest, expires_at,
        last_used_at, revoked_at, document)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9
    WHERE $3::bytea IS NULL OR EXISTS (SELECT 1 FROM agent
        WHERE id = $3 AND org_id = $2 AND status <> 'decommissioned')";

// A key that is being revoked is left alone: a note of its use is not worth waiting for, and nobody
// who never waits is part of a deadlock.
pub(super) const TOUCH_KEY: &str = "UPDATE api_key
    SET last_used_at = greatest(last_used_at, $2), url_used_at = greatest(url_used_at, $3)
    WHERE id = (SELECT id FROM api_key WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED)";

pub(super) const REVOKE_KEY: &str = "UPDATE api_key SET revoked_at = $3
    WHERE id = $1 AND org_id = $2 AND revoked_at IS NULL
    AND (role <> 'admin' OR expires_at <= $3 OR EXISTS (
        SELECT 1 FROM api_key other
        WHERE other.org_id = $2 AND other.role = 'admin' AND other.revoked_at IS NULL
        AND other.id <> $1 AND (other.expires_at IS NULL OR other.expires_at > $3)))";

// By the clock of the database: servers' own may differ.
pub(super) const OWN_ENDPOINTS: Option<&str> = Some(
    "UPDATE webhook_cursor
    SET owner = $1, owned_until = clock_timestamp() + interval '6 s'
    WHERE endpoint_id IN (SELECT endpoint_id FROM webhook_cursor
        WHERE owned_until < clock_timestamp()
            OR (owner = $1 AND owned_until < clock_timestamp() + interval '4 s')
        FOR UPDATE SKIP LOCKED)",
);

pub(super) const DISOWN_ENDPOINTS: Option<&str> =
    Some("UPDATE webhook_cursor SET owned_until = '-infinity' WHERE owner = $1");

pub(super) const OWNED_ENDPOINTS: &str = "SELECT e.org_id, e.id, e.version,
        (SELECT min(d.next_at) FROM webhook_delivery d
            WHERE d.endpoint_id = e.id AND d.state = 'pending')
    FROM webhook_cursor c JOIN webhook_endpoint e ON e.id = c.endpoint_id
    WHERE c.owner = $1 AND c.owned_until > clock_timestamp() AND e.enabled";

pub(super) const TELL_ENDPOINTS: &str = "UPDATE webhook_cursor
    SET after_seq = greatest(after_seq, told.after), failing_since = told.failing
    FROM json_to_recordset($2::json) AS told (endpoint TEXT, after BIGINT, failing BIGINT)
    WHERE endpoint_id = decode(told.endpoint, 'hex') AND org_id = $1";

pub(super) const LIST_DELIVERIES_BY_ENDPOINT: &str = "SELECT document FROM webhook_delivery
    WHERE org_id = $1 AND endpoint_id = $2 AND (created_at, id) < ($3, $4) AND created_at >= $5
        AND ($6 = '' OR state = $6) AND ($7 = '' OR event_type = $7)
    ORDER BY created_at DESC, id DESC LIMIT $8";

pub(super) const RECORD_DELIVERIES: &str = "INSERT INTO webhook_delivery
        (id, org_id, endpoint_id, state, event_type, next_at, created_at, document)
    SELECT decode(made.id, 'hex'), $1, e.id, made.state, made.type, made.next, made.created,
        made.document
    FROM json_to_recordset($2::json) AS made (id TEXT, endpoint TEXT, state TEXT, type TEXT,
        next BIGINT, created BIGINT, attempted BIGINT, document TEXT)
    JOIN webhook_endpoint e ON e.id = decode(made.endpoint, 'hex') AND e.org_id = $1
    WHERE NOT EXISTS (SELECT 1 FROM webhook_delivery d WHERE d.id = decode(made.id, 'hex')
        AND d.state = 'pending' AND d.next_at > made.attempted)
    ON CONFLICT (id) DO UPDATE
    SET state = excluded.state, next_at = excluded.next_at, document = excluded.document";

pub(super) const DELETE_SOME_DELIVERIES: &str = "DELETE FROM webhook_delivery WHERE id IN (
    SELECT id FROM webhook_delivery WHERE endpoint_id = $1 AND org_id = $2
    ORDER BY created_at LIMIT $3)";

pub(super) const FORGET_DELIVERIES: &str = "DELETE FROM webhook_delivery WHERE id IN (
    SELECT id FROM webhook_delivery d
    WHERE d.org_id = $1 AND d.endpoint_id = $2 AND d.state <> 'pending'
        AND d.created_at < greatest($3, coalesce((SELECT k.created_at FROM webhook_delivery k
            WHERE k.endpoint_id = $2 ORDER BY k.created_at DESC LIMIT 1 OFFSET $4), $3))
    ORDER BY d.created_at LIMIT $5)";

// Under the lock of the row that it raises.
pub(super) const RECORD_ACT: &str = "WITH head AS (
        UPDATE ledger_head SET act_seq = act_seq + 1 WHERE org_id = $1 RETURNING act_seq, seq)
    INSERT INTO act
        (org_id, seq, after_spend, at, kind, subject, actor_key, actor_role, document)
    SELECT $1, head.act_seq, head.seq, $2, $3, $4, $5, $6, $7 FROM head";

/// A row that is written again as it was.
pub(super) const TRY_WRITING: &[&str] =
    &["UPDATE organization SET version = version WHERE id = $1"];

/// Row-level security makes the planner guess badly how few rows a search over all organizations
/// finds: for this transaction it may not read a table as a whole.
pub(super) const BY_INDEX: Option<&str> = Some("SET LOCAL enable_seqscan = off");
