//! The store in a Postgres database that several servers share: opening it, its schema, its health.
//!
//! Whoever changes what a decision depends on holds the lock of the organization's `ledger_head`,
//! as the ledger does while it decides: commits and decisions of an organization happen one after
//! the other, on whichever server. Not here: what is stored (`sql/catalogue`, `lists`), what an
//! error of the driver means (`failure`), and budgets, which `ledger::sql` writes.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use sqlx::migrate::{Migration, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Postgres, Transaction};
use tokio::time::timeout;

use super::sql::{migration_failed, migration_name, migrator};
use super::{StoreError, StoreErrorKind};
use crate::domain::id::OrgId;

#[path = "sql/catalogue.rs"]
mod catalogue;
mod dialect;
mod failure;
mod lists;
mod parts;
mod roles;

use failure::{OLDEST, Refused};
pub(crate) use failure::{classify, failed, failed_commit, forgets, may_repeat};
pub(crate) use parts::rows_at;

/// This home and its driver, for what is included from `sql`.
use PostgresStore as Store;
type Driver = Postgres;

/// The schema this server knows; embedded, so that the binary is all there is to install.
static MIGRATOR: LazyLock<Migrator> =
    LazyLock::new(|| migrator(include!(concat!(env!("OUT_DIR"), "/postgres_migrations.rs"))));

/// Connections of the catalogue; the ledger has its own.
const CONNECTIONS: u32 = 8;

/// How long a caller waits for a connection.
const ACQUIRE_TIME: Duration = Duration::from_secs(5);

/// How long the health check may take.
const CHECK_TIME: Duration = Duration::from_secs(2);

/// A credential that another server has revoked must end within a second.
const KEYS_AGE_MAX: Duration = Duration::from_millis(500);

/// What the second wall lets through for every organization; the first migration says what it is.
pub(crate) const ALL_ORGS: &str = "*";

/// Prepared statements kept by each connection: more than there are.
const STATEMENTS: usize = 200;

