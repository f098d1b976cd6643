//! What happened, in order, for those who are told of it.
//!
//! Not here: who is told (`webhook`).

use async_trait::async_trait;

use super::StoreError;
use crate::domain::event::Event;
use crate::domain::id::OrgId;

/// Reads events.
#[async_trait]
pub trait EventStore: Send + Sync {
    /// Events after this place, in order, at most so many.
    async fn events(
        &self,
        org: OrgId,
        after_seq: i64,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError>;
    /// The place of the last one; 0 before the first.
    async fn last_event(&self, org: OrgId) -> Result<i64, StoreError>;
}
