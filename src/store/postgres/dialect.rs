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

// Under the lock of the row that it raises.
pub(super) const RECORD_ACT: &str = "WITH head AS (
        UPDATE ledger_head SET act_seq = act_seq + 1 WHERE org_id = $1 RETURNING act_seq, seq)
    INSERT INTO act
        (org_id, seq, after_spend, at, kind, subject, actor_key, actor_role, document)
    SELECT $1, head.act_seq, head.seq, $2, $3, $4, $5, $6, $7 FROM head";
