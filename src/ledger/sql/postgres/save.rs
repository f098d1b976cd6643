//! Writing what a batch changed, one statement for each table.
//!
//! Not here: when to commit (`ledger::sql::postgres`).

use std::sync::LazyLock;

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::super::{Effects, Head, corrupt, end_micros};
use super::Failed;
use crate::domain::act::ActRecord;
use crate::domain::id::{OrgId, TransactionId};
use crate::domain::ledger::{Book, CounterKey};
use crate::domain::transaction::TransactionRecord;
use crate::store::StoreError;
use crate::store::sql::spends::{self, Changing};

/// The columns in the order of [`spends::COLUMNS`], as arrays.
static INSERT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "INSERT INTO spend ({})
        SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[],
            $6::bigint[], $7::bigint[], $8::text[], $9::text[], $10::bigint[], $11::bigint[],
            $12::bigint[], $13::text[], $14::text[], $15::text[], $16::text[], $17::bytea[],
            $18::bigint[], $19::bigint[], $20::text[], $21::bigint[], $22::bigint[], $23::bigint[],
            $24::text[])",
        spends::COLUMNS
    )
});

const COUNTERS: &str = "
INSERT INTO counter (mandate_id, subject, starts_at, ends_at, spent, held)
SELECT * FROM unnest(
  $1::bytea[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
ON CONFLICT (mandate_id, subject, starts_at)
DO UPDATE SET spent = excluded.spent, held = excluded.held";

const RESOLVE: &str = "
UPDATE spend SET state = now.state, settled = now.settled, refunded = now.refunded,
    updated_at = now.updated_at, due_at = now.due_at, paid = now.paid, repaid = now.repaid,
    followup = now.followup
FROM unnest($1::bytea[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
    $7::bigint[], $8::bigint[], $9::text[])
    AS now (id, state, settled, refunded, updated_at, due_at, paid, repaid, followup)
JOIN spend_by_id place ON place.id = now.id
WHERE (spend.org_id, spend.seq, spend.decided_at) = (place.org_id, place.seq, place.decided_at)";

/// Numbers them behind the last one, in order.
const ACTS: &str = "
WITH head AS (
    UPDATE ledger_head SET act_seq = act_seq + cardinality($2) WHERE org_id = $1
    RETURNING act_seq - cardinality($2) AS seq)
INSERT INTO act (org_id, seq, after_spend, at, kind, subject, actor_key, actor_role, document)
SELECT $1, head.seq + act.place, act.after_spend, act.at, act.kind, act.subject, act.actor_key,
    act.actor_role, act.document
FROM head, unnest($2::bigint[], $3::bigint[], $4::text[], $5::bytea[], $6::bytea[], $7::text[],
    $8::text[]) WITH ORDINALITY
    AS act (after_spend, at, kind, subject, actor_key, actor_role, document, place)";

/// The last statement of a batch. The commit after it has no time limit on the server: one that is
/// cut short while it waits for a standby is reported as done.
const HEAD: &str = "UPDATE ledger_head SET seq = $2, floor = $3 WHERE org_id = $1
    RETURNING set_config('statement_timeout', '0', true)";

pub(super) async fn save(
    connection: &mut PgConnection,
    book: &Book,
    effects: &Effects,
    (org, head, after): (OrgId, Head, Head),
) -> Result<(), Failed> {
    let find = |id: &TransactionId| {
        let found = book.transactions.get(id).map(AsRef::as_ref);
        found.ok_or_else(|| corrupt("a book without what it changed"))
    };
    let recorded = effects.recorded.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    record(connection, head, &recorded).await?;
    // A record of this batch may have been resolved in it; it was written as it is now.
    let resolved = effects.resolved.iter().filter(|id| !effects.recorded.contains(id));
    let resolved = resolved.map(find).collect::<Result<Vec<_>, _>>()?;
    resolve(connection, &resolved).await?;
    perform(connection, &effects.acts, (org, head)).await?;
    let moved = effects.charged.union(&effects.released).collect::<Vec<_>>();
    move_counters(connection, book, &moved).await?;
    move_head(connection, org, after).await
}

pub(super) async fn move_head(
    connection: &mut PgConnection,
    org: OrgId,
    after: Head,
) -> Result<(), Failed> {
    sqlx::query(HEAD)
        .bind(org.as_bytes().as_slice())
        .bind(after.seq)
        .bind(after.floor.as_microsecond())
        .execute(connection)
        .await?;
    Ok(())
}

/// A column of many rows.
pub(super) fn column<'a, R, T>(rows: &[&'a R], value: impl FnMut(&'a R) -> T) -> Vec<T> {
    rows.iter().copied().map(value).collect()
}

pub(super) async fn record(
    connection: &mut PgConnection,
    head: Head,
    new: &[&TransactionRecord],
) -> Result<(), Failed> {
    if new.is_empty() {
        return Ok(());
    }
    let documents = new.iter().map(|record| spends::document(record));
    let changing = new.iter().map(|record| Changing::of(record));
    let changing = changing.collect::<Result<Vec<_>, StoreError>>()?;
    let changing = changing.iter().collect::<Vec<_>>();
    let seqs = new.iter().zip(head.seq.saturating_add(1)..).map(|(_, seq)| seq);
    sqlx::query(AssertSqlSafe(INSERT.as_str()))
        .bind(seqs.collect::<Vec<_>>())
        .bind(column(new, |record| record.id.as_bytes().to_vec()))
        .bind(column(new, |record| record.org_id.as_bytes().to_vec()))
        .bind(column(new, |record| record.spend.agent_id.as_bytes().to_vec()))
        .bind(column(new, |record| record.mandate().map(|(id, _)| id.as_bytes().to_vec())))
        .bind(column(new, |record| record.decided_at.as_microsecond()))
        .bind(column(&changing, |row| row.updated_at))
        .bind(column(new, |record| record.verdict.word()))
        .bind(column(&changing, |row| row.state))
        .bind(column(new, |record| record.spend.amount))
        .bind(column(&changing, |row| row.settled))
        .bind(column(&changing, |row| row.refunded))
        .bind(column(new, |record| record.spend.currency.code().to_owned()))
        .bind(column(new, |record| record.spend.vendor.canonical()))
        .bind(column(new, |record| record.spend.category.as_deref()))
        .bind(column(new, |record| record.idempotency_key.as_str()))
        .bind(column(new, |record| record.request_hash.to_vec()))
        .bind(column(new, |record| record.tally_before.count))
        .bind(column(new, |record| record.tally_before.sum))
        .bind(documents.collect::<Result<Vec<_>, StoreError>>()?)
        .bind(column(&changing, |row| row.due_at))
        .bind(column(&changing, |row| row.paid))
        .bind(column(&changing, |row| row.repaid))
        .bind(column(&changing, |row| row.followup.as_deref()))
        .execute(connection)
        .await?;
    Ok(())
}

async fn resolve(
    connection: &mut PgConnection,
    records: &[&TransactionRecord],
) -> Result<(), Failed> {
    if records.is_empty() {
        return Ok(());
    }
    let rows = records.iter().map(|record| Changing::of(record));
    let rows = rows.collect::<Result<Vec<_>, StoreError>>()?;
    let rows = rows.iter().collect::<Vec<_>>();
    sqlx::query(RESOLVE)
        .bind(column(records, |record| record.id.as_bytes().to_vec()))
        .bind(column(&rows, |row| row.state))
        .bind(column(&rows, |row| row.settled))
        .bind(column(&rows, |row| row.refunded))
        .bind(column(&rows, |row| row.updated_at))
        .bind(column(&rows, |row| row.due_at))
        .bind(column(&rows, |row| row.paid))
        .bind(column(&rows, |row| row.repaid))
        .bind(column(&rows, |row| row.followup.as_deref()))
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes acts, each with its place among the decisions.
async fn perform(
    connection: &mut PgConnection,
    acts: &[(ActRecord, usize)],
    (org, head): (OrgId, Head),
) -> Result<(), Failed> {
    if acts.is_empty() {
        return Ok(());
    }
    let acts = acts.iter().collect::<Vec<_>>();
    sqlx::query(ACTS)
        .bind(org.as_bytes().as_slice())
        .bind(column(&acts, |(_, recorded)| head.after(*recorded, head.floor).seq))
        .bind(column(&acts, |(act, _)| act.at.as_microsecond()))
        .bind(column(&acts, |(act, _)| act.kind.word()))
        .bind(column(&acts, |(act, _)| act.subject.to_vec()))
        .bind(column(&acts, |(act, _)| act.actor.key().map(|key| key.as_bytes().to_vec())))
        .bind(column(&acts, |(act, _)| act.actor.word()))
        .bind(column(&acts, |(act, _)| act.document.as_str()))
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn move_counters(
    connection: &mut PgConnection,
    book: &Book,
    keys: &[&CounterKey],
) -> Result<(), Failed> {
    if keys.is_empty() {
        return Ok(());
    }
    let level = |key: &&CounterKey| {
        let found = book.counters.get(*key).copied();
        found.ok_or_else(|| corrupt("a book without what it changed"))
    };
    let levels = keys.iter().map(level).collect::<Result<Vec<_>, _>>()?;
    sqlx::query(COUNTERS)
        .bind(column(keys, |key| key.mandate.as_bytes().to_vec()))
        .bind(column(keys, |key| spends::subject_text(&key.subject, key.period)))
        .bind(column(keys, |key| key.starts_at.as_microsecond()))
        .bind(column(keys, |key| end_micros(book.ends.get(key).copied())))
        .bind(levels.iter().map(|level| level.spent).collect::<Vec<_>>())
        .bind(levels.iter().map(|level| level.held).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}
