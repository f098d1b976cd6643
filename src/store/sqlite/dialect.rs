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

// The lane writes through the same turn, so nothing is recorded between the number and the commit.
pub(super) const RECORD_ACT: &str = "INSERT INTO act
        (org_id, after_spend, at, kind, subject, actor_key, actor_role, document)
    VALUES ($1, (SELECT coalesce(max(seq), 0) FROM spend), $2, $3, $4, $5, $6, $7)";
