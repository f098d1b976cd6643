//! A mandate as a person writes it, whole or in part, and the requests made of it.
//!
//! Not here: a mandate as the server shows it (`mandate_view`), and finding an agent by its name.

use serde::{Deserialize, Serialize};

use super::FormError;
use super::patch::{Patch, given, masked};
use super::rule::{RuleForm, period};
use super::scalar::{Time, whole, whole_or_none};
use super::words::Word;
use crate::proto::v1;

/// A new mandate: the body of `POST /mandates` and the file of the command line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MandateForm {
    /// The agent's id (UUID).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// The agent's name or id, in files only; whoever reads the file looks the id up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// For people.
    pub name: String,
    /// For people and language models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its limits.
    pub budget: BudgetForm,
    /// Its rules, in the order they are reported.
    #[serde(default)]
    pub rules: Vec<RuleForm>,
    /// From when it is valid; absent means from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Time>,
    /// Until when it is valid, exclusive; absent means it does not end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Time>,
    /// What its decisions must survive; absent leaves that to the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<Word<v1::Durability>>,
}

/// The limits of a mandate, in minor units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BudgetForm {
    /// The limit of one period.
    #[serde(deserialize_with = "whole")]
    pub total: i64,
    /// The ceiling of one transaction.
    #[serde(deserialize_with = "whole")]
    pub per_transaction: i64,
    /// ISO 4217 code or USDC. The contract requires one, so whoever reads the form fills it in:
    /// the organization's for a new mandate, the mandate's own for a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// When it resets; absent means never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset_interval: Option<ResetIntervalForm>,
    /// An approval that is not settled within so many minutes returns by itself; absent means
    /// never.
    #[serde(default, deserialize_with = "whole_or_none", skip_serializing_if = "Option::is_none")]
    pub hold_minutes: Option<i32>,
    /// A settlement may be above the approved amount by so much; absent means by nothing.
    #[serde(default, deserialize_with = "whole_or_none", skip_serializing_if = "Option::is_none")]
    pub settle_tolerance: Option<i64>,
    /// The same in hundredths of a percent; with both, the lower one counts.
    #[serde(default, deserialize_with = "whole_or_none", skip_serializing_if = "Option::is_none")]
    pub settle_tolerance_bps: Option<i32>,
}

/// When a budget resets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResetIntervalForm {
    /// The length of a period.
    pub period: Word<v1::Period>,
}

impl ResetIntervalForm {
    /// None for a budget that never resets.
    pub(super) fn from_number(number: i32) -> Option<Self> {
        let period = period(number);
        (period.0 != v1::Period::None).then_some(Self { period })
    }
}

/// Changes to a mandate: the body of `PATCH /mandates/{id}`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MandatePatch {
    /// For people.
    #[serde(deserialize_with = "given")]
    pub name: Option<String>,
    /// For people and language models; null clears it.
    pub description: Patch<String>,
    /// Its limits, as a whole.
    #[serde(deserialize_with = "given")]
    pub budget: Option<BudgetForm>,
    /// Its rules, as a whole.
    #[serde(deserialize_with = "given")]
    pub rules: Option<Vec<RuleForm>>,
    /// From when it is valid.
    #[serde(deserialize_with = "given")]
    pub valid_from: Option<Time>,
    /// Until when it is valid; null means it does not end.
    pub valid_until: Patch<Time>,
    /// What its decisions must survive; null leaves that to the server.
    pub durability: Patch<Word<v1::Durability>>,
    /// If given and not the present version, nothing changes.
    #[serde(deserialize_with = "whole_or_none")]
    pub expected_version: Option<i64>,
}

/// Changes to the limits: the body of `PATCH /mandates/{id}/budget`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BudgetPatch {
    /// The new limit of one period.
    #[serde(deserialize_with = "whole_or_none")]
    pub total: Option<i64>,
    /// The new ceiling of one transaction.
    #[serde(deserialize_with = "whole_or_none")]
    pub per_transaction: Option<i64>,
    /// If given and not the present version, nothing changes.
    #[serde(deserialize_with = "whole_or_none")]
    pub expected_version: Option<i64>,
}

impl From<BudgetForm> for v1::Budget {
    fn from(form: BudgetForm) -> Self {
        let reset = form.reset_interval.map_or(v1::Period::None, |interval| interval.period.0);
        Self {
            total: form.total,
            per_transaction: form.per_transaction,
            currency: form.currency.unwrap_or_default(),
            reset: reset.into(),
            hold_minutes: form.hold_minutes,
            settle_tolerance: form.settle_tolerance,
            settle_tolerance_bps: form.settle_tolerance_bps,
        }
    }
}

