//! A mandate as the server shows it, and the token of one.
//!
//! Not here: a mandate as a person writes it (`mandate`).

use serde::Serialize;

use super::FormError;
use super::mandate::ResetIntervalForm;
use super::rule::RuleForm;
use super::scalar::Time;
use super::words::Word;
use crate::proto::v1;

/// A mandate, with how much of its budget is gone.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MandateView {
    /// `mdt_…`.
    pub id: String,
    /// The agent it belongs to (UUID).
    pub agent_id: String,
    /// For people.
    pub name: String,
    /// For people and language models.
    pub description: String,
    /// Where it stands.
    pub status: Word<v1::MandateStatus>,
    /// Grows by one with each change.
    pub version: i64,
    /// Its limits and how much of them is gone.
    pub budget: MandateBudgetView,
    /// Its rules, in the order they are reported.
    pub rules: Vec<RuleForm>,
    /// SHA-256 (hex) over the canonical JSON of agent, limits, rules, validity and durability.
    pub policy_hash: String,
    /// Ed25519 signature (base64url) over the policy hash.
    pub signature: String,
    /// Which of the organization's keys signed.
    pub signing_key_id: String,
    /// From when it is valid.
    pub valid_from: Option<Time>,
    /// Until when it is valid, exclusive; null if it does not end.
    pub valid_until: Option<Time>,
    /// What its decisions must survive; absent where that is left to the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<Word<v1::Durability>>,
    /// When it was created.
    pub created_at: Option<Time>,
    /// When this version began.
    pub updated_at: Option<Time>,
    /// Why it was revoked, if it was.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub revocation_reason: String,
}

/// The limits of a mandate and how much of them is gone, in minor units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MandateBudgetView {
    /// The limit of one period.
    pub total: i64,
    /// The ceiling of one transaction.
    pub per_transaction: i64,
    /// Approved and not given back; absent where only the limits are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spent: Option<i64>,
    /// Held for pending approvals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<i64>,
    /// What can still be spent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining: Option<i64>,
    /// ISO 4217 code, or USDC.
    pub currency: String,
    /// When it resets; absent if never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset_interval: Option<ResetIntervalForm>,
    /// An approval that is not settled within so many minutes returns by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_minutes: Option<i32>,
    /// A settlement may be above the approved amount by so much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settle_tolerance: Option<i64>,
    /// The same in hundredths of a percent; with both, the lower one counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settle_tolerance_bps: Option<i32>,
    /// When the period ends; absent if never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<Time>,
    /// The limit was lowered below what is already spent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub over_committed: bool,
}

impl MandateBudgetView {
    fn new(budget: v1::Budget, status: Option<&v1::BudgetStatus>) -> Self {
        Self {
            total: budget.total,
            per_transaction: budget.per_transaction,
            spent: status.map(|status| status.spent),
            held: status.map(|status| status.held),
            remaining: status.map(|status| status.remaining),
            currency: budget.currency,
            reset_interval: ResetIntervalForm::from_number(budget.reset),
            hold_minutes: budget.hold_minutes,
            settle_tolerance: budget.settle_tolerance,
            settle_tolerance_bps: budget.settle_tolerance_bps,
            resets_at: status.and_then(|status| Time::from_proto(status.resets_at.as_ref())),
            over_committed: status.is_some_and(|status| status.over_committed),
        }
    }
}

impl TryFrom<v1::Mandate> for MandateView {
    type Error = FormError;

    fn try_from(mandate: v1::Mandate) -> Result<Self, FormError> {
        let budget = mandate.budget.ok_or(FormError::Incomplete("budget"))?;
        let rules = mandate.rules.into_iter().map(RuleForm::try_from);
        Ok(Self {
            id: mandate.id,
            agent_id: mandate.agent_id,
            name: mandate.name,
            description: mandate.description,
            status: Word::from_number(mandate.status),
            version: mandate.version,
            budget: MandateBudgetView::new(budget, mandate.budget_status.as_ref()),
            rules: rules.collect::<Result<_, _>>()?,
            policy_hash: mandate.policy_hash,
            signature: mandate.signature,
            signing_key_id: mandate.signing_key_id,
            valid_from: Time::from_proto(mandate.valid_from.as_ref()),
            valid_until: Time::from_proto(mandate.valid_until.as_ref()),
            durability: Word::specified(mandate.durability),
            created_at: Time::from_proto(mandate.created_at.as_ref()),
            updated_at: Time::from_proto(mandate.updated_at.as_ref()),
            revocation_reason: mandate.revocation_reason,
        })
    }
}

/// The active mandate of an agent with its signed token.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MandateTokenView {
    /// The mandate's id, once more under the name of the other published form.
    pub mandate_id: String,
    /// The mandate.
    #[serde(flatten)]
    pub mandate: MandateView,
    /// JWS in compact form.
    pub token: String,
    /// When the token ends.
    pub expires_at: Option<Time>,
}

impl TryFrom<v1::GetMandateTokenResponse> for MandateTokenView {
    type Error = FormError;

    fn try_from(response: v1::GetMandateTokenResponse) -> Result<Self, FormError> {
        let mandate = response.mandate.ok_or(FormError::Incomplete("mandate"))?;
        Ok(Self {
            mandate_id: mandate.id.clone(),
            mandate: mandate.try_into()?,
            token: response.token,
            expires_at: Time::from_proto(response.expires_at.as_ref()),
        })
    }
}
