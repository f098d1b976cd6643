//! The store in one SQLite file: opening it, its two pools, its schema and its health.
//!
//! One connection writes and four read: SQLite has one writer anyway, and a queue in front of it is
//! fair where its lock is not. Not here: what is stored (`catalogue`, `spends`), what an error of
//! the driver means (`failure`), and budgets, which `ledger::sql` writes through the same writer.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use sqlx::migrate::{Migration, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Sqlite, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::sql::{migration_failed, migration_name, migrator};
use super::{StoreError, StoreErrorKind};
use crate::domain::id::OrgId;

#[path = "sql/catalogue.rs"]
#[expect(clippy::duplicate_mod, reason = "one text for two drivers, see `store::sql`")]
mod catalogue;
mod dialect;
mod failure;
mod lists;
pub(crate) mod tail;

/// This home and its driver, for what is included from `sql`.
use SqliteStore as Store;
type Driver = Sqlite;

use failure::{Refused, failed};
pub(crate) use failure::{classify, classify_lane};
use tail::Tail;

/// The schema this server knows; embedded, so that the binary is all there is to install.
static MIGRATOR: LazyLock<Migrator> =
    LazyLock::new(|| migrator(include!(concat!(env!("OUT_DIR"), "/sqlite_migrations.rs"))));

/// Readers at once. More would only wait for the same disk.
const READERS: u32 = 4;

/// Rows that a reader reads before they are asked for, so that two threads hand over many at once.
const ROWS_AHEAD: usize = 512;

/// How long a statement waits for a lock that another process holds.
const BUSY_TIME: Duration = Duration::from_secs(5);

/// How long a caller waits for a connection.
const ACQUIRE_TIME: Duration = Duration::from_secs(5);

/// How long the health check may take.
const CHECK_TIME: Duration = Duration::from_secs(2);

/// Nobody else has the file; but a revocation whose caller went away in the middle of it is stored
/// without being noticed here.
const KEYS_AGE_MAX: Duration = Duration::from_millis(500);

/// Prepared statements kept by each connection: more than there are.
const STATEMENTS: usize = 200;

const IS_MIGRATED: &str = "SELECT EXISTS (SELECT 1 FROM sqlite_schema
    WHERE type = 'table' AND name = '_sqlx_migrations')";
const APPLIED: &str = "SELECT version FROM _sqlx_migrations WHERE success ORDER BY version";
const PROBE: &str = "SELECT version FROM organization LIMIT 1"; // not in any index

/// A SQLite file as a store; clones share it.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    writer: SqlitePool,
    /// Writes what need not be on the disk when it is said.
    beside: SqlitePool,
    reader: SqlitePool,
    /// Whose turn it is to write: SQLite has one writer, and this queue is fair.
    turn: Arc<Mutex<()>>,
    /// Empty until the ledger is opened, which reads it.
    tail: Arc<RwLock<Tail>>,
    lock: Arc<File>,
    path: Arc<Path>,
}

/// A transaction that writes, and the turn to do so.
#[derive(Debug)]
pub(crate) struct Writing {
    // Dropped first: the transaction ends before the turn does.
    transaction: Transaction<'static, Sqlite>,
    _turn: OwnedMutexGuard<()>,
}

impl Deref for Writing {
    type Target = Transaction<'static, Sqlite>;

    fn deref(&self) -> &Self::Target {
        &self.transaction
    }
}

impl DerefMut for Writing {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.transaction
    }
}

impl SqliteStore {
    /// Opens the file and keeps others from opening it; makes it, readable only by its owner, if it
    /// is missing. The schema may still have to be migrated.
    ///
    /// # Errors
    /// When another server has it open, it is read-only, it is no database, or it cannot be opened.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        const OPEN: &str = "open the database";
        let path = real_path(path).map_err(|error| cannot(OPEN, path, error))?;
        // First of all: closing a second handle of the file would drop the locks of the first.
        let lock = lock(&path)?;
        prepare(&path)?;

