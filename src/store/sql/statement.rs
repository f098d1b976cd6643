//! Every SQL statement of the catalogue, so that a test can prepare each and look at its plan.
//!
//! Lists go on from a sort key, never from an offset: a page costs the same wherever it is. Not
//! here: how values are bound and rows are read (the modules that name the statements).

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)+) => {
        $($(#[$doc])* pub(super) const $name: &str = $sql;)+

        /// All of them, with their names.
        #[cfg(test)]
        pub(in super::super) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),+];
    };
}

statements! {
    // Organizations.
    READ_ORG = "SELECT document FROM organization WHERE id = $1";
    LIST_ORGS = "SELECT document FROM organization ORDER BY id";
    READ_SIGNING_KEYS = "SELECT key_id, public_key, sealed FROM signing_key
        WHERE org_id = $1 ORDER BY created_at DESC, key_id";
    CREATE_ORG = "INSERT INTO organization (id, slug, frozen, version, document)
        VALUES ($1, $2, $3, $4, $5)";
    CREATE_SIGNING_KEY = "INSERT INTO signing_key (org_id, key_id, public_key, sealed, created_at)
        VALUES ($1, $2, $3, $4, $5)";
    // A version that does not grow would make the comparison worthless: it is refused too.
    REPLACE_ORG = "UPDATE organization
        SET slug = $2, frozen = $3, version = $4, document = $5
        WHERE id = $1 AND version = $6 AND version < $4";
    // The windows of another zone are others; those of a budget that never resets are the same.
    FORGET_COUNTERS_OF_ORG = "DELETE FROM counter
        WHERE mandate_id IN (SELECT id FROM mandate WHERE org_id = $1)
        AND ends_at < 9223372036854775807";

    // Acts.
    RECORD_ACT = super::super::dialect::RECORD_ACT;

    // The journal.
    JOURNAL_END = "SELECT seq, chain FROM journal WHERE org_id = $1 ORDER BY seq DESC LIMIT 1";
    LIST_JOURNAL = "SELECT seq, at, kind, source, source_seq, chain, body FROM journal
        WHERE org_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
    READ_SPENDS = "SELECT seq, id, org_id, agent_id, mandate_id, decided_at, updated_at,
            verdict, state, amount, settled, refunded, currency, vendor, category, idempotency_key,
            request_hash, approvals_before, sum_before, evidence, due_at, paid, repaid, followup
        FROM spend WHERE org_id = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq";
    READ_DECISIONS = "SELECT seq, id, agent_id, mandate_id, decided_at, verdict, amount, currency,
            vendor, category, idempotency_key, request_hash, evidence
        FROM spend WHERE org_id = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq";
    READ_ACTS = "SELECT seq, after_spend, at, kind, subject, actor_key, actor_role, document
        FROM act WHERE org_id = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq";
    COUNT_JOURNAL = "SELECT coalesce(sum(CASE source WHEN 1 THEN 1 ELSE 0 END), 0),
            coalesce(max(CASE source WHEN 1 THEN source_seq ELSE 0 END), 0),
            coalesce(sum(CASE source WHEN 2 THEN 1 ELSE 0 END), 0),
            coalesce(max(CASE source WHEN 2 THEN source_seq ELSE 0 END), 0)
        FROM journal WHERE org_id = $1 AND seq > $2 AND seq <= $3";
    COUNT_SPENDS = "SELECT count(*) FROM spend WHERE org_id = $1 AND seq > $2 AND seq <= $3";
    COUNT_ACTS = "SELECT count(*) FROM act WHERE org_id = $1 AND seq > $2 AND seq <= $3";
    LIST_CHECKPOINTS = "SELECT seq, chain, at, key_id, signature FROM journal_checkpoint
        WHERE org_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
    KEEP_CHECKPOINT = "INSERT INTO journal_checkpoint (org_id, seq, chain, at, key_id, signature)
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";

    // Receipts.
    READ_RECEIPT = "SELECT request_hash, reply, created_at FROM receipt
        WHERE org_id = $1 AND key = $2";
    CREATE_RECEIPT = "INSERT INTO receipt (org_id, key, request_hash, reply, created_at)
        VALUES ($1, $2, $3, $4, $5)";
    FORGET_RECEIPTS = "DELETE FROM receipt WHERE org_id = $1 AND key IN (
        SELECT key FROM receipt WHERE org_id = $1 AND created_at < $2
        ORDER BY created_at LIMIT $3)";

    // Agents.
    READ_AGENT = "SELECT document FROM agent WHERE id = $2 AND org_id = $1";
    LIST_AGENTS = "SELECT document FROM agent
        WHERE org_id = $1 AND name > $2 ORDER BY name LIMIT $3";
    LIST_AGENTS_BY_STATUS = "SELECT document FROM agent
        WHERE org_id = $1 AND status = $4 AND name > $2 ORDER BY name LIMIT $3";
    HAS_OPEN_HOLDS = "SELECT EXISTS (SELECT 1 FROM spend
        WHERE agent_id = $2 AND org_id = $1 AND state = 'pending_approval')";
    CREATE_AGENT = "INSERT INTO agent
        (id, org_id, name, status, current_mandate, version, document)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    // No money may be held for an agent that ends: nobody would decide about it.
    REPLACE_AGENT = "UPDATE agent
        SET name = $3, status = $4, current_mandate = $5, version = $6, document = $7
        WHERE id = $1 AND org_id = $2 AND version = $8 AND version < $6
        AND ($4 <> 'decommissioned' OR NOT EXISTS (SELECT 1 FROM spend
            WHERE agent_id = $1 AND org_id = $2 AND state = 'pending_approval'))";

    // Mandates.
    READ_MANDATE = "SELECT document FROM mandate WHERE id = $2 AND org_id = $1";
    READ_MANDATE_VERSION = "SELECT document FROM mandate
        WHERE id = $2 AND org_id = $1 AND version = $3
        UNION ALL SELECT document FROM mandate_version
        WHERE mandate_id = $2 AND org_id = $1 AND version = $3
        LIMIT 1";
    LIST_MANDATE_VERSIONS = "SELECT document, version FROM mandate
        WHERE id = $2 AND org_id = $1 AND version < $3
        UNION ALL SELECT document, version FROM mandate_version
        WHERE mandate_id = $2 AND org_id = $1 AND version < $3
        ORDER BY version DESC LIMIT $4";
    LIST_MANDATES = "SELECT document FROM mandate
        WHERE org_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3";
    LIST_MANDATES_BY_STATUS = "SELECT document FROM mandate
        WHERE org_id = $1 AND id < $2 AND status = $4 ORDER BY id DESC LIMIT $3";
    LIST_MANDATES_BY_AGENT = super::super::dialect::LIST_MANDATES_BY_AGENT;
    LIST_MANDATES_OVER = "SELECT document FROM mandate
        WHERE status IN ('active', 'paused') AND ends_at < $1 LIMIT $2";
    // A comparison, so that the index answers it: very few mandates ask for anything.
    LIST_DURABILITIES = "SELECT DISTINCT durability FROM mandate
        WHERE status IN ('active', 'paused') AND durability > ''";
    // The one read of a decision that no cache answers: three searches by index.
    READ_SNAPSHOT = "SELECT o.document, a.document, m.document
        FROM agent a
        JOIN organization o ON o.id = a.org_id
        LEFT JOIN mandate m ON m.id = COALESCE($3, a.current_mandate)
            AND m.agent_id = a.id AND m.org_id = a.org_id
        WHERE a.id = $2 AND a.org_id = $1";
    // Only for an agent of the same organization.
    CREATE_MANDATE = "INSERT INTO mandate
        (id, org_id, agent_id, status, version, document, durability)
        SELECT $1, $2, id, $4, $5, $6, $7 FROM agent WHERE id = $3 AND org_id = $2";
    KEEP_MANDATE_VERSION = "INSERT INTO mandate_version (mandate_id, version, org_id, document)
        SELECT id, version, org_id, document FROM mandate
        WHERE id = $1 AND org_id = $2 AND version = $3";
    REPLACE_MANDATE = "UPDATE mandate
        SET status = $4, version = $5, document = $6, durability = $7
        WHERE id = $1 AND org_id = $2 AND agent_id = $3 AND version = $8 AND version < $5";
    FORGET_COUNTERS = super::super::dialect::FORGET_COUNTERS;
    DELETE_DRAFT = "DELETE FROM mandate
        WHERE id = $1 AND org_id = $2 AND version = $3 AND status = 'draft'";
    DELETE_DRAFT_VERSIONS = "DELETE FROM mandate_version WHERE mandate_id = $1 AND org_id = $2";

    // Credentials.
    READ_KEY = "SELECT document, digest, last_used_at, revoked_at, url_used_at
        FROM api_key WHERE id = $1";
    LIST_KEYS = "SELECT document, digest, last_used_at, revoked_at, url_used_at FROM api_key
        WHERE org_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3";
    // Only for an agent of the same organization that has not ended.
    CREATE_KEY = super::super::dialect::CREATE_KEY;
    TOUCH_KEY = super::super::dialect::TOUCH_KEY;
    // An expired admin key works no more: to revoke it takes nothing away.
    REVOKE_KEY = super::super::dialect::REVOKE_KEY;
    REVOKE_KEYS_OF = "UPDATE api_key SET revoked_at = $3
        WHERE agent_id = $2 AND org_id = $1 AND revoked_at IS NULL";

    // Webhooks: their endpoints, of which an organization has few.
    READ_ENDPOINT = "SELECT e.document, e.secret, e.previous_secret, e.previous_until,
            c.after_seq, c.failing_since
        FROM webhook_endpoint e JOIN webhook_cursor c ON c.endpoint_id = e.id
        WHERE e.id = $2 AND e.org_id = $1";
    LIST_ENDPOINTS = "SELECT e.document, e.secret, e.previous_secret, e.previous_until,
            c.after_seq, c.failing_since
        FROM webhook_endpoint e JOIN webhook_cursor c ON c.endpoint_id = e.id
        WHERE e.org_id = $1 AND e.id < $2 ORDER BY e.id DESC LIMIT $3";
    READ_DEFAULT_ENDPOINT = "SELECT e.document, e.secret, e.previous_secret, e.previous_until,
            c.after_seq, c.failing_since
        FROM webhook_endpoint e JOIN webhook_cursor c ON c.endpoint_id = e.id
        WHERE e.org_id = $1 AND e.is_default";
    CREATE_ENDPOINT = "INSERT INTO webhook_endpoint (id, org_id, is_default, enabled, version,
            secret, previous_secret, previous_until, document)
        SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9
        WHERE (SELECT count(*) FROM webhook_endpoint WHERE org_id = $2) < $10";
    CREATE_CURSOR = "INSERT INTO webhook_cursor (endpoint_id, org_id, after_seq)
        VALUES ($1, $2, $3)";
    REPLACE_ENDPOINT = "UPDATE webhook_endpoint
        SET is_default = $3, enabled = $4, version = $5, secret = $6, previous_secret = $7,
            previous_until = $8, document = $9
        WHERE id = $1 AND org_id = $2 AND version = $10 AND version < $5";
    // What was told stays told: a cursor never moves back.
    RESTART_CURSOR = "UPDATE webhook_cursor SET after_seq = $3, failing_since = NULL
        WHERE endpoint_id = $1 AND org_id = $2 AND after_seq <= $3";
    // Attempts are recorded without the organization's turn.
    LOCK_CURSOR = "UPDATE webhook_cursor SET after_seq = after_seq
        WHERE endpoint_id = $1 AND org_id = $2";
    DELETE_ENDPOINT = "DELETE FROM webhook_endpoint WHERE id = $1 AND org_id = $2";
    DELETE_CURSOR = "DELETE FROM webhook_cursor WHERE endpoint_id = $1 AND org_id = $2";
    DELETE_DELIVERIES = "DELETE FROM webhook_delivery WHERE endpoint_id = $1 AND org_id = $2";
    DELETE_SOME_DELIVERIES = super::super::dialect::DELETE_SOME_DELIVERIES;
    OWNED_ENDPOINTS = super::super::dialect::OWNED_ENDPOINTS;
    TELL_ENDPOINTS = super::super::dialect::TELL_ENDPOINTS;

    // Webhooks: deliveries.
    READ_DELIVERY = "SELECT document FROM webhook_delivery WHERE id = $2 AND org_id = $1";
    LIST_DELIVERIES = "SELECT document FROM webhook_delivery
        WHERE org_id = $1 AND org_id = $2 AND (created_at, id) < ($3, $4) AND created_at >= $5
            AND ($6 = '' OR state = $6) AND ($7 = '' OR event_type = $7)
        ORDER BY created_at DESC, id DESC LIMIT $8";
    LIST_DELIVERIES_BY_ENDPOINT = super::super::dialect::LIST_DELIVERIES_BY_ENDPOINT;
    DUE_DELIVERIES = "SELECT document FROM webhook_delivery
        WHERE endpoint_id = $2 AND state = 'pending' AND next_at <= $3 AND org_id = $1
        ORDER BY next_at LIMIT $4";
    RECORD_DELIVERIES = super::super::dialect::RECORD_DELIVERIES;
    FORGET_DELIVERIES = super::super::dialect::FORGET_DELIVERIES;
}
