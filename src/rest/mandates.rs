//! `/mandates`: draft, list, show, change, put in force, pause, resume, revoke, delete.
//!
//! Not here: tokens and decisions (`gateway`).

use serde::Serialize;

use super::answer::Answer;
use super::call::Call;
use super::failure::{Failure, Violation};
use super::page::{LIMIT_MAX, Window, walk};
use super::query::Query;
use super::routes::Outcome;
use crate::forms::{BudgetPatch, FormError, MandateForm, MandatePatch, MandateView, RevokeForm};
use crate::proto::v1;

/// A page of mandates.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Mandates {
    mandates: Vec<MandateView>,
    #[serde(skip_serializing_if = "String::is_empty")]
    next_page_token: String,
}

pub(super) async fn create(call: Call) -> Outcome {
    let mut form: MandateForm = call.json_for(|mut form: MandateForm| {
        // The organization's is right whatever it is, so any will do here.
        form.budget.currency.get_or_insert_with(|| "USD".to_owned());
        form.into_create(String::new())
    })?;
    if form.agent.is_some() {
        let wrong = Violation::new("agent", "is for files; give `agentId`");
        return Err(Failure::fields(vec![wrong]));
    }
    let key = call.idempotency_key()?.unwrap_or_default();
    if form.budget.currency.is_none() {
        form.budget.currency = Some(super::organization::default_currency(&call).await?);
    }
    let request = call.request(form.into_create(key));
    let response = call.message(call.mandates().create_mandate(request).await)?;
    Answer::created(&view(response.mandate)?)
}

pub(super) async fn list(call: Call) -> Outcome {
    let known = ["agentId", "status", "limit", "offset", "pageToken"];
    let mut query = Query::read(call.uri(), &known);
    let window = Window::read(&mut query, LIMIT_MAX);
    let agent_id = query.text("agentId");
    let status = query.word::<v1::MandateStatus>("status");
    query.finish()?;

    let (mandates, next_page_token) = walk(window, |page| {
        let message =
            v1::ListMandatesRequest { page: Some(page), agent_id: agent_id.clone(), status };
        let (mut client, request) = (call.mandates(), call.request(message));
        let call = &call;
        async move {
            let response = call.message(client.list_mandates(request).await)?;
            Ok((response.mandates, response.next_page_token))
        }
    })
    .await?;
    let mandates = mandates.into_iter().map(MandateView::try_from);
    Answer::ok(&Mandates { mandates: mandates.collect::<Result<_, _>>()?, next_page_token })
}

pub(super) async fn get(call: Call) -> Outcome {
    Answer::ok(&view(Some(current(&call).await?))?)
}

pub(super) async fn update(call: Call) -> Outcome {
    let mut patch: MandatePatch = call.json_for(|mut form: MandatePatch| {
        if let Some(budget) = &mut form.budget {
            budget.currency.get_or_insert_with(|| "USD".to_owned());
        }
        form.into_update(call.id(), String::new())
    })?;
    let key = call.idempotency_key()?.unwrap_or_default();
    if let Some(budget) = &mut patch.budget
        && budget.currency.is_none()
    {
        // The currency of a mandate never changes, so reading it first is no race.
        let present = current(&call).await?.budget.unwrap_or_default();
        budget.currency = Some(present.currency);
    }
    let request = call.request(patch.into_update(call.id(), key));
    let response = call.message(call.mandates().update_mandate(request).await)?;
    Answer::ok(&view(response.mandate)?)
}

pub(super) async fn delete(call: Call) -> Outcome {
    call.no_fields()?;
    let request = call.request(v1::DeleteMandateRequest { mandate_id: call.id() });
    call.message(call.mandates().delete_mandate(request).await)?;
    Ok(Answer::nothing())
}

pub(super) async fn update_budget(call: Call) -> Outcome {
    let patch: BudgetPatch = call.json()?;
    let key = call.idempotency_key()?.unwrap_or_default();
    let request = call.request(patch.into_update(call.id(), key));
    let response = call.message(call.mandates().update_budget(request).await)?;
    Answer::ok(&view(response.mandate)?)
}

pub(super) async fn activate(call: Call) -> Outcome {
    call.no_fields()?;
    let request = call.request(v1::ActivateMandateRequest { mandate_id: call.id() });
    let response = call.message(call.mandates().activate_mandate(request).await)?;
    Answer::ok(&view(response.mandate)?)
}

pub(super) async fn pause(call: Call) -> Outcome {
    call.no_fields()?;
    let request = call.request(v1::PauseMandateRequest { mandate_id: call.id() });
    let response = call.message(call.mandates().pause_mandate(request).await)?;
    Answer::ok(&view(response.mandate)?)
}

pub(super) async fn resume(call: Call) -> Outcome {
    call.no_fields()?;
    let request = call.request(v1::ResumeMandateRequest { mandate_id: call.id() });
    let response = call.message(call.mandates().resume_mandate(request).await)?;
    Answer::ok(&view(response.mandate)?)
}

pub(super) async fn revoke(call: Call) -> Outcome {
    let form: RevokeForm = call.json_or_default()?;
    let request = call.request(v1::RevokeMandateRequest {
        mandate_id: call.id(),
        reason: form.reason.unwrap_or_default(),
    });
    let response = call.message(call.mandates().revoke_mandate(request).await)?;
    Answer::ok(&view(response.mandate)?)
}

async fn current(call: &Call) -> Result<v1::Mandate, Failure> {
    let request = call.request(v1::GetMandateRequest { mandate_id: call.id(), version: 0 });
    let response = call.message(call.mandates().get_mandate(request).await)?;
    Ok(response.mandate.ok_or(FormError::Incomplete("mandate"))?)
}

fn view(mandate: Option<v1::Mandate>) -> Result<MandateView, FormError> {
    mandate.ok_or(FormError::Incomplete("mandate"))?.try_into()
}
