//! The use cases: who may do what, and in which order effects happen.
//!
//! It names traits, never an adapter, and speaks only the domain's words; `EngineError` is
//! everything a use case can answer besides its result. Not here: wire formats (`grpc`), the rules
//! themselves (`domain`), which store is behind a trait (`app`).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, watch as growth};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::crypto::{CryptoError, MasterKey};
use crate::domain::agent::AgentTransitionError;
use crate::domain::decision::Reason;
use crate::domain::id::MandateId;
use crate::domain::mandate::{MandateTransitionError, PolicyViolation};
use crate::domain::money::Minor;
use crate::domain::period::PeriodError;
use crate::domain::transaction::TransactionState;
use crate::domain::webhook::ENDPOINTS_MAX;
use crate::ledger::{Ledger, LedgerError};
use crate::provider::Countries;
use crate::provider::egress::EgressRules;
use crate::store::{Catalogue, Growth};

pub mod access;
pub mod agents;
pub mod approvals;
pub mod audit;
pub mod budget;
mod durability;
pub mod evaluate;
pub mod events;
mod expiry;
mod holds;
mod load;
pub mod mandates;
pub mod organization;
pub mod pages;
pub mod readiness;
pub mod receipts;
pub mod signing;
mod snapshots;
pub mod transactions;
pub mod watch;
pub mod webhooks;

/// The words of the traits, and the one secret, that callers of the engine need.
pub use crate::crypto::WebhookSecret;
pub use crate::domain::durability::Durability;
pub use crate::ledger::NotKept;
pub use crate::store::{
    ApiKey, DeliveryFilter, EntryContent, JournalEntry, MandateFilter, Role, StoreError,
    StoreErrorKind, StoredCheckpoint, TransactionFilter,
};

/// How often a change that lost a race is tried again before the caller is told.
const ATTEMPTS: usize = 5;

/// A field of a request that is wrong; the path is the API's.
pub type FieldViolation = PolicyViolation;

/// Why a person's answer, or a settlement above the approved amount, has no effect.
#[derive(Debug, thiserror::Error)]
pub enum GrantRefusal {
    /// The mandate names others.
    #[error("this key is not one of the approvers that the mandate names")]
    NotApprover,
    /// Nobody answers for oneself.
    #[error("this key asked for the spend itself")]
    OwnRequest,
    /// The answer is about something else.
    #[error("the request is not the one that this answer is about")]
    RequestMismatch,
    /// Money cannot be granted as things stand.
    #[error("the money cannot be granted now: {}", .0.detail)]
    StandingLimit(Reason),
}

/// Why a use case gave no result. A rejected spend is a result, not one of these.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Fields are wrong in any state.
    #[error("some fields are wrong")]
    Invalid(Vec<FieldViolation>),
    /// No credential that is good.
    #[error("the credential is missing or not valid")]
    Unauthenticated,
    /// The credential's role may not do this.
    #[error("the role may not do this")]
    RoleNotAllowed(Role),
    /// The credential asks faster than it may.
    #[error("the credential calls faster than its limit")]
    RequestRateExceeded {
        /// When to come back.
        retry_after_ms: u64,
    },
    /// Unknown, or someone else's.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The agent's other mandate is in force.
    #[error("the agent already has an active mandate")]
    ActiveMandateExists(MandateId),
    /// Another agent has this name.
    #[error("another agent has this name")]
    NameTaken,
    /// The mandate's status does not allow it.
    #[error(transparent)]
    MandateStatus(#[from] MandateTransitionError),
    /// The agent's status does not allow it.
    #[error(transparent)]
    AgentStatus(#[from] AgentTransitionError),
    /// The transaction's state does not allow it.
    #[error("a transaction that is {} cannot be {wanted}", from.word())]
    TransactionState {
        /// Where it stands.
        from: TransactionState,
        /// What was wanted.
        wanted: &'static str,
    },
    /// More than the transaction holds.
    #[error("the amount is more than the transaction's {available} minor units")]
    AmountExceeds {
        /// What there is.
        available: Minor,
    },
    /// What is held is not granted to this person, or not now.
    #[error(transparent)]
    NotGranted(#[from] GrantRefusal),
    /// Not the version the caller has seen.
    #[error("the object has changed; it is at version {0} now")]
    VersionConflict(i64),
    /// Lost the race too often.
    #[error("things changed several times during the call")]
    ConcurrentChange,
    /// The last admin key cannot go.
    #[error("this is the last admin key of the organization")]
    LastAdminKey,
    /// Money is still held.
    #[error("the agent still has money held for a pending approval")]
    OpenHolds,
    /// The kill switch is on.
    #[error("the organization is frozen")]
    OrganizationFrozen,
    /// Not a page token of this list.
    #[error("the page token is not of this list")]
    PageToken,
    /// No more fit.
    #[error("an organization has at most {ENDPOINTS_MAX} webhook endpoints")]
    TooManyEndpoints,
    /// Nothing is sent to it.
    #[error("the webhook endpoint is disabled")]
    EndpointDisabled,
    /// Redis is not set up for it.
    #[error(transparent)]
    NotKept(NotKept),
    /// Too much is queued.
    #[error("the server is busy")]
    Overloaded,
    /// The server is going down.
    #[error("the server is stopping")]
    Stopping,
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Keys or random bits failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// What is stored contradicts itself.
    #[error("a stored value is not valid: {0}")]
    Corrupt(&'static str),
}

impl EngineError {
    /// One wrong field.
    pub fn invalid(field: &str, why: impl std::fmt::Display) -> Self {
        Self::Invalid(vec![FieldViolation { field: field.to_owned(), why: why.to_string() }])
    }

    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if Self::from_conflict(error))
    }

    fn from_conflict(error: &StoreError) -> bool {
        error.kind == StoreErrorKind::Conflict
    }
}

impl From<LedgerError> for EngineError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Overloaded => Self::Overloaded,
            LedgerError::Stopping => Self::Stopping,
            LedgerError::KeyFromFuture => {
                let why = "is a UUIDv7 whose time has not come, set the clock that makes the keys";
                Self::invalid("idempotency_key", why)
            }
            LedgerError::Store(error) => Self::Store(error),
        }
    }
}

