//! Where counters stand: what waits in memory, else the row with what was recorded after it.
//!
//! A row is no more than the sum of the record up to some entry, so it may be written late, and one
//! that is missing is summed up as a whole. Not here: when rows are written
//! (`store::sqlite::tail`).

use jiff::Timestamp;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::super::end_micros;
use super::super::subjects::{add, sum_of};
use super::failed;
use crate::domain::ledger::{CounterKey, Level};
use crate::store::StoreError;
use crate::store::sql::spends::subject_text;
use crate::store::sqlite::tail::Tail;

const ROW: &str = "
SELECT spent, held, through FROM counter
WHERE mandate_id = ?1 AND subject = ?2 AND starts_at = ?3";

/// Everything of a window that was spent after an entry. By vendor, because only the domain knows
/// which host belongs to which.
const SUM_UP: &str = "
SELECT vendor,
  sum(CASE state WHEN 'approved' THEN amount WHEN 'settled' THEN coalesce(paid, settled)
    WHEN 'refunded' THEN coalesce(paid, settled) - coalesce(repaid, refunded) ELSE 0 END),
  sum(CASE state WHEN 'pending_approval' THEN amount ELSE 0 END)
FROM spend
WHERE seq IN (
    SELECT seq FROM approval
    WHERE mandate_id = ?1 AND decided_at >= ?2 AND decided_at < ?3 AND seq > ?7
    UNION SELECT value FROM json_each(?6))
  AND CASE ?4
    WHEN 'budget' THEN 1
    WHEN 'category' THEN category = ?5
    ELSE vendor = ?5 OR substr(vendor, -length(?5) - 1) = '.' || ?5
  END
GROUP BY vendor";

const DECIDED_AT: &str = "SELECT decided_at FROM spend WHERE seq = ?1";

const WRITE: &str = "
INSERT INTO counter (mandate_id, subject, starts_at, ends_at, spent, held, through)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (mandate_id, subject, starts_at)
DO UPDATE SET spent = excluded.spent, held = excluded.held, through = excluded.through";

const READ: &str = "read counters";

/// How much of a counter is stored, or in memory until it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// All of it.
    Whole,
    /// What was recorded up to an entry; the rest had to be summed up.
    Partly,
    /// Nothing: all of it had to be summed up.
    Not,
}

/// What the row of a counter says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) level: Level,
    /// The last entry that is in it.
    pub(super) through: i64,
}

/// The counters of one batch; what it needs is prepared once for the connection.
pub(super) struct Counters<'c> {
    connection: &'c Connection,
    tail: &'c Tail,
    row: CachedStatement<'c>,
}

impl<'c> Counters<'c> {
    pub(super) fn prepare(connection: &'c Connection, tail: &'c Tail) -> Result<Self, StoreError> {
        let row = connection.prepare_cached(ROW).map_err(failed(READ))?;
        Ok(Self { connection, tail, row })
    }

    /// Where a counter stands; its window ends then, in microseconds since 1970.
    pub(super) fn level(
        &mut self,
        key: &CounterKey,
        ends_at: i64,
    ) -> Result<(Level, Kept), StoreError> {
        if let Some(moved) = self.tail.moved(key) {
            return Ok((moved.level, Kept::Whole));
        }
        let subject = subject_text(&key.subject, key.period);
        let starts_at = key.starts_at.as_microsecond();
        let row = self
            .row
            .query_row(params![key.mandate.as_bytes(), subject, starts_at], |row| {
                let level = Level { spent: row.get(0)?, held: row.get(1)? };
                Ok(Row { level, through: row.get(2)? })
            })
            .optional()
            .map_err(failed(READ))?;
        match row {
            Some(row) => self.now(key, ends_at, row),
            None => Ok((self.sum_up(key, ends_at, Row::EMPTY)?, Kept::Not)),
        }
    }

    /// Where a counter stands whose row was read.
    pub(super) fn now(
        &self,
        key: &CounterKey,
        ends_at: i64,
        row: Row,
    ) -> Result<(Level, Kept), StoreError> {
        if let Some(moved) = self.tail.moved(key) {
            return Ok((moved.level, Kept::Whole));
        }
        if self.tail.has_all(row.through) {
            return Ok((row.level, Kept::Whole));
        }
        Ok((self.sum_up(key, ends_at, row)?, Kept::Partly))
    }

    /// A row with what was recorded after it.
    fn sum_up(&self, key: &CounterKey, ends_at: i64, row: Row) -> Result<Level, StoreError> {
        const SUM: &str = "sum up a counter";
        let (kind, subject) = sum_of(&key.subject);
        // Time never runs backwards in the record.
        let mut decided_at = self.connection.prepare_cached(DECIDED_AT).map_err(failed(SUM))?;
        let reached = decided_at.query_row([row.through], |row| row.get(0)).optional();
        let reached = reached.map_err(failed(SUM))?.unwrap_or(i64::MIN);
        let from = key.starts_at.as_microsecond().max(reached);
        let waiting = self
            .tail
            .of_mandate(key.mandate, from.saturating_sub(1))
            .map(|((_, at, seq), _)| (at, seq))
            .take_while(|(at, _)| **at < ends_at)
            .filter(|(_, seq)| **seq > row.through)
            .map(|(_, seq)| seq.to_string())
            .collect::<Vec<_>>();
        let waiting = format!("[{}]", waiting.join(","));
        let mandate = key.mandate.as_bytes();
        let values = params![mandate, from, ends_at, kind, subject, waiting, row.through];
        let mut statement = self.connection.prepare_cached(SUM_UP).map_err(failed(SUM))?;
        let mut rows = statement.query(values).map_err(failed(SUM))?;
        let mut level = row.level;
        while let Some(row) = rows.next().map_err(failed(SUM))? {
            let read = || Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?));
            let (vendor, spent, held): (String, i64, i64) = read().map_err(failed(SUM))?;
            add(&mut level, &key.subject, &vendor, Level { spent, held });
        }
        Ok(level)
    }
}

impl Row {
    /// What there is without a row.
    const EMPTY: Self = Self { level: Level { spent: 0, held: 0 }, through: 0 };
}

/// Writes rows of counters, which have every entry up to this one.
pub(super) fn write(
    connection: &Connection,
    counters: &[(CounterKey, Level, Option<Timestamp>)],
    through: i64,
) -> Result<(), StoreError> {
    const MOVE: &str = "move counters";
    let mut statement = connection.prepare_cached(WRITE).map_err(failed(MOVE))?;
    for (key, level, ends_at) in counters {
        let subject = subject_text(&key.subject, key.period);
        let (starts_at, ends_at) = (key.starts_at.as_microsecond(), end_micros(*ends_at));
        let (mandate, Level { spent, held }) = (key.mandate.as_bytes(), level);
        let row = params![mandate, subject, starts_at, ends_at, spent, held, through];
        statement.execute(row).map_err(failed(MOVE))?;
    }
    Ok(())
}
