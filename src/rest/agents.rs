//! `/agents`: register, list, show, change, suspend, resume, decommission.
//!
//! Not here: their mandates (`mandates`).

use serde::Serialize;

use super::answer::Answer;
use super::call::Call;
use super::failure::{Failure, Violation};
use super::page::{LIMIT_MAX, Window, walk};
use super::query::Query;
use super::routes::Outcome;
use crate::forms::{AgentForm, AgentPatch, AgentView, FormError};
use crate::proto::v1;

/// A page of agents.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Agents {
    agents: Vec<AgentView>,
    #[serde(skip_serializing_if = "String::is_empty")]
    next_page_token: String,
}

pub(super) async fn register(call: Call) -> Outcome {
    let form: AgentForm = call.json_for(|form: AgentForm| form.into_register(String::new()))?;
    let key = call.idempotency_key()?.unwrap_or_default();
    let request = call.request(form.into_register(key));
    let response = call.message(call.agents().register_agent(request).await)?;
    Answer::created(&view(response.agent)?)
}

pub(super) async fn list(call: Call) -> Outcome {
    let known = ["include", "status", "limit", "offset", "pageToken"];
    let mut query = Query::read(call.uri(), &known);
    let window = Window::read(&mut query, LIMIT_MAX);
    let status = query.word::<v1::AgentStatus>("status");
    let include_mandate = included(&mut query)?;
    query.finish()?;

    let (agents, next_page_token) = walk(window, |page| {
        let message = v1::ListAgentsRequest { page: Some(page), include_mandate, status };
        let (mut client, request) = (call.agents(), call.request(message));
        let call = &call;
        async move {
            let response = call.message(client.list_agents(request).await)?;
            Ok((response.agents, response.next_page_token))
        }
    })
    .await?;
    let agents = agents.into_iter().map(AgentView::try_from);
    Answer::ok(&Agents { agents: agents.collect::<Result<_, _>>()?, next_page_token })
}

pub(super) async fn get(call: Call) -> Outcome {
    let mut query = Query::read(call.uri(), &["include"]);
    let include_mandate = included(&mut query)?;
    query.finish()?;
    let request = call.request(v1::GetAgentRequest { agent_id: call.id(), include_mandate });
    let response = call.message(call.agents().get_agent(request).await)?;
    Answer::ok(&view(response.agent)?)
}

pub(super) async fn update(call: Call) -> Outcome {
    let patch: AgentPatch =
        call.json_for(|form: AgentPatch| form.into_update(call.id(), String::new()))?;
    let key = call.idempotency_key()?.unwrap_or_default();
    let request = call.request(patch.into_update(call.id(), key));
    let response = call.message(call.agents().update_agent(request).await)?;
    Answer::ok(&view(response.agent)?)
}

pub(super) async fn suspend(call: Call) -> Outcome {
    call.no_fields()?;
    let request = call.request(v1::SuspendAgentRequest { agent_id: call.id() });
    let response = call.message(call.agents().suspend_agent(request).await)?;
    Answer::ok(&view(response.agent)?)
}

pub(super) async fn resume(call: Call) -> Outcome {
    call.no_fields()?;
    let request = call.request(v1::ResumeAgentRequest { agent_id: call.id() });
    let response = call.message(call.agents().resume_agent(request).await)?;
    Answer::ok(&view(response.agent)?)
}

pub(super) async fn decommission(call: Call) -> Outcome {
    call.no_fields()?;
    let request = call.request(v1::DecommissionAgentRequest { agent_id: call.id() });
    let response = call.message(call.agents().decommission_agent(request).await)?;
    Answer::ok(&view(response.agent)?)
}

fn view(agent: Option<v1::Agent>) -> Result<AgentView, FormError> {
    agent.ok_or(FormError::Incomplete("agent"))?.try_into()
}

/// `?include=mandate`, the only thing that can be included.
fn included(query: &mut Query) -> Result<bool, Failure> {
    match query.text("include").as_str() {
        "" => Ok(false),
        "mandate" => Ok(true),
        _ => Err(Failure::fields(vec![Violation::new("include", "must be `mandate`")])),
    }
}
