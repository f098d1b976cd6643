//! What the homes on SQL have in common: the form of a row, and what a driver's error means that no
//! database gave a code for.
//!
//! `sql/catalogue` is one text for two drivers: each home includes it as a module of its own, since
//! a trait over both drivers would say everything twice. Not here: connections, transactions and
//! locks, which are the homes' own.

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Error, SqlStr};

use super::{StoreError, StoreErrorKind};

mod row;
pub(crate) mod spends;

/// The migrations of a database, as the build lists them: version, description and text of each.
pub(super) fn migrator(listed: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migration = |(version, what, text): &(i64, &'static str, &'static str)| {
        let alone = text.starts_with("-- no-transaction");
        let text = SqlStr::from_static(text);
        Migration::new(*version, (*what).into(), MigrationType::Simple, text, alone)
    };
    Migrator::with_migrations(listed.iter().map(migration).collect())
}

/// The name of a migration, as its file has it.
pub(super) fn migration_name(migration: &Migration) -> String {
    format!("{:04}_{}", migration.version, migration.description.replace(' ', "_"))
}

/// What a failed migration means to a caller, by what the driver's error would.
pub(super) fn migration_failed(
    operation: &'static str,
    kind: impl Fn(&Error) -> StoreErrorKind,
) -> impl FnOnce(MigrateError) -> StoreError {
    move |error| {
        let driver = if let MigrateError::Execute(error)
        | MigrateError::ExecuteMigration(error, _) = &error
        {
            Some(error)
        } else {
            None
        };
        let kind = driver.map_or(StoreErrorKind::Unavailable, kind);
        StoreError::new(kind, operation, error)
    }
}

/// The message with everything behind it, as an operator reads it.
#[cfg(test)]
pub(super) fn explain(error: &StoreError) -> String {
    use std::error::Error;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// What an error means that did not come from the database itself.
pub(super) fn kind_without_code(error: &Error) -> StoreErrorKind {
    if matches!(error, Error::PoolTimedOut | Error::WorkerCrashed) {
        return StoreErrorKind::Timeout;
    }
    let is_about_a_row = matches!(
        error,
        Error::RowNotFound
            | Error::TypeNotFound { .. }
            | Error::ColumnIndexOutOfBounds { .. }
            | Error::ColumnNotFound(_)
            | Error::ColumnDecode { .. }
            | Error::Encode(_)
            | Error::Decode(_)
    );
    if is_about_a_row { StoreErrorKind::Corrupt } else { StoreErrorKind::Unavailable }
}