        let options = SqliteConnectOptions::new()
            .filename(&path)
            .busy_timeout(BUSY_TIME)
            .foreign_keys(true)
            .statement_cache_capacity(STATEMENTS)
            .pragma("mmap_size", "0")
            .pragma("temp_store", "MEMORY")
            .disable_statement_logging();
        let writing = options
            .clone()
            .journal_mode(SqliteJournalMode::Wal)
            .pragma("fullfsync", "ON") // where an fsync alone leaves data in the drive
            .pragma("cache_size", "-16000") // KiB
            .pragma("wal_autocheckpoint", "0") // the ledger moves the log
            .pragma("journal_size_limit", "67108864"); // bytes
        let flushed = writing.clone().synchronous(SqliteSynchronous::Full);
        let writer = writers().connect_with(flushed).await.map_err(failed(OPEN))?;
        let journal: String = sqlx::query_scalar("PRAGMA journal_mode")
            .fetch_one(&writer)
            .await
            .map_err(failed(OPEN))?;
        if journal != "wal" {
            return Err(unavailable(OPEN, Refused::NoWal { path }));
        }
        let reader = pool(READERS)
            .connect_with(
                options.read_only(true).row_buffer_size(ROWS_AHEAD).pragma("cache_size", "-8000"),
            )
            .await
            .map_err(failed(OPEN))?;
        // In WAL mode nothing is torn without the flush: the end of the log may be missing.
        let beside = writers().connect_lazy_with(writing.synchronous(SqliteSynchronous::Normal));
        let (turn, tail, lock) = (Arc::default(), Arc::default(), Arc::new(lock));
        Ok(Self { writer, beside, reader, turn, tail, lock, path: path.into() })
    }

    /// Brings the schema up to date; each migration wholly or not at all. Returns the names of
    /// those applied now.
    ///
    /// # Errors
    /// When the schema is newer than this server, an applied migration has changed since, or the
    /// store fails.
    pub async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        const MIGRATE: &str = "migrate the database";
        let before = self.applied(&self.writer, MIGRATE).await?;
        self.refuse_unknown(&before, MIGRATE)?;
        let migrated = MIGRATOR.run(&self.writer).await;
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
            let applied = self.applied(&self.reader, CHECK).await?;
            self.refuse_unknown(&applied, CHECK)?;
            let is_missing = |migration: &&Migration| !applied.contains(&migration.version);
            if let Some(migration) = MIGRATOR.iter().find(is_missing) {
                let name = migration_name(migration);
                let path = self.path.to_path_buf();
                return Err(unavailable(CHECK, Refused::OlderSchema { path, name }));
            }
            let probe = sqlx::query(PROBE).fetch_optional(&self.reader).await;
            probe.map(drop).map_err(failed(CHECK))
        };
        tokio::time::timeout(CHECK_TIME, checked)
            .await
            .map_err(|elapsed| StoreError::new(StoreErrorKind::Timeout, CHECK, elapsed))?
    }

    /// Moves what is in the write-ahead log into the file and closes it, so that the file alone is
    /// the whole database. Every clone is closed with it.
    pub async fn close(&self) {
        // Readers first: while one is open the log cannot be emptied.
        self.reader.close().await;
        self.beside.close().await;
        let emptied = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.writer).await;
        if let Err(error) = emptied {
            // Nothing is lost: the next server to open the file reads the log.
            tracing::warn!(%error, "the write-ahead log could not be moved into the database");
        }
        self.writer.close().await;
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the lock of the database could not be released");
        }
    }

    /// A connection to read with, whosever rows.
    async fn reading(
        &self,
        _org: Option<OrgId>,
        operation: &'static str,
    ) -> Result<PoolConnection<Sqlite>, StoreError> {
        self.reader.acquire().await.map_err(failed(operation))
    }

    /// The pool of the connections that read; they cannot write.
    pub(crate) const fn reader(&self) -> &SqlitePool {
        &self.reader
    }

    /// The pool of the connection that writes, for tests that damage things; everything else
    /// writes in a transaction.
    #[cfg(test)]
    pub(crate) const fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// Starts a transaction that writes. It holds the write lock from the start, so that what it
    /// reads stays true; dropping it, or the future of this call, undoes it.
    ///
    /// # Errors
    /// When the writer cannot be had in time.
    pub(crate) async fn begin(&self, operation: &'static str) -> Result<Writing, StoreError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let transaction = self.writer.begin_with("BEGIN IMMEDIATE").await;
        Ok(Writing { transaction: transaction.map_err(failed(operation))?, _turn: turn })
    }

    /// [`Self::begin`]; whose rows will change makes no difference to one writer.
    async fn begin_for(
        &self,
        _orgs: &[OrgId],
        operation: &'static str,
    ) -> Result<Writing, StoreError> {
        self.begin(operation).await
    }

    /// [`Self::begin`] for what may be done once more after a power failure: the commit waits for
    /// no flush, and the next one of the ledger flushes it too.
    async fn begin_beside(
        &self,
        _org: OrgId,
        operation: &'static str,
    ) -> Result<Writing, StoreError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let transaction = self.beside.begin_with("BEGIN IMMEDIATE").await;
        Ok(Writing { transaction: transaction.map_err(failed(operation))?, _turn: turn })
    }

    /// Waits for the turn to write, for a connection that is not of these pools; never on a thread
    /// of the runtime.
    pub(crate) fn wait_for_turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).blocking_lock_owned()
    }

    /// The end of the record that its indexes do not have yet. Not to be held for long: the ledger
    /// waits for it.
    pub(crate) fn tail(&self) -> RwLockReadGuard<'_, Tail> {
        self.tail.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, for the ledger, which keeps it.
    pub(crate) fn tail_mut(&self) -> RwLockWriteGuard<'_, Tail> {
        self.tail.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Commits. When it returns, the transaction survives a power loss.
    ///
    /// # Errors
    /// A timeout when the disk failed: after a restart the transaction may turn out to be there.
    pub(crate) async fn finish(
        &self,
        writing: Writing,
        operation: &'static str,
    ) -> Result<(), StoreError> {
        writing.transaction.commit().await.map_err(|error| {
            let kind = match failure::kind(&error) {
                StoreErrorKind::Unavailable if failure::is_io(&error) => StoreErrorKind::Timeout,
                kind @ (StoreErrorKind::Unavailable
                | StoreErrorKind::Timeout
                | StoreErrorKind::Conflict
                | StoreErrorKind::Corrupt) => kind,
            };
            StoreError::new(kind, operation, error)
        })
    }

    /// The versions of the migrations that the file has.
    async fn applied(
        &self,
        pool: &SqlitePool,
        operation: &'static str,
    ) -> Result<Vec<i64>, StoreError> {
        let migrated: bool =
            sqlx::query_scalar(IS_MIGRATED).fetch_one(pool).await.map_err(failed(operation))?;
        if !migrated {
            return Ok(Vec::new());
        }
        sqlx::query_scalar(APPLIED).fetch_all(pool).await.map_err(failed(operation))
    }

    fn refuse_unknown(&self, applied: &[i64], operation: &'static str) -> Result<(), StoreError> {
        match applied.iter().find(|version| !MIGRATOR.version_exists(**version)) {
            None => Ok(()),
            Some(&version) => {
                let path = self.path.to_path_buf();
                Err(unavailable(operation, Refused::NewerSchema { path, version }))
            }
        }
    }
}

