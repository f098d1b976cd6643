//! Moving the write-ahead log into the database file, beside the lane instead of inside a commit.
//!
//! SQLite would do it inside the commit that fills the log, and every caller of that batch would
//! wait for it. Here most of it is moved while the lane goes on; only the rest, which was written
//! meanwhile, is moved while the lane waits, so that the log can start anew. Not here: durability,
//! which the commit's own disk write gives.

use std::sync::mpsc::Receiver;

use rusqlite::{Connection, OpenFlags};

use super::{connect, failed};
use crate::store::StoreError;
use crate::store::sqlite::SqliteStore;

/// Entries after which the log is moved: some tens of MiB at most.
const ENTRIES: usize = 4_096;

const MOVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// Keeps the log short.
#[derive(Debug)]
pub(super) struct Checkpoints {
    store: SqliteStore,
    recorded: Receiver<usize>,
}

impl Checkpoints {
    /// Will listen to how many entries were recorded.
    pub(super) const fn new(store: SqliteStore, recorded: Receiver<usize>) -> Self {
        Self { store, recorded }
    }

    /// Runs until the lane is gone.
    pub(super) fn run(self) -> Result<(), StoreError> {
        let connection = connect(&self.store, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let mut entries = 0_usize;
        while let Ok(recorded) = self.recorded.recv() {
            entries = entries.saturating_add(recorded);
            if entries >= ENTRIES {
                entries = 0;
                move_log(&connection)?;
                let _turn = self.store.wait_for_turn();
                move_log(&connection)?;
            }
        }
        Ok(())
    }
}

/// Moves what can be moved without making anyone wait.
fn move_log(connection: &Connection) -> Result<(), StoreError> {
    connection.query_row(MOVE, (), |_| Ok(())).map_err(failed("move the log"))
}
