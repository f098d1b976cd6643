//! What a decision is made of: the result of every rule, the reasons, the explanation.
//!
//! Not here: how it comes about (`evaluate`) and its wire form (`grpc/convert`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::money::{Currency, Minor};

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every rule passed; the budget was charged.
    Approved,
    /// At least one rule failed; nothing was charged.
    Rejected,
    /// Every rule passed and a person has to decide; the money is held.
    PendingApproval,
}

impl Verdict {
    /// The word for people and stores.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::PendingApproval => "pending_approval",
        }
    }
}

/// Why a spend was rejected; the words of `RejectionReason` in the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "documented where they are public, in error_reason.proto")]
pub enum RejectionReason {
    OrganizationFrozen,
    AgentNotActive,
    NoActiveMandate,
    MandatePaused,
    MandateRevoked,
    MandateExpired,
    MandateNotYetValid,
    CurrencyMismatch,
    BudgetPerTxExceeded,
    BudgetExhausted,
    CategoryNotAllowed,
    CategoryMissing,
    VendorNotAllowed,
    VendorBlocked,
    VendorConfusable,
    VendorCapExceeded,
    CategoryCapExceeded,
    MaxAmountExceeded,
    RateLimitExceeded,
    SpendRateExceeded,
    OutsideTimeWindow,
    CountryNotAllowed,
    CountryUnknown,
    ProtocolNotAllowed,
    ProtocolMissing,
    CustomRuleFalse,
    CustomRuleError,
}

/// The result of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleResult {
    /// Which rule.
    pub rule_type: &'static str,
    /// Why it failed; `None` when it passed.
    pub failure: Option<RejectionReason>,
    /// One sentence a person or a language model can act on.
    pub detail: String,
    /// The bound, in minor units or as a count.
    pub limit: Option<i64>,
    /// What was compared with the bound.
    pub actual: Option<i64>,
    /// What would still pass now.
    pub remaining: Option<i64>,
    /// When time alone changes the result.
    pub resets_at: Option<Timestamp>,
    /// Whether waiting, or asking for less, can make the same request pass.
    pub retryable: bool,
}

impl RuleResult {
    /// Whether the rule passed.
    #[must_use]
    pub const fn passed(&self) -> bool {
        self.failure.is_none()
    }
}

/// One reason of a rejection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The word.
    pub reason: RejectionReason,
    /// The rule that gave it, or `mandate`, `agent`, `organization`.
    pub source: &'static str,
    /// One sentence.
    pub detail: String,
}

/// A budget and how much of it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetStatus {
    /// The limit of a period.
    pub total: Minor,
    /// Approved and not given back.
    pub spent: Minor,
    /// Held for pending approvals.
    pub held: Minor,
    /// The ceiling of one transaction.
    pub per_transaction: Minor,
    /// The currency.
    pub currency: Currency,
    /// When the period ends.
    pub resets_at: Option<Timestamp>,
}

impl BudgetStatus {
    /// What can still be spent: never below zero.
    #[must_use]
    pub fn remaining(&self) -> Minor {
        self.total.saturating_sub(self.spent).saturating_sub(self.held).max(0)
    }

    /// Whether the limit was lowered below what is already spent.
    #[must_use]
    pub fn over_committed(&self) -> bool {
        self.spent.saturating_add(self.held) > self.total
    }
}

/// A decision, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What was decided.
    pub verdict: Verdict,
    /// Every rule: built-in ones first, then the mandate's, in its order.
    pub rule_results: Vec<RuleResult>,
    /// Why it was rejected; empty if it was not.
    pub reasons: Vec<Reason>,
    /// The whole decision in plain English.
    pub explanation: String,
    /// The budget after it; `None` without a mandate.
    pub budget: Option<BudgetStatus>,
}
