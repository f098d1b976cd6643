//! The role that a server works as: what it may do, and whether the wall between tenants binds it.
//!
//! It owns nothing, so that it can neither change the schema nor see beyond row-level security,
//! and it may change of a decision only what settling, or a late arrival, changes. Not here: the
//! policies, which the migrations make.

use sqlx::AssertSqlSafe;

use super::{PostgresStore, Refused, failed, refuse};
use crate::store::StoreError;

/// Everything that a server does with each table.
const PRIVILEGES: [(&str, &str); 23] = [
    ("organization", "SELECT, INSERT, UPDATE"),
    ("ledger_head", "SELECT, INSERT, UPDATE"),
    ("signing_key", "SELECT, INSERT"),
    ("agent", "SELECT, INSERT, UPDATE"),
    ("mandate", "SELECT, INSERT, UPDATE, DELETE"),
    ("mandate_version", "SELECT, INSERT, DELETE"),
    ("api_key", "SELECT, INSERT, UPDATE"),
    ("receipt", "SELECT, INSERT, DELETE"),
    ("counter", "SELECT, INSERT, UPDATE, DELETE"),
    // Its tallies too: what comes late from an outbox takes its place in time.
    (
        "spend",
        "SELECT, INSERT,
        UPDATE (state, settled, refunded, updated_at, due_at, paid, repaid, followup,
            approvals_before, sum_before)",
    ),
    // Written by deciding.
    ("spend_by_id", "SELECT"),
    // Appended to, and nothing else.
    ("act", "SELECT, INSERT"),
    ("journal", "SELECT, INSERT"),
    ("budget_mark", "SELECT, INSERT"),
    ("journal_checkpoint", "SELECT, INSERT"),
    ("journal_head", "SELECT, INSERT, UPDATE"),
    ("shard_authority", "SELECT, INSERT, UPDATE"),
    ("shard_epoch", "SELECT, INSERT, UPDATE"),
    ("lease", "SELECT, INSERT, UPDATE"),
    ("webhook_endpoint", "SELECT, INSERT, UPDATE, DELETE"),
    ("webhook_cursor", "SELECT, INSERT, UPDATE, DELETE"),
    ("webhook_delivery", "SELECT, INSERT, UPDATE, DELETE"),
    ("_sqlx_migrations", "SELECT"),
];

/// To be allowed to make tables is not enough once there are some: before version 15 everybody is.
const MAY_CREATE: &str = "SELECT coalesce(CASE to_regclass('_sqlx_migrations') IS NULL
    WHEN true THEN has_schema_privilege(current_schema(), 'CREATE')
    ELSE pg_has_role((SELECT relowner FROM pg_class WHERE oid = to_regclass('_sqlx_migrations')),
        'USAGE') END, false)";
const SCHEMA: &str = "SELECT quote_ident(current_schema())";
const IS_WALLED: &str = "SELECT row_security_active('spend')";
/// The role's name as it is written in a statement, and whether policies would bind it.
const ROLE: &str = "SELECT quote_ident(rolname), NOT rolsuper AND NOT rolbypassrls
        AND NOT pg_has_role(oid, (SELECT relowner FROM pg_class WHERE oid = 'spend'::regclass),
            'USAGE')
    FROM pg_roles WHERE rolname = $1";

impl PostgresStore {
    /// Allows a role what a server needs, and no more; to be repeated after each migration.
    ///
    /// # Errors
    /// When there is no such role, or the wall between tenants would not bind it.
    pub async fn grant_to(&self, role: &str) -> Result<(), StoreError> {
        const GRANT: &str = "grant what a server needs";
        let found: Option<(String, bool)> = sqlx::query_as(ROLE)
            .bind(role)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed(GRANT))?;
        let Some((role, is_bound)) = found else {
            return Err(refuse(GRANT, Refused::NoRole));
        };
        if !is_bound {
            return Err(refuse(GRANT, Refused::AboveTheWall));
        }
        let schema: String =
            sqlx::query_scalar(SCHEMA).fetch_one(&self.pool).await.map_err(failed(GRANT))?;
        let mut granting = self.pool.begin().await.map_err(failed(GRANT))?;
        let usage = format!("GRANT USAGE ON SCHEMA {schema} TO {role}");
        let tables = PRIVILEGES.map(|(table, privileges)| {
            // What an earlier version allowed and this one does not need ends.
            format!("REVOKE ALL ON {table} FROM {role}; GRANT {privileges} ON {table} TO {role}")
        });
        let part = format!("GRANT EXECUTE ON FUNCTION part_record() TO {role}");
        for statement in std::iter::once(usage).chain(tables).chain([part]) {
            let granted = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *granting).await;
            granted.map_err(failed(GRANT))?;
        }
        granting.commit().await.map_err(failed(GRANT))
    }

    /// Whether row-level security binds the role of this server.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_walled(&self) -> Result<bool, StoreError> {
        let walled = sqlx::query_scalar(IS_WALLED).fetch_one(&self.pool).await;
        walled.map_err(failed("look at row-level security"))
    }

    /// Whether this role may change the schema.
    pub(super) async fn may_create(&self, operation: &'static str) -> Result<bool, StoreError> {
        let may = sqlx::query_scalar(MAY_CREATE).fetch_one(&self.pool).await;
        may.map_err(failed(operation))
    }
}
