//! A migrated store for a test of the catalogue.
//!
//! Not here: the tests, which every home shares (`sql/tests`).

use tempfile::TempDir;

use super::SqliteStore;

/// What a test keeps while it uses the store.
pub(super) type Kept = TempDir;

/// Mandates that are many here.
pub(super) const THOUSANDS: u32 = 10_000;

pub(super) async fn open() -> (SqliteStore, Kept) {
    let folder = tempfile::tempdir().unwrap();
    let store = again(&folder).await;
    store.migrate().await.unwrap();
    (store, folder)
}

/// The same store, opened anew.
pub(super) async fn again(kept: &Kept) -> SqliteStore {
    SqliteStore::open(&kept.path().join("quetra.db")).await.unwrap()
}
