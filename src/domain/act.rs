//! Acts: what was done beside deciding, and by whom. Each is recorded once and never changes.
//!
//! A decision needs no act: its record is one. What becomes of a decision later, and every change
//! of an organization, an agent, a mandate or a credential, is an act, written in the transaction
//! that has the effect. Not here: who may do what (`engine`), and what follows from acts (`event`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::actor::Actor;
use super::agent::{Agent, AgentStatus};
use super::id::{AgentId, MandateId, OrgId};
use super::ledger::Level;
use super::mandate::{Mandate, MandateStatus};
use super::money::{Currency, Minor};
use super::organization::Organization;
use super::transaction::{TransactionRecord, TransactionState};
use super::webhook::WebhookEndpoint;

/// Names every kind once, with the word that stores and people see.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)+) => {
        /// What kind of act.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ActKind {
            $($(#[$doc])* $name,)+
        }

        impl ActKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The word for people and stores.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }

            /// The kind with this word.
            #[must_use]
            pub fn of(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.word() == word)
            }
        }
    };
}

kinds! {
    /// The final amount of a transaction became known.
    TransactionSettled = "transaction.settled",
    /// A transaction was given back as a whole.
    TransactionVoided = "transaction.voided",
    /// Money of a settled transaction was given back.
    TransactionRefunded = "transaction.refunded",
    /// A transaction was withdrawn before a person decided.
    TransactionWithdrawn = "transaction.withdrawn",
    /// A person approved, and others have to as well.
    TransactionSeconded = "transaction.seconded",
    /// A person approved, and nobody else has to.
    TransactionApproved = "transaction.approved",
    /// A person denied.
    TransactionDenied = "transaction.denied",
    /// Nobody decided in time.
    TransactionTimedOut = "transaction.timeout",
    /// An approval was not settled in time.
    TransactionExpired = "transaction.expired",
    /// An organization was made.
    OrganizationCreated = "organization.created",
    /// Its settings changed.
    OrganizationUpdated = "organization.updated",
    /// Its kill switch was set.
    OrganizationFrozen = "organization.frozen",
    /// Its kill switch was released.
    OrganizationUnfrozen = "organization.unfrozen",
    /// An agent was registered.
    AgentRegistered = "agent.registered",
    /// What is said of an agent changed, or which mandate it has.
    AgentUpdated = "agent.updated",
    /// An agent was stopped for now.
    AgentSuspended = "agent.suspended",
    /// An agent may spend again.
    AgentResumed = "agent.resumed",
    /// An agent ended.
    AgentDecommissioned = "agent.decommissioned",
    /// A mandate was drafted.
    MandateCreated = "mandate.created",
    /// A mandate's policy or description changed.
    MandateUpdated = "mandate.updated",
    /// A mandate came in force.
    MandateActivated = "mandate.activated",
    /// A mandate was stopped for now.
    MandatePaused = "mandate.paused",
    /// A mandate is in force again.
    MandateResumed = "mandate.resumed",
    /// A mandate was ended.
    MandateRevoked = "mandate.revoked",
    /// A mandate's validity was over.
    MandateExpired = "mandate.expired",
    /// A draft was deleted.
    MandateDeleted = "mandate.deleted",
    /// A credential was made.
    KeyCreated = "key.created",
    /// A credential was revoked.
    KeyRevoked = "key.revoked",
    /// Every credential of an agent was revoked.
    AgentKeysRevoked = "agent.keys_revoked",
    /// A webhook endpoint was made.
    WebhookCreated = "webhook.created",
    /// What is said of a webhook endpoint changed, or where or of what it is told.
    WebhookUpdated = "webhook.updated",
    /// A webhook endpoint was given another secret.
    WebhookSecretRotated = "webhook.secret_rotated",
    /// The server stopped telling a webhook endpoint, which is gone or accepts nothing.
    WebhookDisabled = "webhook.disabled",
    /// A webhook endpoint was removed.
    WebhookDeleted = "webhook.deleted",
    /// Deliveries were put on their way by hand.
    WebhookSent = "webhook.sent",
}

impl ActKind {
    /// What a new version of an organization does.
    #[must_use]
    pub const fn of_organization(before: &Organization, after: &Organization) -> Self {
        match (before.frozen, after.frozen) {
            (false, true) => Self::OrganizationFrozen,
            (true, false) => Self::OrganizationUnfrozen,
            (true, true) | (false, false) => Self::OrganizationUpdated,
        }
    }

    /// What a new version of an agent does.
    #[must_use]
    pub fn of_agent(before: &Agent, after: &Agent) -> Self {
        match after.status {
            same if same == before.status => Self::AgentUpdated,
            AgentStatus::Active => Self::AgentResumed,
            AgentStatus::Suspended => Self::AgentSuspended,
            AgentStatus::Decommissioned => Self::AgentDecommissioned,
        }
    }

