//! What the engine needs kept: traits cut by capability, in the words of the domain.
//!
//! Every method takes the organization first, so that a forgotten tenant filter cannot be written.
//! All writes go through one method that is atomic and compares versions. Not here: budgets and
//! decisions, which only the `ledger` writes, and any database word.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub use self::journal::{
    ActColumns, EntryContent, EventPage, EventStore, Fact, Growth, Happening, JournalCount,
    JournalEntry, JournalStore, SpendColumns, StoredCheckpoint,
};
use crate::domain::actor::Actor;
pub use crate::domain::actor::Role;
use crate::domain::agent::{Agent, AgentStatus};
use crate::domain::decision::Verdict;
use crate::domain::durability::Durability;
use crate::domain::id::{AgentId, KeyId, MandateId, OrgId, TransactionId, WebhookEndpointId};
use crate::domain::mandate::{Mandate, MandateStatus};
use crate::domain::organization::Organization;
use crate::domain::transaction::{TransactionRecord, TransactionState};

mod journal;
pub mod postgres;
pub(crate) mod sql;
pub mod sqlite;
mod webhooks;

pub use webhooks::{
    DeliveryFilter, DeliveryStore, OwnedEndpoint, Told, ToldEndpoint, WebhookChange, WebhookStore,
    delivery_place,
};

/// What went wrong in a store, as far as a caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// It cannot be reached, is locked or full: the same call may succeed later.
    Unavailable,
    /// It did not answer in time: the effect may exist.
    Timeout,
    /// What was compared has changed; nothing was written.
    Conflict,
    /// A stored row cannot be understood.
    Corrupt,
}

/// A failed store operation. The driver's error is kept as the source, never shown to callers.
#[derive(Debug)]
pub struct StoreError {
    /// What kind.
    pub kind: StoreErrorKind,
    /// What was attempted.
    pub operation: &'static str,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// Wraps a driver's error.
    pub fn new(
        kind: StoreErrorKind,
        operation: &'static str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { kind, operation, source: Some(source.into()) }
    }

    /// A conflict, which has no driver's error behind it.
    #[must_use]
    pub const fn conflict(operation: &'static str) -> Self {
        Self { kind: StoreErrorKind::Conflict, operation, source: None }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            StoreErrorKind::Unavailable => "is unavailable",
            StoreErrorKind::Timeout => "timed out",
            StoreErrorKind::Conflict => "changed meanwhile",
            StoreErrorKind::Corrupt => "holds a record that cannot be read",
        };
        write!(f, "{}: the store {kind}", self.operation)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| -> &(dyn Error + 'static) { source })
    }
}

/// Who changes the catalogue, and when: what is recorded of the changes as acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Author {
    /// Who.
    pub actor: Actor,
    /// When.
    pub at: Timestamp,
}

/// A stored credential: its secret only as a keyed digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id, also part of the key's text.
    pub id: KeyId,
    /// The organization it belongs to.
    pub org_id: OrgId,
    /// For people.
    pub name: String,
    /// The first characters of the key.
    pub prefix: String,
    /// HMAC-SHA-256 of the secret under the server's master key.
    #[serde(skip)]
    pub digest: [u8; 32],
    /// What it may do.
    pub role: Role,
    /// The only agent it may act for.
    pub agent_id: Option<AgentId>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// When it last came in the path of a URL, where others may have seen it.
    pub url_used_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// When a credential was last used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// The credential.
    pub id: KeyId,
    /// In any way.
    pub at: Timestamp,
    /// In the path of a URL; none if it was not.
    pub in_url_at: Option<Timestamp>,
}

/// An organization's signing key; the private half is sealed under the master key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKeyRow {
    /// Names the key in signatures.
    pub key_id: String,
    /// The Ed25519 public key.
    pub public_key: [u8; 32],
    /// The sealed private key.
    pub sealed: Vec<u8>,
}

/// One row to write, and what must be true of the row before it.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new organization with its signing key.
    CreateOrg(Organization, SigningKeyRow),
    /// An organization, if its version is still this.
    ReplaceOrg(Organization, i64),
    /// A new agent; a conflict if its name is taken.
    CreateAgent(Agent),
    /// An agent, if its version is still this; a conflict if its name is taken, or if it would be
    /// decommissioned while money is held for it.
    ReplaceAgent(Agent, i64),
    /// A new mandate (its first version).
    CreateMandate(Mandate),
    /// A new version of a mandate, if the present version is still this. A conflict if it would be
    /// the agent's second active one.
    ReplaceMandate(Mandate, i64),
    /// Removes a draft, if its version is still this.
    DeleteDraft(OrgId, MandateId, i64),
    /// A new credential; a conflict if it is bound to an agent that has ended.
    CreateKey(ApiKey),
    /// Revokes a credential; a conflict if it is the organization's last working admin key.
    RevokeKey(OrgId, KeyId, Timestamp),
    /// Revokes every credential bound to an agent.
    RevokeKeysOf(OrgId, AgentId, Timestamp),
    /// What is told to whom.
    Webhook(WebhookChange),
}

