//! The SQL ledger's home in SQLite: loading a book, saving its effects, in one transaction.
//!
//! The lane has its own connection on its own thread, so a batch is a run of prepared point
//! look-ups and inserts with no hand-over between threads; it takes its turn with the store's other
//! writer. Not here: what the numbers mean (`domain::ledger`), the row's form (`store::sqlite`).

use std::collections::HashSet;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};
use tokio::sync::OwnedMutexGuard;

use self::checkpoint::Checkpoints;
use self::seen::Seen;
use super::{Beside, Effects, Head, Home, Needs, Page, Rule, Writer, corrupt};
use crate::clock::Clock;
use crate::domain::id::OrgId;
use crate::domain::ledger::{Claim, CounterKey, Level, WindowLevel};
use crate::store::sqlite::tail::{Due, Entry};
use crate::store::sqlite::{SqliteStore, classify_lane};
use crate::store::{StoreError, StoreErrorKind};

mod checkpoint;
mod counters;
mod index;
mod known;
mod load;
mod save;
mod seen;

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
    cache_bytes: usize,
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
    /// The ledger of a database that is migrated. How agents and mandates stand is remembered in
    /// about as many bytes as this.
    #[must_use]
    pub fn new(store: SqliteStore, cache_bytes: usize) -> Self {
        Self { store, reader: Arc::default(), cache_bytes }
    }
}

#[async_trait]
impl Home for SqliteHome {
    type Writer = SqliteLane;

    /// The one writer, which knows where the record ends.
    async fn writers(&self) -> Result<Vec<SqliteLane>, StoreError> {
        let (store, cache_bytes) = (self.store.clone(), self.cache_bytes);
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
            let seen = Seen::new(cache_bytes);
            Ok(vec![SqliteLane { store, connection, head, seen, recorded, checkpoints }])
        })
        .await
    }

    async fn look(
        &self,
        _org: OrgId,
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
            let read = load::load(&connection, &tail, &mut Seen::new(0), &needs, now);
            *reader = Some(connection);
            let (page, _) = read?;
            Ok(page.book.peek(&claim, now))
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
    seen: Seen,
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
            let after = head.after(effects.recorded.len(), now);
            batch.save(&page, &effects, head, after)?;
            batch.commit()?;
            self.head = after;
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
        let (store, seen, recorded) = (&self.store, &mut self.seen, &self.recorded);
        let (behind, done) = (HashSet::new(), Done::default());
        Ok(Batch { transaction, store, seen, recorded, behind, done, _turn: turn })
    }
}

/// One database transaction of the lane; dropped without a commit it leaves nothing.
#[derive(Debug)]
struct Batch<'a> {
    // Dropped first: the transaction ends before the turn does.
    transaction: Transaction<'a>,
    store: &'a SqliteStore,
    seen: &'a mut Seen,
    recorded: &'a Sender<usize>,
    /// Counters whose rows have fallen behind.
    behind: HashSet<CounterKey>,
    done: Done,
    _turn: OwnedMutexGuard<()>,
}

/// What a batch wrote, and what it left for later: the tail has to know once it is committed.
#[derive(Debug, Default)]
struct Done {
    /// What was recorded.
    entries: Vec<Entry>,
    /// What the indexes and counters got of what waited.
    due: Option<Due>,
    /// Counters whose rows have everything now.
    written: Vec<Stand>,
    /// Counters that wait for their rows.
    moved: Vec<Stand>,
}

/// Where a counter stands after a batch, and when its window ends.
type Stand = (CounterKey, Level, Option<Timestamp>);

fn standing<'a>(
    page: &Page,
    keys: impl IntoIterator<Item = &'a CounterKey>,
) -> Result<Vec<Stand>, StoreError> {
    let stand = |key: &CounterKey| {
        let level = page.book.counters.get(key).copied();
        let level = level.ok_or_else(|| corrupt("a book without what it changed"))?;
        Ok((key.clone(), level, page.book.ends.get(key).copied()))
    };
    keys.into_iter().map(stand).collect()
}

impl Batch<'_> {
    fn load(&mut self, needs: &Needs<'_>, now: Timestamp) -> Result<Page, StoreError> {
        if self.seen.renew(&self.transaction)? {
            self.store.tail_mut().forget_counters();
        }
        let tail = self.store.tail();
        let (page, behind) = load::load(&self.transaction, &tail, self.seen, needs, now)?;
        self.behind = behind;
        Ok(page)
    }

    /// Writes what changed. A counter that was just charged waits, if it has a row to go on from.
    fn save(
        &mut self,
        page: &Page,
        effects: &Effects,
        head: Head,
        after: Head,
    ) -> Result<(), StoreError> {
        let tail = self.store.tail();
        let due = tail.due();
        // First what stood before this batch: it may move the same counters again.
        due.iter().try_for_each(|due| index::write(&self.transaction, due))?;
        let entries = save::save(&self.transaction, &tail, &page.book, effects, head)?;
        let is_whole = |key: &CounterKey| page.kept.contains(key) && !self.behind.contains(key);
        let (waits, urgent): (Vec<_>, Vec<_>) =
            effects.charged.difference(&effects.released).partition(|key| is_whole(key));
        let urgent = urgent.into_iter().chain(&effects.released).chain(&self.behind);
        let written = standing(page, urgent.collect::<HashSet<_>>())?;
        counters::write(&self.transaction, &written, after.seq)?;
        let moved = standing(page, waits)?;
        self.done = Done { entries, due, written, moved };
        Ok(())
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
        let Done { entries, due, written, moved } = self.done;
        let mut tail = self.store.tail_mut();
        due.iter().for_each(|due| tail.written(due));
        written.iter().for_each(|(key, ..)| tail.counted(key));
        for (key, level, ends_at) in moved {
            tail.charge(key, level, ends_at);
        }
        let recorded = entries.len();
        entries.into_iter().for_each(|entry| tail.push(entry));
        // Nobody listens only when the log is not moved any more, which was logged.
        let _ = self.recorded.send(recorded);
        Ok(())
    }
}
