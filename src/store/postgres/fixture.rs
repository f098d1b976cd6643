//! A migrated store for a test.
//!
//! Not here: the tests, which every home shares (`sql/tests`).

use sqlx::postgres::PgPool;

use super::PostgresStore;

#[path = "../../../tests/support/postgres.rs"]
mod support;

pub(super) use support::{APPLICATION, as_application, as_owner, fresh_database};

/// What a test keeps while it uses the store: the URL of the application.
pub(crate) type Kept = String;

/// Mandates that are many here, where each statement crosses a connection.
pub(super) const THOUSANDS: u32 = 2_000;

/// The store as a server has it. Its tests' `writer` is the owner's.
pub(crate) async fn open() -> (PostgresStore, Kept) {
    let owner = fresh_database().await;
    let store = PostgresStore::open(&owner).await.unwrap();
    store.migrate().await.unwrap();
    store.grant_to(APPLICATION).await.unwrap();
    store.close().await;
    let url = as_application(&owner);
    (again(&url).await, url)
}

/// The same store, opened anew.
pub(super) async fn again(kept: &Kept) -> PostgresStore {
    let mut store = PostgresStore::open(kept).await.unwrap();
    store.owner = Some(PgPool::connect_lazy(&as_owner(kept)).unwrap());
    store
}
