//! `/transactions`: list, show, settle, void, refund.
//!
//! Not here: making one (`gateway`).

use serde::Serialize;

use super::answer::Answer;
use super::call::Call;
use super::page::{LIMIT_DEFAULT, Window};
use super::query::Query;
use super::routes::Outcome;
use crate::forms::{FormError, RefundForm, SettleForm, TransactionView, TransactionWithBudgetView};
use crate::proto::v1;

/// A page of transactions and how many match.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Transactions {
    transactions: Vec<TransactionView>,
    total: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    next_page_token: String,
}

/// What the list can be narrowed by.
const FILTERS: [&str; 9] =
    ["limit", "offset", "pageToken", "agentId", "mandateId", "decision", "state", "since", "until"];

pub(super) async fn list(call: Call) -> Outcome {
    let mut query = Query::read(call.uri(), &FILTERS);
    let window = Window::read(&mut query, LIMIT_DEFAULT);
    let message = v1::ListTransactionsRequest {
        page: Some(v1::PageRequest { page_size: window.limit, page_token: window.token }),
        agent_id: query.text("agentId"),
        mandate_id: query.text("mandateId"),
        decision: query.word::<v1::Decision>("decision"),
        state: query.word::<v1::TransactionState>("state"),
        since: query.time("since"),
        until: query.time("until"),
        skip: window.offset,
        include_total: true,
    };
    query.finish()?;
    let request = call.request(message);
    let response = call.message(call.transactions().list_transactions(request).await)?;
    Answer::ok(&Transactions {
        transactions: response.transactions.into_iter().map(Into::into).collect(),
        total: response.total.ok_or(FormError::Incomplete("total"))?,
        next_page_token: response.next_page_token,
    })
}

pub(super) async fn get(call: Call) -> Outcome {
    let mut query = Query::read(call.uri(), &["waitSeconds"]);
    let wait_seconds = query.whole("waitSeconds", 0..=30).unwrap_or_default();
    query.finish()?;
    let request =
        call.request(v1::GetTransactionRequest { transaction_id: call.id(), wait_seconds });
    let response = call.message(call.transactions().get_transaction(request).await)?;
    let transaction = response.transaction.ok_or(FormError::Incomplete("transaction"))?;
    Answer::ok(&TransactionView::from(transaction))
}

pub(super) async fn settle(call: Call) -> Outcome {
    let form: SettleForm = call.json()?;
    let request = call.request(v1::SettleTransactionRequest {
        transaction_id: call.id(),
        amount: Some(form.amount),
    });
    let response = call.message(call.transactions().settle_transaction(request).await)?;
    closed(response.transaction, response.budget)
}

pub(super) async fn void(call: Call) -> Outcome {
    call.no_fields()?;
    let request = call.request(v1::VoidTransactionRequest { transaction_id: call.id() });
    let response = call.message(call.transactions().void_transaction(request).await)?;
    closed(response.transaction, response.budget)
}

pub(super) async fn refund(call: Call) -> Outcome {
    let form: RefundForm = call.json_or_default()?;
    let request = call
        .request(v1::RefundTransactionRequest { transaction_id: call.id(), amount: form.amount });
    let response = call.message(call.transactions().refund_transaction(request).await)?;
    closed(response.transaction, response.budget)
}

fn closed(transaction: Option<v1::Transaction>, budget: Option<v1::BudgetStatus>) -> Outcome {
    let transaction = transaction.ok_or(FormError::Incomplete("transaction"))?;
    Answer::ok(&TransactionWithBudgetView {
        transaction: transaction.into(),
        budget: budget.map(Into::into),
    })
}
