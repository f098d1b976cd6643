//! `quetra_evaluate` and `quetra_can_spend`: asking for a purchase, and asking about one.
//!
//! A rejection is an answer that teaches, and so is a decision that waits for a person. Not here:
//! any judgement; what to do next is read from the results' typed fields (`advice`).

use serde_json::{Map, Value, json};
use tonic::Code;

use crate::forms::Word;
use crate::mcp::Gateway;
use crate::mcp::caller::Caller;
use crate::mcp::failure::Failure;
use crate::mcp::person::Person;
use crate::mcp::schema;
use crate::mcp::table::{Call, Effect, Reply, Row};
use crate::mcp::tools::time;
use crate::proto::v1;

mod consent;
mod judged;
mod pending;

use self::judged::Judged;
use self::pending::Waiting;

pub(in crate::mcp) const EVALUATE: Row = Row {
    name: "quetra_evaluate",
    title: "Ask to spend",
    description: "Asks for permission to spend money. Call it before every purchase or payment. \
                  The request is decided at once by the mandate's budget and rules, and recorded. \
                  If `approved` is true the amount has been deducted from the budget: buy exactly \
                  this, at this vendor, and keep the transactionId. If `approved` is false do not \
                  spend: tell the user which rule refused and why, and follow `retry`. If \
                  `decision` is pending_approval a person must decide first: do not spend, and \
                  follow `approval`. To ask without spending use quetra_can_spend.",
    effect: Effect::Charges,
    offered: |_| true,
    per_agent: true,
    input: || {
        let mut properties = spend_properties();
        if let Some(properties) = properties.as_object_mut() {
            properties.insert("intentKey".to_owned(), intent_key());
        }
        (properties, &["amount", "vendor"])
    },
    output: evaluate_output,
    on_failure: "NOT APPROVED: nothing could be decided, so do not spend.",
    run: |call| Box::pin(evaluate(call)),
};

pub(in crate::mcp) const CAN_SPEND: Row = Row {
    name: "quetra_can_spend",
    title: "Ask about a purchase",
    description: "Says whether a purchase would be approved now, and why or why not, in plain \
                  words. It changes nothing, deducts nothing and promises nothing: before \
                  spending, quetra_evaluate must approve.",
    effect: Effect::Reads,
    offered: |_| true,
    per_agent: true,
    input: || (spend_properties(), &["amount", "vendor"]),
    output: can_spend_output,
    on_failure: "Nothing could be found out.",
    run: |call| Box::pin(can_spend(call)),
};

fn spend_properties() -> Value {
    let protocols = ["direct", "x402", "acp", "stripe_cc", "ap2", "connector"];
    json!({
        "amount": {
            "type": "integer",
            "minimum": 0,
            "maximum": 1_000_000_000_000_i64,
            "description": "Whole minor units of the currency (cents): 1500 is $15.00, 200 is \
                            $2.00. Never a fraction",
        },
        "vendor": schema::text("Who is paid: a host name such as firecrawl.dev, or a plain name"),
        "category": schema::text(
            "What kind of thing it is, such as research; many mandates allow named categories only"
        ),
        "currency": schema::text(
            "ISO 4217 code such as USD, or USDC. Left out, it is the mandate's currency"
        ),
        "description": schema::text("What it is for, in one sentence; people read it"),
        "protocol": schema::word(&protocols, "By which means the money will move, if known"),
        "mandateId": schema::text("Only if a certain mandate must judge"),
    })
}

fn intent_key() -> Value {
    json!({
        "type": "string",
        "pattern": "^[A-Za-z0-9_:.-]{8,128}$",
        "description": "Your name for this one purchase, such as report-42-firecrawl. Repeat a \
                        call with the same intentKey if its answer was lost: it is charged once. \
                        Every new purchase needs a new one. Left out, every call is a new purchase",
    })
}

fn evaluate_output() -> Map<String, Value> {
    let properties = json!({
        "approved": schema::switch("Whether the money may be spent now"),
        "decision": schema::word(&schema::DECISIONS, "The decision"),
        "transactionId": schema::text("The record of this decision"),
        "mandateId": schema::text("The mandate that judged; absent if there was none"),
        "explanation": schema::text("The decision in plain words"),
        "reasons": schema::reasons(),
        "rules": schema::rules(),
        "retry": schema::retry(),
        "budget": schema::budget("The budget after this decision; absent without a mandate"),
        "approval": pending::output(),
        "state": schema::text(
            "Where it stands now: a repeated call tells what became of a decision that waited"
        ),
        "expiresAt": schema::time("When that state ends by itself; absent if it does not"),
        "replayed": schema::switch(
            "This repeats an earlier call with the same intentKey; nothing was charged now"
        ),
        "intentKey": schema::text("Send it again if this answer has to be repeated"),
    });
    let required = ["approved", "decision", "transactionId", "explanation", "reasons", "rules"];
    let also = ["state", "replayed", "intentKey"];
    schema::object(properties, &[&required[..], &also[..]].concat())
}

fn can_spend_output() -> Map<String, Value> {
    let properties = json!({
        "wouldBeApproved": schema::switch("Whether quetra_evaluate would approve now"),
        "decision": schema::word(&schema::DECISIONS, "What quetra_evaluate would decide now"),
        "mandateId": schema::text("The mandate that would judge; absent if there is none"),
        "explanation": schema::text("The answer in plain words"),
        "reasons": schema::reasons(),
        "rules": schema::rules(),
        "retry": schema::retry(),
        "budget": schema::budget("The budget as it is now; absent without a mandate"),
    });
    let required = ["wouldBeApproved", "decision", "explanation", "reasons", "rules"];
    schema::object(properties, &required)
}

