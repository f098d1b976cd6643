//! A mandate: what one agent may spend, its life, and the exact bytes its signature covers.
//!
//! Every change makes a new version; old versions are never edited. Not here: how rules are tested
//! (`rule`, `evaluate`) and who signs (`crypto`).

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::country::is_country;
use super::durability::Durability;
use super::hold::Holds;
use super::id::{AgentId, MandateId, OrgId};
use super::ledger::Subject;
use super::money::{AMOUNT_MAX, Currency, LIMIT_MAX, Minor};
use super::period::Period;
use super::rule::{CompiledRule, RuleSpec};
use super::vendor::Vendor;

/// The most rules one mandate can have.
pub const RULES_MAX: usize = 50;

/// The furthest end of a mandate, from its start.
const VALIDITY_YEARS_MAX: i64 = 10;

/// The limits of a mandate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// The limit of one period, 1 to 9·10^13 minor units.
    pub total: Minor,
    /// The ceiling of one transaction, 1 to 10^12 minor units.
    pub per_transaction: Minor,
    /// The currency of everything under the mandate.
    pub currency: Currency,
    /// When the budget starts anew.
    pub reset: Period,
    /// How long money is held, and how far a settlement may go beyond it.
    #[serde(default, skip_serializing_if = "Holds::is_empty")]
    pub holds: Holds,
}

/// What the signature of a mandate covers, beside whose it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// The limits.
    pub budget: Budget,
    /// The rules, in the order they are reported.
    pub rules: Vec<RuleSpec>,
    /// From when it is valid.
    pub valid_from: Timestamp,
    /// Until when it is valid, exclusive.
    pub valid_until: Option<Timestamp>,
    /// What its decisions must survive; `None` leaves that to the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
}

/// Something that is summed up in periods and limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// `budget_total`, `vendor_cap` or `category_cap`.
    pub rule_type: &'static str,
    /// What is summed up.
    pub subject: Subject,
    /// The rhythm.
    pub period: Period,
    /// The limit of one window.
    pub limit: Minor,
}

/// Where a mandate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MandateStatus {
    /// Not in force yet.
    Draft,
    /// In force.
    Active,
    /// Stopped, can be resumed.
    Paused,
    /// Its validity is over.
    Expired,
    /// Ended by an administrator.
    Revoked,
}

impl MandateStatus {
    /// The word for people and stores.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// One version of a mandate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mandate {
    /// Its id, the same in all versions.
    pub id: MandateId,
    /// The organization it belongs to.
    pub org_id: OrgId,
    /// The agent it is for.
    pub agent_id: AgentId,
    /// For people.
    pub name: String,
    /// For people and language models.
    pub description: String,
    /// 1 for the draft, then one more with each change.
    pub version: i64,
    /// Where it stands.
    pub status: MandateStatus,
    /// What it allows.
    pub policy: Policy,
    /// SHA-256 (hex) of [`Mandate::canonical_policy`].
    pub policy_hash: String,
    /// Ed25519 signature (base64url) over the text of the policy hash.
    pub signature: String,
    /// Which key signed.
    pub signing_key_id: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When this version began.
    pub updated_at: Timestamp,
    /// Why it was revoked.
    pub revocation_reason: String,
}

/// One thing that is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyViolation {
    /// Which field, as a path of the API, for example `rules[2].time_window.timezone`.
    pub field: String,
    /// What is wrong and what would be right.
    pub why: String,
}

/// A step that the mandate's status does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a mandate that is {} cannot be {wanted}", from.word())]
pub struct MandateTransitionError {
    /// Where it stands.
    pub from: MandateStatus,
    /// What was wanted.
    pub wanted: &'static str,
}

/// What an administrator does to a mandate's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MandateStep {
    /// Draft to active.
    Activate,
    /// Active to paused.
    Pause,
    /// Paused to active.
    Resume,
    /// Anything in force to revoked.
    Revoke,
}

impl Mandate {
    /// The status as it is at a time: the end of validity needs no job that writes it down.
    #[must_use]
    pub fn status_at(&self, now: Timestamp) -> MandateStatus {
        let over = self.policy.valid_until.is_some_and(|end| end <= now);
        match self.status {
            MandateStatus::Active | MandateStatus::Paused if over => MandateStatus::Expired,
            status @ (MandateStatus::Draft
            | MandateStatus::Active
            | MandateStatus::Paused
            | MandateStatus::Expired
            | MandateStatus::Revoked) => status,
        }
    }

