//! What is read of the journal, and what is kept beside it: traits and their words.
//!
//! Not here: appending to it, which only its follower does (`journal`).

use std::collections::HashMap;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use super::StoreError;
use crate::domain::act::ActRecord;
use crate::domain::event::Event;
use crate::domain::id::OrgId;
use crate::domain::transaction::TransactionRecord;

/// An entry of the journal with its content, column by column, as its digest covers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// Its number.
    pub seq: i64,
    /// When, in microseconds.
    pub at: i64,
    /// The word of what happened.
    pub kind: String,
    /// Where the content is, as it is stored.
    pub source: i16,
    /// The number of the decision or act that it is, or follows from.
    pub source_seq: i64,
    /// The chain after it.
    pub chain: [u8; 32],
    /// What happened.
    pub content: EntryContent,
}

/// The content of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryContent {
    /// A decision.
    Spend(Box<SpendColumns>),
    /// An act.
    Act(Box<ActColumns>),
    /// What follows from decisions, as JSON.
    Derived(String),
    /// It should be there and is not.
    Missing,
}

/// The columns of a decision that never change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of `spend`, by their names")]
pub struct SpendColumns {
    pub seq: i64,
    pub id: Vec<u8>,
    pub agent_id: Vec<u8>,
    pub mandate_id: Option<Vec<u8>>,
    pub decided_at: i64,
    pub verdict: String,
    pub amount: i64,
    pub currency: String,
    pub vendor: String,
    pub category: Option<String>,
    pub idempotency_key: String,
    pub request_hash: Vec<u8>,
    pub evidence: String,
}

/// The columns of an act.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of `act`, by their names")]
pub struct ActColumns {
    pub seq: i64,
    pub after_spend: i64,
    pub at: i64,
    pub kind: String,
    pub subject: Vec<u8>,
    pub actor_key: Option<Vec<u8>>,
    pub actor_role: String,
    pub document: String,
}

/// An entry of the journal as the domain understands it.
#[derive(Clone, Debug)]
pub struct Happening {
    /// Its number.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// The word of what happened.
    pub kind: String,
    /// What happened.
    pub fact: Fact,
}

/// What an entry says.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A decision; where it stands now is not of then.
    Spend(Box<TransactionRecord>),
    /// An act.
    Act(Box<ActRecord>),
    /// What follows from decisions, as JSON.
    Derived(String),
}

/// A signed checkpoint as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCheckpoint {
    /// The last entry that it covers.
    pub seq: i64,
    /// The chain after it.
    pub chain: [u8; 32],
    /// When it was signed, in microseconds.
    pub at: i64,
    /// Which key signed.
    pub key_id: String,
    /// The signature, base64url.
    pub signature: String,
}

/// How much of the record a journal has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalCount {
    /// Entries that are decisions, and the number of the last of those.
    pub spends: (i64, i64),
    /// Entries that are acts, and the number of the last of those.
    pub acts: (i64, i64),
}

/// Reads the journal.
#[async_trait]
pub trait JournalStore: Send + Sync {
    /// The number and the chain of the last entry; `None` when there is none.
    async fn journal_end(&self, org: OrgId) -> Result<Option<(i64, [u8; 32])>, StoreError>;
    /// Entries behind a number, in order, with all that their digests cover.
    async fn journal(
        &self,
        org: OrgId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<JournalEntry>, StoreError>;
    /// Entries behind a number, in order, understood.
    async fn happenings(
        &self,
        org: OrgId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Happening>, StoreError>;
    /// How many decisions and acts are in it.
    async fn count_journal(&self, org: OrgId) -> Result<JournalCount, StoreError>;
    /// How many decisions and acts of an organization there are up to these numbers.
    async fn count_recorded(
        &self,
        org: OrgId,
        spend: i64,
        act: i64,
    ) -> Result<(i64, i64), StoreError>;
    /// Checkpoints behind an entry, in order.
    async fn checkpoints(
        &self,
        org: OrgId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<StoredCheckpoint>, StoreError>;
    /// Keeps a checkpoint; `false` when there is one of this entry.
    async fn keep_checkpoint(
        &self,
        org: OrgId,
        checkpoint: StoredCheckpoint,
    ) -> Result<bool, StoreError>;
}

/// The last entry of each journal that has grown since this server started.
pub type Growth = HashMap<OrgId, i64>;

/// A part of an organization's events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventPage {
    /// In order.
    pub events: Vec<Event>,
    /// The last entry of the journal that was looked at: from there the next part goes on. Entries
    /// that nobody is told of have numbers too.
    pub through: i64,
}

/// Reads events: what others are told of.
#[async_trait]
pub trait EventStore: Send + Sync {
    /// Events behind a number, of at most so many entries. An empty part whose `through` has not
    /// moved is the end.
    async fn events(&self, org: OrgId, after_seq: i64, limit: u32)
    -> Result<EventPage, StoreError>;
    /// The number of the last entry; 0 before there is one.
    async fn last_event(&self, org: OrgId) -> Result<i64, StoreError>;
    /// Tells that some organization's journal has grown, and how far.
    fn growth(&self) -> watch::Receiver<Growth>;
}
