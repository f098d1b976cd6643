//! Events: what others are told of, in the order in which it happened.
//!
//! Every event is an entry of the organization's journal and has its number; entries that nobody is
//! told of (most acts of administration) have numbers too. Not here: the journal's order
//! (`journal`), and how others are told (webhooks, streams).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::decision::{RejectionReason, Verdict};
use super::id::{AgentId, MandateId, OrgId, TransactionId};
use super::money::{Currency, Minor};

/// Names every kind once, with its word.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)+) => {
        /// What kind of event.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        pub enum EventKind {
            $($(#[$doc])* #[serde(rename = $word)] $name,)+
        }

        impl EventKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The word for people, stores and receivers.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }

            /// The kind with this word; none for an entry that nobody is told of.
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
    /// A spend was rejected, with reasons.
    TransactionRejected = "transaction.rejected",
    /// A spend is held until a person decides.
    TransactionPendingApproval = "transaction.pending_approval",
    /// A person denied a spend that was held.
    TransactionDenied = "transaction.denied",
    /// Nobody decided on a spend in time.
    TransactionTimedOut = "transaction.timeout",
    /// A spend was withdrawn before a person decided.
    TransactionWithdrawn = "transaction.withdrawn",
    /// An approval was not settled in time.
    TransactionExpired = "transaction.expired",
    /// The final amount became known.
    TransactionSettled = "transaction.settled",
    /// A transaction was given back.
    TransactionVoided = "transaction.voided",
    /// Money of a settled transaction was given back.
    TransactionRefunded = "transaction.refunded",
    /// A mandate came in force.
    MandateActivated = "mandate.activated",
    /// A mandate was ended.
    MandateRevoked = "mandate.revoked",
    /// A mandate's validity was over.
    MandateExpired = "mandate.expired",
    /// So much of a budget is spent or held that somebody should know.
    MandateBudgetWarning = "mandate.budget.warning",
    /// All of a budget is spent or held.
    MandateBudgetExhausted = "mandate.budget.exhausted",
}

impl EventKind {
    /// Whether it is about a transaction.
    #[must_use]
    pub fn is_of_money(self) -> bool {
        self.word().starts_with("transaction.")
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The organization.
    pub org_id: OrgId,
    /// Its number in the organization's journal: later ones are greater.
    pub seq: i64,
    /// Names it for receivers; the same whenever it is told.
    pub id: String,
    /// What kind.
    pub kind: EventKind,
    /// When.
    pub at: Timestamp,
    /// About what.
    pub data: EventData,
}

/// What an event is about, as far as it is about that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventData {
    /// The mandate.
    pub mandate: Option<MandateId>,
    /// The agent.
    pub agent: Option<AgentId>,
    /// The transaction.
    pub transaction: Option<TransactionId>,
    /// How much: asked for, settled, or given back.
    pub amount: Option<Minor>,
    /// In which currency.
    pub currency: Option<Currency>,
    /// What is spent or held of the budget in its window.
    pub budget_spent: Option<Minor>,
    /// The limit of the budget's window.
    pub budget_total: Option<Minor>,
    /// What was decided.
    pub decision: Option<Verdict>,
    /// Why it was rejected, in the order of precedence.
    pub rejection_reasons: Vec<RejectionReason>,
}

/// The id of an event: of its organization and number, so that it is the same after any crash.
#[must_use]
pub fn event_id(org: OrgId, seq: i64) -> String {
    let [.., a, b, c, d, e, f, g, h] = *org.as_bytes();
    let org = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    format!("evt_{org:016x}{seq:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_word_of_its_own() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::of(kind.word()), Some(*kind));
        }
        assert_eq!(EventKind::of("mandate.created"), None);
    }

    #[test]
    fn an_id_tells_organizations_and_numbers_apart() {
        let [one, two] = [1, 2].map(|byte| OrgId::from_bytes([byte; 16]));
        assert_eq!(event_id(one, 10), "evt_0101010101010101000000000000000a");
        assert_ne!(event_id(one, 10), event_id(two, 10));
        assert_ne!(event_id(one, 10), event_id(one, 11));
    }
}
