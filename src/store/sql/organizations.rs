//! Reading organizations, their signing keys and receipts, and agents.
//!
//! Not here: how they are written (`write`), and unsealing a signing key (`crypto`).

use async_trait::async_trait;
use sqlx::Row;

use super::super::{Store, failed};
use super::statement::{
    HAS_OPEN_HOLDS, LIST_AGENTS, LIST_AGENTS_BY_STATUS, LIST_ORGS, READ_AGENT, READ_ORG,
    READ_RECEIPT, READ_SIGNING_KEYS,
};
use super::{from_bytes, from_document, from_documents, from_micros};
use crate::domain::agent::{Agent, AgentStatus};
use crate::domain::id::{AgentId, OrgId};
use crate::domain::organization::Organization;
use crate::store::{AgentStore, OrgStore, Page, Receipt, SigningKeyRow, StoreError};

#[async_trait]
impl OrgStore for Store {
    async fn org(&self, id: OrgId) -> Result<Option<Organization>, StoreError> {
        const READ: &str = "read an organization";
        let document: Option<String> = sqlx::query_scalar(READ_ORG)
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&mut *self.reading(Some(id), READ).await?)
            .await
            .map_err(failed(READ))?;
        document.map(|document| from_document(&document, READ)).transpose()
    }

    async fn orgs(&self) -> Result<Vec<Organization>, StoreError> {
        const LIST: &str = "list organizations";
        let documents: Vec<String> = sqlx::query_scalar(LIST_ORGS)
            .fetch_all(&mut *self.reading(None, LIST).await?)
            .await
            .map_err(failed(LIST))?;
        from_documents(&documents, LIST)
    }

    async fn signing_keys(&self, id: OrgId) -> Result<Vec<SigningKeyRow>, StoreError> {
        const READ: &str = "read signing keys";
        let rows = sqlx::query(READ_SIGNING_KEYS)
            .bind(id.as_bytes().as_slice())
            .fetch_all(&mut *self.reading(Some(id), READ).await?)
            .await
            .map_err(failed(READ))?;
        rows.iter()
            .map(|row| {
                let public_key: &[u8] = row.try_get(1).map_err(failed(READ))?;
                Ok(SigningKeyRow {
                    key_id: row.try_get(0).map_err(failed(READ))?,
                    public_key: from_bytes(public_key, READ)?,
                    sealed: row.try_get(2).map_err(failed(READ))?,
                })
            })
            .collect()
    }

    async fn receipt(&self, org: OrgId, key: &str) -> Result<Option<Receipt>, StoreError> {
        const READ: &str = "read a receipt";
        let row = sqlx::query(READ_RECEIPT)
            .bind(org.as_bytes().as_slice())
            .bind(key)
            .fetch_optional(&mut *self.reading(Some(org), READ).await?)
            .await
            .map_err(failed(READ))?;
        let Some(row) = row else { return Ok(None) };
        let request_hash: &[u8] = row.try_get(0).map_err(failed(READ))?;
        Ok(Some(Receipt {
            org_id: org,
            key: key.to_owned(),
            request_hash: from_bytes(request_hash, READ)?,
            reply: row.try_get(1).map_err(failed(READ))?,
            created_at: from_micros(row.try_get(2).map_err(failed(READ))?, READ)?,
        }))
    }
}

#[async_trait]
impl AgentStore for Store {
    async fn agent(&self, org: OrgId, id: AgentId) -> Result<Option<Agent>, StoreError> {
        const READ: &str = "read an agent";
        let document: Option<String> = sqlx::query_scalar(READ_AGENT)
            .bind(org.as_bytes().as_slice())
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&mut *self.reading(Some(org), READ).await?)
            .await
            .map_err(failed(READ))?;
        document.map(|document| from_document(&document, READ)).transpose()
    }

    async fn agents(
        &self,
        org: OrgId,
        status: Option<AgentStatus>,
        page: Page,
    ) -> Result<Vec<Agent>, StoreError> {
        const LIST: &str = "list agents";
        let sql = status.map_or(LIST_AGENTS, |_| LIST_AGENTS_BY_STATUS);
        let mut query = sqlx::query_scalar(sql)
            .bind(org.as_bytes().as_slice())
            .bind(page.after.unwrap_or_default()) // no name is empty
            .bind(i64::from(page.limit));
        if let Some(status) = status {
            query = query.bind(status.word());
        }
        let documents: Vec<String> = query
            .fetch_all(&mut *self.reading(Some(org), LIST).await?)
            .await
            .map_err(failed(LIST))?;
        from_documents(&documents, LIST)
    }

    async fn has_open_holds(&self, org: OrgId, id: AgentId) -> Result<bool, StoreError> {
        const LOOK: &str = "look for open holds";
        sqlx::query_scalar(HAS_OPEN_HOLDS)
            .bind(org.as_bytes().as_slice())
            .bind(id.as_bytes().as_slice())
            .fetch_one(&mut *self.reading(Some(org), LOOK).await?)
            .await
            .map_err(failed(LOOK))
    }
}
