//! The SQL ledger's home in SQLite: loading a book, saving its effects, in one transaction.
//!
//! The lane has its own connection on its own thread, so a batch is a run of prepared point
//! look-ups and inserts with no hand-over between threads; it takes its turn with the store's other
//! writer. Not here: what the numbers mean (`domain::ledger`), the row's form (`store::sqlite`).

use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};
use tokio::sync::OwnedMutexGuard;

use self::checkpoint::Checkpoints;
use super::{Beside, Effects, Head, Home, Needs, Page, Rule, Writer, corrupt};
use crate::clock::Clock;
use crate::domain::ledger::{Book, Claim, Level, WindowLevel};
use crate::store::sqlite::tail::{Due, Entry};
use crate::store::sqlite::{SqliteStore, classify_lane};
use crate::store::{StoreError, StoreErrorKind};

mod checkpoint;
mod index;
mod known;
mod load;
mod save;

/// How long a statement waits for a lock that another process holds.
const BUSY_TIME: Duration = Duration::from_secs(5);

/// Prepared statements kept by a connection: more than there are.
const STATEMENTS: usize = 32;

/// 4 MiB of pages: the upper parts of the indexes and what is written again and again. The rest is
/// in the system's cache. More costs more than it saves: after a commit that split a page, SQLite
/// looks through the whole cache.
const PRAGMAS: &str = "
PRAGMA synchronous = FULL;
PRAGMA fullfsync = ON;
PRAGMA temp_store = MEMORY;
PRAGMA mmap_size = 0;
PRAGMA cache_size = -4000;
PRAGMA wal_autocheckpoint = 0;
PRAGMA journal_size_limit = 67108864;";

const HEAD: &str = "SELECT seq, decided_at FROM spend WHERE seq = (SELECT max(seq) FROM spend)";

/// The ledger's tables in a SQLite database.
#[derive(Debug)]
pub struct SqliteHome {
    store: SqliteStore,
    reader: Arc<Mutex<Option<Connection>>>,
}

fn failed(operation: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |error| classify_lane(operation, error)
}

fn connect(store: &SqliteStore, flags: OpenFlags) -> Result<Connection, StoreError> {
    const OPEN: &str = "open the ledger";
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(store.path(), flags).map_err(failed(OPEN))?;
    connection.busy_timeout(BUSY_TIME).map_err(failed(OPEN))?;
    connection.execute_batch(PRAGMAS).map_err(failed(OPEN))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(StoreError::new(StoreErrorKind::Unavailable, "read the ledger", error))
    })
}

impl SqliteHome {
    /// The ledger of a database that is migrated.
    #[must_use]
    pub fn new(store: SqliteStore) -> Self {
        Self { store, reader: Arc::default() }
    }
}

#[async_trait]
impl Home for SqliteHome {
    type Writer = SqliteLane;

