//! Reading transactions: one, a page of them, how many.
//!
//! An organization's record is dense and in the order of time, but for what was decided in Redis
//! and came late: so a time is a place in it, give or take how late. Not here: the row's form
//! (`sql::spends`) and any writing.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Postgres, QueryBuilder};

use super::{PostgresStore, failed, rows_at};
use crate::domain::id::{AgentId, OrgId, TransactionId};
use crate::domain::transaction::TransactionRecord;
use crate::store::sql::spends::{COLUMNS, DUE, SpendRow, due};
use crate::store::{StoreError, TOTAL_MAX, TransactionFilter, TransactionPage, TransactionStore};

/// The sequence number of the first entry at or after a time, found by halving.
const FIRST_AT: &str = "
WITH RECURSIVE search (low, high) AS (
    SELECT 1::bigint, coalesce(max(seq), 0) + 1 FROM spend_by_id WHERE org_id = $1
    UNION ALL
    SELECT CASE WHEN found.decided_at < $2 THEN halved.middle + 1 ELSE halved.low END,
        CASE WHEN found.decided_at < $2 THEN halved.high ELSE halved.middle END
    FROM (SELECT low, high, (low + high) / 2 AS middle FROM search WHERE low < high) halved
    JOIN spend_by_id found ON found.org_id = $1 AND found.seq = halved.middle)
SELECT max(low) FROM search";

const LATENESS: &str = "SELECT late_micros FROM ledger_head WHERE org_id = $1";

/// How much later than its time an entry of the record may stand.
async fn lateness(reading: &mut PgConnection, org: OrgId) -> Result<SignedDuration, StoreError> {
    let late: Option<i64> = sqlx::query_scalar(LATENESS)
        .bind(org.as_bytes().as_slice())
        .fetch_optional(reading)
        .await
        .map_err(failed("find a time in the record"))?;
    Ok(SignedDuration::from_micros(late.unwrap_or_default()))
}

impl PostgresStore {
    async fn first_at(
        &self,
        reading: &mut PgConnection,
        (org, time): (OrgId, Timestamp),
    ) -> Result<i64, StoreError> {
        sqlx::query_scalar(FIRST_AT)
            .bind(org.as_bytes().as_slice())
            .bind(time.as_microsecond())
            .fetch_one(reading)
            .await
            .map_err(failed("find a time in the record"))
    }

    /// What a list is about: its filter, and times as places in the record.
    async fn matching(
        &self,
        reading: &mut PgConnection,
        what: &str,
        (org, filter): (OrgId, &TransactionFilter),
    ) -> Result<QueryBuilder<Postgres>, StoreError> {
        let mut query = QueryBuilder::new(format!("SELECT {what} FROM spend WHERE org_id = "));
        query.push_bind(org.as_bytes().to_vec());
        if let Some(agent) = filter.agent {
            query.push(" AND agent_id = ").push_bind(agent.as_bytes().to_vec());
        }
        if let Some(mandate) = filter.mandate {
            query.push(" AND mandate_id = ").push_bind(mandate.as_bytes().to_vec());
        }
        if let Some(verdict) = filter.verdict {
            query.push(" AND verdict = '").push(verdict.word()).push("'");
        }
        if let Some(state) = filter.state {
            // As a text of the statement: an index of some states is used only so.
            query.push(" AND state = '").push(state.word()).push("'");
        }
        if filter.answered {
            query.push(" AND state <> 'pending_approval'");
        }
        if filter.since.is_none() && filter.until.is_none() {
            return Ok(query);
        }
        // Halving finds a place in front of which everything is earlier by so much, and behind
        // which everything is later: between the two each entry is looked at.
        let late = lateness(reading, org).await?;
        if let Some(since) = filter.since {
            let from = since.saturating_sub(late).unwrap_or(since);
            query.push(" AND seq >= ").push_bind(self.first_at(reading, (org, from)).await?);
            query.push(" AND decided_at >= ").push_bind(since.as_microsecond());
        }
        if let Some(until) = filter.until {
            let to = until.saturating_add(late).unwrap_or(until);
            query.push(" AND seq < ").push_bind(self.first_at(reading, (org, to)).await?);
            query.push(" AND decided_at < ").push_bind(until.as_microsecond());
        }
        Ok(query)
    }
}