/// How an organization, an agent or a mandate stands, as far as a decision compares it.
#[derive(Clone, Debug)]
pub enum Stand {
    /// An organization.
    Org(Organization),
    /// An agent.
    Agent(Agent),
    /// A mandate.
    Mandate(Mandate),
}

/// The answer to a mutation that carried an idempotency key, written together with its effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The organization.
    pub org_id: OrgId,
    /// The caller's key.
    pub key: String,
    /// A digest of method and request.
    pub request_hash: [u8; 16],
    /// The answer, as the engine wrote it.
    pub reply: String,
    /// When it was written.
    pub created_at: Timestamp,
}

/// Where a list goes on: after this sort key (opaque to everyone but the store).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Only items after this one, in the list's order.
    pub after: Option<String>,
    /// At most this many.
    pub limit: u32,
}

/// The only writer of the catalogue.
#[async_trait]
pub trait CatalogueWriter: Send + Sync {
    /// Writes all changes, the act that each of them is, and the receipt, or nothing.
    async fn commit(
        &self,
        changes: Vec<Change>,
        receipt: Option<Receipt>,
        author: Author,
    ) -> Result<(), StoreError>;

    /// Makes sure that everybody who decides knows how something stands, before a caller is told
    /// that it stands so already: a commit whose reply was lost may have been told to nobody.
    async fn confirm(&self, stand: Stand) -> Result<(), StoreError> {
        drop(stand);
        Ok(())
    }

    /// Notes when credentials were last used; losing a note is harmless.
    async fn touch_keys(&self, used: Vec<KeyUse>) -> Result<(), StoreError>;

    /// Commits something that leaves nothing behind, to find out whether writing works.
    async fn try_writing(&self, org: OrgId) -> Result<(), StoreError>;

    /// Forgets receipts from before this time; how many, of which one call forgets a bounded
    /// number.
    async fn forget_receipts(&self, org: OrgId, before: Timestamp) -> Result<u64, StoreError>;

    /// Forgets deliveries of an endpoint, however they stand; how many, of which one call forgets a
    /// bounded number.
    async fn clear_deliveries(
        &self,
        org: OrgId,
        endpoint: WebhookEndpointId,
    ) -> Result<u64, StoreError>;
}

/// Reads organizations and the receipts of their mutations.
#[async_trait]
pub trait OrgStore: Send + Sync {
    /// One organization.
    async fn org(&self, id: OrgId) -> Result<Option<Organization>, StoreError>;
    /// Every organization; there are few.
    async fn orgs(&self) -> Result<Vec<Organization>, StoreError>;
    /// Its signing keys, the newest (the one that signs) first.
    async fn signing_keys(&self, id: OrgId) -> Result<Vec<SigningKeyRow>, StoreError>;
    /// The receipt of a mutation, if its key was used.
    async fn receipt(&self, org: OrgId, key: &str) -> Result<Option<Receipt>, StoreError>;
}

/// Reads agents.
#[async_trait]
pub trait AgentStore: Send + Sync {
    /// One agent.
    async fn agent(&self, org: OrgId, id: AgentId) -> Result<Option<Agent>, StoreError>;
    /// Agents by name; the page's sort key is the name.
    async fn agents(
        &self,
        org: OrgId,
        status: Option<AgentStatus>,
        page: Page,
    ) -> Result<Vec<Agent>, StoreError>;
    /// Whether money of the agent is held for a pending approval.
    async fn has_open_holds(&self, org: OrgId, id: AgentId) -> Result<bool, StoreError>;
}

/// What one decision needs of the catalogue, read in one step.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The organization.
    pub org: Organization,
    /// The agent.
    pub agent: Agent,
    /// The mandate asked for: the named one, else the agent's current one.
    pub mandate: Option<Mandate>,
}

/// Which mandates to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct MandateFilter {
    /// Only this agent's.
    pub agent: Option<AgentId>,
    /// Only with this stored status.
    pub status: Option<MandateStatus>,
}