impl From<PeriodError> for EngineError {
    fn from(_: PeriodError) -> Self {
        Self::Corrupt("a time zone or period")
    }
}

/// The result of a use case.
pub type EngineResult<T> = Result<T, EngineError>;

/// What the engine is made of.
#[derive(Clone)]
pub struct EngineParts {
    /// Where everything but budgets is kept.
    pub catalogue: Arc<dyn Catalogue>,
    /// Where budgets are.
    pub ledger: Arc<dyn Ledger>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The server's root secret.
    pub master: MasterKey,
    /// Where hosts and addresses are.
    pub countries: Arc<dyn Countries>,
    /// Which URLs may be called.
    pub egress: Arc<EgressRules>,
    /// Rouses whoever delivers webhooks.
    pub deliveries: Arc<Notify>,
    /// Calls a credential may make in a second; 0 means as many as it likes.
    pub requests_per_second: u32,
    /// The most memory, in MiB, for what decisions need of agents and mandates.
    pub cache_mib: u32,
    /// Tells, by another number, that some journal has grown.
    pub growth: growth::Receiver<Growth>,
    /// Ends what would go on for ever: the server is about to stop.
    pub ending: CancellationToken,
    /// How long a caller may wait for what a person says.
    pub wait_max: Duration,
}

impl std::fmt::Debug for EngineParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineParts").finish_non_exhaustive()
    }
}

/// The use cases, shared by every way in.
pub struct Engine {
    catalogue: Arc<dyn Catalogue>,
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    countries: Arc<dyn Countries>,
    egress: Arc<EgressRules>,
    deliveries: Arc<Notify>,
    master: MasterKey,
    access: access::Access,
    signing: signing::Signing,
    pages: pages::PageTokens,
    snapshots: snapshots::Snapshots,
    growth: growth::Receiver<Growth>,
    ending: CancellationToken,
    answers: holds::Answers,
    load: load::Load,
    writes: readiness::Writes,
    wait_max: Duration,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// Puts it together.
    #[must_use]
    pub fn new(parts: EngineParts) -> Self {
        let EngineParts {
            catalogue,
            ledger,
            clock,
            master,
            countries,
            egress,
            deliveries,
            requests_per_second,
            cache_mib,
            growth,
            ending,
            wait_max,
        } = parts;
        Self {
            access: access::Access::new(&master, requests_per_second, catalogue.keys_age_max()),
            signing: signing::Signing::new(master.clone()),
            pages: pages::PageTokens::new(&master),
            snapshots: snapshots::Snapshots::new(cache_mib),
            answers: holds::Answers::default(),
            load: load::Load::default(),
            writes: readiness::Writes::new(ledger.has_two_stores()),
            wait_max,
            catalogue,
            ledger,
            clock,
            countries,
            egress,
            deliveries,
            master,
            growth,
            ending,
        }
    }

    /// The time, by the one clock that decides.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The most spends that were being decided at once since this was last asked.
    #[must_use]
    pub fn most_deciding(&self) -> usize {
        self.load.take_most()
    }

    /// Whether anyone has been here before.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn has_organizations(&self) -> EngineResult<bool> {
        Ok(!self.catalogue.orgs().await?.is_empty())
    }
}
