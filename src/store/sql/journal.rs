//! Reading the journal: a part of it, then the decisions and acts that it is about, by number.
//!
//! Not here: appending (`journal`), and what an entry means to others (`engine`).

use async_trait::async_trait;
use sqlx::{FromRow, Row};

use super::super::{Store, failed};
use super::statement::{
    COUNT_ACTS, COUNT_JOURNAL, COUNT_SPENDS, JOURNAL_END, KEEP_CHECKPOINT, LIST_CHECKPOINTS,
    LIST_JOURNAL, READ_ACTS, READ_DECISIONS, READ_SPENDS,
};
use super::{DriverConnection, DriverRow, from_bytes, from_micros};
use crate::domain::act::{ActKind, ActRecord};
use crate::domain::actor::Actor;
use crate::domain::id::{KeyId, OrgId};
use crate::store::sql::spends::SpendRow;
use crate::store::{
    ActColumns, EntryContent, Fact, Happening, JournalCount, JournalEntry, JournalStore,
    SpendColumns, StoreError, StoreErrorKind, StoredCheckpoint,
};

const READ: &str = "read the journal";

/// Rows that one statement counts: none takes long, however long a record is.
const COUNTED_AT_ONCE: i64 = 100_000;

/// The numbers up to this one in parts, each behind its first number and through its second.
fn parts(end: i64) -> impl Iterator<Item = (i64, i64)> + Send {
    let next = move |after: &i64| Some(after.saturating_add(COUNTED_AT_ONCE));
    let begins = std::iter::successors(Some(0), next).take_while(move |after| *after < end);
    begins.map(move |after| (after, after.saturating_add(COUNTED_AT_ONCE).min(end)))
}

/// An entry without its content.
struct Head {
    seq: i64,
    at: i64,
    kind: String,
    source: i16,
    source_seq: i64,
    chain: [u8; 32],
    body: Option<String>,
}

/// A part of the journal, and what it is about, each in the order of its numbers.
struct Part<T> {
    heads: Vec<Head>,
    spends: Vec<T>,
    acts: Vec<ActColumns>,
}

#[async_trait]
impl JournalStore for Store {
    async fn journal_end(&self, org: OrgId) -> Result<Option<(i64, [u8; 32])>, StoreError> {
        let row = sqlx::query(JOURNAL_END)
            .bind(org.as_bytes().as_slice())
            .fetch_optional(&mut *self.reading(Some(org), READ).await?)
            .await
            .map_err(failed(READ))?;
        row.map(|row| Ok((get(&row, 0)?, from_bytes(get(&row, 1)?, READ)?))).transpose()
    }

