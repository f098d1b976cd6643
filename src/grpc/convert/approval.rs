//! Requests for approval, their filters and answers.

use super::transaction::{self, wanted_state};
use super::{Violations, decision, page, timestamp};
use crate::domain::hold::Statement;
use crate::engine::EngineResult;
use crate::engine::approvals::{Answer, Asked, ListApprovals};
use crate::proto::v1;

pub(in crate::grpc) fn approval(asked: Asked) -> v1::Approval {
    let Asked { decisive, agent, mandate_name, threshold, budget_after, may_answer } = asked;
    let record = &decisive.record;
    let terms = record.terms.approval.clone();
    let (approvers, required) =
        terms.map_or_else(Default::default, |terms| (terms.approvers, terms.required));
    let is_open = budget_after.is_some();
    v1::Approval {
        agent_name: agent.name,
        agent_description: agent.description,
        mandate_name,
        rule_type: "approval".to_owned(),
        threshold,
        approvers,
        approvals_required: i32::try_from(required).unwrap_or(i32::MAX),
        grants: record.followup.grants.iter().map(statement).collect(),
        denial: record.followup.denial.as_ref().map(statement),
        expires_at: record.due_at.filter(|_| is_open).map(timestamp),
        budget_after: budget_after.map(decision::budget),
        request_hash: hex::encode(record.request_hash),
        may_answer,
        transaction: Some(transaction::transaction(decisive)),
    }
}

fn statement(statement: &Statement) -> v1::Statement {
    v1::Statement {
        api_key_id: statement.by.to_string(),
        comment: statement.comment.clone(),
        created_at: Some(timestamp(statement.at)),
    }
}

pub(in crate::grpc) fn list(request: v1::ListApprovalsRequest) -> EngineResult<ListApprovals> {
    let mut wrong = Violations::default();
    let ask = ListApprovals {
        agent: wrong.parse_optional("agent_id", &request.agent_id),
        mandate: wrong.parse_optional("mandate_id", &request.mandate_id),
        state: wanted_state(request.state),
        page: page(request.page),
    };
    wrong.finish(Some(ask))
}

fn answer(approve: bool, comment: &str, request_hash: &str) -> EngineResult<Answer> {
    let mut wrong = Violations::default();
    wrong.visible("comment", comment);
    let mut hash = [0; 16];
    let is_given = !request_hash.is_empty();
    if is_given && hex::decode_to_slice(request_hash, &mut hash).is_err() {
        wrong.refuse("request_hash", "must be 32 hexadecimal digits");
    }
    let (comment, request_hash) = (comment.to_owned(), is_given.then_some(hash));
    wrong.finish(Some(Answer { approve, comment, request_hash }))
}

pub(in crate::grpc) fn yes(request: &v1::ApproveTransactionRequest) -> EngineResult<Answer> {
    answer(true, &request.comment, &request.request_hash)
}

pub(in crate::grpc) fn no(request: &v1::DenyTransactionRequest) -> EngineResult<Answer> {
    answer(false, &request.comment, &request.request_hash)
}
