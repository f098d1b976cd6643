//! A decision as the server shows it: the answer, every rule's result, the reasons, the budget.
//!
//! Not here: the question (`spend`), HTTP codes.

use serde::Serialize;

use super::scalar::Time;
use super::words::Word;
use crate::proto::v1;

/// The result of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleResultView {
    /// Which rule.
    pub rule_type: String,
    /// Whether it passed.
    pub passed: bool,
    /// One sentence a person or a language model can act on.
    pub detail: String,
    /// Why it failed, as one word; absent when it passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The bound that was applied: minor units, or a count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// What was compared with the bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<i64>,
    /// What would still pass now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining: Option<i64>,
    /// When the same request could pass, if time alone changes the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<Time>,
    /// Whether waiting, or asking for less, can make the same request pass.
    pub retryable: bool,
}

impl From<v1::RuleResult> for RuleResultView {
    fn from(result: v1::RuleResult) -> Self {
        Self {
            rule_type: result.rule_type,
            passed: result.passed,
            detail: result.detail,
            reason: reason_word(result.reason),
            limit: result.limit,
            actual: result.actual,
            remaining: result.remaining,
            resets_at: Time::from_proto(result.resets_at.as_ref()),
            retryable: result.retryable,
        }
    }
}

/// One reason of a rejection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReasonView {
    /// The rule that gave it, or `mandate`, `agent`, `organization`.
    pub rule: String,
    /// The same, under the name of the other published form.
    pub rule_type: String,
    /// Always false.
    pub passed: bool,
    /// One sentence for people.
    pub detail: String,
    /// The word to dispatch on.
    pub reason: Option<String>,
}

impl From<v1::Reason> for ReasonView {
    fn from(reason: v1::Reason) -> Self {
        Self {
            rule: reason.rule_type.clone(),
            rule_type: reason.rule_type,
            passed: false,
            detail: reason.detail,
            reason: reason_word(reason.reason),
        }
    }
}

/// `vendor_blocked` for `REJECTION_REASON_VENDOR_BLOCKED`; none if there is no reason.
fn reason_word(number: i32) -> Option<String> {
    let reason = v1::RejectionReason::try_from(number).ok()?;
    if reason == v1::RejectionReason::Unspecified {
        return None;
    }
    let name = reason.as_str_name();
    Some(name.trim_start_matches("REJECTION_REASON_").to_lowercase())
}

/// A budget and how much of it is gone in the current period, in minor units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BudgetStatusView {
    /// The limit of a period.
    pub total: i64,
    /// Approved and not given back.
    pub spent: i64,
    /// Held for pending approvals.
    pub held: i64,
    /// What can still be spent: never below zero.
    pub remaining: i64,
    /// The ceiling of one transaction.
    pub per_transaction: i64,
    /// ISO 4217 code, or USDC.
    pub currency: String,
    /// When the period ends; absent if never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<Time>,
    /// The limit was lowered below what is already spent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub over_committed: bool,
}

impl From<v1::BudgetStatus> for BudgetStatusView {
    fn from(status: v1::BudgetStatus) -> Self {
        Self {
            total: status.total,
            spent: status.spent,
            held: status.held,
            remaining: status.remaining,
            per_transaction: status.per_transaction,
            currency: status.currency,
            resets_at: Time::from_proto(status.resets_at.as_ref()),
            over_committed: status.over_committed,
        }
    }
}

/// The answer of Evaluate. What does not exist without a mandate is null then.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EvaluateView {
    /// Approved, rejected, or waiting for a person.
    pub decision: Word<v1::Decision>,
    /// The record of this decision, `tx_…`.
    pub transaction_id: String,
    /// The mandate that judged.
    pub mandate_id: Option<String>,
    /// Its version.
    pub mandate_version: Option<i64>,
    /// What is left of the budget, in minor units.
    pub remaining_budget: Option<i64>,
    /// The same, under the name of the other published form.
    pub budget_remaining: Option<i64>,
    /// Every rule's result, passed or failed.
    pub evaluations: Vec<RuleResultView>,
    /// Why it was rejected; empty if it was not.
    pub reasons: Vec<ReasonView>,
    /// The whole decision in plain English.
    pub explanation: String,
    /// How long the server took to decide, in milliseconds.
    pub evaluation_duration_ms: f64,
    /// The budget after this decision.
    pub budget: Option<BudgetStatusView>,
    /// The answer to an earlier call with the same idempotency key; nothing was charged now.
    pub replayed: bool,
    /// Where the transaction stands now.
    pub state: Word<v1::TransactionState>,
    /// When that state ends by itself; absent if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}

impl From<v1::EvaluateResponse> for EvaluateView {
    fn from(response: v1::EvaluateResponse) -> Self {
        let remaining = response.budget.as_ref().map(|budget| budget.remaining);
        let mandate_id = present(response.mandate_id);
        Self {
            decision: Word::from_number(response.decision),
            transaction_id: response.transaction_id,
            mandate_version: mandate_id.is_some().then_some(response.mandate_version),
            mandate_id,
            remaining_budget: remaining,
            budget_remaining: remaining,
            evaluations: response.rule_results.into_iter().map(Into::into).collect(),
            reasons: response.reasons.into_iter().map(Into::into).collect(),
            explanation: response.explanation,
            evaluation_duration_ms: milliseconds(response.evaluation_duration),
            budget: response.budget.map(Into::into),
            replayed: response.replayed,
            state: Word::from_number(response.state),
            expires_at: Time::from_proto(response.expires_at.as_ref()),
        }
    }
}

/// The answer of `CanSpend`. What does not exist without a mandate is null then.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CanSpendView {
    /// The decision Evaluate would make now.
    pub decision: Word<v1::Decision>,
    /// The mandate that would judge.
    pub mandate_id: Option<String>,
    /// Its version.
    pub mandate_version: Option<i64>,
    /// What is left of the budget, in minor units.
    pub remaining_budget: Option<i64>,
    /// The same, under the name of the other published form.
    pub budget_remaining: Option<i64>,
    /// Every rule's result, passed or failed.
    pub evaluations: Vec<RuleResultView>,
    /// Why it would be rejected.
    pub reasons: Vec<ReasonView>,
    /// The answer in plain English.
    pub explanation: String,
    /// The budget as it is now.
    pub budget: Option<BudgetStatusView>,
}

impl From<v1::CanSpendResponse> for CanSpendView {
    fn from(response: v1::CanSpendResponse) -> Self {
        let remaining = response.budget.as_ref().map(|budget| budget.remaining);
        let mandate_id = present(response.mandate_id);
        Self {
            decision: Word::from_number(response.decision),
            mandate_version: mandate_id.is_some().then_some(response.mandate_version),
            mandate_id,
            remaining_budget: remaining,
            budget_remaining: remaining,
            evaluations: response.rule_results.into_iter().map(Into::into).collect(),
            reasons: response.reasons.into_iter().map(Into::into).collect(),
            explanation: response.explanation,
            budget: response.budget.map(Into::into),
        }
    }
}

/// Protobuf writes an absent string as an empty one.
pub(super) fn present(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Milliseconds with their fraction; a decision takes well under one.
pub(super) fn milliseconds(duration: Option<prost_types::Duration>) -> f64 {
    let duration = duration.and_then(|duration| std::time::Duration::try_from(duration).ok());
    let duration = duration.unwrap_or_default();
    // From a whole number: what a fraction is multiplied to has digits that nobody measured.
    let nanos = u32::try_from(duration.as_nanos()).map(f64::from);
    nanos.unwrap_or(duration.as_secs_f64() * 1e9) / 1e6
}
