//! A request for approval as the server shows it, and the body that answers one.
//!
//! Not here: the rule that asks (`rule`).

use serde::{Deserialize, Serialize};

use super::FormError;
use super::decision::{BudgetStatusView, present};
use super::scalar::Time;
use super::transaction::TransactionView;
use crate::proto::v1;

/// A request for approval, with everything a person needs to judge it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalView {
    /// The transaction's.
    pub id: String,
    /// What was asked, decided, and came of it.
    pub transaction: TransactionView,
    /// The agent's name.
    pub agent_name: String,
    /// What the agent is for.
    pub agent_description: String,
    /// The mandate's name.
    pub mandate_name: String,
    /// The rule that asked.
    pub rule_type: String,
    /// Amounts above it need a person, in minor units.
    pub threshold: i64,
    /// Roles and ids of API keys that may answer; empty means every administrator.
    pub approvers: Vec<String>,
    /// How many different approvals it needs.
    pub approvals_required: i32,
    /// The approvals so far.
    pub grants: Vec<StatementView>,
    /// The denial, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denial: Option<StatementView>,
    /// Until when it can be answered; absent when it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// The budget as it would be after the approval; absent when nothing waits any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_if_approved: Option<BudgetStatusView>,
    /// A digest of everything that was asked.
    pub request_hash: String,
    /// Whether the key that reads this may answer.
    pub may_answer: bool,
}

/// What one person said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatementView {
    /// The person's API key.
    pub api_key_id: String,
    /// The person's words.
    pub comment: Option<String>,
    /// When.
    pub created_at: Option<Time>,
}

impl From<v1::Statement> for StatementView {
    fn from(statement: v1::Statement) -> Self {
        Self {
            api_key_id: statement.api_key_id,
            comment: present(statement.comment),
            created_at: Time::from_proto(statement.created_at.as_ref()),
        }
    }
}

impl TryFrom<v1::Approval> for ApprovalView {
    type Error = FormError;

    fn try_from(approval: v1::Approval) -> Result<Self, FormError> {
        let transaction = approval.transaction.ok_or(FormError::Incomplete("transaction"))?;
        Ok(Self {
            id: transaction.id.clone(),
            transaction: transaction.into(),
            expires_at: Time::from_proto(approval.expires_at.as_ref()),
            agent_name: approval.agent_name,
            agent_description: approval.agent_description,
            mandate_name: approval.mandate_name,
            rule_type: approval.rule_type,
            threshold: approval.threshold,
            approvers: approval.approvers,
            approvals_required: approval.approvals_required,
            grants: approval.grants.into_iter().map(Into::into).collect(),
            denial: approval.denial.map(Into::into),
            budget_if_approved: approval.budget_after.map(Into::into),
            request_hash: approval.request_hash,
            may_answer: approval.may_answer,
        })
    }
}

/// The body of `POST /approvals/{id}/approve` and `/deny`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AnswerForm {
    /// Why, for the record.
    pub comment: Option<String>,
    /// If given, the request must be this one.
    pub request_hash: Option<String>,
}
