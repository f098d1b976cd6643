//! Mandates: drafts and patches from messages, mandates to messages.

use jiff::Timestamp;

use super::rule::{self, period, period_message};
use super::{Violations, decision, defined, mask, timestamp};
use crate::domain::decision::BudgetStatus;
use crate::domain::hold::Holds;
use crate::domain::id::KeyId;
use crate::domain::mandate::{Budget, Mandate, MandateStatus, Policy};
use crate::domain::money::{AMOUNT_MAX, Currency, LIMIT_MAX};
use crate::domain::period::Period;
use crate::domain::rule::RuleSpec;
use crate::engine::EngineResult;
use crate::engine::mandates::{MandateDraft, MandatePatch};
use crate::proto::v1;

pub(in crate::grpc) fn draft(request: v1::CreateMandateRequest) -> EngineResult<MandateDraft> {
    let mut wrong = Violations::default();
    wrong.name("name", &request.name);
    wrong.visible("description", &request.description);
    let agent_id = wrong.parse("agent_id", &request.agent_id);
    let budget = budget(&request.budget.unwrap_or_default(), &mut wrong);
    let rules = rules(request.rules, &mut wrong);
    let valid_from = wrong.time("valid_from", request.valid_from);
    let valid_until = wrong.time("valid_until", request.valid_until);
    let durability = decision::durability_asked(request.durability);
    if !wrong.is_empty() {
        policy_faults((budget.as_ref(), &rules), (valid_from, valid_until), &mut wrong);
    }
    let draft = (|| {
        Some(MandateDraft {
            agent_id: agent_id?,
            name: request.name,
            description: request.description,
            budget: budget?,
            rules,
            valid_from,
            valid_until,
            durability,
        })
    })();
    wrong.finish(draft)
}

/// Whether a new mandate means something, its policy included.
pub(in crate::grpc) fn check_draft(request: v1::CreateMandateRequest) -> EngineResult<()> {
    let MandateDraft { budget, rules, valid_from, valid_until, .. } = draft(request)?;
    let mut wrong = Violations::default();
    policy_faults((Some(&budget), &rules), (valid_from, valid_until), &mut wrong);
    wrong.finish(Some(()))
}

/// Whether a change of a mandate means something, its policy included.
pub(in crate::grpc) fn check_patch(request: v1::UpdateMandateRequest) -> EngineResult<()> {
    let MandatePatch { budget, rules, valid_from, valid_until, .. } = patch(request)?;
    let mut wrong = Violations::default();
    let limits = (budget.as_ref(), &*rules.unwrap_or_default());
    policy_faults(limits, (valid_from, valid_until.flatten()), &mut wrong);
    wrong.finish(Some(()))
}

/// The faults of a policy as far as it is given. The engine finds them too, but only once all
/// else is right. The rules must be complete, as faults name their places.
fn policy_faults(
    (budget, rules): (Option<&Budget>, &[RuleSpec]),
    (valid_from, valid_until): (Option<Timestamp>, Option<Timestamp>),
    wrong: &mut Violations,
) {
    let budget = budget.cloned().unwrap_or_else(|| Budget {
        total: LIMIT_MAX,
        per_transaction: AMOUNT_MAX,
        currency: Currency::Usdc,
        reset: Period::None,
        holds: Holds::default(),
    });
    // Without a start, the end can be judged only by a clock.
    let valid_until = valid_until.filter(|_| valid_from.is_some());
    let valid_from = valid_from.unwrap_or(Timestamp::UNIX_EPOCH);
    let rules = rules.to_vec();
    let policy = Policy { budget, rules, valid_from, valid_until, durability: None };
    for fault in policy.compile().err().into_iter().flatten() {
        wrong.refuse(&fault.field, fault.why);
    }
}

fn budget(message: &v1::Budget, wrong: &mut Violations) -> Option<Budget> {
    let currency = wrong.currency("budget.currency", &message.currency)?;
    let reset = period(defined(message.reset, v1::Period::Unspecified));
    let v1::Budget { total, per_transaction, hold_minutes, .. } = *message;
    let holds = Holds {
        minutes: hold_minutes.map(i64::from),
        tolerance: message.settle_tolerance,
        tolerance_bps: message.settle_tolerance_bps.map(i64::from),
    };
    Some(Budget { total, per_transaction, currency, reset, holds })
}

/// All the rules, or none if one of them is unknown: a fault names a place in the whole list.
fn rules(messages: Vec<v1::Rule>, wrong: &mut Violations) -> Vec<RuleSpec> {
    let count = messages.len();
    let mut rules = Vec::with_capacity(count);
    for (index, message) in messages.into_iter().enumerate() {
        match rule::spec(message) {
            Some(spec) => {
                approvers(&format!("rules[{index}].approval.approver_roles"), &spec, wrong);
                rules.push(spec);
            }
            None => wrong.refuse(&format!("rules[{index}]"), "must be one of the known rules"),
        }
    }
    if rules.len() == count { rules } else { Vec::new() }
}

