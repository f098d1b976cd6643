//! A request of every RPC that takes an id, good in everything but whose id it is.
//!
//! Not here: ids themselves, which the tests fill in.

use prost_reflect::{Kind, MethodDescriptor};
use serde_json::{Value, json};

use super::Belongings;
use crate::contract::{methods, pool};
use crate::harness::unique;

/// An RPC and one field of its request that holds an id.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) method: MethodDescriptor,
    pub(super) field: String,
    /// Other fields that make another way through the same RPC.
    variant: Value,
}

/// Every place for an id in the contract.
pub(super) fn places() -> Vec<Place> {
    let pool = pool();
    let mut places = Vec::new();
    for method in methods(&pool) {
        for field in method.input().fields() {
            if field.kind() == Kind::String && field.name().ends_with("_id") {
                for variant in variants(method.name()) {
                    let (method, field) = (method.clone(), field.name().to_owned());
                    places.push(Place { method, field, variant });
                }
            }
        }
    }
    assert!(places.len() >= 30, "only {} ids in the whole contract", places.len());
    places
}

fn variants(rpc: &str) -> Vec<Value> {
    match rpc {
        "GetMandate" => vec![json!({}), json!({"version": 1}), json!({"version": 99})],
        "GetAgent" => vec![json!({}), json!({"include_mandate": true})],
        _ => vec![json!({})],
    }
}

/// What the request needs beside ids.
fn rest(rpc: &str, idempotency_key: &str) -> Value {
    let budget = json!({"total": 100, "per_transaction": 10, "currency": "USD"});
    match rpc {
        "Evaluate" => json!({
            "amount": 100, "currency": "USD", "vendor": "firecrawl.dev",
            "idempotency_key": format!("cross-{:08}", unique()),
        }),
        "CanSpend" => json!({"amount": 100, "currency": "USD", "vendor": "firecrawl.dev"}),
        "LookupDecision" => json!({"idempotency_key": idempotency_key}),
        "SettleTransaction" => json!({"amount": 1}),
        "CreateMandate" => json!({"name": "a mandate", "budget": budget}),
        "UpdateMandate" => json!({"update_mask": "name", "name": "another name"}),
        "UpdateBudget" => json!({"total": 20_000}),
        "UpdateAgent" => json!({"update_mask": "description", "description": "changed"}),
        "UpdateWebhookEndpoint" => json!({"update_mask": "description", "description": "changed"}),
        "RedeliverWebhookRange" => json!({"since": "2026-05-01T00:00:00Z"}),
        "CreateApiKey" => json!({"name": "a key", "role": "ROLE_AGENT"}),
        _ => json!({}),
    }
}

impl Place {
    pub(super) fn name(&self) -> String {
        format!("{} {} {}", self.method.full_name(), self.field, self.variant)
    }

    /// The request with this id here, and in other places that must be filled the caller's own.
    pub(super) fn request(&self, id: &str, own: &Belongings, idempotency_key: &str) -> Vec<u8> {
        let rpc = self.method.name();
        let mut request = rest(rpc, idempotency_key);
        let fields = request.as_object_mut().unwrap();
        for field in self.method.input().fields().filter(|field| field.kind() == Kind::String) {
            let optional = matches!(
                (rpc, field.name()),
                (
                    "GetBudget" | "ListTransactions" | "Evaluate" | "CanSpend" | "WatchBudget",
                    "mandate_id"
                ) | ("GetBudget" | "ListTransactions" | "WatchBudget", "agent_id")
                    | ("WatchTransactions", _)
                    | ("ListWebhookDeliveries", "webhook_endpoint_id")
            );
            if field.name().ends_with("_id") && !optional {
                fields.insert(field.name().to_owned(), own.id(field.name()).into());
            }
        }
        fields.insert(self.field.clone(), id.into());
        fields.extend(self.variant.as_object().unwrap().clone());
        crate::harness::raw::message(&self.method.input(), &request)
    }
}

impl Belongings {
    /// The id that belongs into a field of this name.
    pub(super) fn id(&self, field: &str) -> &str {
        match field {
            "agent_id" => &self.agent_id,
            "mandate_id" => &self.mandate_id,
            "transaction_id" => &self.transaction_id,
            "api_key_id" => &self.api_key_id,
            "webhook_endpoint_id" => &self.webhook_endpoint_id,
            "webhook_delivery_id" => &self.webhook_delivery_id,
            other => panic!("a new kind of id, `{other}`: teach this test to make one"),
        }
    }
}

/// An id of the right form that nobody has.
pub(super) fn unknown(field: &str) -> String {
    let digits = hex::encode(quetra::crypto::random::<16>().unwrap());
    match field {
        "agent_id" => {
            let (a, b, c) = (&digits[..8], &digits[8..12], &digits[13..16]);
            format!("{a}-{b}-4{c}-8{}-{}", &digits[17..20], &digits[20..])
        }
        "mandate_id" => format!("mdt_{digits}"),
        "transaction_id" => format!("tx_{digits}"),
        "api_key_id" => format!("key_{digits}"),
        "webhook_endpoint_id" => format!("whe_{digits}"),
        "webhook_delivery_id" => format!("whd_{digits}"),
        other => panic!("a new kind of id, `{other}`: teach this test to make one"),
    }
}
