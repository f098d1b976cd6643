//! Writing what a batch changed: new records, moved counters and tallies, changed states.
//!
//! Records go in by statements with a fixed number of rows, so that each text is prepared once.
//! Not here: when to commit (`ledger::sql`).

use std::sync::LazyLock;

use sqlx::sqlite::{Sqlite, SqliteArguments};
use sqlx::{Arguments, Transaction};

use super::super::{Effects, Head};
use super::json;
use crate::domain::transaction::TransactionRecord;
use crate::store::sqlite::{classify, spends};
use crate::store::{StoreError, StoreErrorKind};

const COUNTERS: &str = "
INSERT INTO counter (mandate_id, subject, starts_at, spent, held)
SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4
FROM json_each($1) WHERE true
ON CONFLICT (mandate_id, subject, starts_at)
DO UPDATE SET spent = excluded.spent, held = excluded.held";

const TALLIES: &str = "
INSERT INTO tally (mandate_id, approvals, approved_sum)
SELECT unhex(value ->> 0), value ->> 1, value ->> 2 FROM json_each($1) WHERE true
ON CONFLICT (mandate_id)
DO UPDATE SET approvals = excluded.approvals, approved_sum = excluded.approved_sum";

const RESOLVE: &str = "
UPDATE spend SET state = $1, settled = $2, refunded = $3, updated_at = $4 WHERE id = $5";

/// Rows of one insert statement, the largest first; a batch is cut into these.
const CHUNKS: [usize; 4] = [64, 16, 4, 1];

/// Columns of `spend`, as many as one row has placeholders.
const WIDTH: usize = 20;

static INSERTS: LazyLock<[String; 4]> = LazyLock::new(|| CHUNKS.map(insert));

fn insert(rows: usize) -> String {
    let row = format!("({})", vec!["?"; WIDTH].join(", "));
    let values = vec![row; rows].join(", ");
    format!("INSERT INTO spend ({}) VALUES {values}", spends::COLUMNS)
}

pub(super) async fn save(
    transaction: &mut Transaction<'static, Sqlite>,
    effects: &Effects,
    head: Head,
) -> Result<i64, StoreError> {
    let seq = record(transaction, &effects.recorded, head.seq).await?;
    for changed in effects.resolved.values() {
        resolve(transaction, changed).await?;
    }
    if !effects.counters.is_empty() {
        let rows = effects.counters.iter().map(|(key, level)| {
            let mandate = hex::encode(key.mandate.as_bytes());
            let starts_at = key.starts_at.as_microsecond();
            (mandate, spends::subject_text(key), starts_at, level.spent, level.held)
        });
        let rows = json(&rows.collect::<Vec<_>>())?;
        execute(transaction, "move counters", COUNTERS, rows).await?;
    }
    if !effects.tallies.is_empty() {
        let rows = effects
            .tallies
            .iter()
            .map(|(mandate, tally)| (hex::encode(mandate.as_bytes()), tally.count, tally.sum));
        let rows = json(&rows.collect::<Vec<_>>())?;
        execute(transaction, "move tallies", TALLIES, rows).await?;
    }
    Ok(seq)
}

async fn execute(
    transaction: &mut Transaction<'static, Sqlite>,
    operation: &'static str,
    sql: &'static str,
    rows: String,
) -> Result<(), StoreError> {
    sqlx::query(sql)
        .bind(rows)
        .execute(&mut **transaction)
        .await
        .map(drop)
        .map_err(|error| classify(operation, error))
}

async fn record(
    transaction: &mut Transaction<'static, Sqlite>,
    mut records: &[TransactionRecord],
    mut seq: i64,
) -> Result<i64, StoreError> {
    for (size, sql) in CHUNKS.iter().zip(INSERTS.iter()) {
        while let Some((chunk, rest)) = records.split_at_checked(*size) {
            let mut values = SqliteArguments::default();
            for record in chunk {
                seq = seq.saturating_add(1);
                add_row(&mut values, seq, record)?;
            }
            sqlx::query_with(sql.as_str(), values)
                .execute(&mut **transaction)
                .await
                .map_err(|error| classify("record decisions", error))?;
            records = rest;
        }
    }
    Ok(seq)
}

/// The values of one row, in the order of [`spends::COLUMNS`].
fn add_row(
    values: &mut SqliteArguments,
    seq: i64,
    record: &TransactionRecord,
) -> Result<(), StoreError> {
    let spend = &record.spend;
    let mandate = record.mandate().map(|(id, _)| id.as_bytes().to_vec());
    let document = spends::document(record)?;
    let added = (|| {
        values.add(seq)?;
        values.add(record.id.as_bytes().to_vec())?;
        values.add(record.org_id.as_bytes().to_vec())?;
        values.add(spend.agent_id.as_bytes().to_vec())?;
        values.add(mandate)?;
        values.add(record.decided_at.as_microsecond())?;
        values.add(record.updated_at.as_microsecond())?;
        values.add(record.verdict.word())?;
        values.add(record.state.word())?;
        values.add(spend.amount)?;
        values.add(record.settled)?;
        values.add(record.refunded)?;
        values.add(spend.currency.code())?;
        values.add(spend.vendor.canonical().to_owned())?;
        values.add(spend.category.clone())?;
        values.add(record.idempotency_key.clone())?;
        values.add(record.request_hash.to_vec())?;
        values.add(record.tally_before.count)?;
        values.add(record.tally_before.sum)?;
        values.add(document)
    })();
    added.map_err(|error| StoreError::new(StoreErrorKind::Corrupt, "record decisions", error))
}

async fn resolve(
    transaction: &mut Transaction<'static, Sqlite>,
    record: &TransactionRecord,
) -> Result<(), StoreError> {
    sqlx::query(RESOLVE)
        .bind(record.state.word())
        .bind(record.settled)
        .bind(record.refunded)
        .bind(record.updated_at.as_microsecond())
        .bind(record.id.as_bytes().to_vec())
        .execute(&mut **transaction)
        .await
        .map(drop)
        .map_err(|error| classify("resolve a transaction", error))
}
