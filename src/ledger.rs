//! The ledger as the engine sees it: decide, resolve, look; atomically and durably.
//!
//! Its specification is `domain::ledger`, and every home agrees with it. Not here: reading lists of
//! records (`store`) and anything about who may ask (`engine`).

use async_trait::async_trait;
use jiff::Timestamp;

pub use crate::domain::durability::{AskedDurability, Durability};
use crate::domain::id::OrgId;
use crate::domain::ledger::{
    Claim, Decide, Decided, Level, Resolve, ResolveError, Resolved, WindowLevel,
};
use crate::store::StoreError;

pub mod redis;
pub mod sql;

/// Why replies at a level cannot be kept as things are set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Redis runs with {setting} = {value}, and {} needs {needed}; change it there",
    level.word()
)]
pub struct NotKept {
    /// The level.
    pub level: Durability,
    /// The setting that is in the way.
    pub setting: &'static str,
    /// What it is.
    pub value: String,
    /// What it would have to be.
    pub needed: &'static str,
}

/// Why the ledger gave no answer. Nothing was approved, unless a reply was lost: then the same
/// idempotency key finds the decision.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// More is queued than it will take; nothing happened.
    #[error("the ledger's queue is full")]
    Overloaded,
    /// The key is a version 7 UUID whose time has not come; nothing happened.
    #[error("the idempotency key is a version 7 UUID from the future")]
    KeyFromFuture,
    /// The server is stopping; nothing happened.
    #[error("the server is stopping")]
    Stopping,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The one atomic effect.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Decides and records.
    async fn decide(&self, command: Decide) -> Result<Decided, LedgerError>;
    /// Settles, voids or refunds.
    async fn resolve(
        &self,
        command: Resolve,
    ) -> Result<Result<Resolved, ResolveError>, LedgerError>;
    /// The counters and windows of a claim as they stand; no effect.
    async fn peek(
        &self,
        org: OrgId,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<(Vec<Level>, Vec<WindowLevel>), LedgerError>;
    /// What the reply to a decision survives that is owed this.
    fn durability(&self, asked: AskedDurability) -> Durability;
    /// Whether replies at a level can be kept, or what is in the way.
    async fn keeps(&self, level: Durability) -> Result<Result<(), NotKept>, LedgerError>;
    /// Whether two stores may decide without each other's knowledge. Then ids of transactions cover
    /// the request as well as the key.
    fn has_two_stores(&self) -> bool {
        false
    }
}
