//! The ledger as the engine sees it: decide, resolve, look; atomically and durably.
//!
//! Its specification is `domain::ledger`, and every home agrees with it. Not here: reading lists of
//! records (`store`) and anything about who may ask (`engine`).

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::id::OrgId;
use crate::domain::ledger::{
    Claim, Decide, Decided, Level, Resolve, ResolveError, Resolved, WindowLevel,
};
use crate::store::StoreError;

pub mod sql;

/// What a crash cannot undo, once a reply is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The system of record has committed.
    Strict,
}

/// Why the ledger gave no answer. Nothing was approved, unless a reply was lost: then the same
/// idempotency key finds the decision.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// More is queued than it will take; nothing happened.
    #[error("the ledger's queue is full")]
    Overloaded,
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
    /// What a reply of this ledger survives.
    fn durability(&self) -> Durability;
}
