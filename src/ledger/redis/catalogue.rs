//! The catalogue of a server that decides in Redis: writes are told to Redis, and reads of the
//! record wait for what is on its way to it.
//!
//! Everything else is the catalogue underneath. Not here: what is told (`standing`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::keys::shard_of;
use super::shards::Trouble;
use super::standing::{Shared, stands_of};
use crate::domain::agent::{Agent, AgentStatus};
use crate::domain::durability::Durability;
use crate::domain::id::{
    AgentId, KeyId, MandateId, OrgId, TransactionId, WebhookDeliveryId, WebhookEndpointId,
};
use crate::domain::mandate::Mandate;
use crate::domain::organization::Organization;
use crate::domain::transaction::TransactionRecord;
use crate::domain::webhook::{WebhookDelivery, WebhookEndpoint};
use crate::store::{
    AgentStore, ApiKey, Author, Catalogue, CatalogueWriter, Change, DeliveryFilter, Happening,
    JournalCount, JournalEntry, JournalStore, KeyStore, KeyUse, MandateFilter, MandateStore,
    OrgStore, Page, Receipt, SigningKeyRow, Snapshot, Stand, StoreError, StoreErrorKind,
    StoredCheckpoint, TransactionFilter, TransactionPage, TransactionStore, WebhookStore,
};

/// The catalogue over another one.
pub(super) struct ToldCatalogue {
    inner: Arc<dyn Catalogue>,
    shards: Shared,
}

impl ToldCatalogue {
    pub(super) const fn new(inner: Arc<dyn Catalogue>, shards: Shared) -> Self {
        Self { inner, shards }
    }

    /// Tells Redis. It may be Redis that others decide in and this server cannot reach, so who
    /// asked must not believe that nothing is approved any more.
    async fn tell(&self, stands: &[Stand]) -> Result<(), StoreError> {
        self.shards.tell_all(stands).await.map_err(|trouble| {
            let why = format!("it is written down, but Redis could not be told: {trouble}");
            StoreError::new(StoreErrorKind::Timeout, "tell Redis how things stand", why)
        })
    }

    /// Waits for what is on its way to the record, if Redis can be asked.
    async fn settle(&self, org: OrgId) -> Result<(), StoreError> {
        let shard = shard_of(org);
        let Ok(live) = self.shards.nodes.live(shard).await else { return Ok(()) };
        match self.shards.flush(shard, &live).await {
            Ok(()) | Err(Trouble::Away(_)) => Ok(()),
            Err(Trouble::Store(error)) => Err(error),
        }
    }
}

impl std::fmt::Debug for ToldCatalogue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ToldCatalogue")
    }
}

#[async_trait]
impl CatalogueWriter for ToldCatalogue {
    async fn commit(
        &self,
        changes: Vec<Change>,
        receipt: Option<Receipt>,
        author: Author,
    ) -> Result<(), StoreError> {
        let stands = stands_of(&changes);
        self.inner.commit(changes, receipt, author).await?;
        self.tell(&stands).await
    }

    async fn confirm(&self, stand: Stand) -> Result<(), StoreError> {
        self.tell(&[stand]).await
    }

    async fn touch_keys(&self, used: Vec<KeyUse>) -> Result<(), StoreError> {
        self.inner.touch_keys(used).await
    }

    async fn try_writing(&self, org: OrgId) -> Result<(), StoreError> {
        self.inner.try_writing(org).await
    }

    async fn forget_receipts(&self, org: OrgId, before: Timestamp) -> Result<u64, StoreError> {
        self.inner.forget_receipts(org, before).await
    }

    async fn clear_deliveries(
        &self,
        org: OrgId,
        endpoint: WebhookEndpointId,
    ) -> Result<u64, StoreError> {
        self.inner.clear_deliveries(org, endpoint).await
    }
}

#[async_trait]
impl OrgStore for ToldCatalogue {
    async fn org(&self, id: OrgId) -> Result<Option<Organization>, StoreError> {
        self.inner.org(id).await
    }

    async fn orgs(&self) -> Result<Vec<Organization>, StoreError> {
        self.inner.orgs().await
    }

    async fn signing_keys(&self, id: OrgId) -> Result<Vec<SigningKeyRow>, StoreError> {
        self.inner.signing_keys(id).await
    }

    async fn receipt(&self, org: OrgId, key: &str) -> Result<Option<Receipt>, StoreError> {
        self.inner.receipt(org, key).await
    }
}

#[async_trait]
impl AgentStore for ToldCatalogue {
    async fn agent(&self, org: OrgId, id: AgentId) -> Result<Option<Agent>, StoreError> {
        self.inner.agent(org, id).await
    }

    async fn agents(
        &self,
        org: OrgId,
        status: Option<AgentStatus>,
        page: Page,
    ) -> Result<Vec<Agent>, StoreError> {
        self.inner.agents(org, status, page).await
    }

    async fn has_open_holds(&self, org: OrgId, id: AgentId) -> Result<bool, StoreError> {
        self.settle(org).await?;
        self.inner.has_open_holds(org, id).await
    }
}

#[async_trait]
impl MandateStore for ToldCatalogue {
    async fn mandate(&self, org: OrgId, id: MandateId) -> Result<Option<Mandate>, StoreError> {
        self.inner.mandate(org, id).await
    }

    async fn mandates_over(&self, at: Timestamp, limit: u32) -> Result<Vec<Mandate>, StoreError> {
        self.inner.mandates_over(at, limit).await
    }

