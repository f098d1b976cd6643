//! Idempotent mutations: the answer is written together with the effect, and given again.
//!
//! Not here: Evaluate, whose idempotency is the ledger's.

use jiff::SignedDuration;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::access::Principal;
use super::{Engine, EngineError, EngineResult};
use crate::crypto::short_digest;
use crate::domain::id::OrgId;
use crate::store::{Author, Change, Receipt, StoreError, StoreErrorKind, WebhookChange};

/// How long a receipt is kept. The contract promises a day.
const KEPT_TIME: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How a mutation is told from a repetition of it.
#[derive(Clone, Debug, Default)]
pub struct Idempotency {
    /// The caller's key; without one every call is new.
    pub key: Option<String>,
    /// A digest of method and request.
    pub request_hash: [u8; 16],
}

impl Idempotency {
    /// Of a call: an empty key is none; the request is its deterministic encoding.
    #[must_use]
    pub fn of(key: &str, method: &str, request: &[u8]) -> Self {
        Self {
            key: Some(key.to_owned()).filter(|key| !key.is_empty()),
            request_hash: short_digest(&[method.as_bytes(), request]),
        }
    }
}

impl Engine {
    /// The answer of an earlier call with the same key.
    pub(super) async fn replay<T: DeserializeOwned>(
        &self,
        org: OrgId,
        idempotency: &Idempotency,
    ) -> EngineResult<Option<T>> {
        let Some(key) = &idempotency.key else {
            return Ok(None);
        };
        let Some(receipt) = self.catalogue.receipt(org, key).await? else {
            return Ok(None);
        };
        if receipt.request_hash != idempotency.request_hash {
            return Err(EngineError::KeyReused);
        }
        let reply = serde_json::from_str(&receipt.reply)
            .map_err(|error| StoreError::new(StoreErrorKind::Corrupt, "read a receipt", error))?;
        Ok(Some(reply))
    }

    /// Writes the changes and the answer, or nothing.
    pub(super) async fn commit<T: Serialize + Sync>(
        &self,
        caller: &Principal,
        changes: Vec<Change>,
        idempotency: &Idempotency,
        reply: &T,
    ) -> EngineResult<()> {
        let receipt = match &idempotency.key {
            None => None,
            Some(key) => Some(Receipt {
                org_id: caller.org_id,
                key: key.clone(),
                request_hash: idempotency.request_hash,
                reply: serde_json::to_string(reply).map_err(|error| {
                    StoreError::new(StoreErrorKind::Corrupt, "write a receipt", error)
                })?,
                created_at: self.clock.now(),
            }),
        };
        self.clear_logs(&changes).await?;
        let committed = self.catalogue.commit(changes, receipt, self.author(caller)).await;
        self.writes.note(committed.as_ref().copied());
        Ok(committed?)
    }

    /// Forgets receipts that are older than they are promised to be kept.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn forget_receipts(&self) -> EngineResult<()> {
        let before = self.clock.now().checked_sub(KEPT_TIME);
        let before = before.map_err(|_| EngineError::Corrupt("the clock"))?;
        for org in self.catalogue.orgs().await? {
            // In parts: others write between them.
            while self.catalogue.forget_receipts(org.id, before).await? > 0 {}
        }
        Ok(())
    }

    /// Empties the logs of endpoints that are about to be deleted, in parts: each of them can be as
    /// long as many decisions.
    async fn clear_logs(&self, changes: &[Change]) -> EngineResult<()> {
        for change in changes {
            if let Change::Webhook(WebhookChange::Delete(org, endpoint)) = change {
                while self.catalogue.clear_deliveries(*org, *endpoint).await? > 0 {}
            }
        }
        Ok(())
    }

    /// Who is about to change the catalogue, and the time.
    pub(super) fn author(&self, caller: &Principal) -> Author {
        Author { actor: caller.actor(), at: self.clock.now() }
    }
}
