//! Reading credentials.
//!
//! Their digest, last use and revocation are columns, which change or must stay out of documents;
//! everything else is in the document. Not here: verifying a secret (`crypto`, `engine::access`).

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row;

use super::super::{Store, failed};
use super::statement::{LIST_KEYS, READ_KEY};
use super::{DriverRow, before_id, from_bytes, from_document, from_micros};
use crate::domain::id::{KeyId, OrgId};
use crate::store::{ApiKey, KeyStore, Page, StoreError};

#[async_trait]
impl KeyStore for Store {
    fn keys_age_max(&self) -> Duration {
        super::super::KEYS_AGE_MAX
    }

    async fn key(&self, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        const READ: &str = "read an API key";
        let row = sqlx::query(READ_KEY)
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&mut *self.reading(None, READ).await?)
            .await
            .map_err(failed(READ))?;
        row.map(|row| api_key(&row, READ)).transpose()
    }

    async fn keys(&self, org: OrgId, page: Page) -> Result<Vec<ApiKey>, StoreError> {
        const LIST: &str = "list API keys";
        let rows = sqlx::query(LIST_KEYS)
            .bind(org.as_bytes().as_slice())
            .bind(before_id(&page, LIST)?)
            .bind(i64::from(page.limit))
            .fetch_all(&mut *self.reading(Some(org), LIST).await?)
            .await
            .map_err(failed(LIST))?;
        rows.iter().map(|row| api_key(row, LIST)).collect()
    }
}

fn api_key(row: &DriverRow, operation: &'static str) -> Result<ApiKey, StoreError> {
    let time = |column: usize| {
        let micros: Option<i64> = row.try_get(column).map_err(failed(operation))?;
        micros.map(|micros| from_micros(micros, operation)).transpose()
    };
    let document: &str = row.try_get(0).map_err(failed(operation))?;
    let digest: &[u8] = row.try_get(1).map_err(failed(operation))?;
    Ok(ApiKey {
        digest: from_bytes(digest, operation)?,
        last_used_at: time(2)?,
        revoked_at: time(3)?,
        url_used_at: time(4)?,
        ..from_document(document, operation)?
    })
}
