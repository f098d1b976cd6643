//! The journal in Postgres: whichever server comes first appends, one organization at a time.
//!
//! Every server looks, and takes the head of a journal only if nobody has it, so nobody waits and
//! one that dies holds nothing. How far the record goes is read from the row under whose lock it
//! grows: all of it up to there can be seen. The commit does not wait for the disk: lost entries
//! are written again, the same. Not here: their order (`journal`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Row as _, query, query_as, query_scalar};

use super::{PART, org_of, spend_of};
use crate::audit::{ActFields, SpendFields};
use crate::domain::id::{MandateId, OrgId};
use crate::domain::journal::Mark;
use crate::domain::mandate::Mandate;
use crate::journal::{
    Composed, End, FOLLOW, Follower, Home, Look, NewAct, NewSpend, News, Position, Scribe, corrupt,
};
use crate::store::StoreError;
use crate::store::postgres::{PostgresStore, classify};

const ENDS: &str = "
SELECT journal.org_id, journal.seq,
    record.seq > journal.spend_seq OR record.act_seq > journal.act_seq
FROM journal_head journal JOIN ledger_head record ON record.org_id = journal.org_id";
const TAKE: &str = "
SELECT seq, chain, spend_seq, act_seq FROM journal_head
WHERE org_id = $1 FOR NO KEY UPDATE SKIP LOCKED";
const BOUND: &str = "SELECT seq, act_seq FROM ledger_head WHERE org_id = $1";
const SPENDS: &str = "
SELECT seq, id, org_id, agent_id, mandate_id, decided_at, verdict, amount, currency, vendor,
    category, idempotency_key, request_hash, evidence FROM spend
WHERE org_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4";
const ACTS: &str = "
SELECT seq, after_spend, at, kind, subject, actor_key, actor_role, document FROM act
WHERE org_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4";
const VERSION: &str = "
SELECT document FROM mandate WHERE id = $2 AND org_id = $1 AND version = $3
UNION ALL SELECT document FROM mandate_version
WHERE mandate_id = $2 AND org_id = $1 AND version = $3 LIMIT 1";
const REACHED: &str = "
SELECT mark.mandate_id, mark.starts_at, mark.percent, mark.limit_minor
FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[])
    AS asked (mandate_id, starts_at, percent, limit_minor)
JOIN budget_mark mark USING (mandate_id, starts_at, percent, limit_minor)";
const APPEND: &str = "
INSERT INTO journal (org_id, seq, at, kind, source, source_seq, chain, body)
SELECT $1, entry.* FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::smallint[], $6::bigint[],
    $7::bytea[], $8::text[]) AS entry";
const REACH: &str = "
INSERT INTO budget_mark (org_id, mandate_id, starts_at, percent, limit_minor)
SELECT $1, mark.* FROM unnest($2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[]) AS mark";
const MOVE: &str = "
UPDATE journal_head SET seq = $2, chain = $3, spend_seq = $4, act_seq = $5 WHERE org_id = $1";
/// For this transaction: no wait for the disk, and no table is read as a whole, whatever the
/// planner believes of a journal that is far behind.
const SETTINGS: &str = "SELECT set_config('synchronous_commit', 'off', true),
    set_config('enable_seqscan', 'off', true)";

fn failed(error: sqlx::Error) -> StoreError {
    classify(FOLLOW, error)
}

/// The follower of a Postgres database.
#[must_use]
pub fn follow_postgres(store: PostgresStore) -> Follower {
    Follower::new(Box::new(PostgresJournal {
        store,
        scribe: Scribe::default(),
        zone: Arc::default(),
        seen: HashMap::new(),
    }))
}

struct PostgresJournal {
    store: PostgresStore,
    scribe: Scribe,
    zone: Arc<str>,
    /// How far each journal was at the last look.
    seen: HashMap<OrgId, i64>,
}

