//! `quetra_list_agents`: for whom a key of the whole organization may spend.
//!
//! Names and descriptions are written by administrators; no agent's key can write one. Not here:
//! agents that are suspended or gone, which cannot spend.

use serde_json::{Map, Value, json};

use super::{budget_data, budget_text, name, present, rules};
use crate::mcp::Gateway;
use crate::mcp::caller::Caller;
use crate::mcp::failure::Failure;
use crate::mcp::schema;
use crate::mcp::table::{Call, Effect, Reply, Row};
use crate::mcp::text::{DESCRIPTION_MAX, NAME_MAX, clean};
use crate::proto::v1;

/// Agents of one answer.
const PAGE_SIZE: i32 = 25;

pub(in crate::mcp) const LIST: Row = Row {
    name: "quetra_list_agents",
    title: "List agents",
    description: "Lists the agents that may spend: what each is for, what remains of its budget, \
                  and its rules in short. Choose the agent whose description fits the task, and \
                  pass its agentId to the other tools. It changes nothing.",
    effect: Effect::Reads,
    offered: |serves_many| serves_many,
    per_agent: false,
    input: || (json!({"cursor": schema::text("`nextCursor` of the answer before")}), &[]),
    output,
    on_failure: "The agents could not be read.",
    run: |call| Box::pin(list(call)),
};

fn output() -> Map<String, Value> {
    let agent = json!({
        "agentId": schema::text("Pass it to the other tools"),
        "name": schema::text("Its name"),
        "description": schema::text("What it is for"),
        "mandateId": schema::text("Its active mandate; absent if it has none and cannot spend"),
        "budget": schema::budget("The mandate's budget now"),
        "rules": {
            "type": "array",
            "items": {"type": "string"},
            "description": "The mandate's rules in short",
        },
    });
    let agent = schema::object(agent, &["agentId", "name", "rules"]);
    let properties = json!({
        "agents": schema::list(&agent, "Active agents, by name"),
        "nextCursor": schema::text("Pass it as `cursor` for more; absent at the end"),
    });
    schema::object(properties, &["agents"])
}

async fn list(mut call: Call) -> Result<Reply, Failure> {
    let page_token = call.arguments.text("cursor");
    let Call { gateway, caller, arguments, .. } = call;
    arguments.finish()?;
    let request = caller.request(v1::ListAgentsRequest {
        page: Some(v1::PageRequest { page_size: PAGE_SIZE, page_token }),
        include_mandate: true,
        status: v1::AgentStatus::Active.into(),
    });
    let found = gateway.agents().list_agents(request).await?.into_inner();
    let next = Some(found.next_page_token).filter(|token| !token.is_empty());
    let budgets = found.agents.iter().map(|agent| budget(&gateway, &caller, agent));
    let budgets = futures::future::join_all(budgets).await;
    let agents: Vec<_> = found.agents.into_iter().zip(budgets).collect();
    let data = json!({
        "agents": agents.iter().map(|(agent, budget)| data(agent, budget.as_ref()))
            .collect::<Vec<_>>(),
        "nextCursor": next,
    });
    Ok(Reply::Answer { text: text(&agents), data: present(data) })
}

/// What is left to an agent, which the list does not say. A mandate that ended meanwhile has none.
async fn budget(gateway: &Gateway, caller: &Caller, agent: &v1::Agent) -> Option<v1::BudgetStatus> {
    let mandate_id = agent.mandate.as_ref()?.id.clone();
    let request = v1::GetBudgetRequest { agent_id: agent.id.clone(), mandate_id };
    let found = gateway.budget().get_budget(caller.request(request)).await;
    found.ok()?.into_inner().budget
}

fn data(agent: &v1::Agent, budget: Option<&v1::BudgetStatus>) -> Value {
    let mandate = agent.mandate.as_ref();
    let rules: Vec<_> =
        mandate.iter().flat_map(|mandate| &mandate.rules).map(rules::short).collect();
    let description = clean(&agent.description, DESCRIPTION_MAX);
    present(json!({
        "agentId": agent.id,
        "name": clean(&agent.name, NAME_MAX),
        "description": Some(description).filter(|text| !text.is_empty()),
        "mandateId": mandate.map_or(Value::Null, |mandate| name(&mandate.id)),
        "budget": budget_data(budget),
        "rules": rules,
    }))
}

fn text(agents: &[(v1::Agent, Option<v1::BudgetStatus>)]) -> String {
    if agents.is_empty() {
        return "No agent is active.".to_owned();
    }
    let lines = agents.iter().map(|(agent, budget)| {
        let budget = budget.as_ref().map_or_else(|| "nothing to spend".to_owned(), budget_text);
        let what = clean(&agent.description, DESCRIPTION_MAX);
        format!("{} ({}): {what} [{budget}]", clean(&agent.name, NAME_MAX), agent.id)
    });
    lines.collect::<Vec<_>>().join("\n")
}
