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

    // Receipts.
    READ_RECEIPT = "SELECT request_hash, reply, created_at FROM receipt
        WHERE org_id = $1 AND key = $2";
    CREATE_RECEIPT = "INSERT INTO receipt (org_id, key, request_hash, reply, created_at)
        VALUES ($1, $2, $3, $4, $5)";

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
    // The one read of a decision that no cache answers: three searches by index.
    READ_SNAPSHOT = "SELECT o.document, a.document, m.document
        FROM agent a
        JOIN organization o ON o.id = a.org_id
        LEFT JOIN mandate m ON m.id = COALESCE($3, a.current_mandate)
            AND m.agent_id = a.id AND m.org_id = a.org_id
        WHERE a.id = $2 AND a.org_id = $1";
    // Only for an agent of the same organization.
    CREATE_MANDATE = "INSERT INTO mandate (id, org_id, agent_id, status, version, document)
        SELECT $1, $2, id, $4, $5, $6 FROM agent WHERE id = $3 AND org_id = $2";
    KEEP_MANDATE_VERSION = "INSERT INTO mandate_version (mandate_id, version, org_id, document)
        SELECT id, version, org_id, document FROM mandate
        WHERE id = $1 AND org_id = $2 AND version = $3";
    REPLACE_MANDATE = "UPDATE mandate SET status = $4, version = $5, document = $6
        WHERE id = $1 AND org_id = $2 AND agent_id = $3 AND version = $7 AND version < $5";
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
}