    /// What a new version of a webhook endpoint does. Its secrets are in no document, so a version
    /// that says nothing new is about them.
    #[must_use]
    pub fn of_webhook(before: &WebhookEndpoint, after: &WebhookEndpoint) -> Self {
        let same = |one: &WebhookEndpoint| {
            (one.url.clone(), one.description.clone(), one.events.clone(), one.enabled)
        };
        match (before.disabled, after.disabled) {
            (None, Some(_)) => Self::WebhookDisabled,
            _ if same(before) == same(after) => Self::WebhookSecretRotated,
            _ => Self::WebhookUpdated,
        }
    }

    /// What a new version of a mandate does.
    #[must_use]
    pub fn of_mandate(before: &Mandate, after: &Mandate) -> Self {
        match (before.status, after.status) {
            (before, after) if before == after => Self::MandateUpdated,
            (MandateStatus::Paused, MandateStatus::Active) => Self::MandateResumed,
            (_, MandateStatus::Active) => Self::MandateActivated,
            (_, MandateStatus::Paused) => Self::MandatePaused,
            (_, MandateStatus::Revoked) => Self::MandateRevoked,
            (_, MandateStatus::Expired) => Self::MandateExpired,
            (_, MandateStatus::Draft) => Self::MandateUpdated,
        }
    }
}

/// One act, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActRecord {
    /// The organization.
    pub org_id: OrgId,
    /// What kind.
    pub kind: ActKind,
    /// What it was done to, by the bytes of its id.
    pub subject: [u8; 16],
    /// Who did it.
    pub actor: Actor,
    /// When.
    pub at: Timestamp,
    /// The rest, as JSON; never a secret. Of money a [`MoneyMoved`], else the object as it was
    /// (`before`) and as it is (`after`).
    pub document: String,
}

/// How a transaction stands, in the document of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stood {
    /// Its state.
    pub state: TransactionState,
    /// What was settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<Minor>,
    /// What was refunded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refunded: Option<Minor>,
}

impl Stood {
    const fn of(record: &TransactionRecord) -> Self {
        Self { state: record.state, settled: record.settled, refunded: record.refunded }
    }
}

/// The document of an act about a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneyMoved {
    /// The agent that asked.
    pub agent: AgentId,
    /// The mandate that judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mandate: Option<MandateId>,
    /// The version of the mandate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// What was asked for.
    pub amount: Minor,
    /// In which currency.
    pub currency: Currency,
    /// How the transaction stood.
    pub before: Stood,
    /// How it stands.
    pub after: Stood,
    /// Settled after its hold had expired.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
    /// What a person said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// What the budget that it was charged to stands at, spent and held, where that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<(Minor, Minor)>,
}

impl ActRecord {
    /// What was done to a transaction; `budget` is where its budget stands now.
    #[must_use]
    pub fn of_money(
        (kind, actor): (ActKind, Actor),
        before: &TransactionRecord,
        after: &TransactionRecord,
        budget: Option<Level>,
    ) -> Self {
        let mandate = after.mandate();
        let document = MoneyMoved {
            agent: after.spend.agent_id,
            mandate: mandate.map(|(id, _)| id),
            version: mandate.map(|(_, version)| version),
            amount: after.spend.amount,
            currency: after.spend.currency,
            before: Stood::of(before),
            after: Stood::of(after),
            late: kind == ActKind::TransactionSettled && after.followup.late,
            comment: said(kind, after),
            budget: budget.map(|level| (level.spent, level.held)),
        };
        Self {
            org_id: after.org_id,
            kind,
            subject: *after.id.as_bytes(),
            actor,
            at: after.updated_at,
            // Its keys are words and its values plain: there is nothing that cannot be written.
            document: serde_json::to_string(&document).unwrap_or_default(),
        }
    }
}

/// The words of the person whose act this is.
fn said(kind: ActKind, after: &TransactionRecord) -> Option<String> {
    let followup = &after.followup;
    let is_grant = matches!(kind, ActKind::TransactionSeconded | ActKind::TransactionApproved);
    let statement = if is_grant {
        followup.grants.last()
    } else {
        followup.denial.as_ref().filter(|_| kind == ActKind::TransactionDenied)
    };
    statement.map(|said| said.comment.clone()).filter(|comment| !comment.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_word_of_its_own() {
        for kind in ActKind::ALL {
            assert_eq!(ActKind::of(kind.word()), Some(*kind));
        }
        assert_eq!(ActKind::of("transaction"), None);
    }
}