/// Reads the spend; without the intent key, which only one of the tools knows.
fn spend(call: &mut Call) -> v1::EvaluateRequest {
    let given = &mut call.arguments;
    v1::EvaluateRequest {
        agent_id: call.agent_id.clone(),
        amount: Some(given.amount("amount")),
        currency: given.text("currency").to_ascii_uppercase(),
        vendor: given.required_text("vendor"),
        category: given.text("category"),
        description: given.text("description"),
        protocol: given.word("protocol").map_or(0, Word::<v1::Protocol>::number),
        idempotency_key: String::new(),
        metadata: [].into(),
        mandate_id: given.text("mandateId"),
        hold_seconds: None,
    }
}

/// The contract demands a currency, a model seldom names one: a missing one is the mandate's.
async fn currency(
    gateway: &Gateway,
    caller: &Caller,
    spend: &v1::EvaluateRequest,
) -> Result<String, Failure> {
    if !spend.currency.is_empty() {
        return Ok(spend.currency.clone());
    }
    let request = caller.request(v1::GetBudgetRequest {
        agent_id: spend.agent_id.clone(),
        mandate_id: spend.mandate_id.clone(),
    });
    match gateway.budget().get_budget(request).await {
        Ok(found) => Ok(found.into_inner().budget.unwrap_or_default().currency),
        // Without a mandate nothing will be approved, but the rejection belongs on record. Wrong
        // fields are reported by the decision itself, all of them at once.
        Err(status) if matches!(status.code(), Code::NotFound | Code::InvalidArgument) => {
            let request = caller.request(v1::GetOrganizationRequest {});
            let found = gateway.organization().get_organization(request).await?.into_inner();
            Ok(found.organization.unwrap_or_default().default_currency)
        }
        Err(status) => Err(status.into()),
    }
}

async fn evaluate(mut call: Call) -> Result<Reply, Failure> {
    let mut request = spend(&mut call);
    let given = call.arguments.text("intentKey");
    call.arguments.finish()?;
    request.currency = currency(&call.gateway, &call.caller, &request).await?;
    match call.person {
        Person::Refused => return Err(Failure::Declined),
        Person::Reachable => {
            let (gateway, caller) = (&call.gateway, &call.caller);
            if let Some(asked) = consent::question(gateway, caller, &request, &given).await {
                return Ok(Reply::Ask(asked));
            }
        }
        Person::Unreachable | Person::Heard => {}
    }
    request.idempotency_key = if given.is_empty() { fresh_key() } else { given };
    let message = call.caller.request(request.clone());
    let made = call.gateway.evaluate().evaluate(message).await;
    let made = made
        .map_err(|status| Failure::Purchase(status, request.idempotency_key.clone()))?
        .into_inner();
    let judged = Judged::of_evaluate(&request, &made);
    let mut data = judged.data();
    let mut text = judged.text();
    if let Some(data) = data.as_object_mut() {
        let state = made.state();
        let was_asked = made.decision() == v1::Decision::PendingApproval;
        // What was approved once may have been given back since.
        let approved = state == v1::TransactionState::Approved;
        data.insert("approved".to_owned(), approved.into());
        data.insert("transactionId".to_owned(), made.transaction_id.clone().into());
        data.insert("state".to_owned(), Word(state).as_str().into());
        if made.expires_at.is_some() {
            data.insert("expiresAt".to_owned(), time(made.expires_at.as_ref()));
        }
        data.insert("replayed".to_owned(), made.replayed.into());
        data.insert("intentKey".to_owned(), request.idempotency_key.clone().into());
        if was_asked && state != v1::TransactionState::PendingApproval {
            text = pending::outcome(state);
        } else if judged.approved() && !approved {
            text = pending::closed(state);
        } else if was_asked {
            let waiting = Waiting::read(&call.gateway, &call.caller, &request, &made).await;
            text.push_str(&waiting.text());
            data.insert("approval".to_owned(), waiting.data());
        }
    }
    text.push_str(&format!(" Transaction {}.", made.transaction_id));
    if made.replayed {
        text.push_str(
            " This intentKey was used before: this is the earlier decision again, and nothing was \
             charged now. If it was bought already, do not buy it again. A new purchase needs a \
             new intentKey.",
        );
    }
    Ok(Reply::Answer { text, data })
}

async fn can_spend(mut call: Call) -> Result<Reply, Failure> {
    let mut request = spend(&mut call);
    call.arguments.finish()?;
    request.currency = currency(&call.gateway, &call.caller, &request).await?;
    let message = call.caller.request(request.clone().into());
    let found = call.gateway.evaluate().can_spend(message).await?.into_inner();
    let judged = Judged::of_can_spend(&request, &found);
    let mut data = judged.data();
    if let Some(data) = data.as_object_mut() {
        data.insert("wouldBeApproved".to_owned(), judged.approved().into());
    }
    let text = format!("Nothing was deducted. Asked now, the answer is: {}", judged.text());
    Ok(Reply::Answer { text, data })
}

/// The same spend, asked about.
impl From<v1::EvaluateRequest> for v1::CanSpendRequest {
    fn from(spend: v1::EvaluateRequest) -> Self {
        Self {
            agent_id: spend.agent_id,
            amount: spend.amount,
            currency: spend.currency,
            vendor: spend.vendor,
            category: spend.category,
            description: spend.description,
            protocol: spend.protocol,
            idempotency_key: String::new(),
            metadata: spend.metadata,
            mandate_id: spend.mandate_id,
        }
    }
}

/// Without an intent key each call is a purchase of its own.
#[expect(
    clippy::disallowed_methods,
    reason = "not an id of the domain: a key that a caller would have chosen"
)]
fn fresh_key() -> String {
    format!("mcp-{}", uuid::Uuid::new_v4())
}
