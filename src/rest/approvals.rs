//! `/approvals`: list, show, approve, deny. The id of a request is its transaction's.
//!
//! Not here: making one (`gateway`), and withdrawing it (`transactions`: void).

use serde::Serialize;

use super::answer::Answer;
use super::call::Call;
use super::page::{LIMIT_DEFAULT, LIMIT_MAX};
use super::query::Query;
use super::routes::Outcome;
use crate::forms::{AnswerForm, ApprovalView, FormError};
use crate::proto::v1;

/// A page of requests.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Approvals {
    approvals: Vec<ApprovalView>,
    #[serde(skip_serializing_if = "String::is_empty")]
    next_page_token: String,
}

/// What the list can be narrowed by.
const FILTERS: [&str; 5] = ["limit", "pageToken", "agentId", "mandateId", "state"];

pub(super) async fn list(call: Call) -> Outcome {
    let mut query = Query::read(call.uri(), &FILTERS);
    let limit = query.whole("limit", 1..=LIMIT_MAX).unwrap_or(LIMIT_DEFAULT);
    let message = v1::ListApprovalsRequest {
        page: Some(v1::PageRequest { page_size: limit, page_token: query.text("pageToken") }),
        agent_id: query.text("agentId"),
        mandate_id: query.text("mandateId"),
        state: query.word::<v1::TransactionState>("state"),
    };
    query.finish()?;
    let request = call.request(message);
    let response = call.message(call.approvals().list_approvals(request).await)?;
    let approvals = response.approvals.into_iter().map(ApprovalView::try_from);
    Answer::ok(&Approvals {
        approvals: approvals.collect::<Result<_, _>>()?,
        next_page_token: response.next_page_token,
    })
}

pub(super) async fn get(call: Call) -> Outcome {
    let request = call.request(v1::GetApprovalRequest { transaction_id: call.id() });
    let response = call.message(call.approvals().get_approval(request).await)?;
    shown(response.approval)
}

pub(super) async fn approve(call: Call) -> Outcome {
    let form: AnswerForm = call.json_or_default()?;
    let request = call.request(v1::ApproveTransactionRequest {
        transaction_id: call.id(),
        comment: form.comment.unwrap_or_default(),
        request_hash: form.request_hash.unwrap_or_default(),
    });
    let response = call.message(call.approvals().approve_transaction(request).await)?;
    shown(response.approval)
}

pub(super) async fn deny(call: Call) -> Outcome {
    let form: AnswerForm = call.json_or_default()?;
    let request = call.request(v1::DenyTransactionRequest {
        transaction_id: call.id(),
        comment: form.comment.unwrap_or_default(),
        request_hash: form.request_hash.unwrap_or_default(),
    });
    let response = call.message(call.approvals().deny_transaction(request).await)?;
    shown(response.approval)
}

fn shown(approval: Option<v1::Approval>) -> Outcome {
    let approval = approval.ok_or(FormError::Incomplete("approval"))?;
    Answer::ok(&ApprovalView::try_from(approval)?)
}