    /// The status after a step; `None` when the mandate already stands there.
    ///
    /// # Errors
    /// When the status at that time does not allow the step.
    pub fn step(
        &self,
        step: MandateStep,
        now: Timestamp,
    ) -> Result<Option<MandateStatus>, MandateTransitionError> {
        use MandateStatus::{Active, Draft, Expired, Paused, Revoked};
        let from = self.status_at(now);
        let over = self.policy.valid_until.is_some_and(|end| end <= now);
        match (step, from) {
            (MandateStep::Activate, Draft) if !over => Ok(Some(Active)),
            (MandateStep::Resume, Paused) => Ok(Some(Active)),
            (MandateStep::Pause, Active) => Ok(Some(Paused)),
            (MandateStep::Revoke, Active | Paused | Expired) => Ok(Some(Revoked)),
            (MandateStep::Activate | MandateStep::Resume, Active)
            | (MandateStep::Pause, Paused)
            | (MandateStep::Revoke, Revoked) => Ok(None),
            (MandateStep::Activate, Draft | Paused | Expired | Revoked) => {
                Err(MandateTransitionError { from, wanted: "activated" })
            }
            (MandateStep::Resume, Draft | Expired | Revoked) => {
                Err(MandateTransitionError { from, wanted: "resumed" })
            }
            (MandateStep::Pause, Draft | Expired | Revoked) => {
                Err(MandateTransitionError { from, wanted: "paused" })
            }
            (MandateStep::Revoke, Draft) => {
                Err(MandateTransitionError { from, wanted: "revoked; delete the draft" })
            }
        }
    }

    /// Whether its limits and rules may still change.
    ///
    /// # Errors
    /// When it has ended, be it by the clock alone: nothing leads back from there.
    pub fn editable(&self, now: Timestamp) -> Result<(), MandateTransitionError> {
        let from = self.status_at(now);
        match from {
            MandateStatus::Draft | MandateStatus::Active | MandateStatus::Paused => Ok(()),
            MandateStatus::Expired | MandateStatus::Revoked => {
                Err(MandateTransitionError { from, wanted: "changed" })
            }
        }
    }

    /// The exact text that the policy hash is taken of: canonical JSON (RFC 8785: sorted keys, no
    /// white space; the values are strings, integers and booleans only) of agent, limits, rules,
    /// validity and the durability, if one is asked for. The version and status are not part of it:
    /// pausing changes no promise.
    #[must_use]
    pub fn canonical_policy(&self) -> String {
        canonical_policy(self.id, self.agent_id, &self.policy)
    }
}

/// See [`Mandate::canonical_policy`].
#[must_use]
pub fn canonical_policy(mandate: MandateId, agent: AgentId, policy: &Policy) -> String {
    let mut value = serde_json::json!({
        "agent_id": agent,
        "budget": policy.budget,
        "mandate_id": mandate,
        "rules": policy.rules,
        "valid_from": policy.valid_from,
        "valid_until": policy.valid_until,
    });
    // Absent it leaves no trace: policies from before it existed keep their text.
    if let Some((fields, durability)) = value.as_object_mut().zip(policy.durability) {
        fields.insert("durability".to_owned(), durability.word().into());
    }
    let mut text = String::new();
    write_canonical(&value, &mut text);
    text
}

fn write_canonical(value: &serde_json::Value, out: &mut String) {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let mut entries = map.iter().collect::<Vec<_>>();
            // RFC 8785 sorts by UTF-16 code units; our keys are ASCII, where that is byte order.
            entries.sort_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&value.to_string());
        }
    }
}

impl Policy {
    /// What every approval is counted in: the budget, then the caps in the order of the rules.
    #[must_use]
    pub fn counted(&self) -> Vec<Counted> {
        let Budget { total, reset, .. } = self.budget;
        let of = |rule_type, subject, period, limit| Counted { rule_type, subject, period, limit };
        let mut counted = vec![of("budget_total", Subject::Budget, reset, total)];
        for rule in &self.rules {
            let rule_type = rule.rule_type();
            if let RuleSpec::VendorCap { vendor, amount, period } = rule
                && let Ok(vendor) = Vendor::parse(vendor)
            {
                counted.push(of(rule_type, Subject::Vendor(vendor), *period, *amount));
            }
            if let RuleSpec::CategoryCap { category, amount, period } = rule {
                let subject = Subject::Category(category.clone());
                counted.push(of(rule_type, subject, *period, *amount));
            }
        }
        counted
    }