/// Whoever is named must be able to answer one day: a request that nobody can answer holds money
/// for nothing. Policies from before may name others.
fn approvers(field: &str, spec: &RuleSpec, wrong: &mut Violations) {
    let RuleSpec::Approval { approver_roles, .. } = spec else { return };
    for (place, approver) in approver_roles.iter().enumerate() {
        if approver != "admin" && approver.parse::<KeyId>().is_err() {
            let why = "must be admin, or the id of an admin's API key (key_…)";
            wrong.refuse(&format!("{field}[{place}]"), why);
        }
    }
}

pub(in crate::grpc) fn patch(request: v1::UpdateMandateRequest) -> EngineResult<MandatePatch> {
    const KNOWN: [&str; 7] =
        ["name", "description", "budget", "rules", "valid_from", "valid_until", "durability"];
    let mut wrong = Violations::default();
    let paths = mask(request.update_mask.as_ref(), &KNOWN, &mut wrong);
    let named = |path: &str| paths.iter().any(|named| named == path);
    let mut patch = MandatePatch::default();
    if named("name") {
        wrong.name("name", &request.name);
        patch.name = Some(request.name);
    }
    if named("description") {
        wrong.visible("description", &request.description);
        patch.description = Some(request.description);
    }
    if named("budget") {
        match request.budget {
            Some(message) => patch.budget = budget(&message, &mut wrong),
            None => wrong.refuse("budget", "is named in the mask and must be given"),
        }
    }
    if named("rules") {
        patch.rules = Some(rules(request.rules, &mut wrong));
    }
    if named("valid_from") {
        patch.valid_from = wrong.time("valid_from", request.valid_from);
        if request.valid_from.is_none() {
            wrong.refuse("valid_from", "is named in the mask and must be given");
        }
    }
    if named("valid_until") {
        patch.valid_until = Some(wrong.time("valid_until", request.valid_until));
    }
    if named("durability") {
        patch.durability = Some(decision::durability_asked(request.durability));
    }
    if !wrong.is_empty() {
        let limits = (patch.budget.as_ref(), patch.rules.as_deref().unwrap_or_default());
        policy_faults(limits, (patch.valid_from, patch.valid_until.flatten()), &mut wrong);
    }
    wrong.finish(Some(patch))
}

pub(in crate::grpc) fn mandate(
    mandate: Mandate,
    status: Option<BudgetStatus>,
    now: Timestamp,
) -> v1::Mandate {
    let status_now = mandate.status_at(now);
    let policy = mandate.policy;
    v1::Mandate {
        id: mandate.id.to_string(),
        agent_id: mandate.agent_id.to_string(),
        name: mandate.name,
        description: mandate.description,
        version: mandate.version,
        status: status_message(status_now).into(),
        budget: Some(v1::Budget {
            total: policy.budget.total,
            per_transaction: policy.budget.per_transaction,
            currency: policy.budget.currency.code().to_owned(),
            reset: period_message(policy.budget.reset).into(),
            hold_minutes: policy.budget.holds.minutes.and_then(small),
            settle_tolerance: policy.budget.holds.tolerance,
            settle_tolerance_bps: policy.budget.holds.tolerance_bps.and_then(small),
        }),
        budget_status: status.map(decision::budget),
        rules: policy.rules.into_iter().map(rule::message).collect(),
        valid_from: Some(timestamp(policy.valid_from)),
        valid_until: policy.valid_until.map(timestamp),
        policy_hash: mandate.policy_hash,
        signature: mandate.signature,
        signing_key_id: mandate.signing_key_id,
        created_at: Some(timestamp(mandate.created_at)),
        updated_at: Some(timestamp(mandate.updated_at)),
        revocation_reason: mandate.revocation_reason,
        durability: policy.durability.map(decision::durability_message).unwrap_or_default().into(),
    }
}

/// A number that was an `int32` when the policy was made.
fn small(number: i64) -> Option<i32> {
    i32::try_from(number).ok()
}

pub(in crate::grpc) const fn status_message(status: MandateStatus) -> v1::MandateStatus {
    match status {
        MandateStatus::Draft => v1::MandateStatus::Draft,
        MandateStatus::Active => v1::MandateStatus::Active,
        MandateStatus::Paused => v1::MandateStatus::Paused,
        MandateStatus::Expired => v1::MandateStatus::Expired,
        MandateStatus::Revoked => v1::MandateStatus::Revoked,
    }
}

pub(in crate::grpc) fn status(value: i32) -> Option<MandateStatus> {
    match defined(value, v1::MandateStatus::Unspecified) {
        v1::MandateStatus::Unspecified => None,
        v1::MandateStatus::Draft => Some(MandateStatus::Draft),
        v1::MandateStatus::Active => Some(MandateStatus::Active),
        v1::MandateStatus::Paused => Some(MandateStatus::Paused),
        v1::MandateStatus::Expired => Some(MandateStatus::Expired),
        v1::MandateStatus::Revoked => Some(MandateStatus::Revoked),
    }
}
