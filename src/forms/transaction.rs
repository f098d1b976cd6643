//! A transaction as the server shows it.
//!
//! Not here: settling, voiding and refunding (`spend` has their bodies).

use std::collections::BTreeMap;

use serde::Serialize;

use super::decision::{BudgetStatusView, ReasonView, RuleResultView, milliseconds, present};
use super::scalar::Time;
use super::words::Word;
use crate::proto::v1;

/// The record of one decision, and what became of it. Amounts are in minor units.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransactionView {
    /// `tx_…`.
    pub id: String,
    /// The agent that asked (UUID).
    pub agent_id: String,
    /// The mandate that judged; null if there was none.
    pub mandate_id: Option<String>,
    /// Its version.
    pub mandate_version: Option<i64>,
    /// The vendor as the agent wrote it.
    pub vendor: String,
    /// The vendor as the rules compare it.
    pub vendor_canonical: String,
    /// What was asked for.
    pub amount: i64,
    /// ISO 4217 code, or USDC.
    pub currency: String,
    /// What kind of thing was bought.
    pub category: Option<String>,
    /// What it was for.
    pub description: Option<String>,
    /// By which means.
    pub protocol: Option<Word<v1::Protocol>>,
    /// What was decided. Never changes.
    pub decision: Word<v1::Decision>,
    /// Where it stands now.
    pub state: Word<v1::TransactionState>,
    /// Every rule's result at the time.
    pub rule_evaluations: Vec<RuleResultView>,
    /// Why it was rejected; empty if it was not.
    pub reasons: Vec<ReasonView>,
    /// What was spent and held before.
    pub budget_before: i64,
    /// What was spent and held after.
    pub budget_after: i64,
    /// The key it was asked with.
    pub idempotency_key: String,
    /// The caller's labels.
    pub metadata: BTreeMap<String, String>,
    /// What was really spent, once settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled_amount: Option<i64>,
    /// What was given back after settling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refunded_amount: Option<i64>,
    /// Settled after its hold had expired.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub settled_late: bool,
    /// What the person said who denied it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denial_comment: Option<String>,
    /// When the present state ends by itself; absent if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// The decision in plain English.
    pub explanation: String,
    /// How long the server took to decide, in milliseconds.
    pub evaluation_duration_ms: f64,
    /// When it was decided.
    pub created_at: Option<Time>,
    /// When its state last changed.
    pub updated_at: Option<Time>,
}

impl From<v1::Transaction> for TransactionView {
    fn from(transaction: v1::Transaction) -> Self {
        let mandate_id = present(transaction.mandate_id);
        Self {
            id: transaction.id,
            agent_id: transaction.agent_id,
            mandate_version: mandate_id.is_some().then_some(transaction.mandate_version),
            mandate_id,
            vendor: transaction.vendor,
            vendor_canonical: transaction.vendor_canonical,
            amount: transaction.amount,
            currency: transaction.currency,
            category: present(transaction.category),
            description: present(transaction.description),
            protocol: Word::specified(transaction.protocol),
            decision: Word::from_number(transaction.decision),
            state: Word::from_number(transaction.state),
            rule_evaluations: transaction.rule_results.into_iter().map(Into::into).collect(),
            reasons: transaction.reasons.into_iter().map(Into::into).collect(),
            budget_before: transaction.budget_before,
            budget_after: transaction.budget_after,
            idempotency_key: transaction.idempotency_key,
            metadata: transaction.metadata,
            settled_amount: transaction.settled_amount,
            refunded_amount: transaction.refunded_amount,
            settled_late: transaction.settled_late,
            denial_comment: present(transaction.denial_comment),
            expires_at: Time::from_proto(transaction.expires_at.as_ref()),
            explanation: transaction.explanation,
            evaluation_duration_ms: milliseconds(transaction.evaluation_duration),
            created_at: Time::from_proto(transaction.created_at.as_ref()),
            updated_at: Time::from_proto(transaction.updated_at.as_ref()),
        }
    }
}

/// A transaction that was just settled, voided or refunded, and the budget after it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransactionWithBudgetView {
    /// The transaction.
    #[serde(flatten)]
    pub transaction: TransactionView,
    /// The budget after it, of the current period.
    pub budget: Option<BudgetStatusView>,
}
