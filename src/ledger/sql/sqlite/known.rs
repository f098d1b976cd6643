//! Transactions that exist already: repeated, or about to be resolved.
//!
//! One that is resolved brings every kept counter that counts it, whether or not it was charged to
//! it at the time: a cap that began later counts it too. Not here: the row's form
//! (`store::sqlite`).

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::super::subjects::subjects;
use super::super::{corrupt, end_micros};
use super::counters::Row;
use super::failed;
use super::load::Reading;
use crate::domain::id::TransactionId;
use crate::domain::ledger::Level;
use crate::domain::transaction::TransactionRecord;
use crate::store::StoreError;
use crate::store::sql::spends::{self, SpendRow};
use crate::store::sqlite::tail::Tail;

static KNOWN: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {} FROM spend WHERE seq = ?1", spends::COLUMNS));

const FIND: &str = "SELECT seq FROM spend_by_id WHERE id = ?1";

/// The kept counters of a subject in whose windows a time is.
const COUNTING: &str = "
SELECT starts_at, ends_at, spent, held, through FROM counter
WHERE mandate_id = ?1 AND subject = ?2 AND starts_at BETWEEN ?3 AND ?4 AND ends_at > ?4";

const READ: &str = "read a transaction";

/// Puts a transaction into the page, with the counters that count it if it is to be resolved.
pub(super) fn load(
    reading: &mut Reading<'_>,
    (id, is_resolved): (TransactionId, bool),
) -> Result<(), StoreError> {
    let connection = reading.connection;
    let Some(seq) = find(connection, reading.tail, id)? else { return Ok(()) };
    let mut statement = connection.prepare_cached(&KNOWN).map_err(failed(READ))?;
    let record = statement.query_row([seq], SpendRow::of).map_err(failed(READ))?.record()?;
    if is_resolved {
        counting(reading, &record)?;
    }
    reading.page.book.transactions.insert(id, Arc::new(record));
    Ok(())
}

/// The place of a transaction in the record.
pub(super) fn find(
    connection: &Connection,
    tail: &Tail,
    id: TransactionId,
) -> Result<Option<i64>, StoreError> {
    if let Some(seq) = tail.find(id) {
        return Ok(Some(seq));
    }
    let mut statement = connection.prepare_cached(FIND).map_err(failed(READ))?;
    statement.query_row([id.as_bytes()], |row| row.get(0)).optional().map_err(failed(READ))
}

fn counting(reading: &mut Reading<'_>, record: &TransactionRecord) -> Result<(), StoreError> {
    const READ: &str = "read counters";
    let Some((mandate, _)) = record.mandate() else { return Ok(()) };
    let mut statement = reading.connection.prepare_cached(COUNTING).map_err(failed(READ))?;
    let at = record.decided_at.as_microsecond();
    for (subject, earliest) in subjects(record) {
        let values = params![mandate.as_bytes(), subject, earliest, at];
        let mut rows = statement.query(values).map_err(failed(READ))?;
        while let Some(row) = rows.next().map_err(failed(READ))? {
            let read = || {
                let level = Level { spent: row.get(2)?, held: row.get(3)? };
                Ok((row.get(0)?, row.get(1)?, Row { level, through: row.get(4)? }))
            };
            let (starts_at, ends_at, row): (i64, i64, Row) = read().map_err(failed(READ))?;
            let key = spends::counter_key(mandate, &subject, starts_at)
                .ok_or_else(|| corrupt("a counter cannot be understood"))?;
            if reading.page.book.counters.contains_key(&key) {
                continue;
            }
            if ends_at < end_micros(None) {
                let ends_at = Timestamp::from_microsecond(ends_at).map_err(corrupt)?;
                reading.page.book.ends.insert(key.clone(), ends_at);
            }
            let (level, kept) = reading.counters.now(&key, ends_at, row)?;
            reading.keep(&key, kept);
            reading.page.book.counters.insert(key, level);
        }
    }
    Ok(())
}
