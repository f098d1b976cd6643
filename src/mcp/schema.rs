//! Pieces of the tools' JSON schemas (draft 2020-12, in the subset that every client reads).
//!
//! Optional fields are left out of an answer and never null, because some clients refuse a type
//! that is a list. Not here: which tool has which field (`tools`).

use serde_json::{Map, Value, json};

/// An object with these properties, of which `required` must be there. Others may join in a later
/// version: a client that kept an older schema must still accept the answer.
pub(super) fn object(properties: Value, required: &[&str]) -> Map<String, Value> {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    schema.insert("properties".to_owned(), properties);
    schema.insert("required".to_owned(), required.into());
    schema
}

/// The arguments of a tool: these and no others.
pub(super) fn arguments(properties: Value, required: &[&str]) -> Map<String, Value> {
    let mut schema = object(properties, required);
    schema.insert("additionalProperties".to_owned(), false.into());
    schema
}

/// Text with a description.
pub(super) fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

/// Minor units.
pub(super) fn minor(description: &str) -> Value {
    json!({"type": "integer", "description": description})
}

/// Yes or no.
pub(super) fn switch(description: &str) -> Value {
    json!({"type": "boolean", "description": description})
}

/// A point in time.
pub(super) fn time(description: &str) -> Value {
    json!({"type": "string", "format": "date-time", "description": description})
}

/// One of these words.
pub(super) fn word(words: &[&str], description: &str) -> Value {
    json!({"type": "string", "enum": words, "description": description})
}

/// A list.
pub(super) fn list(items: &Map<String, Value>, description: &str) -> Value {
    json!({"type": "array", "items": items, "description": description})
}

/// What a spend may be judged to be.
pub(super) const DECISIONS: [&str; 3] = ["approved", "rejected", "pending_approval"];

/// A budget and how much of it is gone.
pub(super) fn budget(description: &str) -> Value {
    let properties = json!({
        "total": minor("Limit of a period, in minor units"),
        "spent": minor("Gone in this period"),
        "held": minor("Held for decisions that people still have to make"),
        "remaining": minor("What can still be spent in this period"),
        "perTransaction": minor("Ceiling of one purchase"),
        "currency": text("ISO 4217 code, or USDC"),
        "resetsAt": time("When the period ends; absent if it never does"),
    });
    let required = ["total", "spent", "held", "remaining", "perTransaction", "currency"];
    let mut schema = object(properties, &required);
    schema.insert("description".to_owned(), description.into());
    Value::Object(schema)
}

/// The result of every rule.
pub(super) fn rules() -> Value {
    let properties = json!({
        "rule": text("Which rule"),
        "passed": switch("Whether it passed"),
        "detail": text("One sentence"),
    });
    list(&object(properties, &["rule", "passed", "detail"]), "Every rule, passed or failed")
}

/// Why a spend was rejected.
pub(super) fn reasons() -> Value {
    let properties = json!({
        "rule": text("The rule that refused, or `mandate`, `agent`, `organization`"),
        "reason": text("The reason in one word"),
        "detail": text("The reason in one sentence"),
        "limit": minor("The bound: minor units, or a count for rate_limit"),
        "actual": minor("What was compared with it, in the same unit"),
        "passesNow": minor("What would still pass now, in the same unit"),
        "resetsAt": time("When the same request could pass this rule"),
        "retryable": switch("Whether waiting, or asking for less, can help against this rule"),
    });
    let schema = object(properties, &["rule", "detail", "retryable"]);
    list(&schema, "Why it was rejected; empty if it was not")
}

/// What to do about a rejection.
pub(super) fn retry() -> Value {
    let properties = json!({
        "worthwhile": switch("Whether waiting, or asking for less, can help at all"),
        "largestAmount": minor("The largest amount, in minor units, that would pass now"),
        "notBefore": time("From when the same request could pass"),
    });
    let mut schema = object(properties, &["worthwhile"]);
    schema.insert("description".to_owned(), "What to do about a rejection".into());
    Value::Object(schema)
}
