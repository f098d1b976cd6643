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

pub mod redis;
pub mod sql;

/// What a crash cannot undo, once a reply is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Redis has it in memory: a power failure may lose up to 2 s of records, never money.
    Fast,
    /// Redis has it on its disk.
    Durable,
    /// The system of record has committed.
    Strict,
}

impl Durability {
    /// The word for people and stores.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Durable => "durable",
            Self::Strict => "strict",
        }
    }

    /// The weaker of this and a stored one.
    pub(crate) fn weaker(self, stored: &str) -> &'static str {
        match (self, stored) {
            (Self::Fast, _) | (_, "fast") => "fast",
            (Self::Durable, _) | (_, "durable") => "durable",
            (Self::Strict, _) => "strict",
        }
    }
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
    /// What a reply of this ledger survives.
    fn durability(&self) -> Durability;
    /// Whether two stores may decide without each other's knowledge. Then ids of transactions cover
    /// the request as well as the key.
    fn has_two_stores(&self) -> bool {
        false
    }
}