    async fn journal(
        &self,
        org: OrgId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<JournalEntry>, StoreError> {
        // Only what a digest covers: an export reads millions of them.
        let part = self.part((org, after, limit), READ_DECISIONS, decision).await?;
        let mut spends = part.spends.into_iter().peekable();
        let mut acts = part.acts.into_iter().peekable();
        let entries = part.heads.into_iter().map(|head| {
            let Head { seq, at, kind, source, source_seq, chain, body } = head;
            let content = match source {
                1 => find(&mut spends, source_seq, |spend| spend.seq)
                    .map(|spend| EntryContent::Spend(Box::new(spend))),
                2 => find(&mut acts, source_seq, |act| act.seq)
                    .map(|act| EntryContent::Act(Box::new(act))),
                _ => body.map(EntryContent::Derived),
            };
            let content = content.unwrap_or(EntryContent::Missing);
            JournalEntry { seq, at, kind, source, source_seq, chain, content }
        });
        Ok(entries.collect())
    }

    async fn happenings(
        &self,
        org: OrgId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Happening>, StoreError> {
        let whole = |row: &DriverRow| SpendRow::from_row(row).map_err(failed(READ));
        let part = self.part((org, after, limit), READ_SPENDS, whole).await?;
        let mut spends = part.spends.into_iter().peekable();
        let mut acts = part.acts.into_iter().peekable();
        let happenings = part.heads.into_iter().map(|head| {
            let gone = || corrupt("an entry of the journal is about nothing");
            let fact = match head.source {
                1 => {
                    let spend = find(&mut spends, head.source_seq, |spend| spend.seq);
                    Fact::Spend(Box::new(spend.ok_or_else(gone)?.record()?))
                }
                2 => {
                    let act = find(&mut acts, head.source_seq, |act| act.seq);
                    Fact::Act(Box::new(record_of(org, act.ok_or_else(gone)?)?))
                }
                _ => Fact::Derived(head.body.ok_or_else(gone)?),
            };
            Ok(Happening { seq: head.seq, at: from_micros(head.at, READ)?, kind: head.kind, fact })
        });
        happenings.collect()
    }

    async fn count_journal(&self, org: OrgId) -> Result<JournalCount, StoreError> {
        let end = self.journal_end(org).await?.map_or(0, |(seq, _)| seq);
        let mut counted = JournalCount::default();
        let add = |(count, last): &mut (i64, i64), (more, latest): (i64, i64)| {
            (*count, *last) = (count.saturating_add(more), latest.max(*last));
        };
        let count = |row: &DriverRow| {
            add(&mut counted.spends, (get(row, 0)?, get(row, 1)?));
            add(&mut counted.acts, (get(row, 2)?, get(row, 3)?));
            Ok(())
        };
        self.count_in_parts(COUNT_JOURNAL, org, end, count).await?;
        Ok(counted)
    }

    async fn count_recorded(
        &self,
        org: OrgId,
        spend: i64,
        act: i64,
    ) -> Result<(i64, i64), StoreError> {
        let (mut spends, mut acts) = (0_i64, 0_i64);
        for (sql, end, counted) in
            [(COUNT_SPENDS, spend, &mut spends), (COUNT_ACTS, act, &mut acts)]
        {
            let count = |row: &DriverRow| {
                *counted = counted.saturating_add(get(row, 0)?);
                Ok(())
            };
            self.count_in_parts(sql, org, end, count).await?;
        }
        Ok((spends, acts))
    }

    async fn checkpoints(
        &self,
        org: OrgId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<StoredCheckpoint>, StoreError> {
        let rows = sqlx::query(LIST_CHECKPOINTS)
            .bind(org.as_bytes().as_slice())
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&mut *self.reading(Some(org), READ).await?)
            .await
            .map_err(failed(READ))?;
        let checkpoint = |row: &DriverRow| {
            Ok(StoredCheckpoint {
                seq: get(row, 0)?,
                chain: from_bytes(get(row, 1)?, READ)?,
                at: get(row, 2)?,
                key_id: get(row, 3)?,
                signature: get(row, 4)?,
            })
        };
        rows.iter().map(checkpoint).collect()
    }

    async fn keep_checkpoint(
        &self,
        org: OrgId,
        checkpoint: StoredCheckpoint,
    ) -> Result<bool, StoreError> {
        const KEEP: &str = "keep a checkpoint";
        let mut writing = self.begin_for(&[org], KEEP).await?;
        let connection: &mut DriverConnection = &mut writing;
        let kept = sqlx::query(KEEP_CHECKPOINT)
            .bind(org.as_bytes().as_slice())
            .bind(checkpoint.seq)
            .bind(checkpoint.chain.as_slice())
            .bind(checkpoint.at)
            .bind(&checkpoint.key_id)
            .bind(&checkpoint.signature)
            .execute(connection)
            .await
            .map_err(failed(KEEP))?;
        self.finish(writing, KEEP).await?;
        Ok(kept.rows_affected() == 1)
    }
}

impl Store {
    /// Counts in the numbers up to this one, a part at a time: a statement gives one row for each.
    async fn count_in_parts(
        &self,
        sql: &'static str,
        org: OrgId,
        end: i64,
        mut add: impl FnMut(&DriverRow) -> Result<(), StoreError> + Send,
    ) -> Result<(), StoreError> {
        for (after, through) in parts(end) {
            let row = sqlx::query(sql)
                .bind(org.as_bytes().as_slice())
                .bind(after)
                .bind(through)
                .fetch_one(&mut *self.reading(Some(org), READ).await?)
                .await
                .map_err(failed(READ))?;
            add(&row)?;
        }
        Ok(())
    }

    async fn part<T: Send>(
        &self,
        (org, after, limit): (OrgId, i64, u32),
        spends: &'static str,
        spend: impl Fn(&DriverRow) -> Result<T, StoreError> + Send,
    ) -> Result<Part<T>, StoreError> {
        let mut reading = self.reading(Some(org), READ).await?;
        let rows = sqlx::query(LIST_JOURNAL)
            .bind(org.as_bytes().as_slice())
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&mut *reading)
            .await
            .map_err(failed(READ))?;
        let heads = rows.iter().map(head).collect::<Result<Vec<_>, _>>()?;
        let spends = match span(&heads, 1) {
            None => Vec::new(),
            Some((first, last)) => {
                let rows = sqlx::query(spends)
                    .bind(org.as_bytes().as_slice())
                    .bind(first)
                    .bind(last)
                    .fetch_all(&mut *reading)
                    .await
                    .map_err(failed(READ))?;
                rows.iter().map(spend).collect::<Result<Vec<_>, _>>()?
            }
        };
        let acts = match span(&heads, 2) {
            None => Vec::new(),
            Some(span) => acts(&mut reading, org, span).await?,
        };
        Ok(Part { heads, spends, acts })
    }
}

/// The next one with this number. Those before it are not in the journal, as a verification tells.
fn find<T>(
    of: &mut std::iter::Peekable<impl Iterator<Item = T>>,
    number: i64,
    number_of: impl Fn(&T) -> i64,
) -> Option<T> {
    while of.next_if(|one| number_of(one) < number).is_some() {}
    of.next_if(|one| number_of(one) == number)
}

/// The first and the last number that entries of a source are about.
fn span(heads: &[Head], source: i16) -> Option<(i64, i64)> {
    let mut numbers = heads.iter().filter(|head| head.source == source).map(|head| head.source_seq);
    let first = numbers.next()?;
    Some((first, numbers.next_back().unwrap_or(first)))
}

async fn acts(
    connection: &mut DriverConnection,
    org: OrgId,
    (first, last): (i64, i64),
) -> Result<Vec<ActColumns>, StoreError> {
    let rows = sqlx::query(READ_ACTS)
        .bind(org.as_bytes().as_slice())
        .bind(first)
        .bind(last)
        .fetch_all(connection)
        .await
        .map_err(failed(READ))?;
    rows.iter().map(act).collect()
}

fn get<'r, T>(row: &'r DriverRow, column: usize) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, super::super::Driver> + sqlx::Type<super::super::Driver>,
{
    row.try_get(column).map_err(failed(READ))
}