#[async_trait]
impl TransactionStore for PostgresStore {
    async fn transaction(
        &self,
        org: OrgId,
        id: TransactionId,
    ) -> Result<Option<TransactionRecord>, StoreError> {
        const READ: &str = "read a transaction";
        let sql = rows_at("SELECT * FROM spend_by_id WHERE id = $1 AND org_id = $2");
        let row = sqlx::query_as::<_, SpendRow>(AssertSqlSafe(sql))
            .bind(id.as_bytes().as_slice())
            .bind(org.as_bytes().as_slice())
            .fetch_optional(&mut *self.reading(Some(org), READ).await?)
            .await
            .map_err(failed(READ))?;
        row.map(SpendRow::record).transpose()
    }

    async fn transaction_of_key(
        &self,
        org: OrgId,
        id: TransactionId,
        (agent, key): (AgentId, &str),
    ) -> Result<Option<TransactionRecord>, StoreError> {
        const READ: &str = "read a transaction";
        let used = rows_at(
            "SELECT * FROM spend_by_id WHERE id >= $1 AND id <= $2 AND org_id = $3
            ORDER BY id LIMIT 16",
        );
        let sql = format!("{used} WHERE agent_id = $4 AND idempotency_key = $5");
        let ends = [0, u8::MAX].map(|end| [id.key_part(), [end; 8]].concat());
        let [low, high] = ends;
        let rows = sqlx::query_as::<_, SpendRow>(AssertSqlSafe(sql))
            .bind(low)
            .bind(high)
            .bind(org.as_bytes().as_slice())
            .bind(agent.as_bytes().as_slice())
            .bind(key)
            .fetch_all(&mut *self.reading(Some(org), READ).await?)
            .await
            .map_err(failed(READ))?;
        let first = rows.into_iter().min_by_key(|row| row.seq);
        first.map(SpendRow::record).transpose()
    }

    async fn transactions(
        &self,
        org: OrgId,
        filter: TransactionFilter,
        page: TransactionPage,
    ) -> Result<Vec<(i64, TransactionRecord)>, StoreError> {
        const LIST: &str = "list transactions";
        let mut reading = self.reading(Some(org), LIST).await?;
        let mut query = self.matching(&mut reading, COLUMNS, (org, &filter)).await?;
        if let Some(before) = page.before {
            query.push(" AND seq < ").push_bind(before);
        }
        query.push(" ORDER BY seq DESC LIMIT ").push_bind(i64::from(page.limit));
        query.push(" OFFSET ").push_bind(i64::from(page.skip));
        let rows = query.build_query_as::<SpendRow>().fetch_all(&mut *reading).await;
        let rows = rows.map_err(failed(LIST))?;
        rows.into_iter().map(|row| Ok((row.seq, row.record()?))).collect()
    }

    async fn lateness(&self, org: OrgId) -> Result<SignedDuration, StoreError> {
        lateness(&mut *self.reading(Some(org), "find a time in the record").await?, org).await
    }

    async fn due_transactions(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<(OrgId, TransactionId)>, StoreError> {
        const FIND: &str = "find what is due";
        let rows = sqlx::query_as::<_, (Vec<u8>, Vec<u8>)>(DUE)
            .bind(now.as_microsecond())
            .bind(i64::from(limit))
            .fetch_all(&mut *self.reading(None, FIND).await?)
            .await
            .map_err(failed(FIND))?;
        rows.into_iter().map(|(org, id)| due(&org, &id)).collect()
    }

    async fn count_transactions(
        &self,
        org: OrgId,
        filter: TransactionFilter,
    ) -> Result<i64, StoreError> {
        const COUNT: &str = "count transactions";
        let mut reading = self.reading(Some(org), COUNT).await?;
        let what = "count(*) FROM (SELECT 1";
        let mut query = self.matching(&mut reading, what, (org, &filter)).await?;
        query.push(" LIMIT ").push_bind(TOTAL_MAX).push(") AS found");
        let counted = query.build_query_scalar().fetch_one(&mut *reading).await;
        counted.map_err(failed(COUNT))
    }
}
