//! What the driver's errors mean to a caller, and why a database is refused.
//!
//! Not here: `StoreError` itself, which knows no driver, and what is done about it (`engine`).

use crate::store::sql::kind_without_code;
use crate::store::{StoreError, StoreErrorKind};

/// A reason to refuse a database, for the operator who started the server with it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// Nothing that can be connected to.
    #[error("it is no Postgres URL; write postgres://user:password@host:5432/database")]
    NoUrl,
    /// A migration that this server does not know.
    #[error(
        "the database has schema {version}, which is newer than this server; start the server \
         that made it or a later one"
    )]
    NewerSchema { version: i64 },
    /// A migration that is not applied.
    #[error("the database lacks the migration {name}; run `quetra migrate`")]
    OlderSchema { name: String },
    /// A server that forgets.
    #[error("Postgres runs with {setting} = off and would forget answered decisions; turn it on")]
    Forgets { setting: &'static str },
    /// Turned into one while this server ran.
    #[error(
        "Postgres runs with fsync or synchronous_commit = off by now and would forget answered \
         decisions; turn it on"
    )]
    ForgetsNow,
    /// A database that takes no writes.
    #[error("transactions are read-only here (default_transaction_read_only); turn it off")]
    ReadOnly,
    /// Only the owner changes the schema.
    #[error(
        "this role may not change the schema; run `quetra migrate` as the owner of the database, \
         with --application-role for this role"
    )]
    NotOwner,
    /// Nobody to grant to.
    #[error("there is no such role; make it first: CREATE ROLE … LOGIN PASSWORD …")]
    NoRole,
    /// One that row-level security does not bind.
    #[error(
        "this role is bound by no row-level security: it owns the tables, is a superuser or has \
         BYPASSRLS; name another one"
    )]
    AboveTheWall,
    /// No commit of the engine is.
    #[error("a commit is about one organization")]
    SeveralOrgs,
    /// A replica.
    #[error("this Postgres is a read-only standby; name the primary")]
    Standby,
    /// Not tested with this.
    #[error("this Postgres is older than version {OLDEST}; upgrade it")]
    TooOld,
}

/// The oldest major version.
pub(super) const OLDEST: i32 = 13;

/// The refusal to commit where a commit is not kept.
pub(crate) fn forgets(operation: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, operation, Refused::ForgetsNow)
}

/// Wraps the driver's error of an operation.
pub(crate) fn classify(operation: &'static str, error: sqlx::Error) -> StoreError {
    StoreError::new(kind(&error), operation, error)
}

/// [`classify`], for `map_err`.
pub(crate) fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError + Copy {
    move |error| classify(operation, error)
}

/// [`failed`], for a commit: without an answer nobody knows what came of it.
pub(crate) fn failed_commit(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError + Copy {
    move |error| {
        let kind = if sql_state(&error).is_some() { kind(&error) } else { StoreErrorKind::Timeout };
        StoreError::new(kind, operation, error)
    }
}

/// What a driver's error means to a caller.
pub(super) fn kind(error: &sqlx::Error) -> StoreErrorKind {
    if let Some(state) = sql_state(error) {
        return kind_of_state(&state);
    }
    // Without a connection nothing has begun.
    let is_unconnected = matches!(error, sqlx::Error::PoolTimedOut);
    if is_unconnected { StoreErrorKind::Unavailable } else { kind_without_code(error) }
}

fn kind_of_state(state: &str) -> StoreErrorKind {
    match state {
        // Foreign key, unique.
        "23503" | "23505" => StoreErrorKind::Conflict,
        // Read-only, idle in a transaction for too long, no permission, lock not had in time.
        "25006" | "25P03" | "42501" | "55P03" => StoreErrorKind::Unavailable,
        // Other constraints are about one value alone, which no repetition makes acceptable.
        _ => match state.get(..2) {
            // Connection, authorization, database, rollback, resources, operator, system.
            Some("08" | "28" | "3D" | "40" | "53" | "57" | "58") => StoreErrorKind::Unavailable,
            _ => StoreErrorKind::Corrupt,
        },
    }
}

/// Whether the transaction is surely gone and may be tried again at once: it met another one, or
/// its connection ended before it was committed.
pub(crate) fn may_repeat(error: &sqlx::Error) -> bool {
    match sql_state(error) {
        // Serialization, deadlock, idle for too long, the server restarts.
        Some(state) => matches!(state.as_str(), "40001" | "40P01" | "25P03" | "57P01" | "57P02"),
        None => matches!(error, sqlx::Error::Io(_)),
    }
}

fn sql_state(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}
