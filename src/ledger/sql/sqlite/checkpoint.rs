//! Moving the write-ahead log into the database file, beside the lane instead of inside a commit.
//!
//! SQLite would do it inside the commit that fills the log, and every caller of that batch would
//! wait for it. Here it is moved while the lane goes on, again and again until little is left; only
//! that little is moved while the lane waits, so that the log can start anew. Not here: durability,
//! which the commit's own disk write gives.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::{connect, failed};
use crate::store::StoreError;
use crate::store::sqlite::SqliteStore;

/// Entries after which the log is moved. While a page is on its way to the file, a commit waits
/// longer for the same disk: few at a time keep the slowest answers quick, and many would save
/// pages that are written again and again.
const ENTRIES: usize = 512;

/// How long what was written stays in the log at most: the catalogue's changes are not counted.
const PATIENCE: Duration = Duration::from_secs(2);

/// Pages that are few enough to be moved while the lane waits.
const FEW: i64 = 64;

/// How often it is tried to leave few: under a heavy load the log grows meanwhile.
const PASSES: usize = 8;

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
    #[expect(clippy::disallowed_methods, reason = "it paces housekeeping and decides nothing")]
    pub(super) fn run(self) -> Result<(), StoreError> {
        let connection = connect(&self.store, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let mut moved = Instant::now();
        let mut entries = 0_usize;
        loop {
            match self.recorded.recv_timeout(PATIENCE.saturating_sub(moved.elapsed())) {
                Ok(recorded) => entries = entries.saturating_add(recorded),
                Err(RecvTimeoutError::Timeout) => entries = ENTRIES,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if entries >= ENTRIES {
                self.shorten(&connection)?;
                entries = 0;
                moved = Instant::now();
            }
        }
    }

    fn shorten(&self, connection: &Connection) -> Result<(), StoreError> {
        let mut before = 0;
        for _ in 0..PASSES {
            let moved = move_log(connection)?;
            if moved.saturating_sub(before) < FEW {
                break;
            }
            before = moved;
        }
        let _turn = self.store.wait_for_turn();
        move_log(connection).map(drop)
    }
}

/// Moves what can be moved without making anyone wait; the result is how much of the log is moved,
/// in pages.
fn move_log(connection: &Connection) -> Result<i64, StoreError> {
    connection.query_row(MOVE, (), |row| row.get(2)).map_err(failed("move the log"))
}
