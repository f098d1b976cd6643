//! What each tool does: arguments into messages, answers into text and data.
//!
//! Not here: how tools are listed and found (`table`).

pub(super) mod agents;
pub(super) mod budget;
mod rules;
pub(super) mod spend;
pub(super) mod transactions;

use serde_json::{Map, Value, json};

use super::text::{NAME_MAX, clean};
use crate::forms::{Time, money_text};
use crate::proto::v1;

/// An object without its empty fields: clients do not read null as absent.
fn present(fields: Value) -> Value {
    match fields {
        Value::Object(fields) => {
            let given = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(given.collect::<Map<_, _>>())
        }
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)) => other,
    }
}

/// A time for data; null if there is none.
fn time(time: Option<&prost_types::Timestamp>) -> Value {
    Time::from_proto(time).map_or(Value::Null, |time| time.to_string().into())
}

/// An id or a name that may be empty; null then.
fn name(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { clean(text, NAME_MAX).into() }
}

fn budget_data(budget: Option<&v1::BudgetStatus>) -> Value {
    budget.map_or(Value::Null, |budget| {
        present(json!({
            "total": budget.total,
            "spent": budget.spent,
            "held": budget.held,
            "remaining": budget.remaining,
            "perTransaction": budget.per_transaction,
            "currency": budget.currency,
            "resetsAt": time(budget.resets_at.as_ref()),
        }))
    })
}

/// `$84.00 of $100.00 remains until …`.
fn budget_text(budget: &v1::BudgetStatus) -> String {
    let money = |minor| money_text(minor, &budget.currency);
    let until = Time::from_proto(budget.resets_at.as_ref());
    let until = until.map_or_else(String::new, |end| format!(" until {end}"));
    let remaining = money(budget.remaining);
    format!("{remaining} of {} remains{until}", money(budget.total))
}
