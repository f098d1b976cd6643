//! Writing what a batch changed: new records, changed states, and the acts that changed them.
//!
//! Not here: counters, and when to commit (`ledger::sql::sqlite`).

use std::sync::LazyLock;

use rusqlite::{Connection, params};

use super::super::{Effects, Head, corrupt};
use super::{failed, known};
use crate::domain::act::ActRecord;
use crate::domain::decision::Verdict;
use crate::domain::ledger::Book;
use crate::domain::transaction::TransactionRecord;
use crate::store::StoreError;
use crate::store::sql::spends::{self, Changing};
use crate::store::sqlite::tail::{Approved, Entry, Tail};

const RESOLVE: &str = "
UPDATE spend SET state = ?1, settled = ?2, refunded = ?3, updated_at = ?4, due_at = ?5, paid = ?6,
    repaid = ?7, followup = ?8
WHERE seq = ?9";

const ACT: &str = "
INSERT INTO act (org_id, after_spend, at, kind, subject, actor_key, actor_role, document)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// Columns of `spend`, as many as one row has placeholders.
const WIDTH: usize = 24;

static INSERT: LazyLock<String> = LazyLock::new(|| {
    let places = vec!["?"; WIDTH].join(", ");
    format!("INSERT INTO spend ({}) VALUES ({places})", spends::COLUMNS)
});

pub(super) fn save(
    connection: &Connection,
    tail: &Tail,
    book: &Book,
    effects: &Effects,
    head: Head,
) -> Result<Vec<Entry>, StoreError> {
    let missing = || corrupt("a book without what it changed");
    let mut entries = Vec::with_capacity(effects.recorded.len());
    for (id, seq) in effects.recorded.iter().zip(head.seq.saturating_add(1)..) {
        let new = book.transactions.get(id).ok_or_else(missing)?;
        record(connection, seq, new)?;
        entries.push(entry(seq, new));
    }
    // A record of this batch may have been resolved in it; it was written as it is now.
    let recorded = |id| effects.recorded.contains(id);
    for id in effects.resolved.iter().filter(|id| !recorded(id)) {
        let seq = known::find(connection, tail, *id)?.ok_or_else(missing)?;
        resolve(connection, seq, book.transactions.get(id).ok_or_else(missing)?)?;
    }
    for (act, recorded) in &effects.acts {
        perform(connection, act, head.after(*recorded, head.floor).seq)?;
    }
    Ok(entries)
}

/// Writes an act, which comes after this entry of the record.
fn perform(connection: &Connection, act: &ActRecord, after_spend: i64) -> Result<(), StoreError> {
    const RECORD: &str = "record an act";
    let mut statement = connection.prepare_cached(ACT).map_err(failed(RECORD))?;
    let row = params![
        act.org_id.as_bytes(),
        after_spend,
        act.at.as_microsecond(),
        act.kind.word(),
        act.subject,
        act.actor.key().map(|key| key.as_bytes()),
        act.actor.word(),
        act.document,
    ];
    statement.execute(row).map(drop).map_err(failed(RECORD))
}

/// A record as the indexes see it.
fn entry(seq: i64, record: &TransactionRecord) -> Entry {
    let approved = Approved { before: record.tally_before, amount: record.spend.amount };
    let mandate = record.mandate().filter(|_| record.verdict != Verdict::Rejected);
    Entry {
        seq,
        id: record.id,
        agent: record.spend.agent_id,
        at: record.decided_at.as_microsecond(),
        approval: mandate.map(|(mandate, _)| (mandate, approved)),
    }
}

/// Writes one row, its values in the order of [`spends::COLUMNS`].
fn record(connection: &Connection, seq: i64, record: &TransactionRecord) -> Result<(), StoreError> {
    const RECORD: &str = "record decisions";
    let spend = &record.spend;
    let mandate = record.mandate().map(|(id, _)| *id.as_bytes());
    let document = spends::document(record)?;
    let changing = Changing::of(record)?;
    let mut statement = connection.prepare_cached(&INSERT).map_err(failed(RECORD))?;
    statement
        .execute(params![
            seq,
            record.id.as_bytes(),
            record.org_id.as_bytes(),
            spend.agent_id.as_bytes(),
            mandate,
            record.decided_at.as_microsecond(),
            changing.updated_at,
            record.verdict.word(),
            changing.state,
            spend.amount,
            changing.settled,
            changing.refunded,
            spend.currency.code(),
            spend.vendor.canonical(),
            spend.category,
            record.idempotency_key,
            record.request_hash,
            record.tally_before.count,
            record.tally_before.sum,
            document,
            changing.due_at,
            changing.paid,
            changing.repaid,
            changing.followup,
        ])
        .map(drop)
        .map_err(failed(RECORD))
}

fn resolve(
    connection: &Connection,
    seq: i64,
    record: &TransactionRecord,
) -> Result<(), StoreError> {
    const CHANGE: &str = "resolve a transaction";
    let mut statement = connection.prepare_cached(RESOLVE).map_err(failed(CHANGE))?;
    let Changing { state, settled, refunded, updated_at, due_at, paid, repaid, followup } =
        Changing::of(record)?;
    let row = params![state, settled, refunded, updated_at, due_at, paid, repaid, followup, seq];
    statement.execute(row).map(drop).map_err(failed(CHANGE))
}
