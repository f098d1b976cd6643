//! The JSON and YAML forms of the product: what a person writes and what a REST client reads.
//!
//! One set of types serves the REST bodies and the command line's files. Each form converts to or
//! from a message of [`crate::proto::v1`]. Reading a form checks its shape only: known fields,
//! whole numbers, known words, the fields each rule needs.
//!
//! Not here: bounds and meaning (the server checks those for every way in), HTTP, files.

mod agent;
mod approval;
mod decision;
mod mandate;
mod mandate_view;
mod money;
mod organization;
mod patch;
mod rule;
mod rule_fields;
mod scalar;
mod spend;
mod transaction;
mod webhook;
mod words;

pub use agent::{AgentForm, AgentPatch, AgentView};
pub use approval::{AnswerForm, ApprovalView, StatementView};
pub use decision::{BudgetStatusView, CanSpendView, EvaluateView, ReasonView, RuleResultView};
pub use mandate::{BudgetForm, BudgetPatch, MandateForm, MandatePatch, ResetIntervalForm};
pub use mandate_view::{MandateBudgetView, MandateTokenView, MandateView};
pub use money::money_text;
pub use organization::{
    ApiKeyCreatedView, ApiKeyForm, ApiKeyView, OrganizationPatch, OrganizationView, SigningKeyView,
};
pub use patch::Patch;
pub use rule::{Expression, RuleForm};
pub use scalar::{Hour, Time, Whole};
pub use spend::{PaymentRequestForm, RefundForm, RevokeForm, SettleForm, SpendForm};
pub use transaction::{TransactionView, TransactionWithBudgetView};
pub use webhook::{
    RedeliverForm, RedeliveredView, RotateSecretForm, WebhookAttemptView, WebhookDeliveryView,
    WebhookEndpointForm, WebhookEndpointPatch, WebhookEndpointView, WebhookSecretView,
    WrittenSecret,
};
pub use words::{RuleKind, Vocabulary, Word};

/// Why a message of the server cannot be shown as a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// The message lacks a part that the server always sends.
    #[error("the answer has no {0}; client and server may be of different versions")]
    Incomplete(&'static str),
    /// A rule of a kind this version does not know. Leaving it out would hide a restriction.
    #[error("the mandate has a rule that this version does not know; update this program")]
    UnknownRule,
}

#[cfg(test)]
mod tests;
