//! Transactions and their filters.

use std::sync::Arc;
use std::time::Duration;

use super::decision::{duration, reason, rule_result, verdict};
use super::spend::protocol_message;
use super::{Violations, defined, page, timestamp};
use crate::domain::decision::Verdict;
use crate::domain::transaction::TransactionState;
use crate::engine::EngineResult;
use crate::engine::TransactionFilter;
use crate::engine::evaluate::Decisive;
use crate::engine::transactions::ListTransactions;
use crate::proto::v1;

pub(in crate::grpc) fn transaction(decisive: Decisive) -> v1::Transaction {
    let Decisive { record, decision, .. } = decisive;
    let record = Arc::unwrap_or_clone(record);
    let before = record.evidence.levels.first().copied().unwrap_or_default().committed();
    let after = decision.budget.map_or(before, |budget| budget.spent.saturating_add(budget.held));
    let (mandate_id, mandate_version) =
        record.mandate().map_or_else(Default::default, |(id, version)| (id.to_string(), version));
    let took = Duration::from_micros(u64::try_from(record.took_micros).unwrap_or(0));
    let spend = record.spend;
    v1::Transaction {
        id: record.id.to_string(),
        agent_id: spend.agent_id.to_string(),
        mandate_id,
        mandate_version,
        vendor_canonical: spend.vendor.canonical().to_owned(),
        vendor: spend.vendor_raw,
        amount: spend.amount,
        currency: spend.currency.code().to_owned(),
        category: spend.category.unwrap_or_default(),
        description: spend.description.unwrap_or_default(),
        protocol: protocol_message(spend.protocol).into(),
        decision: verdict(record.verdict).into(),
        state: state(record.state).into(),
        rule_results: decision.rule_results.into_iter().map(rule_result).collect(),
        reasons: decision.reasons.into_iter().map(reason).collect(),
        budget_before: before,
        budget_after: after,
        idempotency_key: record.idempotency_key,
        metadata: spend.metadata,
        settled_amount: record.settled,
        refunded_amount: record.refunded,
        created_at: Some(timestamp(record.decided_at)),
        updated_at: Some(timestamp(record.updated_at)),
        evaluation_duration: Some(duration(took)),
        explanation: decision.explanation,
        expires_at: record.due_at.map(timestamp),
        settled_late: record.followup.late,
        denial_comment: record.followup.denial.map(|denial| denial.comment).unwrap_or_default(),
    }
}

pub(super) const fn state(state: TransactionState) -> v1::TransactionState {
    match state {
        TransactionState::Approved => v1::TransactionState::Approved,
        TransactionState::Settled => v1::TransactionState::Settled,
        TransactionState::Voided => v1::TransactionState::Voided,
        TransactionState::Refunded => v1::TransactionState::Refunded,
        TransactionState::Rejected => v1::TransactionState::Rejected,
        TransactionState::PendingApproval => v1::TransactionState::PendingApproval,
        TransactionState::Denied => v1::TransactionState::Denied,
        TransactionState::Timeout => v1::TransactionState::Timeout,
        TransactionState::Withdrawn => v1::TransactionState::Withdrawn,
        TransactionState::Expired => v1::TransactionState::Expired,
    }
}

/// The state a list is asked for, if one is.
pub(super) fn wanted_state(state: i32) -> Option<TransactionState> {
    Some(match defined(state, v1::TransactionState::Unspecified) {
        v1::TransactionState::Unspecified => return None,
        v1::TransactionState::Approved => TransactionState::Approved,
        v1::TransactionState::Settled => TransactionState::Settled,
        v1::TransactionState::Voided => TransactionState::Voided,
        v1::TransactionState::Refunded => TransactionState::Refunded,
        v1::TransactionState::Rejected => TransactionState::Rejected,
        v1::TransactionState::PendingApproval => TransactionState::PendingApproval,
        v1::TransactionState::Expired => TransactionState::Expired,
        v1::TransactionState::Denied => TransactionState::Denied,
        v1::TransactionState::Timeout => TransactionState::Timeout,
        v1::TransactionState::Withdrawn => TransactionState::Withdrawn,
    })
}

pub(in crate::grpc) fn list(
    request: v1::ListTransactionsRequest,
) -> EngineResult<ListTransactions> {
    let mut wrong = Violations::default();
    let verdict = match defined(request.decision, v1::Decision::Unspecified) {
        v1::Decision::Unspecified => None,
        v1::Decision::Approved => Some(Verdict::Approved),
        v1::Decision::Rejected => Some(Verdict::Rejected),
        v1::Decision::PendingApproval => Some(Verdict::PendingApproval),
    };
    let filter = TransactionFilter {
        agent: wrong.parse_optional("agent_id", &request.agent_id),
        mandate: wrong.parse_optional("mandate_id", &request.mandate_id),
        verdict,
        state: wanted_state(request.state),
        answered: false,
        since: wrong.time("since", request.since),
        until: wrong.time("until", request.until),
    };
    wrong.in_order(filter.since, filter.until);
    wrong.finish(Some(ListTransactions {
        filter,
        page: page(request.page),
        skip: u32::try_from(request.skip).unwrap_or(0),
        count: request.include_total,
    }))
}