impl From<v1::Budget> for BudgetForm {
    fn from(budget: v1::Budget) -> Self {
        Self {
            total: budget.total,
            per_transaction: budget.per_transaction,
            currency: Some(budget.currency),
            reset_interval: ResetIntervalForm::from_number(budget.reset),
            hold_minutes: budget.hold_minutes,
            settle_tolerance: budget.settle_tolerance,
            settle_tolerance_bps: budget.settle_tolerance_bps,
        }
    }
}

impl MandateForm {
    /// The request that makes the draft. `agent` is not looked at: put the id in `agent_id` first.
    #[must_use]
    pub fn into_create(self, idempotency_key: String) -> v1::CreateMandateRequest {
        v1::CreateMandateRequest {
            agent_id: self.agent_id.unwrap_or_default(),
            name: self.name,
            description: self.description.unwrap_or_default(),
            budget: Some(self.budget.into()),
            rules: self.rules.into_iter().map(Into::into).collect(),
            valid_from: self.valid_from.map(Time::to_proto),
            valid_until: self.valid_until.map(Time::to_proto),
            durability: self.durability.unwrap_or_default().number(),
            idempotency_key,
        }
    }

    /// The patch that makes an existing mandate equal to this form, except for its agent. An absent
    /// `valid_from` stays as it is; an absent `valid_until` means no end, and
    /// an absent `durability` leaves it to the server.
    #[must_use]
    pub fn into_patch(self) -> MandatePatch {
        MandatePatch {
            name: Some(self.name),
            description: self.description.map_or(Patch::Clear, Patch::Set),
            budget: Some(self.budget),
            rules: Some(self.rules),
            valid_from: self.valid_from,
            valid_until: self.valid_until.map_or(Patch::Clear, Patch::Set),
            durability: self.durability.map_or(Patch::Clear, Patch::Set),
            expected_version: None,
        }
    }
}

impl MandatePatch {
    /// The request that makes the changes, with the mask of what is mentioned.
    #[must_use]
    pub fn into_update(
        self,
        mandate_id: String,
        idempotency_key: String,
    ) -> v1::UpdateMandateRequest {
        let mut mask = prost_types::FieldMask::default();
        let rules = masked(self.rules, "rules", &mut mask);
        let durability = self.durability.masked("durability", &mut mask).unwrap_or_default();
        v1::UpdateMandateRequest {
            mandate_id,
            name: masked(self.name, "name", &mut mask).unwrap_or_default(),
            description: self.description.masked("description", &mut mask).unwrap_or_default(),
            budget: masked(self.budget, "budget", &mut mask).map(Into::into),
            rules: rules.unwrap_or_default().into_iter().map(Into::into).collect(),
            valid_from: masked(self.valid_from, "valid_from", &mut mask).map(Time::to_proto),
            valid_until: self.valid_until.masked("valid_until", &mut mask).map(Time::to_proto),
            durability: durability.number(),
            expected_version: self.expected_version.unwrap_or_default(),
            idempotency_key,
            update_mask: Some(mask),
        }
    }
}

impl BudgetPatch {
    /// The request that changes the limits.
    #[must_use]
    pub fn into_update(
        self,
        mandate_id: String,
        idempotency_key: String,
    ) -> v1::UpdateBudgetRequest {
        v1::UpdateBudgetRequest {
            mandate_id,
            total: self.total,
            per_transaction: self.per_transaction,
            expected_version: self.expected_version.unwrap_or_default(),
            idempotency_key,
        }
    }
}

/// The form that would make this mandate again, for files.
impl TryFrom<v1::Mandate> for MandateForm {
    type Error = FormError;

    fn try_from(mandate: v1::Mandate) -> Result<Self, FormError> {
        let budget = mandate.budget.ok_or(FormError::Incomplete("budget"))?;
        let rules = mandate.rules.into_iter().map(RuleForm::try_from);
        Ok(Self {
            agent_id: Some(mandate.agent_id),
            agent: None,
            name: mandate.name,
            description: Some(mandate.description).filter(|text| !text.is_empty()),
            budget: budget.into(),
            rules: rules.collect::<Result<_, _>>()?,
            valid_from: Time::from_proto(mandate.valid_from.as_ref()),
            valid_until: Time::from_proto(mandate.valid_until.as_ref()),
            durability: Word::specified(mandate.durability),
        })
    }
}