    async fn durabilities(&self) -> Result<Vec<Durability>, StoreError> {
        self.inner.durabilities().await
    }

    async fn mandate_version(
        &self,
        org: OrgId,
        id: MandateId,
        version: i64,
    ) -> Result<Option<Mandate>, StoreError> {
        self.inner.mandate_version(org, id, version).await
    }

    async fn mandate_versions(
        &self,
        org: OrgId,
        id: MandateId,
        page: Page,
    ) -> Result<Vec<Mandate>, StoreError> {
        self.inner.mandate_versions(org, id, page).await
    }

    async fn mandates(
        &self,
        org: OrgId,
        filter: MandateFilter,
        page: Page,
    ) -> Result<Vec<Mandate>, StoreError> {
        self.inner.mandates(org, filter, page).await
    }

    async fn snapshot(
        &self,
        org: OrgId,
        agent: AgentId,
        named: Option<MandateId>,
    ) -> Result<Option<Snapshot>, StoreError> {
        self.inner.snapshot(org, agent, named).await
    }
}

#[async_trait]
impl KeyStore for ToldCatalogue {
    fn keys_age_max(&self) -> Duration {
        self.inner.keys_age_max()
    }

    async fn key(&self, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        self.inner.key(id).await
    }

    async fn keys(&self, org: OrgId, page: Page) -> Result<Vec<ApiKey>, StoreError> {
        self.inner.keys(org, page).await
    }
}

/// The journal follows what is recorded, and is read as it is.
#[async_trait]
impl JournalStore for ToldCatalogue {
    async fn journal_end(&self, org: OrgId) -> Result<Option<(i64, [u8; 32])>, StoreError> {
        self.inner.journal_end(org).await
    }

    async fn journal(
        &self,
        org: OrgId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<JournalEntry>, StoreError> {
        self.inner.journal(org, after, limit).await
    }

    async fn happenings(
        &self,
        org: OrgId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Happening>, StoreError> {
        self.inner.happenings(org, after, limit).await
    }

    async fn count_journal(&self, org: OrgId) -> Result<JournalCount, StoreError> {
        self.inner.count_journal(org).await
    }

    async fn count_recorded(
        &self,
        org: OrgId,
        spend: i64,
        act: i64,
    ) -> Result<(i64, i64), StoreError> {
        self.inner.count_recorded(org, spend, act).await
    }

    async fn checkpoints(
        &self,
        org: OrgId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<StoredCheckpoint>, StoreError> {
        self.inner.checkpoints(org, after, limit).await
    }

    async fn keep_checkpoint(
        &self,
        org: OrgId,
        checkpoint: StoredCheckpoint,
    ) -> Result<bool, StoreError> {
        self.inner.keep_checkpoint(org, checkpoint).await
    }
}

#[async_trait]
impl TransactionStore for ToldCatalogue {
    async fn transaction(
        &self,
        org: OrgId,
        id: TransactionId,
    ) -> Result<Option<TransactionRecord>, StoreError> {
        if let Some(found) = self.inner.transaction(org, id).await? {
            return Ok(Some(found));
        }
        self.settle(org).await?;
        self.inner.transaction(org, id).await
    }

    async fn transaction_of_key(
        &self,
        org: OrgId,
        id: TransactionId,
        key: (AgentId, &str),
    ) -> Result<Option<TransactionRecord>, StoreError> {
        if let Some(found) = self.inner.transaction_of_key(org, id, key).await? {
            return Ok(Some(found));
        }
        self.settle(org).await?;
        self.inner.transaction_of_key(org, id, key).await
    }

    async fn transactions(
        &self,
        org: OrgId,
        filter: TransactionFilter,
        page: TransactionPage,
    ) -> Result<Vec<(i64, TransactionRecord)>, StoreError> {
        self.settle(org).await?;
        self.inner.transactions(org, filter, page).await
    }

    async fn due_transactions(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<(OrgId, TransactionId)>, StoreError> {
        self.inner.due_transactions(now, limit).await
    }

    async fn lateness(&self, org: OrgId) -> Result<SignedDuration, StoreError> {
        self.inner.lateness(org).await
    }

    async fn count_transactions(
        &self,
        org: OrgId,
        filter: TransactionFilter,
    ) -> Result<i64, StoreError> {
        self.settle(org).await?;
        self.inner.count_transactions(org, filter).await
    }
}

#[async_trait]
impl WebhookStore for ToldCatalogue {
    async fn webhook_endpoint(
        &self,
        org: OrgId,
        id: WebhookEndpointId,
    ) -> Result<Option<WebhookEndpoint>, StoreError> {
        self.inner.webhook_endpoint(org, id).await
    }

    async fn webhook_endpoints(
        &self,
        org: OrgId,
        page: Page,
    ) -> Result<Vec<WebhookEndpoint>, StoreError> {
        self.inner.webhook_endpoints(org, page).await
    }

    async fn default_webhook_endpoint(
        &self,
        org: OrgId,
    ) -> Result<Option<WebhookEndpoint>, StoreError> {
        self.inner.default_webhook_endpoint(org).await
    }

    async fn webhook_delivery(
        &self,
        org: OrgId,
        id: WebhookDeliveryId,
    ) -> Result<Option<WebhookDelivery>, StoreError> {
        self.inner.webhook_delivery(org, id).await
    }

    async fn webhook_deliveries(
        &self,
        org: OrgId,
        filter: DeliveryFilter,
        page: Page,
    ) -> Result<Vec<WebhookDelivery>, StoreError> {
        self.inner.webhook_deliveries(org, filter, page).await
    }
}
