//! The record of one decision and what became of it.
//!
//! It keeps what was asked, what the ledger ruled and what the server saw, so that `conclude` can
//! be run again on it and says the same. Not here: the state machine's effect on budgets
//! (`ledger`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::decision::Verdict;
use super::hold::{Followup, Terms};
use super::id::{MandateId, OrgId, TransactionId};
use super::ledger::{CounterKey, Level, Standing, Tally, WindowLevel};
use super::money::Minor;
use super::spend::{Observed, Spend};

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransactionState {
    /// Charged, not settled yet.
    Approved,
    /// Final amount known.
    Settled,
    /// Given back entirely.
    Voided,
    /// Given back, wholly or in part, after it was settled.
    Refunded,
    /// Refused; never charged.
    Rejected,
    /// Held until a person decides.
    PendingApproval,
    /// A person refused; given back.
    Denied,
    /// Nobody decided in time; given back.
    Timeout,
    /// Whoever asked did not want it any more; given back.
    Withdrawn,
    /// Approved, and not settled in time; given back.
    Expired,
}

impl TransactionState {
    /// The word for people and stores.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Settled => "settled",
            Self::Voided => "voided",
            Self::Refunded => "refunded",
            Self::Rejected => "rejected",
            Self::PendingApproval => "pending_approval",
            Self::Denied => "denied",
            Self::Timeout => "timeout",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
        }
    }
}

impl From<Verdict> for TransactionState {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Approved => Self::Approved,
            Verdict::Rejected => Self::Rejected,
            Verdict::PendingApproval => Self::PendingApproval,
        }
    }
}

/// What the decision was based on, beside the request itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Organization, agent and mandate as they stood.
    pub standing: Standing,
    /// Whether the request named the mandate.
    pub named: bool,
    /// What the server saw itself.
    pub observed: Observed,
    /// The organization's time zone.
    pub zone: String,
    /// When the stateless rules were tested.
    pub screened_at: Timestamp,
    /// The counters of the claim, before the decision, in the claim's order.
    pub levels: Vec<Level>,
    /// The sliding windows of the claim, before the decision, in the claim's order.
    pub windows: Vec<WindowLevel>,
}

/// The record of one decision.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionRecord {
    /// Derived from organization, agent and idempotency key.
    pub id: TransactionId,
    /// The organization.
    pub org_id: OrgId,
    /// What was asked.
    pub spend: Spend,
    /// The key it was asked with.
    pub idempotency_key: String,
    /// A digest of the request, to tell a repetition from a reuse of the key.
    pub request_hash: [u8; 16],
    /// What was decided. Never changes.
    pub verdict: Verdict,
    /// Where it stands.
    pub state: TransactionState,
    /// What the decision was based on.
    pub evidence: Evidence,
    /// The counters it was charged to, or held in; empty when rejected.
    pub charged: Vec<CounterKey>,
    /// Approvals under the mandate before this one.
    pub tally_before: Tally,
    /// What may follow, as it was agreed then; nothing when rejected.
    pub terms: Terms,
    /// When its state ends by itself, if it does.
    pub due_at: Option<Timestamp>,
    /// What people said since, and whether it was settled late.
    pub followup: Followup,
    /// What was really spent, once settled.
    pub settled: Option<Minor>,
    /// What was given back after settling.
    pub refunded: Option<Minor>,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// When its state last changed.
    pub updated_at: Timestamp,
    /// How long the server took, in microseconds, as far as it was known when it was recorded.
    pub took_micros: i64,
}

impl TransactionRecord {
    /// The mandate that judged, with its version.
    #[must_use]
    pub fn mandate(&self) -> Option<(MandateId, i64)> {
        self.evidence.standing.mandate.as_ref().map(|mandate| (mandate.id, mandate.version))
    }

    /// Begins, as it was decided, at this time.
    pub fn begin(&mut self, verdict: Verdict, now: Timestamp) {
        self.verdict = verdict;
        self.state = TransactionState::from(verdict);
        if verdict == Verdict::Rejected {
            self.terms = Terms::default();
        }
        self.decided_at = now;
        self.updated_at = now;
        self.due_at = self.terms.due_at(self.state, now);
    }

    /// What it takes from its counters now: spent, and held.
    #[must_use]
    pub fn load(&self) -> Level {
        let amount = self.spend.amount;
        let settled = self.settled.unwrap_or(amount);
        match self.state {
            TransactionState::Approved => Level { spent: amount, held: 0 },
            TransactionState::Settled => Level { spent: settled, held: 0 },
            TransactionState::Refunded => {
                Level { spent: settled.saturating_sub(self.refunded.unwrap_or(settled)), held: 0 }
            }
            TransactionState::PendingApproval => Level { spent: 0, held: amount },
            TransactionState::Voided
            | TransactionState::Rejected
            | TransactionState::Denied
            | TransactionState::Timeout
            | TransactionState::Withdrawn
            | TransactionState::Expired => Level::default(),
        }
    }
}