/// For one connection that writes.
fn writers() -> SqlitePoolOptions {
    pool(1).before_acquire(|connection, _| {
        // A full disk makes SQLite roll back by itself. The driver does not notice and would
        // refuse every later transaction: such a connection is replaced.
        let clean = !connection.is_in_transaction();
        Box::pin(async move { Ok(clean) })
    })
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIME)
        // A connection is cheap to keep, and its page cache dear to fill.
        .idle_timeout(None)
        .max_lifetime(None)
}

fn unavailable(
    operation: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, operation, source)
}

fn cannot(operation: &'static str, path: &Path, source: io::Error) -> StoreError {
    unavailable(operation, Refused::File { path: path.to_path_buf(), source })
}

/// The one name of a file that may not exist yet, whatever links lead to it.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    if let Ok(path) = fs::canonicalize(path) {
        return Ok(path);
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok(fs::canonicalize(folder.unwrap_or_else(|| Path::new(".")))?.join(name))
}

/// Takes the lock beside the database. SQLite would keep two servers from corrupting the file, but
/// not from doing each other's housekeeping.
fn lock(path: &Path) -> Result<File, StoreError> {
    const LOCK: &str = "lock the database";
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let file = open_private(OpenOptions::new().create(true), &name)
        .map_err(|error| cannot(LOCK, &name, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let path = path.to_path_buf();
            Err(unavailable(LOCK, Refused::InUse { path, lock: name }))
        }
        Err(TryLockError::Error(error)) => Err(cannot(LOCK, &name, error)),
    }
}

/// Makes the file if it is missing, and refuses one that cannot be written: SQLite would open it
/// and fail only when the first decision is recorded.
fn prepare(path: &Path) -> Result<(), StoreError> {
    const PREPARE: &str = "open the database";
    match fs::metadata(path) {
        Ok(found) if found.permissions().readonly() => {
            Err(unavailable(PREPARE, Refused::ReadOnly { path: path.to_path_buf() }))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            open_private(OpenOptions::new().create_new(true), path)
                .map(drop)
                .map_err(|error| cannot(PREPARE, path, error))
        }
        Err(error) => Err(cannot(PREPARE, path, error)),
    }
}

fn open_private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.read(true).write(true).open(path)
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