/// Reads mandates.
#[async_trait]
pub trait MandateStore: Send + Sync {
    /// The present version.
    async fn mandate(&self, org: OrgId, id: MandateId) -> Result<Option<Mandate>, StoreError>;
    /// One version.
    async fn mandate_version(
        &self,
        org: OrgId,
        id: MandateId,
        version: i64,
    ) -> Result<Option<Mandate>, StoreError>;
    /// Versions, newest first; the page's sort key is the version.
    async fn mandate_versions(
        &self,
        org: OrgId,
        id: MandateId,
        page: Page,
    ) -> Result<Vec<Mandate>, StoreError>;
    /// Present versions, newest first; the page's sort key is the id (ids sort by time).
    async fn mandates(
        &self,
        org: OrgId,
        filter: MandateFilter,
        page: Page,
    ) -> Result<Vec<Mandate>, StoreError>;
    /// Mandates, of whichever organization, that are not written down as over although their
    /// validity ends before this time.
    async fn mandates_over(&self, at: Timestamp, limit: u32) -> Result<Vec<Mandate>, StoreError>;
    /// Every durability that a mandate in force or paused asks for, of whichever organization.
    async fn durabilities(&self) -> Result<Vec<Durability>, StoreError>;
    /// Everything one decision needs; `None` when organization or agent is unknown. A named
    /// mandate that is not this agent's is not found either: the snapshot's mandate is `None`.
    async fn snapshot(
        &self,
        org: OrgId,
        agent: AgentId,
        named: Option<MandateId>,
    ) -> Result<Option<Snapshot>, StoreError>;
}

/// Reads credentials.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// How long what was read of a credential may be believed: it may be revoked where this process
    /// does not see it.
    fn keys_age_max(&self) -> Duration;
    /// One credential, of whichever organization: the caller is not known yet.
    async fn key(&self, id: KeyId) -> Result<Option<ApiKey>, StoreError>;
    /// Credentials, newest first; the page's sort key is the id (ids sort by time).
    async fn keys(&self, org: OrgId, page: Page) -> Result<Vec<ApiKey>, StoreError>;
}

/// The most that are counted of what a list of transactions is about: as far as one can skip.
pub const TOTAL_MAX: i64 = 10_000;

/// Which transactions to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct TransactionFilter {
    /// Only this agent's.
    pub agent: Option<AgentId>,
    /// Only under this mandate.
    pub mandate: Option<MandateId>,
    /// Only with this decision.
    pub verdict: Option<Verdict>,
    /// Only in this state.
    pub state: Option<TransactionState>,
    /// Only what does not wait for a person.
    pub answered: bool,
    /// Only decided at or after this time.
    pub since: Option<Timestamp>,
    /// Only decided before this time.
    pub until: Option<Timestamp>,
}

/// Reads the record of decisions.
#[async_trait]
pub trait TransactionStore: Send + Sync {
    /// One transaction.
    async fn transaction(
        &self,
        org: OrgId,
        id: TransactionId,
    ) -> Result<Option<TransactionRecord>, StoreError>;
    /// The transaction of an agent's key, by the id that is made of the key alone: that one itself,
    /// or the first one that begins like it, where ids cover the request too.
    async fn transaction_of_key(
        &self,
        org: OrgId,
        id: TransactionId,
        (agent, key): (AgentId, &str),
    ) -> Result<Option<TransactionRecord>, StoreError> {
        let found = self.transaction(org, id).await?;
        let is_of_key = |found: &TransactionRecord| {
            found.spend.agent_id == agent && found.idempotency_key == key
        };
        Ok(found.filter(is_of_key))
    }
    /// Transactions with their sequence numbers, newest first; `before` is a sequence number.
    async fn transactions(
        &self,
        org: OrgId,
        filter: TransactionFilter,
        page: TransactionPage,
    ) -> Result<Vec<(i64, TransactionRecord)>, StoreError>;
    /// How much later than its time an entry of the record may stand in it: behind entries of later
    /// times.
    async fn lateness(&self, org: OrgId) -> Result<SignedDuration, StoreError> {
        let _ = org;
        Ok(SignedDuration::ZERO)
    }
    /// Some of those, of all organizations, whose states have ended by themselves at this time: the
    /// longest due first.
    async fn due_transactions(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<(OrgId, TransactionId)>, StoreError>;
    /// How many match, of which no more than [`TOTAL_MAX`] are counted.
    async fn count_transactions(
        &self,
        org: OrgId,
        filter: TransactionFilter,
    ) -> Result<i64, StoreError>;
}

/// Which part of a list of transactions.
#[derive(Clone, Copy, Debug)]
pub struct TransactionPage {
    /// Only those with a smaller sequence number.
    pub before: Option<i64>,
    /// Leave out this many first.
    pub skip: u32,
    /// At most this many.
    pub limit: u32,
}

/// Everything the engine reads of things and people.
pub trait Registry: OrgStore + AgentStore + MandateStore + KeyStore + WebhookStore {}

impl<T> Registry for T where T: OrgStore + AgentStore + MandateStore + KeyStore + WebhookStore {}

/// Everything the engine reads and writes, in one object.
pub trait Catalogue: CatalogueWriter + Registry + TransactionStore + JournalStore {}

impl<T> Catalogue for T where T: CatalogueWriter + Registry + TransactionStore + JournalStore {}
