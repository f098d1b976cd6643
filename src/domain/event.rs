//! Events: what others are told of what happened in an organization.
//!
//! Not here: how they are kept and read (`store`), and who is told (`webhook`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::id::{EventId, OrgId};

/// Names every kind once, with the word that stores and people see.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)+) => {
        /// What kind of event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum EventKind {
            $($(#[$doc])* #[serde(rename = $word)] $name,)+
        }

        impl EventKind {
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
    /// A spend was approved.
    TransactionApproved = "transaction.approved",
    /// A spend was rejected.
    TransactionRejected = "transaction.rejected",
    /// A spend waits for a person.
    TransactionPendingApproval = "transaction.pending_approval",
    /// The final amount became known.
    TransactionSettled = "transaction.settled",
    /// A transaction was given back.
    TransactionVoided = "transaction.voided",
    /// Money was given back.
    TransactionRefunded = "transaction.refunded",
    /// A mandate came in force.
    MandateActivated = "mandate.activated",
    /// A mandate was ended.
    MandateRevoked = "mandate.revoked",
    /// A mandate's validity was over.
    MandateExpired = "mandate.expired",
    /// Most of a budget is spent.
    MandateBudgetWarning = "mandate.budget.warning",
    /// All of a budget is spent.
    MandateBudgetExhausted = "mandate.budget.exhausted",
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Whose.
    pub org_id: OrgId,
    /// Dense within the organization.
    pub seq: i64,
    /// Stable.
    pub id: EventId,
    /// What kind.
    pub kind: EventKind,
    /// When.
    pub at: Timestamp,
    /// What happened, as JSON.
    pub data: serde_json::Value,
}
