//! The SQL ledger's home in Postgres, which several servers write to at once.
//!
//! A batch is about one organization and begins by locking its `ledger_head`. Whoever has that row
//! has the organization's turn, on whichever server: commits of the catalogue take it as well, so
//! how things stand, the counters and the end of the record are read once and stay true until the
//! commit. A batch is a fixed number of statements, whatever its size. Not here: what the numbers
//! mean (`domain::ledger`), the row's form (`store::sql`).

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::{Head, Home, Needs, Rule, Writer, corrupt};
use crate::clock::Clock;
use crate::domain::id::OrgId;
use crate::domain::ledger::{Claim, Level, WindowLevel};
use crate::store::postgres::{PostgresStore, begin, classify, failed_commit, forgets, may_repeat};
use crate::store::{StoreError, StoreErrorKind};

pub(in crate::ledger) mod escrow;
mod load;
pub(in crate::ledger) mod project;
mod save;

/// Batches of a server that are under way at once. While one waits for its commit others are
/// computed; more would share the same disk write.
const WRITERS: usize = 4;

/// How often a batch is repeated that met another one or lost its connection.
const ATTEMPTS: usize = 4;

/// How long a batch may take before its commit, and the commit.
const BATCH_TIME: Duration = Duration::from_secs(15);

/// Both settings can change while servers run: whoever commits looks at them again.
const LOCK: &str = "SELECT seq, floor,
    current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off'
    FROM ledger_head WHERE org_id = $1 FOR NO KEY UPDATE";

const BATCH: &str = "decide a batch";
const COMMIT: &str = "commit a batch";

/// The ledger's tables in a Postgres database.
#[derive(Debug)]
pub struct PostgresHome {
    store: PostgresStore,
    approves_only: bool,
}

impl PostgresHome {
    /// The ledger of a database that is migrated.
    #[must_use]
    pub const fn new(store: PostgresStore) -> Self {
        Self { store, approves_only: false }
    }

    /// The same beside a ledger in Redis: it may approve from what is not leased, and no more.
    #[must_use]
    pub const fn beside_redis(store: PostgresStore) -> Self {
        Self { store, approves_only: true }
    }
}

#[async_trait]
impl Home for PostgresHome {
    type Writer = PostgresWriter;

    async fn writers(&self) -> Result<Vec<PostgresWriter>, StoreError> {
        let writer = || PostgresWriter {
            options: self.store.options().clone(),
            connection: None,
            runtime: None,
            approves_only: self.approves_only,
        };
        Ok(std::iter::repeat_with(writer).take(WRITERS).collect())
    }

    async fn look(
        &self,
        org: OrgId,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<(Vec<Level>, Vec<WindowLevel>), StoreError> {
        let needs = Needs { claims: vec![claim], ..Needs::default() };
        // One statement at a time is enough: what is seen promises nothing.
        let mut reading = self.store.reading(Some(org), "look at a budget").await?;
        let page = load::load(&mut reading, &needs, now).await.map_err(Failed::into_error)?;
        Ok(page.book.peek(claim, now))
    }
}

/// Why a batch failed, as the lane can act on it.
#[derive(Debug)]
enum Failed {
    /// The driver said so; nothing was written.
    Driver(sqlx::Error),
    /// What is stored cannot be understood, or nobody knows what came of it.
    Store(StoreError),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Failed {
    fn may_repeat(&self) -> bool {
        matches!(self, Self::Driver(error) if may_repeat(error))
    }

    fn into_error(self) -> StoreError {
        match self {
            Self::Driver(error) => classify(BATCH, error),
            Self::Store(error) => error,
        }
    }
}

/// One writer of the ledger's tables: a connection of its own, made when it is needed. It cannot be
/// shown, as its options have the password.
pub(crate) struct PostgresWriter {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    /// Made by the lane that calls, which waits for the database itself: threads of the server that
    /// are busy with calls would hear of its answers milliseconds later.
    runtime: Option<Runtime>,
    approves_only: bool,
}

impl Writer for PostgresWriter {
    // One lock for each transaction, so no two can wait for each other.
    const BY_ORG: bool = true;