    /// The one writer, which knows where the record ends.
    async fn writers(&self) -> Result<Vec<SqliteLane>, StoreError> {
        let store = self.store.clone();
        blocking(move || {
            let connection = connect(&store, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            let found = connection
                .query_row(HEAD, (), |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
                .map_err(failed("find the end of the record"))?;
            let (seq, floor) = found.unwrap_or((0, 0));
            let floor = Timestamp::from_microsecond(floor).map_err(corrupt)?;
            *store.tail_mut() = index::read(&connection)?;
            let (recorded, entries) = mpsc::channel();
            let checkpoints = Some(Checkpoints::new(store.clone(), entries));
            let head = Head { seq, floor };
            Ok(vec![SqliteLane { store, connection, head, recorded, checkpoints }])
        })
        .await
    }

    async fn look(
        &self,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<(Vec<Level>, Vec<WindowLevel>), StoreError> {
        let (store, reader, claim) = (self.store.clone(), Arc::clone(&self.reader), claim.clone());
        blocking(move || {
            let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            let connection = match reader.take() {
                Some(connection) => connection,
                None => connect(&store, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
            };
            let needs = Needs { claims: vec![&claim], ..Needs::default() };
            // One statement at a time is enough: what is seen promises nothing. The tail comes
            // first, as an entry leaves it when the indexes have it; and as a copy, for the lane
            // would have to wait until a long sum is read.
            let tail = store.tail().only(claim.mandate);
            let page = load::load(&connection, &tail, &needs, now);
            *reader = Some(connection);
            Ok(page?.book.peek(&claim, now))
        })
        .await
    }
}

/// The one writer of the ledger's tables.
#[derive(Debug)]
pub(crate) struct SqliteLane {
    store: SqliteStore,
    connection: Connection,
    head: Head,
    /// Tells how many entries were recorded; closed when the lane ends.
    recorded: Sender<usize>,
    checkpoints: Option<Checkpoints>,
}

impl Writer for SqliteLane {
    // One file has one writer: whatever is queued shares one disk write.
    const BY_ORG: bool = false;

    fn transact(
        &mut self,
        needs: &Needs<'_>,
        clock: &dyn Clock,
        rule: &mut Rule<'_>,
    ) -> Result<(), StoreError> {
        let head = self.head;
        let mut batch = self.begin()?;
        let now = clock.now().max(head.floor);
        let mut page = batch.load(needs, now)?;
        let effects = rule(&mut page, now);
        if !effects.is_empty() {
            batch.save(&page.book, &effects, head)?;
            batch.commit()?;
            self.head = head.after(effects.recorded.len(), now);
        }
        Ok(())
    }

    fn beside(&mut self) -> Option<Beside> {
        let checkpoints = self.checkpoints.take()?;
        Some(Box::new(move || checkpoints.run()))
    }
}

impl SqliteLane {
    /// Begins a batch, when it is its turn.
    fn begin(&mut self) -> Result<Batch<'_>, StoreError> {
        let turn = self.store.wait_for_turn();
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed("begin a batch"))?;
        let (store, recorded) = (&self.store, &self.recorded);
        Ok(Batch { transaction, store, recorded, entries: Vec::new(), due: None, _turn: turn })
    }
}

/// One database transaction of the lane; dropped without a commit it leaves nothing.
#[derive(Debug)]
struct Batch<'a> {
    // Dropped first: the transaction ends before the turn does.
    transaction: Transaction<'a>,
    store: &'a SqliteStore,
    recorded: &'a Sender<usize>,
    /// What was recorded.
    entries: Vec<Entry>,
    /// What the indexes got.
    due: Option<Due>,
    _turn: OwnedMutexGuard<()>,
}

impl Batch<'_> {
    fn load(&self, needs: &Needs<'_>, now: Timestamp) -> Result<Page, StoreError> {
        load::load(&self.transaction, &self.store.tail(), needs, now)
    }

    /// Writes what changed.
    fn save(&mut self, book: &Book, effects: &Effects, head: Head) -> Result<(), StoreError> {
        let tail = self.store.tail();
        self.entries = save::save(&self.transaction, &tail, book, effects, head)?;
        self.due = tail.due();
        match &self.due {
            Some(due) => index::write(&self.transaction, due),
            None => Ok(()),
        }
    }

    /// Commits. An error of the disk here is a timeout: after a restart the batch may be there.
    fn commit(self) -> Result<(), StoreError> {
        self.transaction.commit().map_err(|error| {
            const COMMIT: &str = "commit a batch";
            let code = error.sqlite_error_code();
            if code == Some(rusqlite::ErrorCode::SystemIoFailure) {
                StoreError::new(StoreErrorKind::Timeout, COMMIT, error)
            } else {
                classify_lane(COMMIT, error)
            }
        })?;
        let mut tail = self.store.tail_mut();
        if let Some(due) = &self.due {
            tail.written(due);
        }
        let recorded = self.entries.len();
        self.entries.into_iter().for_each(|entry| tail.push(entry));
        // Nobody listens only when the log is not moved any more, which was logged.
        let _ = self.recorded.send(recorded);
        Ok(())
    }
}