/// What a server that hangs, or is stopped, may keep others waiting for; and what a statement sees:
/// everything that was committed before it began, so after a lock was had.
///
/// Every statement that decides or records finds its rows at one place of one index, whatever the
/// planner believes of a table: by reading all of it and joining, each would cost more the more
/// there is.
const SESSION: [(&str, &str); 8] = [
    ("default_transaction_isolation", "read committed"),
    // Longer than the time after which the one who has the lock is cut off.
    ("lock_timeout", "8s"),
    ("statement_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "5s"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    // A statement about times is planned anew for each, as it may leave parts of the record out:
    // that takes longer than to look into them, and they are left out when it runs.
    ("plan_cache_mode", "force_generic_plan"),
];

/// A migration may take its time, and so may its turn; each bounds its own wait for locks.
const MIGRATING: [(&str, &str); 2] = [("lock_timeout", "0"), ("statement_timeout", "0")];

const SERVER: &str = "SELECT current_setting('server_version_num')::int / 10000,
    pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
    current_setting('fsync') = 'on', current_setting('synchronous_commit') <> 'off'";
/// Asked again and again by who waits for a turn to migrate.
const MAY_MIGRATE: &str = "SELECT pg_try_advisory_lock(7403, 0)";
const TURN_TIME: Duration = Duration::from_millis(50);
const IS_MIGRATED: &str = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
const APPLIED: &str = "SELECT version FROM _sqlx_migrations WHERE success ORDER BY version";
const PROBE: &str = "SELECT version FROM organization LIMIT 1";
const TURN: &str = "SELECT seq FROM ledger_head WHERE org_id = $1 FOR NO KEY UPDATE";
/// What is answered as done must be on the disk then. The commit after it has no time limit on the
/// server: one that is cut short while it waits for a standby is reported as done.
const KEEPS: &str = "SELECT current_setting('fsync') = 'on'
    AND current_setting('synchronous_commit') <> 'off'
    AND set_config('statement_timeout', '0', true) = '0'";

/// A Postgres database as a store; clones share its connections.
#[derive(Clone, Debug)]
pub struct PostgresStore {
    pool: PgPool,
    // Not shown: it has the password.
    options: Hidden,
    #[cfg(test)]
    owner: Option<PgPool>,
}

#[derive(Clone)]
struct Hidden(Arc<PgConnectOptions>);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// Begins a transaction and says about whose rows it is, in one message to the server.
///
/// Every statement here finds its rows at one place of one index. Row-level security asks for the
/// organization besides, and while a table has no statistics the planner would find all rows of it
/// in another index and join the two, for every key that is looked up: without bitmap scans it
/// cannot.
pub(crate) fn begin(how: &str, org: Option<OrgId>) -> AssertSqlSafe<String> {
    let org = org.map_or_else(|| ALL_ORGS.to_owned(), |org| hex::encode(org.as_bytes()));
    // Hexadecimal digits or an asterisk: nothing that could end the text.
    AssertSqlSafe(format!(
        "{how}; SET LOCAL quetra.org = '{org}'; SET LOCAL enable_bitmapscan = off"
    ))
}

fn refuse(operation: &'static str, reason: Refused) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, operation, reason)
}

/// The connection that a URL asks for.
fn options(url: &str) -> Result<PgConnectOptions, Refused> {
    let options = url.parse::<PgConnectOptions>().map_err(|_| Refused::NoUrl)?;
    // Where TLS is only preferred the driver would fall back silently. For which hosts nothing
    // needs to be encrypted was decided with the configuration.
    let ssl_mode = match options.get_ssl_mode() {
        PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer => PgSslMode::Disable,
        asked @ (PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull) => asked,
    };
    Ok(options
        .ssl_mode(ssl_mode)
        .application_name("quetra")
        .statement_cache_capacity(STATEMENTS)
        .options(SESSION)
        .disable_statement_logging())
}

impl PostgresStore {
    /// Connects. The schema may still have to be migrated.
    ///
    /// # Errors
    /// When it cannot be reached, cannot be written to, or would forget what it was told.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        const OPEN: &str = "open the database";
        let options = options(url).map_err(|reason| refuse(OPEN, reason))?;
        // Not by the pool, which would go on trying and then not say why.
        let mut connection = timeout(ACQUIRE_TIME, options.connect())
            .await
            .map_err(|elapsed| StoreError::new(StoreErrorKind::Unavailable, OPEN, elapsed))?
            .map_err(failed(OPEN))?;
        let (version, is_standby, is_read_only, fsync, synchronous): (i32, bool, bool, bool, bool) =
            sqlx::query_as(SERVER).fetch_one(&mut connection).await.map_err(failed(OPEN))?;
        connection.close().await.map_err(failed(OPEN))?;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIME)
            // One whose server has vanished without a word would never come back to the pool.
            .after_release(|connection, _| {
                let answers = timeout(CHECK_TIME, connection.ping());
                Box::pin(async { Ok(answers.await.is_ok_and(|pong| pong.is_ok())) })
            })
            .connect_lazy_with(options.clone());
        let refused = if version < OLDEST {
            Some(Refused::TooOld)
        } else if is_standby {
            Some(Refused::Standby)
        } else if is_read_only {
            Some(Refused::ReadOnly)
        } else if !fsync {
            Some(Refused::Forgets { setting: "fsync" })
        } else if !synchronous {
            Some(Refused::Forgets { setting: "synchronous_commit" })
        } else {
            None
        };
        match refused {
            Some(reason) => Err(refuse(OPEN, reason)),
            None => Ok(Self {
                pool,
                options: Hidden(Arc::new(options)),
                #[cfg(test)]
                owner: None,
            }),
        }
    }

    /// Brings the schema up to date; each migration wholly or not at all. Returns the names of
    /// those applied now. Others may use the database meanwhile.
    ///
    /// # Errors
    /// When the schema is newer than this server, an applied migration has changed since, or the
    /// store fails.
    pub async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        const MIGRATE: &str = "migrate the database";
        let before = self.applied(MIGRATE).await?;
        refuse_unknown(&before, MIGRATE)?;
        if !self.may_create(MIGRATE).await? {
            return match missing(&before) {
                None => Ok(Vec::new()),
                Some(_) => Err(refuse(MIGRATE, Refused::NotOwner)),
            };
        }
        let options = self.options().clone().options(MIGRATING);
        let patient = PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIME);
        let patient = patient.connect_lazy_with(options);
        let migrated = async {
            // Whoever waits for a turn by waiting for a lock is in the way of a migration that
            // waits for every statement before it, and one of the two would be ended.
            while !sqlx::query_scalar::<_, bool>(MAY_MIGRATE).fetch_one(&patient).await? {
                tokio::time::sleep(TURN_TIME).await;
            }
            MIGRATOR.run(&patient).await
        };
        let migrated = migrated.await;
        // The turn ends with its only connection.
        patient.close().await;
        migrated.map_err(migration_failed(MIGRATE, failure::kind))?;
        Ok(MIGRATOR
            .iter()
            .filter(|migration| !before.contains(&migration.version))
            .map(migration_name)
            .collect())
    }

    /// Whether the store answers and has exactly the schema of this server; only reads, and takes
    /// two seconds at most.
    ///
    /// # Errors
    /// When it does not, or when its schema is older or newer.
    pub async fn check(&self) -> Result<(), StoreError> {
        const CHECK: &str = "check the database";
        let checked = async {
            let applied = self.applied(CHECK).await?;
            refuse_unknown(&applied, CHECK)?;
            if let Some(migration) = missing(&applied) {
                let name = migration_name(migration);
                return Err(refuse(CHECK, Refused::OlderSchema { name }));
            }
            let probe = sqlx::query(PROBE).fetch_optional(&self.pool).await;
            probe.map(drop).map_err(failed(CHECK))
        };
        timeout(CHECK_TIME, checked)
            .await
            .map_err(|elapsed| StoreError::new(StoreErrorKind::Timeout, CHECK, elapsed))?
    }

    /// Closes every connection, those of clones too.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Begins to read rows of an organization, or, for `None`, what may be read of all of them.
    /// What is seen is undone with a rollback, which nobody waits for.
    pub(crate) async fn reading(
        &self,
        org: Option<OrgId>,
        operation: &'static str,
    ) -> Result<Transaction<'static, Postgres>, StoreError> {
        let begin = begin("BEGIN READ ONLY", org);
        self.pool.begin_with(begin).await.map_err(failed(operation))
    }

    /// Begins to write rows of an organization without its turn, or, for `None`, of a table that
    /// has none of any. Dropping it undoes it.
    pub(crate) async fn writing(
        &self,
        org: Option<OrgId>,
        operation: &'static str,
    ) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.pool.begin_with(begin("BEGIN", org)).await.map_err(failed(operation))
    }

    /// The connections of the catalogue, as the tests of the catalogue name them.
    #[cfg(test)]
    pub(crate) const fn reader(&self) -> &PgPool {
        &self.pool
    }

    /// The owner's, where tests damage things and look behind the wall.
    #[cfg(test)]
    pub(crate) const fn writer(&self) -> &PgPool {
        match &self.owner {
            Some(owner) => owner,
            None => &self.pool,
        }
    }

    /// How to make a connection of one's own.
    pub(crate) fn options(&self) -> &PgConnectOptions {
        &self.options.0
    }

    /// Starts a transaction that writes rows of an organization, when it is its turn: what it reads
    /// of it stays true. Dropping it undoes it.
    async fn begin_for(
        &self,
        orgs: &[OrgId],
        operation: &'static str,
    ) -> Result<Transaction<'static, Postgres>, StoreError> {
        let org = match orgs {
            [] => None,
            [org] => Some(*org),
            [_, _, ..] => return Err(refuse(operation, Refused::SeveralOrgs)),
        };
        let mut writing = self.writing(org, operation).await?;
        if let Some(org) = org {
            let turn = sqlx::query(TURN).bind(org.as_bytes().as_slice());
            turn.execute(&mut *writing).await.map_err(failed(operation))?;
        }
        Ok(writing)
    }

    /// Starts a transaction that writes rows of an organization on which no decision depends.
    async fn begin_beside(
        &self,
        org: OrgId,
        operation: &'static str,
    ) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.writing(Some(org), operation).await
    }

    /// Commits. When it returns, the transaction survives a power loss.
    ///
    /// # Errors
    /// A timeout when there was no answer: the transaction may turn out to be there.
    pub(crate) async fn finish(
        &self,
        mut writing: Transaction<'static, Postgres>,
        operation: &'static str,
    ) -> Result<(), StoreError> {
        let keeps: bool =
            sqlx::query_scalar(KEEPS).fetch_one(&mut *writing).await.map_err(failed(operation))?;
        if !keeps {
            return Err(forgets(operation));
        }
        writing.commit().await.map_err(failed_commit(operation))
    }

    /// The versions of the migrations that the database has.
    async fn applied(&self, operation: &'static str) -> Result<Vec<i64>, StoreError> {
        let migrated: bool = sqlx::query_scalar(IS_MIGRATED)
            .fetch_one(&self.pool)
            .await
            .map_err(failed(operation))?;
        if !migrated {
            return Ok(Vec::new());
        }
        sqlx::query_scalar(APPLIED).fetch_all(&self.pool).await.map_err(failed(operation))
    }
}

/// The first migration that a database lacks.
fn missing(applied: &[i64]) -> Option<&'static Migration> {
    MIGRATOR.iter().find(|migration| !applied.contains(&migration.version))
}

fn refuse_unknown(applied: &[i64], operation: &'static str) -> Result<(), StoreError> {
    match applied.iter().find(|version| !MIGRATOR.version_exists(**version)) {
        None => Ok(()),
        Some(&version) => Err(refuse(operation, Refused::NewerSchema { version })),
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