#[async_trait]
impl Home for PostgresJournal {
    async fn look(&mut self) -> Result<Look, StoreError> {
        let (mut grown, mut more, mut failure) = (Vec::new(), false, None);
        let mut reading = self.store.reading(None, FOLLOW).await?;
        let ends = query_as::<_, (Vec<u8>, i64, bool)>(ENDS);
        let ends = ends.fetch_all(&mut *reading).await.map_err(failed)?;
        reading.rollback().await.map_err(failed)?;
        for (org, seq, is_behind) in ends {
            let org = org_of(&org)?;
            let (mut end, mut rest) = (seq, false);
            if is_behind {
                // One that cannot be continued does not keep the others waiting.
                match self.append(org).await {
                    Ok(appended) => (end, rest) = appended.unwrap_or((seq, false)),
                    Err(error) => failure = Some(error),
                }
            }
            more |= rest;
            if self.seen.insert(org, end) != Some(end) {
                grown.push((org, end));
            }
        }
        match failure {
            Some(error) if grown.is_empty() => Err(error),
            Some(error) => {
                tracing::warn!(?error, "one organization's journal could not be continued");
                Ok(Look { grown, more: false })
            }
            None => Ok(Look { grown, more }),
        }
    }
}

/// How far the record is read, and how far it goes.
struct Span {
    spend: (i64, i64),
    act: (i64, i64),
}

impl PostgresJournal {
    /// Appends some of what is new of one organization: the new end, and whether there is more;
    /// `None` when another server is about to.
    async fn append(&mut self, org: OrgId) -> Result<Option<(i64, bool)>, StoreError> {
        let mut writing = self.store.writing(Some(org), FOLLOW).await?;
        let head = query_as::<_, (i64, Vec<u8>, i64, i64)>(TAKE)
            .bind(org.as_bytes().as_slice())
            .fetch_optional(&mut *writing)
            .await
            .map_err(failed)?;
        let Some((seq, chain, spend, act)) = head else { return Ok(None) };
        query(SETTINGS).execute(&mut *writing).await.map_err(failed)?;
        let (spends, acts): (i64, i64) = query_as(BOUND)
            .bind(org.as_bytes().as_slice())
            .fetch_one(&mut *writing)
            .await
            .map_err(failed)?;
        let span = Span { spend: (spend, spends), act: (act, acts) };
        let end = match chain.as_slice() {
            [] => End::of_nothing(org),
            chain => End { seq, chain: chain.try_into().map_err(corrupt)? },
        };
        let news = self.read(&mut writing, org, &span).await?;
        let composed = self.compose(&mut writing, (org, end), &news).await?;
        write(&mut writing, (org, end), &composed, &span).await?;
        writing.commit().await.map_err(failed)?;
        let end = composed.ends.get(&org).copied().unwrap_or(end);
        Ok(Some((end.seq, news.more_spends || news.more_acts)))
    }

    async fn read(
        &mut self,
        connection: &mut PgConnection,
        org: OrgId,
        span: &Span,
    ) -> Result<News, StoreError> {
        let part = |sql: &'static str, (after, until): (i64, i64)| {
            query(sql).bind(org.as_bytes().to_vec()).bind(after).bind(until).bind(PART)
        };
        let rows = part(SPENDS, span.spend).fetch_all(&mut *connection).await.map_err(failed)?;
        let spends = rows.iter().map(|row| self.spend(row)).collect::<Result<Vec<_>, _>>()?;
        let rows = part(ACTS, span.act).fetch_all(&mut *connection).await.map_err(failed)?;
        let acts = rows.iter().map(|row| act(row, org)).collect::<Result<Vec<_>, _>>()?;
        let last = |read: Option<i64>, (after, until): (i64, i64)| read.unwrap_or(after) < until;
        let more_spends = last(spends.last().map(|spend| spend.seq), span.spend);
        let more_acts = last(acts.last().map(|act| act.seq), span.act);
        Ok(News { spends, acts, more_spends, more_acts })
    }

    fn spend(&mut self, row: &PgRow) -> Result<NewSpend, StoreError> {
        let fields = SpendFields {
            seq: row.try_get(0).map_err(failed)?,
            id: row.try_get(1).map_err(failed)?,
            agent_id: row.try_get(3).map_err(failed)?,
            mandate_id: row.try_get(4).map_err(failed)?,
            decided_at: row.try_get(5).map_err(failed)?,
            verdict: row.try_get(6).map_err(failed)?,
            amount: row.try_get(7).map_err(failed)?,
            currency: row.try_get(8).map_err(failed)?,
            vendor: row.try_get(9).map_err(failed)?,
            category: row.try_get(10).map_err(failed)?,
            idempotency_key: row.try_get(11).map_err(failed)?,
            request_hash: row.try_get(12).map_err(failed)?,
            evidence: row.try_get(13).map_err(failed)?,
        };
        spend_of(row.try_get(2).map_err(failed)?, &fields, &mut self.zone)
    }

    async fn compose(
        &mut self,
        connection: &mut PgConnection,
        (org, end): (OrgId, End),
        news: &News,
    ) -> Result<Composed, StoreError> {
        for (_, mandate, version) in self.scribe.unknown(news) {
            let document = query_scalar::<_, String>(VERSION)
                .bind(org.as_bytes().as_slice())
                .bind(mandate.as_bytes().as_slice())
                .bind(version)
                .fetch_optional(&mut *connection)
                .await
                .map_err(failed)?;
            if let Some(document) = document {
                let found: Mandate = serde_json::from_str(&document).map_err(corrupt)?;
                self.scribe.learn(mandate, version, found.policy.budget);
            }
        }
        let asked = self.scribe.marks(news)?;
        let reached = reached(connection, &asked).await?;
        self.scribe.compose(news, HashMap::from([(org, end)]), reached)
    }
}

