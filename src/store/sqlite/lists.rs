//! Reading transactions: one, a page of them, how many.
//!
//! An agent's newest entries are found in the record's tail, the older ones by their index. Not
//! here: the row's form (`sql::spends`) and any writing.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, Row};

use crate::domain::id::{AgentId, OrgId, TransactionId};
use crate::domain::transaction::TransactionRecord;
use crate::store::sql::spends::{COLUMNS, DUE, SpendRow, due};
use crate::store::sqlite::{SqliteStore, classify};
use crate::store::{
    StoreError, StoreErrorKind, TOTAL_MAX, TransactionFilter, TransactionPage, TransactionStore,
};

/// A WHERE clause made of fixed pieces, and the values for its placeholders.
struct Where {
    sql: String,
    values: SqliteArguments,
}

impl Where {
    fn new(source: &Source) -> Result<Self, StoreError> {
        let mut clause = Self { sql: String::new(), values: SqliteArguments::default() };
        match source {
            Source::Record => clause.sql.push_str("FROM (SELECT *, seq AS place FROM spend)"),
            Source::Indexed(agent) => {
                let by_agent = "FROM (SELECT seq AS place FROM spend_by_agent WHERE agent_id = ";
                clause.and(by_agent, agent.as_bytes().to_vec())?;
                clause.sql.push_str(") CROSS JOIN spend ON spend.seq = place");
            }
            Source::Places(places) => {
                clause.and("FROM (SELECT value AS place FROM json_each(", places.clone())?;
                clause.sql.push_str(")) CROSS JOIN spend ON spend.seq = place");
            }
        }
        Ok(clause)
    }

    /// What a list is about.
    fn about(
        org: OrgId,
        filter: &TransactionFilter,
        source: &Source,
        bounds: Bounds,
    ) -> Result<Self, StoreError> {
        let mut clause = Self::new(source)?;
        clause.and(" WHERE org_id = ", org.as_bytes().to_vec())?;
        if let Some(mandate) = filter.mandate {
            clause.and(" AND mandate_id = ", mandate.as_bytes().to_vec())?;
        }
        if let Some(verdict) = filter.verdict {
            clause.is("verdict", verdict.word());
        }
        if let Some(state) = filter.state {
            // As a text of the statement: an index of some states is used only so.
            clause.is("state", state.word());
        }
        if filter.answered {
            clause.sql.push_str(" AND state <> 'pending_approval'");
        }
        if let Some(from) = bounds.from {
            clause.and(" AND place >= ", from)?;
        }
        if let Some(before) = bounds.before {
            clause.and(" AND place < ", before)?;
        }
        Ok(clause)
    }

    fn is(&mut self, column: &'static str, word: &'static str) {
        self.sql.push_str(&format!(" AND {column} = '{word}'"));
    }

    fn and<'q, T>(&mut self, piece: &'static str, value: T) -> Result<(), StoreError>
    where
        T: sqlx::Encode<'q, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        self.sql.push_str(piece);
        self.values.add(value).map_err(|error| {
            StoreError::new(StoreErrorKind::Corrupt, "list transactions", error)
        })?;
        self.sql.push_str(&format!("${}", self.values.len()));
        Ok(())
    }
}

/// Which part of the record a list is about.
#[derive(Clone, Copy, Default)]
struct Bounds {
    from: Option<i64>,
    before: Option<i64>,
}

impl Bounds {
    /// The part of it before a place.
    fn until(self, place: Option<i64>) -> Self {
        Self { before: self.before.into_iter().chain(place).min(), ..self }
    }
}

/// Where the entries of a list are found.
enum Source {
    /// In the whole record.
    Record,
    /// In the index of an agent.
    Indexed(AgentId),
    /// At these places, as a JSON array.
    Places(String),
}

impl Source {
    /// The places of an agent's entries that its index does not have yet.
    fn waiting(store: &SqliteStore, agent: AgentId) -> (Self, Option<i64>) {
        let places = store.tail().of_agent(agent);
        let oldest = places.first().copied();
        let places = places.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        (Self::Places(format!("[{places}]")), oldest)
    }
}

/// The sequence number of the first entry at or after a time: time never runs backwards in the
/// record, so it is found by halving.
const FIRST_AT: &str = "
WITH RECURSIVE search (low, high) AS (
    SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) + 1 FROM spend
    UNION ALL SELECT
        iif((SELECT decided_at FROM spend WHERE seq = (low + high) / 2) < $1,
            (low + high) / 2 + 1, low),
        iif((SELECT decided_at FROM spend WHERE seq = (low + high) / 2) < $1,
            high, (low + high) / 2)
    FROM search WHERE low < high)
SELECT max(low) FROM search";

