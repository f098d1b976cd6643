//! Reading mandates, their versions, and what one decision needs.
//!
//! The present version is in `mandate`, the ones before it in `mandate_version`: a decision looks
//! only at the first. Not here: how versions are written (`write`).

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::Row;

use super::super::{Store, failed};
use super::statement::{
    LIST_DURABILITIES, LIST_MANDATE_VERSIONS, LIST_MANDATES, LIST_MANDATES_BY_AGENT,
    LIST_MANDATES_BY_STATUS, LIST_MANDATES_OVER, READ_MANDATE, READ_MANDATE_VERSION, READ_SNAPSHOT,
};
use super::{DriverRow, before_id, from_document, from_documents};
use crate::domain::durability::Durability;
use crate::domain::id::{AgentId, MandateId, OrgId};
use crate::domain::mandate::{Mandate, MandateStatus};
use crate::store::{MandateFilter, MandateStore, Page, Snapshot, StoreError, StoreErrorKind};

#[async_trait]
impl MandateStore for Store {
    async fn mandate(&self, org: OrgId, id: MandateId) -> Result<Option<Mandate>, StoreError> {
        const READ: &str = "read a mandate";
        let document: Option<String> = sqlx::query_scalar(READ_MANDATE)
            .bind(org.as_bytes().as_slice())
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&mut *self.reading(Some(org), READ).await?)
            .await
            .map_err(failed(READ))?;
        document.map(|document| from_document(&document, READ)).transpose()
    }

    async fn mandate_version(
        &self,
        org: OrgId,
        id: MandateId,
        version: i64,
    ) -> Result<Option<Mandate>, StoreError> {
        const READ: &str = "read a version of a mandate";
        let document: Option<String> = sqlx::query_scalar(READ_MANDATE_VERSION)
            .bind(org.as_bytes().as_slice())
            .bind(id.as_bytes().as_slice())
            .bind(version)
            .fetch_optional(&mut *self.reading(Some(org), READ).await?)
            .await
            .map_err(failed(READ))?;
        document.map(|document| from_document(&document, READ)).transpose()
    }

    async fn mandates_over(&self, at: Timestamp, limit: u32) -> Result<Vec<Mandate>, StoreError> {
        const LIST: &str = "list mandates that are over";
        let mut reading = self.reading(None, LIST).await?;
        if let Some(sql) = super::super::dialect::BY_INDEX {
            sqlx::query(sql).execute(&mut *reading).await.map_err(failed(LIST))?;
        }
        let documents: Vec<String> = sqlx::query_scalar(LIST_MANDATES_OVER)
            .bind(at.to_string())
            .bind(i64::from(limit))
            .fetch_all(&mut *reading)
            .await
            .map_err(failed(LIST))?;
        from_documents(&documents, LIST)
    }

    async fn durabilities(&self) -> Result<Vec<Durability>, StoreError> {
        const LIST: &str = "list the durabilities that mandates ask for";
        let mut reading = self.reading(None, LIST).await?;
        if let Some(sql) = super::super::dialect::BY_INDEX {
            sqlx::query(sql).execute(&mut *reading).await.map_err(failed(LIST))?;
        }
        let words: Vec<String> = sqlx::query_scalar(LIST_DURABILITIES)
            .fetch_all(&mut *reading)
            .await
            .map_err(failed(LIST))?;
        let unknown = || StoreError::new(StoreErrorKind::Corrupt, LIST, "no such durability");
        words.iter().map(|word| Durability::of(word).ok_or_else(unknown)).collect()
    }

    async fn mandate_versions(
        &self,
        org: OrgId,
        id: MandateId,
        page: Page,
    ) -> Result<Vec<Mandate>, StoreError> {
        const LIST: &str = "list the versions of a mandate";
        let before = match &page.after {
            None => i64::MAX,
            Some(after) => after.parse().map_err(|_| StoreError::conflict(LIST))?,
        };
        let documents: Vec<String> = sqlx::query_scalar(LIST_MANDATE_VERSIONS)
            .bind(org.as_bytes().as_slice())
            .bind(id.as_bytes().as_slice())
            .bind(before)
            .bind(i64::from(page.limit))
            .fetch_all(&mut *self.reading(Some(org), LIST).await?)
            .await
            .map_err(failed(LIST))?;
        from_documents(&documents, LIST)
    }

    async fn mandates(
        &self,
        org: OrgId,
        filter: MandateFilter,
        page: Page,
    ) -> Result<Vec<Mandate>, StoreError> {
        const LIST: &str = "list mandates";
        let sql = match filter {
            MandateFilter { agent: Some(_), status: _ } => LIST_MANDATES_BY_AGENT,
            MandateFilter { agent: None, status: Some(_) } => LIST_MANDATES_BY_STATUS,
            MandateFilter { agent: None, status: None } => LIST_MANDATES,
        };
        let mut query = sqlx::query_scalar(sql)
            .bind(org.as_bytes().as_slice())
            .bind(before_id(&page, LIST)?)
            .bind(i64::from(page.limit));
        if filter.agent.is_some() || filter.status.is_some() {
            query = query.bind(filter.status.map(MandateStatus::word));
        }
        if let Some(agent) = &filter.agent {
            query = query.bind(agent.as_bytes().as_slice());
        }
        let documents: Vec<String> = query
            .fetch_all(&mut *self.reading(Some(org), LIST).await?)
            .await
            .map_err(failed(LIST))?;
        from_documents(&documents, LIST)
    }

    async fn snapshot(
        &self,
        org: OrgId,
        agent: AgentId,
        named: Option<MandateId>,
    ) -> Result<Option<Snapshot>, StoreError> {
        let row = sqlx::query(READ_SNAPSHOT)
            .bind(org.as_bytes().as_slice())
            .bind(agent.as_bytes().as_slice())
            .bind(named.as_ref().map(|id| id.as_bytes().as_slice()))
            .fetch_optional(&mut *self.reading(Some(org), SNAPSHOT).await?)
            .await
            .map_err(failed(SNAPSHOT))?;
        row.as_ref().map(snapshot).transpose()
    }
}

const SNAPSHOT: &str = "read what a decision needs";

fn snapshot(row: &DriverRow) -> Result<Snapshot, StoreError> {
    let mandate: Option<&str> = row.try_get(2).map_err(failed(SNAPSHOT))?;
    Ok(Snapshot {
        org: from_document(row.try_get(0).map_err(failed(SNAPSHOT))?, SNAPSHOT)?,
        agent: from_document(row.try_get(1).map_err(failed(SNAPSHOT))?, SNAPSHOT)?,
        mandate: mandate.map(|document| from_document(document, SNAPSHOT)).transpose()?,
    })
}