fn act(row: &PgRow, org: OrgId) -> Result<NewAct, StoreError> {
    let fields = ActFields {
        seq: row.try_get(0).map_err(failed)?,
        after_spend: row.try_get(1).map_err(failed)?,
        at: row.try_get(2).map_err(failed)?,
        kind: row.try_get(3).map_err(failed)?,
        subject: row.try_get(4).map_err(failed)?,
        actor_key: row.try_get(5).map_err(failed)?,
        actor_role: row.try_get(6).map_err(failed)?,
        document: row.try_get(7).map_err(failed)?,
    };
    Ok(NewAct {
        seq: fields.seq,
        org,
        after_spend: fields.after_spend,
        at: fields.at,
        kind: fields.kind.to_owned(),
        digest: fields.digest(),
    })
}

/// Which of these marks were reached before.
async fn reached(
    connection: &mut PgConnection,
    asked: &HashSet<Mark>,
) -> Result<HashSet<Mark>, StoreError> {
    if asked.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = query_as::<_, (Vec<u8>, i64, i64, i64)>(REACHED)
        .bind(asked.iter().map(|mark| mark.mandate.as_bytes().to_vec()).collect::<Vec<_>>())
        .bind(asked.iter().map(|mark| mark.starts_at).collect::<Vec<_>>())
        .bind(asked.iter().map(|mark| mark.percent).collect::<Vec<_>>())
        .bind(asked.iter().map(|mark| mark.limit).collect::<Vec<_>>())
        .fetch_all(connection)
        .await
        .map_err(failed)?;
    let marks = rows.into_iter().map(|(mandate, starts_at, percent, limit)| {
        let mandate = MandateId::from_bytes(mandate.as_slice().try_into().map_err(corrupt)?);
        Ok(Mark { mandate, starts_at, percent, limit })
    });
    marks.collect()
}

/// Writes entries, marks and the new head.
async fn write(
    connection: &mut PgConnection,
    (org, end): (OrgId, End),
    composed: &Composed,
    span: &Span,
) -> Result<(), StoreError> {
    let rows = &composed.rows;
    let marks = rows.iter().filter_map(|row| row.mark).collect::<Vec<_>>();
    query(APPEND)
        .bind(org.as_bytes().as_slice())
        .bind(rows.iter().map(|row| row.seq).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.at).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.kind.as_ref()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.source.code()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.source_seq).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.chain.to_vec()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.body.as_deref()).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    if !marks.is_empty() {
        query(REACH)
            .bind(org.as_bytes().as_slice())
            .bind(marks.iter().map(|mark| mark.mandate.as_bytes().to_vec()).collect::<Vec<_>>())
            .bind(marks.iter().map(|mark| mark.starts_at).collect::<Vec<_>>())
            .bind(marks.iter().map(|mark| mark.percent).collect::<Vec<_>>())
            .bind(marks.iter().map(|mark| mark.limit).collect::<Vec<_>>())
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
    }
    let end = composed.ends.get(&org).copied().unwrap_or(end);
    let position = Position { spend: span.spend.0, act: span.act.0 }.after(rows);
    query(MOVE)
        .bind(org.as_bytes().as_slice())
        .bind(end.seq)
        .bind(end.chain.as_slice())
        .bind(position.spend)
        .bind(position.act)
        .execute(connection)
        .await
        .map(drop)
        .map_err(failed)
}
