//! Opening, migrating and checking a file, and what is left when something goes wrong.
//!
//! Not here: what is stored (`sql/tests`), and crashes of the whole process.

use std::path::{Path, PathBuf};

use sqlx::Row;
use tempfile::TempDir;

use super::*;
use crate::store::sql::explain;

struct Folder {
    folder: TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("quetra.db")
    }
}

async fn migrated(path: &Path) -> SqliteStore {
    let store = SqliteStore::open(path).await.unwrap();
    store.migrate().await.unwrap();
    store
}

#[tokio::test]
async fn a_new_file_is_made_migrated_once_and_healthy() {
    let folder = Folder::new();
    let store = SqliteStore::open(&folder.file()).await.unwrap();
    let error = store.check().await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    assert!(explain(&error).contains("lacks the migration 0001_create_schema"), "{error:?}");

    let applied = store.migrate().await.unwrap();
    assert_eq!(applied, MIGRATOR.iter().map(migration_name).collect::<Vec<_>>());
    assert_eq!(applied.first().unwrap(), "0001_create_schema");
    assert!(store.migrate().await.unwrap().is_empty());
    store.check().await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn files_are_readable_only_by_their_owner() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let store = migrated(&folder.file()).await;
    let mut names = Vec::new();
    for entry in fs::read_dir(folder.folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["quetra.db", "quetra.db-shm", "quetra.db-wal", "quetra.db.lock"]);
    drop(store);
}

#[tokio::test]
async fn connections_are_durable_bounded_and_readers_cannot_write() {
    let folder = Folder::new();
    let store = migrated(&folder.file()).await;
    for (pragma, wanted) in [
        ("PRAGMA synchronous", 2),
        ("PRAGMA foreign_keys", 1),
        ("PRAGMA wal_autocheckpoint", 0),
        ("PRAGMA cache_size", -16000),
        ("PRAGMA busy_timeout", 5000),
        ("PRAGMA temp_store", 2),
        ("PRAGMA mmap_size", 0),
        ("PRAGMA journal_size_limit", 64 * 1024 * 1024),
    ] {
        let found: i64 = sqlx::query_scalar(pragma).fetch_one(store.writer()).await.unwrap();
        assert_eq!(found, wanted, "{pragma}");
    }
    let written = sqlx::query("DELETE FROM organization").execute(store.reader()).await;
    assert_eq!(classify("x", written.unwrap_err()).kind, StoreErrorKind::Unavailable);
}