impl SqliteStore {
    async fn first_at(&self, time: Timestamp) -> Result<i64, StoreError> {
        sqlx::query_scalar(FIRST_AT)
            .bind(time.as_microsecond())
            .fetch_one(self.reader())
            .await
            .map_err(|error| classify("find a time in the record", error))
    }

    /// The times of a filter, as places in the record.
    async fn bounds(&self, filter: &TransactionFilter) -> Result<Bounds, StoreError> {
        let mut bounds = Bounds::default();
        if let Some(since) = filter.since {
            bounds.from = Some(self.first_at(since).await?);
        }
        if let Some(until) = filter.until {
            bounds.before = Some(self.first_at(until).await?);
        }
        Ok(bounds)
    }

    async fn list(
        &self,
        mut clause: Where,
        (skip, limit): (u32, u32),
    ) -> Result<Vec<SpendRow>, StoreError> {
        clause.and(" ORDER BY place DESC LIMIT ", i64::from(limit))?;
        clause.and(" OFFSET ", i64::from(skip))?;
        let sql = format!("SELECT {COLUMNS} {}", clause.sql);
        sqlx::query_as_with::<_, SpendRow, _>(AssertSqlSafe(sql), clause.values)
            .fetch_all(self.reader())
            .await
            .map_err(|error| classify("list transactions", error))
    }

    async fn count(&self, mut clause: Where) -> Result<i64, StoreError> {
        clause.and(" LIMIT ", TOTAL_MAX)?;
        let sql = format!("SELECT count(*) AS found FROM (SELECT 1 {})", clause.sql);
        sqlx::query_with(AssertSqlSafe(sql), clause.values)
            .fetch_one(self.reader())
            .await
            .and_then(|row| row.try_get("found"))
            .map_err(|error| classify("count transactions", error))
    }
}

#[async_trait]
impl TransactionStore for SqliteStore {
    async fn transaction(
        &self,
        org: OrgId,
        id: TransactionId,
    ) -> Result<Option<TransactionRecord>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM spend
             WHERE seq = coalesce($1, (SELECT seq FROM spend_by_id WHERE id = $2))
             AND id = $2 AND org_id = $3"
        );
        let waiting = self.tail().find(id);
        let row = sqlx::query_as::<_, SpendRow>(AssertSqlSafe(sql))
            .bind(waiting)
            .bind(id.as_bytes().as_slice())
            .bind(org.as_bytes().as_slice())
            .fetch_optional(self.reader())
            .await
            .map_err(|error| classify("read a transaction", error))?;
        row.map(SpendRow::record).transpose()
    }

    async fn transactions(
        &self,
        org: OrgId,
        filter: TransactionFilter,
        page: TransactionPage,
    ) -> Result<Vec<(i64, TransactionRecord)>, StoreError> {
        let TransactionPage { before, skip, limit } = page;
        let bounds = self.bounds(&filter).await?.until(before);
        let about = |source, bounds| Where::about(org, &filter, source, bounds);
        let Some(agent) = filter.agent else {
            let rows = self.list(about(&Source::Record, bounds)?, (skip, limit)).await?;
            return rows.into_iter().map(|row| Ok((row.seq, row.record()?))).collect();
        };
        let (waiting, oldest) = Source::waiting(self, agent);
        let wanted = skip.saturating_add(limit);
        let mut rows = self.list(about(&waiting, bounds)?, (0, wanted)).await?;
        let found = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        rows.drain(..usize::try_from(skip.min(found)).unwrap_or(rows.len()));
        if found < wanted {
            // What the index has is older than all that waits.
            let older = about(&Source::Indexed(agent), bounds.until(oldest))?;
            let rest = (skip.saturating_sub(found), wanted.saturating_sub(found).min(limit));
            rows.extend(self.list(older, rest).await?);
        }
        rows.into_iter().map(|row| Ok((row.seq, row.record()?))).collect()
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
            .fetch_all(self.reader())
            .await
            .map_err(|error| classify(FIND, error))?;
        rows.into_iter().map(|(org, id)| due(&org, &id)).collect()
    }

    async fn count_transactions(
        &self,
        org: OrgId,
        filter: TransactionFilter,
    ) -> Result<i64, StoreError> {
        let bounds = self.bounds(&filter).await?;
        let about = |source, bounds| Where::about(org, &filter, source, bounds);
        let Some(agent) = filter.agent else {
            return self.count(about(&Source::Record, bounds)?).await;
        };
        let (waiting, oldest) = Source::waiting(self, agent);
        let new = self.count(about(&waiting, bounds)?).await?;
        let old = self.count(about(&Source::Indexed(agent), bounds.until(oldest))?).await?;
        Ok(new.saturating_add(old).min(TOTAL_MAX))
    }
}
