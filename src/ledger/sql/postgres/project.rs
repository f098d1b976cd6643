//! The projector's transaction: a batch of the outbox becomes rows, money and a position, at once.
//!
//! The position is compared and moved first, so that of any number of projectors one commits a
//! batch, and none for an epoch that is over (rules 12 to 14). A shard has many organizations; each
//! part is written in the name of its own, one after the other, as row-level security wants it. Not
//! here: reading the outbox (`ledger::redis`).

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, query_as};

use super::escrow::endings::{self, Ended};
use super::escrow::{Place, lock_head};
use super::load::{id, time};
use super::{Failed, save};
use crate::domain::decision::Verdict;
use crate::domain::id::{MandateId, OrgId, TransactionId};
use crate::domain::ledger::{Book, CounterKey, Level, Tally};
use crate::domain::transaction::TransactionRecord;
use crate::ledger::sql::{Head, corrupt};
use crate::store::StoreError;
use crate::store::postgres::{begin, failed_commit, forgets};
use crate::store::sql::spends::{counter_key, subject_text};

/// What is told to every server, with shard, epoch and number.
pub(in crate::ledger) const CHANNEL: &str = "quetra_position";

const MOVE: &str = "
UPDATE shard_authority SET position_epoch = $4, position_seq = $5, floor = greatest(floor, $6)
WHERE shard = $1 AND epoch = $2 AND begun AND (position_epoch, position_seq) = ($3, $7)
RETURNING current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off'";

/// The last statement: the commit after it has no time limit on the server.
const TELL: &str = "SELECT pg_notify($1, $2), set_config('statement_timeout', '0', true)";

const RECORD: &str = "record the outbox";

/// What the log says of a decision in the outbox whose row is of another server.
const DECIDED_BESIDE: &str = "decided in Redis too; the row from Redis' absence stays";

pub(super) const IN_THE_NAME_OF: &str = "SELECT set_config('quetra.org', $1, true)";

/// Takes what was spent from leases, each by its key: a join may read every lease of the shard. The
/// row it would insert is one that was never leased, and told by its limit.
const SPEND: &str = "
INSERT INTO lease (mandate_id, subject, starts_at, epoch, leased, shard, number, amount, level,
    limit_minor)