#[tokio::test]
async fn a_file_is_opened_by_one_server_at_a_time() {
    let folder = Folder::new();
    let store = migrated(&folder.file()).await;
    let error = SqliteStore::open(&folder.file()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    let text = explain(&error);
    assert!(text.contains("is open in another server"), "{text}");
    assert!(text.contains("quetra.db.lock"), "{text}");

    let clone = store.clone();
    drop(store);
    SqliteStore::open(&folder.file()).await.unwrap_err();
    drop(clone);
    migrated(&folder.file()).await.check().await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_to_the_file_is_the_same_file() {
    let folder = Folder::new();
    let store = migrated(&folder.file()).await;
    let link = folder.folder.path().join("link.db");
    std::os::unix::fs::symlink(folder.file(), &link).unwrap();
    let error = SqliteStore::open(&link).await.unwrap_err();
    assert!(explain(&error).contains("quetra.db.lock"), "{error:?}");
    drop(store);
}

#[tokio::test]
async fn closing_leaves_one_whole_file_that_can_be_opened_again() {
    let folder = Folder::new();
    let store = migrated(&folder.file()).await;
    let clone = store.clone();
    store.close().await;
    assert!(!folder.folder.path().join("quetra.db-wal").exists());
    let error = clone.check().await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    SqliteStore::open(&folder.file()).await.unwrap().check().await.unwrap();
}

#[tokio::test]
async fn a_read_only_file_is_refused_and_named() {
    let folder = Folder::new();
    migrated(&folder.file()).await.close().await;
    let mut permissions = fs::metadata(folder.file()).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(folder.file(), permissions).unwrap();
    let error = SqliteStore::open(&folder.file()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    assert!(explain(&error).contains("quetra.db is read-only"), "{error:?}");
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let folder = Folder::new();
    let store = migrated(&folder.file()).await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9000, 'from the future', TRUE, x'00', 0)",
    )
    .execute(store.writer())
    .await
    .unwrap();
    for error in [store.check().await.unwrap_err(), store.migrate().await.unwrap_err()] {
        assert_eq!(error.kind, StoreErrorKind::Unavailable);
        let text = explain(&error);
        assert!(text.contains("has schema 9000, which is newer than this server"), "{text}");
    }
}

#[tokio::test]
async fn a_changed_migration_is_refused() {
    let folder = Folder::new();
    let store = migrated(&folder.file()).await;
    let change = sqlx::query("UPDATE _sqlx_migrations SET checksum = x'00'");
    change.execute(store.writer()).await.unwrap();
    let error = store.migrate().await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    assert!(explain(&error).contains("has been modified"), "{}", explain(&error));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_corrupt() {
    let folder = Folder::new();
    fs::write(folder.file(), "this is not a database, ".repeat(100)).unwrap();
    let error = SqliteStore::open(&folder.file()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Corrupt);
    assert!(explain(&error).contains("not a database"), "{}", explain(&error));
}

#[tokio::test]
async fn a_damaged_page_is_corrupt() {
    let folder = Folder::new();
    let store = migrated(&folder.file()).await;
    let root: i64 =
        sqlx::query_scalar("SELECT rootpage FROM sqlite_schema WHERE name = 'organization'")
            .fetch_one(store.reader())
            .await
            .unwrap();
    store.close().await;
    let mut bytes = fs::read(folder.file()).unwrap();
    let start = (usize::try_from(root).unwrap() - 1) * 4096;
    bytes[start..start + 4096].fill(0xab);
    fs::write(folder.file(), bytes).unwrap();
    let store = SqliteStore::open(&folder.file()).await.unwrap();
    assert_eq!(store.check().await.unwrap_err().kind, StoreErrorKind::Corrupt);
}

#[tokio::test]
async fn a_missing_folder_is_named() {
    let folder = Folder::new();
    let path = folder.folder.path().join("nowhere").join("quetra.db");
    let error = SqliteStore::open(&path).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    assert!(explain(&error).contains("nowhere/quetra.db cannot be opened"), "{error:?}");
}

#[tokio::test]
async fn a_file_locked_from_outside_is_unavailable() {
    let folder = Folder::new();
    let store = migrated(&folder.file()).await;
    let mut other = SqliteConnectOptions::new().filename(folder.file()).connect().await.unwrap();
    let held = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    sqlx::query("PRAGMA busy_timeout = 20").execute(store.writer()).await.unwrap();
    let error = store.begin("write something").await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    assert!(explain(&error).contains("database is locked"), "{}", explain(&error));
    store.check().await.unwrap(); // reading goes on

    drop(held);
    other.close().await.unwrap();
    store.begin("write something").await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_over_once_there_is_space() {
    let folder = Folder::new();
    let store = migrated(&folder.file()).await;
    let fill = |size: i64| {
        sqlx::query("INSERT INTO receipt VALUES (x'00', $1, zeroblob(16), $2, 0)")
            .bind(size.to_string())
            .bind("x".repeat(usize::try_from(size).unwrap()))
    };
    let pages: i64 =
        sqlx::query_scalar("PRAGMA page_count").fetch_one(store.writer()).await.unwrap();
    assert!(pages < 100);
    sqlx::query("PRAGMA max_page_count = 100").execute(store.writer()).await.unwrap();

    let mut transaction = store.begin("write a lot").await.unwrap();
    fill(1).execute(&mut **transaction).await.unwrap();
    let error = fill(1_000_000).execute(&mut **transaction).await.unwrap_err();
    assert_eq!(classify("write a lot", error).kind, StoreErrorKind::Unavailable);
    drop(transaction);

    // Without the check of the pool, the driver would refuse every transaction from here on. The
    // new connection also has no limit, as if space had been made.
    let mut transaction = store.begin("write a lot").await.unwrap();
    fill(1_000_000).execute(&mut **transaction).await.unwrap();
    store.finish(transaction, "write a lot").await.unwrap();
    let receipts: i64 =
        sqlx::query_scalar("SELECT count(*) FROM receipt").fetch_one(store.reader()).await.unwrap();
    assert_eq!(receipts, 1);
}

#[tokio::test]
async fn a_dropped_transaction_or_begin_leaves_nothing_open() {
    let folder = Folder::new();
    let store = migrated(&folder.file()).await;
    for delay_micros in (0..400).step_by(10) {
        let write = async {
            let mut transaction = store.begin("write").await.unwrap();
            sqlx::query("INSERT INTO receipt VALUES (x'00', $1, zeroblob(16), '', 0)")
                .bind(delay_micros.to_string())
                .execute(&mut **transaction)
                .await
                .unwrap();
            std::future::pending::<()>().await;
        };
        // Given up at any point: queued, beginning, inserting, waiting.
        tokio::time::timeout(Duration::from_micros(delay_micros), write).await.unwrap_err();
        let transaction = store.begin("write").await.unwrap();
        store.finish(transaction, "write").await.unwrap();
    }
    let row = sqlx::query("SELECT count(*) FROM receipt").fetch_one(store.reader()).await.unwrap();
    assert_eq!(row.get::<i64, _>(0), 0);
}

#[tokio::test]
async fn errors_of_the_driver_have_their_kinds() {
    let folder = Folder::new();
    let store = migrated(&folder.file()).await;
    let org = "INSERT INTO organization VALUES (zeroblob(16), 'a', 0, 1, '')";
    sqlx::query(org).execute(store.writer()).await.unwrap();
    for (sql, wanted) in [
        (org, StoreErrorKind::Conflict), // primary key
        (
            "INSERT INTO organization VALUES (randomblob(16), 'a', 0, 1, '')",
            StoreErrorKind::Conflict, // unique
        ),
        (
            "INSERT INTO signing_key VALUES (randomblob(16), '', zeroblob(32), x'', 0)",
            StoreErrorKind::Conflict, // foreign key
        ),
        ("UPDATE organization SET frozen = 2", StoreErrorKind::Corrupt), // check
        ("UPDATE organization SET slug = NULL", StoreErrorKind::Corrupt),
        ("UPDATE organization SET frozen = 'a'", StoreErrorKind::Corrupt), // type
        ("SELECT nothing", StoreErrorKind::Corrupt),
    ] {
        let error = sqlx::query(sql).execute(store.writer()).await.unwrap_err();
        assert_eq!(classify("x", error).kind, wanted, "{sql}");
    }
    let row = sqlx::query("SELECT 'text'").fetch_one(store.reader()).await.unwrap();
    let error = row.try_get::<i64, _>(0).unwrap_err();
    assert_eq!(failure::kind(&error), StoreErrorKind::Corrupt);
    assert_eq!(failure::kind(&sqlx::Error::PoolTimedOut), StoreErrorKind::Timeout);
    assert_eq!(failure::kind(&sqlx::Error::WorkerCrashed), StoreErrorKind::Timeout);
    assert_eq!(failure::kind(&sqlx::Error::PoolClosed), StoreErrorKind::Unavailable);
    let io = io::Error::from(io::ErrorKind::StorageFull);
    assert_eq!(failure::kind(&sqlx::Error::Io(io)), StoreErrorKind::Unavailable);
}

#[tokio::test]
async fn no_statement_reads_a_whole_table_or_sorts() {
    let folder = Folder::new();
    let store = migrated(&folder.file()).await;
    for (name, sql) in super::catalogue::statement::ALL {
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        for row in sqlx::query(explain).fetch_all(store.reader()).await.unwrap() {
            let step: &str = row.get("detail");
            // There are few organizations, and few signing keys of each.
            let is_small = matches!(*name, "LIST_ORGS" | "READ_SIGNING_KEYS");
            let is_given = step == "SCAN CONSTANT ROW" || step.starts_with("SCAN json_each ");
            let is_scan = step.starts_with("SCAN") && !is_given;
            let is_bad = is_scan || step.contains("TEMP B-TREE");
            assert!(!is_bad || is_small, "{name}: {step}");
        }
    }
}
