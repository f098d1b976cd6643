//! `quetra_check_budget`: what is left to spend.

use serde_json::{Map, Value, json};

use super::{budget_data, budget_text, name, present, time};
use crate::forms::{Time, Word, money_text};
use crate::mcp::failure::Failure;
use crate::mcp::schema;
use crate::mcp::table::{Call, Effect, Reply, Row};
use crate::mcp::text::{NAME_MAX, clean};
use crate::proto::v1;

pub(in crate::mcp) const CHECK: Row = Row {
    name: "quetra_check_budget",
    title: "Check the budget",
    description: "Shows how much may still be spent: the budget's total, what is spent and held, \
                  what remains, the ceiling of one purchase, and when the period ends. Call it \
                  before planning purchases. It changes nothing. To ask about one particular \
                  purchase use quetra_can_spend, to make it quetra_evaluate.",
    effect: Effect::Reads,
    offered: |_| true,
    per_agent: true,
    input: || (json!({}), &[]),
    output,
    on_failure: "The budget could not be read.",
    run: |call| Box::pin(check(call)),
};

fn output() -> Map<String, Value> {
    let cap = json!({
        "rule": schema::text("vendor_cap or category_cap"),
        "subject": schema::text("The vendor or the category"),
        "total": schema::minor("The cap, in minor units"),
        "spent": schema::minor("Gone in this period"),
        "remaining": schema::minor("What can still be spent on it"),
        "resetsAt": schema::time("When the period ends; absent if it never does"),
    });
    let cap = schema::object(cap, &["rule", "subject", "total", "spent", "remaining"]);
    let properties = json!({
        "mandateId": schema::text("The mandate that sets the limits"),
        "mandateName": schema::text("Its name"),
        "status": schema::text("Where it stands; only `active` allows spending"),
        "budget": schema::budget("The budget now"),
        "validUntil": schema::time("When the mandate ends; absent if it does not"),
        "caps": schema::list(&cap, "Budgets of single vendors and categories"),
    });
    schema::object(properties, &["mandateId", "mandateName", "status", "budget", "caps"])
}

async fn check(call: Call) -> Result<Reply, Failure> {
    call.arguments.finish()?;
    let request = v1::GetBudgetRequest { agent_id: call.agent_id, mandate_id: String::new() };
    let request = call.caller.request(request);
    let found = call.gateway.budget().get_budget(request).await?.into_inner();
    let status = Word::<v1::MandateStatus>::from_number(found.status);
    let data = json!({
        "mandateId": found.mandate_id,
        "mandateName": clean(&found.mandate_name, NAME_MAX),
        "status": status.as_str(),
        "budget": budget_data(found.budget.as_ref()),
        "validUntil": time(found.valid_until.as_ref()),
        "caps": found.caps.iter().map(cap).collect::<Vec<_>>(),
    });
    Ok(Reply::Answer { text: text(&found, status), data: present(data) })
}

fn cap(cap: &v1::CapStatus) -> Value {
    present(json!({
        "rule": cap.rule_type,
        "subject": name(&cap.subject),
        "total": cap.total,
        "spent": cap.spent,
        "remaining": cap.remaining,
        "resetsAt": time(cap.resets_at.as_ref()),
    }))
}

fn text(found: &v1::GetBudgetResponse, status: Word<v1::MandateStatus>) -> String {
    let mandate = clean(&found.mandate_name, NAME_MAX);
    let budget = found.budget.clone().unwrap_or_default();
    let money = |minor| money_text(minor, &budget.currency);
    let mut text = format!(
        "Mandate \"{mandate}\" is {status}. {}; at most {} in one purchase. Spent: {}.",
        budget_text(&budget),
        money(budget.per_transaction),
        money(budget.spent),
    );
    if budget.held > 0 {
        text.push_str(&format!(" Held for approval: {}.", money(budget.held)));
    }
    for cap in &found.caps {
        let subject = clean(&cap.subject, NAME_MAX);
        let (left, total) = (money(cap.remaining), money(cap.total));
        text.push_str(&format!(" {left} of {total} remains for {subject}."));
    }
    if let Some(end) = Time::from_proto(found.valid_until.as_ref()) {
        text.push_str(&format!(" The mandate ends {end}."));
    }
    text
}
