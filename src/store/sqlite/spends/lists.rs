//! Reading transactions: one, a page of them, how many.
//!
//! Not here: the row's form (`spends`) and any writing.

use async_trait::async_trait;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, Row};

use super::{COLUMNS, SpendRow};
use crate::domain::id::{OrgId, TransactionId};
use crate::domain::transaction::TransactionRecord;
use crate::store::sqlite::{SqliteStore, classify};
use crate::store::{
    StoreError, StoreErrorKind, TransactionFilter, TransactionPage, TransactionStore,
};

/// A WHERE clause made of fixed pieces, and the values for its placeholders.
struct Where {
    sql: String,
    values: SqliteArguments,
}

impl Where {
    fn new(org: OrgId, filter: &TransactionFilter) -> Result<Self, StoreError> {
        let mut clause = Self { sql: String::new(), values: SqliteArguments::default() };
        clause.and("WHERE org_id = ", org.as_bytes().to_vec())?;
        if let Some(agent) = filter.agent {
            clause.and(" AND agent_id = ", agent.as_bytes().to_vec())?;
        }
        if let Some(mandate) = filter.mandate {
            clause.and(" AND mandate_id = ", mandate.as_bytes().to_vec())?;
        }
        if let Some(verdict) = filter.verdict {
            clause.and(" AND verdict = ", verdict.word().to_owned())?;
        }
        if let Some(state) = filter.state {
            clause.and(" AND state = ", state.word().to_owned())?;
        }
        if let Some(since) = filter.since {
            clause.and(" AND decided_at >= ", since.as_microsecond())?;
        }
        if let Some(until) = filter.until {
            clause.and(" AND decided_at < ", until.as_microsecond())?;
        }
        Ok(clause)
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

#[async_trait]
impl TransactionStore for SqliteStore {
    async fn transaction(
        &self,
        org: OrgId,
        id: TransactionId,
    ) -> Result<Option<TransactionRecord>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM spend WHERE id = $1 AND org_id = $2");
        let row = sqlx::query_as::<_, SpendRow>(AssertSqlSafe(sql))
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
        let mut clause = Where::new(org, &filter)?;
        if let Some(before) = page.before {
            clause.and(" AND seq < ", before)?;
        }
        // Both orders are the same, as time never runs backwards in the ledger; each has its index.
        let order = match filter.agent {
            Some(_) => " ORDER BY decided_at DESC, seq DESC LIMIT ",
            None => " ORDER BY seq DESC LIMIT ",
        };
        clause.and(order, i64::from(page.limit))?;
        clause.and(" OFFSET ", i64::from(page.skip))?;
        let sql = format!("SELECT {COLUMNS} FROM spend {}", clause.sql);
        let rows = sqlx::query_as_with::<_, SpendRow, _>(AssertSqlSafe(sql), clause.values)
            .fetch_all(self.reader())
            .await
            .map_err(|error| classify("list transactions", error))?;
        rows.into_iter().map(|row| Ok((row.seq, row.record()?))).collect()
    }

    async fn count_transactions(
        &self,
        org: OrgId,
        filter: TransactionFilter,
    ) -> Result<i64, StoreError> {
        let clause = Where::new(org, &filter)?;
        let sql = format!("SELECT count(*) AS found FROM spend {}", clause.sql);
        sqlx::query_with(AssertSqlSafe(sql), clause.values)
            .fetch_one(self.reader())
            .await
            .and_then(|row| row.try_get("found"))
            .map_err(|error| classify("count transactions", error))
    }
}
