//! Decisions, results, reasons and budgets, to messages.

use std::time::Duration;

use super::transaction::state;
use super::{defined, timestamp};
use crate::domain::decision::{
    BudgetStatus, Decision, Reason, RejectionReason, RuleResult, Verdict,
};
use crate::engine::Durability;
use crate::engine::evaluate::{Decisive, Preview};
use crate::proto::v1;

pub(in crate::grpc) fn evaluate_response(
    (decisive, durability): (Decisive, Durability),
    took: Duration,
) -> v1::EvaluateResponse {
    let Decisive { record, decision, replayed } = decisive;
    let (mandate_id, mandate_version) = mandate(record.mandate());
    v1::EvaluateResponse {
        decision: verdict(decision.verdict).into(),
        transaction_id: record.id.to_string(),
        mandate_id,
        mandate_version,
        rule_results: decision.rule_results.into_iter().map(rule_result).collect(),
        reasons: decision.reasons.into_iter().map(reason).collect(),
        explanation: decision.explanation,
        budget: decision.budget.map(budget),
        durability: durability_message(durability).into(),
        evaluation_duration: Some(duration(took)),
        decided_at: Some(timestamp(record.decided_at)),
        replayed,
        state: state(record.state).into(),
        expires_at: record.due_at.map(timestamp),
    }
}

/// No level is what a message does not specify.
pub(in crate::grpc) fn durability_asked(number: i32) -> Option<Durability> {
    match defined(number, v1::Durability::Unspecified) {
        v1::Durability::Unspecified => None,
        v1::Durability::Fast => Some(Durability::Fast),
        v1::Durability::Durable => Some(Durability::Durable),
        v1::Durability::Strict => Some(Durability::Strict),
    }
}

pub(in crate::grpc) const fn durability_message(durability: Durability) -> v1::Durability {
    match durability {
        Durability::Fast => v1::Durability::Fast,
        Durability::Durable => v1::Durability::Durable,
        Durability::Strict => v1::Durability::Strict,
    }
}

pub(in crate::grpc) fn can_spend_response(preview: Preview) -> v1::CanSpendResponse {
    let Decision { verdict: decided, rule_results, reasons, explanation, budget: status } =
        preview.decision;
    let (mandate_id, mandate_version) = mandate(preview.mandate);
    v1::CanSpendResponse {
        decision: verdict(decided).into(),
        mandate_id,
        mandate_version,
        rule_results: rule_results.into_iter().map(rule_result).collect(),
        reasons: reasons.into_iter().map(reason).collect(),
        explanation,
        budget: status.map(budget),
    }
}

fn mandate(mandate: Option<(crate::domain::id::MandateId, i64)>) -> (String, i64) {
    mandate.map_or_else(Default::default, |(id, version)| (id.to_string(), version))
}

pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

pub(in crate::grpc) fn budget(status: BudgetStatus) -> v1::BudgetStatus {
    v1::BudgetStatus {
        total: status.total,
        spent: status.spent,
        held: status.held,
        remaining: status.remaining(),
        per_transaction: status.per_transaction,
        currency: status.currency.code().to_owned(),
        resets_at: status.resets_at.map(timestamp),
        over_committed: status.over_committed(),
    }
}

pub(super) const fn verdict(verdict: Verdict) -> v1::Decision {
    match verdict {
        Verdict::Approved => v1::Decision::Approved,
        Verdict::Rejected => v1::Decision::Rejected,
        Verdict::PendingApproval => v1::Decision::PendingApproval,
    }
}

pub(super) fn rule_result(result: RuleResult) -> v1::RuleResult {
    v1::RuleResult {
        rule_type: result.rule_type.to_owned(),
        passed: result.passed(),
        reason: result.failure.map_or(v1::RejectionReason::Unspecified, rejection).into(),
        detail: result.detail,
        limit: result.limit,
        actual: result.actual,
        remaining: result.remaining,
        resets_at: result.resets_at.map(timestamp),
        retryable: result.retryable,
    }
}

pub(super) fn reason(reason: Reason) -> v1::Reason {
    v1::Reason {
        reason: rejection(reason.reason).into(),
        rule_type: reason.source.to_owned(),
        detail: reason.detail,
    }
}

pub(in crate::grpc) const fn rejection(reason: RejectionReason) -> v1::RejectionReason {
    use v1::RejectionReason as R;
    match reason {
        RejectionReason::OrganizationFrozen => R::OrganizationFrozen,
        RejectionReason::AgentNotActive => R::AgentNotActive,
        RejectionReason::NoActiveMandate => R::NoActiveMandate,
        RejectionReason::MandatePaused => R::MandatePaused,
        RejectionReason::MandateRevoked => R::MandateRevoked,
        RejectionReason::MandateExpired => R::MandateExpired,
        RejectionReason::MandateNotYetValid => R::MandateNotYetValid,
        RejectionReason::CurrencyMismatch => R::CurrencyMismatch,
        RejectionReason::BudgetPerTxExceeded => R::BudgetPerTxExceeded,
        RejectionReason::BudgetExhausted => R::BudgetExhausted,
        RejectionReason::CategoryNotAllowed => R::CategoryNotAllowed,
        RejectionReason::CategoryMissing => R::CategoryMissing,
        RejectionReason::VendorNotAllowed => R::VendorNotAllowed,
        RejectionReason::VendorBlocked => R::VendorBlocked,
        RejectionReason::VendorConfusable => R::VendorConfusable,
        RejectionReason::VendorCapExceeded => R::VendorCapExceeded,
        RejectionReason::CategoryCapExceeded => R::CategoryCapExceeded,
        RejectionReason::MaxAmountExceeded => R::MaxAmountExceeded,
        RejectionReason::RateLimitExceeded => R::RateLimitExceeded,
        RejectionReason::SpendRateExceeded => R::SpendRateExceeded,
        RejectionReason::OutsideTimeWindow => R::OutsideTimeWindow,
        RejectionReason::CountryNotAllowed => R::CountryNotAllowed,
        RejectionReason::CountryUnknown => R::CountryUnknown,
        RejectionReason::ProtocolNotAllowed => R::ProtocolNotAllowed,
        RejectionReason::ProtocolMissing => R::ProtocolMissing,
        RejectionReason::CustomRuleFalse => R::CustomRuleFalse,
        RejectionReason::CustomRuleError => R::CustomRuleError,
    }
}