    fn transact(
        &mut self,
        needs: &Needs<'_>,
        clock: &dyn Clock,
        rule: &mut Rule<'_>,
    ) -> Result<(), StoreError> {
        let runtime = match self.runtime.take() {
            Some(runtime) => runtime,
            None => Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| StoreError::new(StoreErrorKind::Unavailable, BATCH, error))?,
        };
        let done = runtime.block_on(async {
            let mut done = self.attempt(needs, clock, rule).await;
            for _ in 1..ATTEMPTS {
                match &done {
                    Err(failed) if failed.may_repeat() => {
                        done = self.attempt(needs, clock, rule).await;
                    }
                    Ok(()) | Err(_) => break,
                }
            }
            done.map_err(Failed::into_error)
        });
        self.runtime = Some(runtime);
        done
    }
}

impl PostgresWriter {
    async fn attempt(
        &mut self,
        needs: &Needs<'_>,
        clock: &dyn Clock,
        rule: &mut Rule<'_>,
    ) -> Result<(), Failed> {
        let late = |kind| move |elapsed| StoreError::new(kind, BATCH, elapsed);
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => timeout(BATCH_TIME, self.options.connect())
                .await
                .map_err(late(StoreErrorKind::Unavailable))??,
        };
        let Some(org) = needs.org else { return Ok(()) };
        let mut transaction = connection.begin_with(begin("BEGIN", Some(org))).await?;
        let approves_only = self.approves_only;
        let rule: &mut Rule<'_> = &mut |page, now| {
            page.book.approves_only = approves_only;
            rule(page, now)
        };
        let work = timeout(BATCH_TIME, batch(&mut transaction, org, needs, clock, rule)).await;
        match work.map_err(late(StoreErrorKind::Unavailable))? {
            Ok(true) => timeout(BATCH_TIME, transaction.commit())
                .await
                .map_err(late(StoreErrorKind::Timeout))?
                .map_err(failed_commit(COMMIT))?,
            // Said at once: the lock is not kept until somebody needs this connection again.
            Ok(false) => transaction.rollback().await?,
            Err(failed) => {
                drop(transaction);
                // A connection that cannot say goodbye is not used again; the server undoes all.
                if timeout(BATCH_TIME, connection.ping()).await.is_ok_and(|pong| pong.is_ok()) {
                    self.connection = Some(connection);
                }
                return Err(failed);
            }
        }
        self.connection = Some(connection);
        Ok(())
    }
}

/// Everything before the commit; whether there is something to commit.
async fn batch(
    connection: &mut PgConnection,
    org: OrgId,
    needs: &Needs<'_>,
    clock: &dyn Clock,
    rule: &mut Rule<'_>,
) -> Result<bool, Failed> {
    let locked = sqlx::query_as::<_, (i64, i64, bool)>(LOCK)
        .bind(org.as_bytes().as_slice())
        .fetch_optional(&mut *connection)
        .await?;
    // Without an organization nothing stands, so nothing is decided.
    let (seq, floor, keeps) = locked.unwrap_or((0, 0, true));
    if !keeps {
        return Err(forgets(BATCH).into());
    }
    let head = Head { seq, floor: Timestamp::from_microsecond(floor).map_err(corrupt)? };
    // Read under the lock: an organization's time never runs backwards, whichever server it is on.
    let now = clock.now().max(head.floor);
    let mut page = load::load(connection, needs, now).await?;
    let effects = rule(&mut page, now);
    if effects.is_empty() {
        return Ok(false);
    }
    let after = head.after(effects.recorded.len(), now);
    save::save(connection, &page.book, &effects, (org, head, after)).await?;
    Ok(true)
}
