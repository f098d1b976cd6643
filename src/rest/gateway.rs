//! `/gateway`: the decision, the question without effect, and the mandate's token.
//!
//! A rejected spend answers 403 with the same body as an approved one; only this is not a failure.
//! Not here: the payment paths, which have no service yet.

use http::StatusCode;
use tonic::Code;

use super::answer::Answer;
use super::call::Call;
use super::failure::{Failure, Violation};
use super::query::Query;
use super::routes::Outcome;
use super::{fields, organization};
use crate::forms::{CanSpendView, EvaluateView, MandateTokenView, SpendForm};
use crate::proto::v1;

/// A spend as the body and the headers give it, in either published shape.
struct Spend {
    /// Still without idempotency key, and without currency if none was named.
    request: v1::EvaluateRequest,
    currency_named: bool,
    idempotency_key: Option<String>,
    /// How the fields of this shape are called.
    rename: fn(&str) -> String,
}

pub(super) async fn evaluate(call: Call) -> Outcome {
    let spend = read(&call)?;
    let (rename, key) = (spend.rename, spend.idempotency_key.clone());
    let mut message = with_currency(&call, spend).await?;
    message.idempotency_key = key.unwrap_or_else(fresh_key);
    let request = call.request(message);
    let response = call.message(call.evaluate().evaluate(request).await);
    let response = response.map_err(|status| Failure::from_status(&status, rename))?;
    let view = EvaluateView::from(response);
    let status = match view.decision.0 {
        v1::Decision::Approved => StatusCode::OK,
        v1::Decision::PendingApproval => answered(view.state.0),
        v1::Decision::Rejected => StatusCode::FORBIDDEN,
        v1::Decision::Unspecified => return Err(Failure::internal()),
    };
    Answer::with(status, &view)
}

/// What became of a request for approval, for a call that repeats the question.
const fn answered(state: v1::TransactionState) -> StatusCode {
    match state {
        v1::TransactionState::Approved
        | v1::TransactionState::Settled
        | v1::TransactionState::Refunded
        | v1::TransactionState::Voided
        | v1::TransactionState::Expired => StatusCode::OK,
        v1::TransactionState::Denied
        | v1::TransactionState::Timeout
        | v1::TransactionState::Withdrawn
        | v1::TransactionState::Rejected => StatusCode::FORBIDDEN,
        v1::TransactionState::PendingApproval | v1::TransactionState::Unspecified => {
            StatusCode::ACCEPTED
        }
    }
}

pub(super) async fn can_spend(call: Call) -> Outcome {
    let spend = read(&call)?;
    let rename = spend.rename;
    let message = with_currency(&call, spend).await?;
    let request = call.request(v1::CanSpendRequest {
        agent_id: message.agent_id,
        amount: message.amount,
        currency: message.currency,
        vendor: message.vendor,
        category: message.category,
        description: message.description,
        protocol: message.protocol,
        idempotency_key: String::new(),
        metadata: message.metadata,
        mandate_id: message.mandate_id,
    });
    let response = call.message(call.evaluate().can_spend(request).await);
    let response = response.map_err(|status| Failure::from_status(&status, rename))?;
    Answer::ok(&CanSpendView::from(response))
}

pub(super) async fn mandate_token(call: Call) -> Outcome {
    let mut query = Query::read(call.uri(), &["agentId"]);
    let asked = Some(query.text("agentId")).filter(|id| !id.is_empty());
    query.finish()?;
    let agent_id = agree("agentId", asked, "X-Quetra-Agent-Id", call.agent_id()?);
    let agent_id = agent_id.map_err(|wrong| Failure::fields(vec![wrong]))?;
    let request =
        call.request(v1::GetMandateTokenRequest { agent_id: agent_id.unwrap_or_default() });
    let response = call.message(call.mandates().get_mandate_token(request).await)?;
    Answer::ok(&MandateTokenView::try_from(response)?)
}

fn read(call: &Call) -> Result<Spend, Failure> {
    let form: SpendForm = call.json_named(|form: SpendForm| {
        let rename = rename(&form);
        let (agent_id, key) = (form.agent_id.clone(), form.idempotency_key.clone());
        let currency_named = form.names_currency();
        let mut message = form.into_evaluate();
        message.agent_id = agent_id.unwrap_or_default();
        message.idempotency_key = key.unwrap_or_else(fresh_key);
        if !currency_named {
            // The mandate's is right whatever it is, so any will do here.
            "USD".clone_into(&mut message.currency);
        }
        (message, rename)
    })?;
    let mut wrong = Vec::new();
    if form.payment_request.is_some() {
        let flat = form.flat_fields().into_iter();
        wrong.extend(flat.map(|name| Violation::new(name, "belongs inside `paymentRequest`")));
    }
    let agent = (form.agent_id.clone(), call.agent_id()?);
    let agent = agree("agentId", agent.0, "X-Quetra-Agent-Id", agent.1);
    let key = (form.idempotency_key.clone(), call.idempotency_key()?);
    let key = agree("idempotencyKey", key.0, "Idempotency-Key", key.1);
    let agent = agent.unwrap_or_else(|violation| note(&mut wrong, violation));
    let idempotency_key = key.unwrap_or_else(|violation| note(&mut wrong, violation));
    if !wrong.is_empty() {
        return Err(Failure::fields(wrong));
    }
    let rename = rename(&form);
    let currency_named = form.names_currency();
    let mut request = form.into_evaluate();
    request.agent_id = agent.unwrap_or_default();
    Ok(Spend { request, currency_named, idempotency_key, rename })
}

/// How the fields of the form's shape are called.
fn rename(form: &SpendForm) -> fn(&str) -> String {
    match form.payment_request {
        Some(_) => fields::nested_rest_name,
        None => fields::rest_name,
    }
}

fn note(wrong: &mut Vec<Violation>, violation: Violation) -> Option<String> {
    wrong.push(violation);
    None
}

/// The value that field and header give, which must not contradict each other.
fn agree(
    field: &str,
    in_field: Option<String>,
    header: &str,
    in_header: Option<String>,
) -> Result<Option<String>, Violation> {
    match (in_field, in_header) {
        (Some(one), Some(other)) if one != other => {
            let why = format!("differs from the header `{header}`; give one of them");
            Err(Violation::new(field, why))
        }
        (Some(value), _) | (None, Some(value)) => Ok(Some(value)),
        (None, None) => Ok(None),
    }
}

/// The contract demands a currency, the published bodies do not: a missing one is the mandate's.
async fn with_currency(call: &Call, spend: Spend) -> Result<v1::EvaluateRequest, Failure> {
    let mut message = spend.request;
    if spend.currency_named {
        return Ok(message);
    }
    let request = call.request(v1::GetBudgetRequest {
        agent_id: message.agent_id.clone(),
        mandate_id: message.mandate_id.clone(),
    });
    let found = call.message(call.budget().get_budget(request).await);
    message.currency = match found {
        Ok(response) => response.budget.unwrap_or_default().currency,
        // Without a mandate nothing will be approved, but the rejection belongs on record. Wrong
        // fields are reported by the decision itself, all of them at once.
        Err(status) if matches!(status.code(), Code::NotFound | Code::InvalidArgument) => {
            organization::default_currency(call).await?
        }
        Err(status) => return Err(Failure::from_status(&status, spend.rename)),
    };
    Ok(message)
}

/// The published bodies have no idempotency key, so each call without one is a spend of its own.
#[expect(
    clippy::disallowed_methods,
    reason = "not an id of the domain: a key that a caller would have chosen"
)]
fn fresh_key() -> String {
    format!("rest-{}", uuid::Uuid::new_v4())
}