SELECT gone.*, $6, 1, 0, 'strict', -1
FROM unnest($1::bytea[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) AS gone
ON CONFLICT (mandate_id, subject, starts_at, shard, epoch)
    DO UPDATE SET leased = lease.leased - excluded.leased
RETURNING limit_minor >= 0";

/// The kept counters of these mandates that may count a record of this time or later.
const KEPT: &str = "SELECT mandate_id, subject, starts_at, ends_at, spent, held FROM counter
    WHERE mandate_id = ANY($1) AND ends_at > $2";

/// Counts the approvals of a mandate again from a time on, in the order of time. Of a rejection
/// nobody reads how much was approved before it, so there it stays what was known when it was
/// written. A part of a mandate is read by its index, whatever the length of the record.
const COUNT_AGAIN: &str = "
WITH first AS (
    SELECT approvals_before + 1 AS approvals, sum_before + amount AS total FROM spend
    WHERE mandate_id = $1 AND verdict <> 'rejected' AND decided_at < $2
    ORDER BY decided_at DESC, seq DESC LIMIT 1),
counted AS (
    SELECT org_id, seq, decided_at,
        coalesce((SELECT approvals FROM first), 0) + row_number() OVER place - 1 AS approvals,
        (coalesce((SELECT total FROM first), 0) + sum(amount) OVER place - amount)::bigint AS total
    FROM spend
    WHERE mandate_id = $1 AND verdict <> 'rejected' AND decided_at >= $2
    WINDOW place AS (ORDER BY decided_at, seq ROWS UNBOUNDED PRECEDING))
UPDATE spend SET approvals_before = counted.approvals, sum_before = counted.total FROM counted
WHERE (spend.org_id, spend.seq, spend.decided_at)
        = (counted.org_id, counted.seq, counted.decided_at)
    AND (spend.approvals_before, spend.sum_before) <> (counted.approvals, counted.total)";

/// Who looks for a time in the record has to know.
const NOTE_LATENESS: &str = "UPDATE ledger_head SET late_micros = $2
    WHERE org_id = $1 AND late_micros < $2";

const LAST: &str = "
SELECT mandate.id, last.approvals_before, last.sum_before, last.amount, last.decided_at
FROM unnest($1::bytea[]) AS mandate (id)
CROSS JOIN LATERAL (
    SELECT approvals_before, sum_before, amount, decided_at FROM spend
    WHERE mandate_id = mandate.id AND verdict <> 'rejected'
    ORDER BY decided_at DESC, seq DESC LIMIT 1) last";

/// One entry of an outbox.
#[derive(Debug)]
pub(in crate::ledger) enum Entry {
    /// An epoch begins, behind this place of the log that it goes on in; an older server did not
    /// say which.
    Begin(Option<Place>),
    /// A decision.
    Decision(Box<TransactionRecord>),
    /// Money comes back from the slice of this counter: mandate, subject and start.
    Recall(OrgId, (MandateId, String, i64), i64),
}

/// What follows a position.
#[derive(Debug)]
pub(in crate::ledger) struct Batch {
    pub(in crate::ledger) shard: i16,
    /// The present epoch, as the authority was read.
    pub(in crate::ledger) epoch: i64,
    pub(in crate::ledger) after: Place,
    pub(in crate::ledger) entries: Vec<(Place, Entry)>,
}

/// What leaves leases, by counter and epoch.
type Gone = BTreeMap<(MandateId, String, i64, i64), i64>;

/// Commits a batch; `false` if its position or its epoch was not the present one.
pub(in crate::ledger) async fn project(
    connection: &mut PgConnection,
    batch: Batch,
) -> Result<bool, StoreError> {
    let failed = |error: sqlx::Error| Failed::from(error).into_error();
    let Some(last) = batch.entries.last().map(|(place, _)| *place) else { return Ok(true) };
    let mut writing = connection.begin_with(begin("BEGIN", None)).await.map_err(failed)?;
    if !write(&mut writing, batch, last).await.map_err(Failed::into_error)? {
        writing.rollback().await.map_err(failed)?;
        return Ok(false);
    }
    writing.commit().await.map_err(failed_commit(RECORD))?;
    Ok(true)
}

async fn write(connection: &mut PgConnection, batch: Batch, last: Place) -> Result<bool, Failed> {
    let times = batch.entries.iter().filter_map(|(_, entry)| match entry {
        Entry::Decision(record) => Some(record.decided_at.as_microsecond()),
        Entry::Begin(_) | Entry::Recall(..) => None,
    });
    let keeps = sqlx::query_scalar::<_, bool>(MOVE)
        .bind(batch.shard)
        .bind(batch.epoch)
        .bind(batch.after.epoch)
        .bind(last.epoch)
        .bind(last.seq)
        .bind(times.max().unwrap_or_default())
        .bind(batch.after.seq)
        .fetch_optional(&mut *connection)
        .await?;
    match keeps {
        None => return Ok(false),
        Some(false) => return Err(forgets(RECORD).into()),
        Some(true) => {}
    }
    let (shard, ended) = (batch.shard, ended(batch.after, &batch.entries));
    for (org, part) in parts(batch.entries) {
        write_part(connection, (shard, org), part).await?;
    }
    endings::end(connection, shard, &ended).await?;
    let told = format!("{shard} {} {}", last.epoch, last.seq);
    sqlx::query(TELL).bind(CHANNEL).bind(told).execute(&mut *connection).await?;
    Ok(true)
}

/// The epochs that end in a batch: nothing more of them is recorded.
fn ended(after: Place, entries: &[(Place, Entry)]) -> Vec<Ended> {
    let mut last = after;
    let mut ended = Vec::new();
    for (place, entry) in entries {
        if let Entry::Begin(behind) = entry {
            // INVARIANT: a log that begins its next epoch in front of what is recorded was put
            // back.
            let is_whole = behind.is_some_and(|behind| behind >= last);
            ended.push(Ended { last, next: place.epoch, is_whole });
        }
        last = *place;
    }
    ended
}

/// What one organization has in a batch, in its order.
#[derive(Default)]
struct Part {
    decisions: Vec<(Place, TransactionRecord)>,
    gone: Gone,
}

fn parts(entries: Vec<(Place, Entry)>) -> BTreeMap<OrgId, Part> {
    let mut parts = BTreeMap::<OrgId, Part>::new();
    for (place, entry) in entries {
        match entry {
            Entry::Begin(_) => {}
            Entry::Decision(record) => {
                parts.entry(record.org_id).or_default().decisions.push((place, *record));
            }
            Entry::Recall(org, (mandate, subject, starts_at), amount) => {
                let key = (mandate, subject, starts_at, place.epoch);
                let sum = parts.entry(org).or_default().gone.entry(key).or_default();
                *sum = sum.saturating_add(amount);
            }
        }
    }
    parts
}

pub(super) async fn in_the_name_of(
    connection: &mut PgConnection,
    org: OrgId,
) -> Result<(), Failed> {
    let name = sqlx::query(IN_THE_NAME_OF).bind(hex::encode(org.as_bytes()));
    name.execute(connection).await?;
    Ok(())
}

async fn write_part(
    connection: &mut PgConnection,
    (shard, org): (i16, OrgId),
    mut part: Part,
) -> Result<(), Failed> {
    in_the_name_of(connection, org).await?;
    record(connection, org, &mut part).await?;
    spend(connection, shard, &part.gone).await
}

/// Everything that the decisions of an organization change beside its leases.
async fn record(connection: &mut PgConnection, org: OrgId, part: &mut Part) -> Result<(), Failed> {
    if part.decisions.is_empty() {
        return Ok(());
    }
    let head = lock_head(connection, org).await?;
    let (seq, floor) = head.ok_or_else(|| corrupt("a decision of no organization"))?;
    let mut head = Head { seq, floor: time(floor)? };
    let mut known = known(connection, &part.decisions).await?;
    let mut new = Vec::new();
    for (place, record) in std::mem::take(&mut part.decisions) {
        for key in &record.charged {
            let subject = subject_text(&key.subject, key.period);
            let lease = (key.mandate, subject, key.starts_at.as_microsecond(), place.epoch);
            let sum = part.gone.entry(lease).or_default();
            *sum = sum.saturating_add(record.spend.amount);
        }
        // Decided before, while Redis was away: that row stays, the money goes back.
        if known.insert(record.id) {
            new.push(record);
        } else {
            tracing::info!(transaction = %record.id, "{DECIDED_BESIDE}");
            metrics::counter!("quetra_redis_duplicates_total").increment(1);
        }
    }
    let mut book = kept(connection, &new).await?;
    let moved = count(&mut book, &new);
    let late = lateness(head.floor, &new);
    if late > 0 {
        let note = sqlx::query(NOTE_LATENESS).bind(org.as_bytes().as_slice()).bind(late);
        note.execute(&mut *connection).await?;
    }
    insert(connection, &mut head, new).await?;
    save::move_counters(connection, &book, &moved.iter().collect::<Vec<_>>()).await?;
    save::move_head(connection, org, head).await
}

/// Which of them are recorded already. An id is of a key and a request: another request with the
/// key is another decision, which somebody may have been told, and gets its own row (rule 13).
async fn known(
    connection: &mut PgConnection,
    decisions: &[(Place, TransactionRecord)],
) -> Result<HashSet<TransactionId>, Failed> {
    let ids = decisions.iter().map(|(_, record)| record.id.as_bytes().to_vec());
    let ids = ids.collect::<HashSet<_>>().into_iter().collect::<Vec<_>>();
    let rows = sqlx::query_scalar::<_, Vec<u8>>("SELECT id FROM spend_by_id WHERE id = ANY($1)");
    let rows = rows.bind(ids).fetch_all(connection).await?;
    rows.iter().map(|found| Ok(TransactionId::from_bytes(id(found)?))).collect()
}

/// The counters that are kept of the mandates of these records.
async fn kept(connection: &mut PgConnection, new: &[TransactionRecord]) -> Result<Book, Failed> {
    let mut book = Book::default();
    let charged = new.iter().filter(|record| record.verdict != Verdict::Rejected);
    let mandates = charged.filter_map(|record| record.mandate().map(|(id, _)| id));
    let mandates = mandates.collect::<HashSet<_>>();
    if mandates.is_empty() {
        return Ok(book);
    }
    let earliest = new.iter().map(|record| record.decided_at.as_microsecond()).min();
    let rows = query_as::<_, (Vec<u8>, String, i64, i64, i64, i64)>(KEPT)
        .bind(mandates.iter().map(|id| id.as_bytes().to_vec()).collect::<Vec<_>>())
        .bind(earliest.unwrap_or_default())
        .fetch_all(connection)
        .await?;
    for (mandate, subject, starts_at, ends_at, spent, held) in rows {
        let key = counter_key(MandateId::from_bytes(id(&mandate)?), &subject, starts_at)
            .ok_or_else(|| corrupt("a counter cannot be understood"))?;
        if ends_at < i64::MAX {
            book.ends.insert(key.clone(), time(ends_at)?);
        }
        book.counters.insert(key, Level { spent, held });
    }
    Ok(book)
}

/// Adds records to every kept counter that counts them, charged at the time or not; which moved.
fn count(book: &mut Book, new: &[TransactionRecord]) -> HashSet<CounterKey> {
    let mut by_mandate = HashMap::<MandateId, Vec<CounterKey>>::new();
    for key in book.counters.keys() {
        by_mandate.entry(key.mandate).or_default().push(key.clone());
    }
    let mut moved = HashSet::new();
    for record in new {
        let load = record.load();
        if load == Level::default() {
            continue;
        }
        let keys = record.mandate().and_then(|(id, _)| by_mandate.get(&id));
        for key in keys.into_iter().flatten() {
            if !key.covers(book.ends.get(key).copied(), record) {
                continue;
            }
            if let Some(level) = book.counters.get_mut(key) {
                level.spent = level.spent.saturating_add(load.spent);
                level.held = level.held.saturating_add(load.held);
                moved.insert(key.clone());
            }
        }
    }
    moved
}

/// How many microseconds an entry is written after one of a later time, at most.
fn lateness(floor: Timestamp, new: &[TransactionRecord]) -> i64 {
    let (mut latest, mut late) = (floor, 0);
    for record in new {
        latest = latest.max(record.decided_at);
        let behind = latest.duration_since(record.decided_at).as_micros();
        late = late.max(i64::try_from(behind).unwrap_or(i64::MAX));
    }
    late
}

/// Appends records to the record of their organization, with the tallies before them.
async fn insert(
    connection: &mut PgConnection,
    head: &mut Head,
    mut new: Vec<TransactionRecord>,
) -> Result<(), Failed> {
    let mandates = new.iter().filter_map(|record| record.mandate().map(|(id, _)| id));
    let mandates = mandates.collect::<HashSet<_>>();
    let rows = query_as::<_, (Vec<u8>, i64, i64, i64, i64)>(LAST)
        .bind(mandates.iter().map(|id| id.as_bytes().to_vec()).collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await?;
    let mut tallies = HashMap::<MandateId, (Tally, Timestamp)>::new();
    for (mandate, count, sum, amount, at) in rows {
        let tally = Tally { count, sum }.and(amount);
        tallies.insert(MandateId::from_bytes(id(&mandate)?), (tally, time(at)?));
    }
    // Where something was decided in Redis' absence meanwhile, at a later time than these.
    let mut late = BTreeMap::<MandateId, Timestamp>::new();
    for record in &mut new {
        let Some((mandate, _)) = record.mandate() else { continue };
        let (tally, last) = tallies.entry(mandate).or_default();
        record.tally_before = *tally;
        if record.verdict != Verdict::Rejected {
            if record.decided_at < *last {
                let since = late.entry(mandate).or_insert(record.decided_at);
                *since = record.decided_at.min(*since);
            }
            (*tally, *last) = (tally.and(record.spend.amount), record.decided_at.max(*last));
        }
    }
    append(connection, head, &new.iter().collect::<Vec<_>>()).await?;
    for (mandate, since) in late {
        let count = sqlx::query(COUNT_AGAIN)
            .bind(mandate.as_bytes().as_slice())
            .bind(since.as_microsecond());
        count.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn append(
    connection: &mut PgConnection,
    head: &mut Head,
    records: &[&TransactionRecord],
) -> Result<(), Failed> {
    save::record(connection, *head, records).await?;
    let latest = records.iter().map(|record| record.decided_at).max();
    *head = head.after(records.len(), latest.map_or(head.floor, |at| at.max(head.floor)));
    Ok(())
}

async fn spend(connection: &mut PgConnection, shard: i16, gone: &Gone) -> Result<(), Failed> {
    if gone.is_empty() {
        return Ok(());
    }
    let mandates = gone.keys().map(|(mandate, ..)| mandate.as_bytes().to_vec());
    let was_leased = sqlx::query_scalar::<_, bool>(SPEND)
        .bind(mandates.collect::<Vec<_>>())
        .bind(gone.keys().map(|(_, subject, ..)| subject.clone()).collect::<Vec<_>>())
        .bind(gone.keys().map(|(_, _, starts_at, _)| *starts_at).collect::<Vec<_>>())
        .bind(gone.keys().map(|(.., epoch)| *epoch).collect::<Vec<_>>())
        .bind(gone.values().copied().collect::<Vec<_>>())
        .bind(shard)
        .fetch_all(connection)
        .await?;
    if was_leased.contains(&false) {
        return Err(corrupt("the outbox spends what was never leased").into());
    }
    Ok(())
}
