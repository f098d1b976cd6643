//! A migrated store for a test of the catalogue.
//!
//! Not here: the tests, which every home shares (`sql/tests`).

use super::PostgresStore;

#[path = "../../../tests/support/postgres.rs"]
mod support;

pub(super) use support::fresh_database;

/// What a test keeps while it uses the store: the URL.
pub(super) type Kept = String;

pub(super) async fn open() -> (PostgresStore, Kept) {
    let url = fresh_database().await;
    let store = again(&url).await;
    store.migrate().await.unwrap();
    (store, url)
}

/// The same store, opened anew.
pub(super) async fn again(kept: &Kept) -> PostgresStore {
    PostgresStore::open(kept).await.unwrap()
}
