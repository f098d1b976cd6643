//! `quetra_transactions`: what was decided, and what became of it.
//!
//! Only the agent's own. The descriptions that came with the requests stay out: they are long, and
//! whoever wrote them is not always who reads this.

use serde_json::{Map, Value, json};

use super::{name, present, time};
use crate::forms::{Time, Word, money_text};
use crate::mcp::failure::Failure;
use crate::mcp::schema;
use crate::mcp::table::{Call, Effect, Reply, Row};
use crate::mcp::text::{NAME_MAX, SENTENCE_MAX, clean};
use crate::proto::v1;

/// How many are shown if nobody says, and at most: a model reads all of them.
const COUNT_DEFAULT: i32 = 10;
const COUNT_MAX: i32 = 50;

/// The longest wait for a person, in seconds.
const WAIT_MAX: i32 = 30;

pub(in crate::mcp) const LIST: Row = Row {
    name: "quetra_transactions",
    title: "Show transactions",
    description: "Lists recent spending decisions, newest first: amount, vendor, decision, and \
                  what became of it. With a transactionId it shows that one, which is how to \
                  learn the outcome of a decision that waits for a person. It changes nothing.",
    effect: Effect::Reads,
    offered: |_| true,
    per_agent: true,
    input: || {
        let properties = json!({
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": COUNT_MAX,
                "default": COUNT_DEFAULT,
                "description": "How many to show",
            },
            "decision": schema::word(&schema::DECISIONS, "Only those with this decision"),
            "transactionId": schema::text("Only this one"),
            "waitSeconds": {
                "type": "integer",
                "minimum": 1,
                "maximum": WAIT_MAX,
                "description": "With transactionId: if it waits for a person, answer when it does \
                                not any more, or after so many seconds",
            },
        });
        (properties, &[])
    },
    output,
    on_failure: "The transactions could not be read.",
    run: |call| Box::pin(list(call)),
};

fn output() -> Map<String, Value> {
    let transaction = json!({
        "transactionId": schema::text("Its id"),
        "decision": schema::word(&schema::DECISIONS, "What was decided"),
        "state": schema::text(
            "Where it stands: approved, settled, voided, refunded, expired, rejected, \
             pending_approval, denied, timeout or withdrawn"
        ),
        "amount": schema::minor("What was asked for, in minor units"),
        "currency": schema::text("ISO 4217 code, or USDC"),
        "vendor": schema::text("Who was to be paid"),
        "category": schema::text("What kind of thing it was"),
        "settledAmount": schema::minor("What was really spent, once settled"),
        "refundedAmount": schema::minor("What was given back after settling"),
        "createdAt": schema::time("When it was decided"),
        "expiresAt": schema::time("When its state ends by itself; absent if it does not"),
        "denialComment": schema::text("What the person said who denied it"),
        "explanation": schema::text("Why, in plain words; only with transactionId"),
    });
    let required = ["transactionId", "decision", "state", "amount", "currency", "vendor"];
    let transaction = schema::object(transaction, &required);
    let properties = json!({
        "transactions": schema::list(&transaction, "Newest first"),
        "more": schema::switch("Whether there are older ones that match"),
    });
    schema::object(properties, &["transactions", "more"])
}

async fn list(mut call: Call) -> Result<Reply, Failure> {
    let limit = call.arguments.count("limit", COUNT_DEFAULT, COUNT_MAX);
    let decision = call.arguments.word::<v1::Decision>("decision");
    let id = call.arguments.text("transactionId");
    let wait_seconds = call.arguments.count("waitSeconds", 0, WAIT_MAX);
    let Call { gateway, caller, arguments, agent_id, person: _ } = call;
    arguments.finish()?;
    let one = !id.is_empty();
    let (found, more) = if one {
        let request =
            caller.request(v1::GetTransactionRequest { transaction_id: id, wait_seconds });
        let found = gateway.transactions().get_transaction(request).await?.into_inner();
        let found = found.transaction.filter(|found| found.agent_id == agent_id);
        let unknown = Failure::NotFound("this agent has no such transaction");
        (vec![found.ok_or(unknown)?], false)
    } else {
        let request = caller.request(v1::ListTransactionsRequest {
            page: Some(v1::PageRequest { page_size: limit, page_token: String::new() }),
            agent_id,
            decision: decision.map_or(0, Word::number),
            ..Default::default()
        });
        let found = gateway.transactions().list_transactions(request).await?.into_inner();
        (found.transactions, !found.next_page_token.is_empty())
    };
    let data = json!({
        "transactions": found.iter().map(|found| data(found, one)).collect::<Vec<_>>(),
        "more": more,
    });
    Ok(Reply::Answer { text: text(&found, one), data })
}

fn data(found: &v1::Transaction, one: bool) -> Value {
    present(json!({
        "transactionId": found.id,
        "decision": Word::<v1::Decision>::from_number(found.decision),
        "state": Word::<v1::TransactionState>::from_number(found.state),
        "amount": found.amount,
        "currency": found.currency,
        "vendor": clean(&found.vendor, NAME_MAX),
        "category": name(&found.category),
        "settledAmount": found.settled_amount,
        "refundedAmount": found.refunded_amount,
        "createdAt": time(found.created_at.as_ref()),
        "expiresAt": time(found.expires_at.as_ref()),
        "denialComment": name(&found.denial_comment),
        "explanation": one.then(|| clean(&found.explanation, SENTENCE_MAX)),
    }))
}

fn text(found: &[v1::Transaction], one: bool) -> String {
    if found.is_empty() {
        return "There are no such transactions.".to_owned();
    }
    let lines = found.iter().map(|found| {
        let amount = money_text(found.amount, &found.currency);
        let vendor = clean(&found.vendor, NAME_MAX);
        let state = Word::<v1::TransactionState>::from_number(found.state);
        let when = Time::from_proto(found.created_at.as_ref());
        let when = when.map_or_else(String::new, |time| format!("{time} "));
        let why = if one { clean(&found.explanation, SENTENCE_MAX) } else { String::new() };
        format!("{when}{state}: {amount} at {vendor} ({}) {why}", found.id).trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}