fn decision(row: &DriverRow) -> Result<SpendColumns, StoreError> {
    Ok(SpendColumns {
        seq: get(row, 0)?,
        id: get(row, 1)?,
        agent_id: get(row, 2)?,
        mandate_id: get(row, 3)?,
        decided_at: get(row, 4)?,
        verdict: get(row, 5)?,
        amount: get(row, 6)?,
        currency: get(row, 7)?,
        vendor: get(row, 8)?,
        category: get(row, 9)?,
        idempotency_key: get(row, 10)?,
        request_hash: get(row, 11)?,
        evidence: get(row, 12)?,
    })
}

fn head(row: &DriverRow) -> Result<Head, StoreError> {
    Ok(Head {
        seq: get(row, 0)?,
        at: get(row, 1)?,
        kind: get(row, 2)?,
        source: get(row, 3)?,
        source_seq: get(row, 4)?,
        chain: from_bytes(get(row, 5)?, READ)?,
        body: get(row, 6)?,
    })
}

fn act(row: &DriverRow) -> Result<ActColumns, StoreError> {
    Ok(ActColumns {
        seq: get(row, 0)?,
        after_spend: get(row, 1)?,
        at: get(row, 2)?,
        kind: get(row, 3)?,
        subject: get(row, 4)?,
        actor_key: get(row, 5)?,
        actor_role: get(row, 6)?,
        document: get(row, 7)?,
    })
}

/// What the columns of an act say.
fn record_of(org_id: OrgId, act: ActColumns) -> Result<ActRecord, StoreError> {
    let unknown = || corrupt("an act of a kind or an actor that is not known");
    let key = act.actor_key.as_deref().map(|key| from_bytes(key, READ)).transpose()?;
    Ok(ActRecord {
        org_id,
        kind: ActKind::of(&act.kind).ok_or_else(unknown)?,
        subject: from_bytes(&act.subject, READ)?,
        actor: Actor::of(key.map(KeyId::from_bytes), &act.actor_role).ok_or_else(unknown)?,
        at: from_micros(act.at, READ)?,
        document: act.document,
    })
}

fn corrupt(why: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, READ, why)
}
