//! What the driver's errors mean to a caller, and why a file is refused.
//!
//! Not here: `StoreError` itself, which knows no driver, and what is done about it (`engine`).

use std::io;
use std::path::PathBuf;

use crate::store::sql::kind_without_code;
use crate::store::{StoreError, StoreErrorKind};

/// A reason to refuse a file, for the operator who started the server with it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// Another server holds the lock.
    #[error(
        "{} is open in another server, which holds {}; stop it or choose another file",
        path.display(),
        lock.display()
    )]
    InUse { path: PathBuf, lock: PathBuf },
    /// The file's mode.
    #[error("{} is read-only; make it writable or choose another file", path.display())]
    ReadOnly { path: PathBuf },
    /// A migration that this server does not know.
    #[error(
        "{} has schema {version}, which is newer than this server; start the server that made it \
         or a later one",
        path.display()
    )]
    NewerSchema { path: PathBuf, version: i64 },
    /// A migration that is not applied.
    #[error("{} lacks the migration {name}; run `quetra migrate`", path.display())]
    OlderSchema { path: PathBuf, name: String },
    /// The file system cannot share memory between connections.
    #[error(
        "{} is on a file system without write-ahead logs, such as a network share; choose a local \
         disk",
        path.display()
    )]
    NoWal { path: PathBuf },
    /// The operating system's answer.
    #[error("{} cannot be opened", path.display())]
    File { path: PathBuf, source: io::Error },
}

/// Wraps the driver's error of an operation.
pub(crate) fn classify(operation: &'static str, error: sqlx::Error) -> StoreError {
    StoreError::new(kind(&error), operation, error)
}

/// [`classify`], for the driver of the ledger's lane.
pub(crate) fn classify_lane(operation: &'static str, error: rusqlite::Error) -> StoreError {
    // Everything but SQLite's own failures is about a value that is not what the schema promises.
    let failure = error.sqlite_error().map(|failure| kind_of_code(failure.extended_code));
    StoreError::new(failure.unwrap_or(StoreErrorKind::Corrupt), operation, error)
}

/// [`classify`], for `map_err`.
pub(super) fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError + Copy {
    move |error| classify(operation, error)
}

/// What a driver's error means to a caller.
pub(super) fn kind(error: &sqlx::Error) -> StoreErrorKind {
    result_code(error).map_or_else(|| kind_without_code(error), kind_of_code)
}

fn kind_of_code(code: i32) -> StoreErrorKind {
    match code {
        // Unique, primary key, row id, foreign key, trigger.
        2067 | 1555 | 2579 | 787 | 1811 => StoreErrorKind::Conflict,
        // Other constraints are about one value alone, which no repetition makes acceptable.
        _ => match code & 0xff {
            // Permission, abort, busy, locked, memory, read-only, interrupt, I/O.
            // Full, cannot open, locking protocol. Authorization.
            3..=10 | 13..=15 | 23 => StoreErrorKind::Unavailable,
            _ => StoreErrorKind::Corrupt,
        },
    }
}

/// Whether the disk failed.
pub(super) fn is_io(error: &sqlx::Error) -> bool {
    result_code(error).is_some_and(|code| code & 0xff == 10)
}

/// SQLite's extended result code; the lowest byte is the primary one.
fn result_code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}