    /// Checks everything and prepares the rules for evaluation.
    ///
    /// # Errors
    /// Every violation at once.
    pub fn compile(&self) -> Result<Vec<CompiledRule>, Vec<PolicyViolation>> {
        let mut violations = Vec::new();
        let mut refuse = |field: &str, why: &str| {
            violations.push(PolicyViolation { field: field.to_owned(), why: why.to_owned() });
        };
        let budget = &self.budget;
        // What is compared with a wrong total would be a fault that nobody made.
        let mut total = budget.total;
        if !(1..=LIMIT_MAX).contains(&total) {
            refuse("budget.total", "must be 1 to 90000000000000 minor units");
            total = LIMIT_MAX;
        }
        if !(1..=AMOUNT_MAX).contains(&budget.per_transaction) {
            refuse("budget.per_transaction", "must be 1 to 1000000000000 minor units");
        } else if budget.per_transaction > total {
            refuse("budget.per_transaction", "must not be above the total");
        }
        if self.rules.len() > RULES_MAX {
            refuse("rules", "must be at most 50");
        }
        if let Some(until) = self.valid_until {
            let years = until.duration_since(self.valid_from).as_secs() / (366 * 24 * 60 * 60);
            if until <= self.valid_from {
                refuse("valid_until", "must be after valid_from");
            } else if years >= VALIDITY_YEARS_MAX {
                refuse("valid_until", "must be at most 10 years after valid_from");
            }
        }
        violations.extend(budget.holds.faults());
        let mut compiled = Vec::with_capacity(self.rules.len());
        for (index, rule) in self.rules.iter().enumerate() {
            match rule.compile(total) {
                Ok(rule) => compiled.push(rule),
                Err(wrong) => violations.extend(wrong.into_iter().map(|wrong| PolicyViolation {
                    field: format!("rules[{index}].{}", wrong.field),
                    why: wrong.why,
                })),
            }
        }
        violations.extend(contradictions(&self.rules));
        if violations.is_empty() { Ok(compiled) } else { Err(violations) }
    }

    /// The countries in its rules that there are not. Said only of what is being written: countries
    /// come and go, and what is in force stays.
    #[must_use]
    pub fn unknown_countries(&self) -> Vec<PolicyViolation> {
        let mut unknown = Vec::new();
        for (number, rule) in self.rules.iter().enumerate() {
            let RuleSpec::Geo { allowed, blocked, .. } = rule else { continue };
            for (list, codes) in [("allowed_countries", allowed), ("blocked_countries", blocked)] {
                for (place, code) in codes.iter().enumerate() {
                    if !is_country(code) {
                        let field = format!("rules[{number}].geo.{list}[{place}]");
                        let why = "is not the code of a country in ISO 3166-1".to_owned();
                        unknown.push(PolicyViolation { field, why });
                    }
                }
            }
        }
        unknown
    }
}

/// Rule types of which a second one would only confuse: every one must pass anyway.
fn contradictions(rules: &[RuleSpec]) -> Vec<PolicyViolation> {
    let mut seen = std::collections::HashMap::new();
    let mut violations = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        if !rule.single() {
            continue;
        }
        if let Some(first) = seen.insert(rule.rule_type(), index) {
            violations.push(PolicyViolation {
                field: format!("rules[{index}]"),
                why: format!(
                    "a second {} rule; write it together with rules[{first}]",
                    rule.rule_type()
                ),
            });
        }
    }
    violations.extend(super::rule::list_conflicts(rules));
    violations
}

/// What a decision needs of a mandate version, and no more: very many are kept in memory.
#[derive(Clone, Debug)]
pub struct CompiledMandate {
    /// Whose version it is.
    pub id: MandateId,
    /// What may be spent.
    pub budget: Budget,
    /// From when on.
    pub valid_from: Timestamp,
    /// Until when; `None` for as long as it is not revoked.
    pub valid_until: Option<Timestamp>,
    /// What its decisions must survive, if it asks.
    pub durability: Option<Durability>,
    /// The rules in the version's order, ready to be evaluated; mandates alike share them.
    pub rules: Arc<[CompiledRule]>,
}

impl CompiledMandate {
    /// Prepares a version.
    ///
    /// # Errors
    /// Every violation of its policy.
    pub fn try_new(mandate: &Mandate) -> Result<Self, Vec<PolicyViolation>> {
        let rules = mandate.policy.compile()?;
        Ok(Self::with_rules(mandate, rules.into()))
    }

    /// Prepares a version by rules that were compiled from the same budget and rules before.
    #[must_use]
    pub fn with_rules(mandate: &Mandate, rules: Arc<[CompiledRule]>) -> Self {
        let Policy { budget, valid_from, valid_until, durability, .. } = &mandate.policy;
        Self {
            id: mandate.id,
            budget: budget.clone(),
            valid_from: *valid_from,
            valid_until: *valid_until,
            durability: *durability,
            rules,
        }
    }
}

#[cfg(test)]
mod tests;
