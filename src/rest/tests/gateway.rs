//! Decisions, questions and tokens, in both published shapes.
//!
//! Not here: wrong bodies (`bad_input`).

use serde_json::json;
use tonic::Status;

use super::Bench;
use super::fake::AGENT;
use crate::proto::v1;

fn flat() -> String {
    json!({"agentId": AGENT, "amount": 500, "vendor": "api.openai.com", "category": "research",
           "currency": "EUR", "description": "tokens", "protocol": "x402",
           "metadata": {"run": "7"}, "idempotencyKey": "key-00000001"})
    .to_string()
}

fn nested() -> String {
    json!({"mandateId": "mdt_1", "paymentRequest": {"amount": 500, "vendor": "api.openai.com",
           "category": "research", "currency": "EUR", "description": "tokens"}})
    .to_string()
}

#[tokio::test]
async fn the_flat_body_becomes_the_message() {
    let bench = Bench::new();
    let reply = bench.call("POST", "/gateway/evaluate", &flat()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let message: v1::EvaluateRequest = bench.fake.last();
    assert_eq!(message.agent_id, AGENT);
    assert_eq!(message.amount, Some(500));
    assert_eq!(message.vendor, "api.openai.com");
    assert_eq!(message.category, "research");
    assert_eq!(message.currency, "EUR");
    assert_eq!(message.description, "tokens");
    assert_eq!(message.protocol(), v1::Protocol::X402);
    assert_eq!(message.metadata["run"], "7");
    assert_eq!(message.idempotency_key, "key-00000001");
    assert_eq!(bench.fake.called(), ["evaluate"]);
}

#[tokio::test]
async fn the_nested_body_and_its_header_become_the_message() {
    let bench = Bench::new();
    let headers = [("x-quetra-agent-id", AGENT), ("idempotency-key", "key-00000002")];
    let reply = bench.call_with("POST", "/gateway/evaluate", &nested(), &headers).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let message: v1::EvaluateRequest = bench.fake.last();
    assert_eq!(message.agent_id, AGENT);
    assert_eq!(message.mandate_id, "mdt_1");
    assert_eq!(message.amount, Some(500));
    assert_eq!(message.currency, "EUR");
    assert_eq!(message.idempotency_key, "key-00000002");
}

#[tokio::test]
async fn the_answer_has_the_published_fields() {
    let bench = Bench::new();
    let reply = bench.call("POST", "/gateway/evaluate", &flat()).await;
    let result = json!({"ruleType": "budget_total", "passed": false,
        "detail": "4500 of 10000 are left", "reason": "budget_exhausted", "limit": 10000,
        "actual": 5500, "remaining": 4500, "resetsAt": "2026-01-01T00:00:00Z",
        "retryable": true});
    let expected = json!({
        "decision": "approved", "transactionId": "tx_1", "mandateId": "mdt_1",
        "mandateVersion": 3, "remainingBudget": 4500, "budgetRemaining": 4500,
        "evaluations": [result],
        "reasons": [{"rule": "budget_total", "ruleType": "budget_total", "passed": false,
                     "detail": "4500 of 10000 are left", "reason": "budget_exhausted"}],
        "explanation": "because", "evaluationDurationMs": 0.25,
        "budget": {"total": 10000, "spent": 5300, "held": 200, "remaining": 4500,
                   "perTransaction": 1000, "currency": "EUR",
                   "resetsAt": "2026-01-01T00:00:00Z"},
        "replayed": false, "state": "approved",
    });
    assert_eq!(reply.body, expected);
    assert_eq!(reply.headers["content-type"], "application/json");
    assert_eq!(reply.headers["cache-control"], "no-store");
    assert_eq!(reply.headers["x-request-id"], "request-1");
}

#[tokio::test]
async fn each_decision_has_its_code_and_always_this_body() {
    let cases = [
        (v1::Decision::Approved, 200, "approved"),
        (v1::Decision::PendingApproval, 202, "pending_approval"),
        (v1::Decision::Rejected, 403, "rejected"),
    ];
    for (decision, status, word) in cases {
        let bench = Bench::new();
        bench.fake.decide(decision);
        let reply = bench.call("POST", "/gateway/evaluate", &flat()).await;
        assert_eq!((reply.status.as_u16(), &reply.body["decision"]), (status, &json!(word)));
        assert_eq!(reply.body["transactionId"], "tx_1");

        let reply = bench.call("POST", "/gateway/can-spend", &flat()).await;
        assert_eq!((reply.status.as_u16(), &reply.body["decision"]), (200, &json!(word)));
        assert_eq!(reply.body.get("transactionId"), None);
        assert_eq!(reply.body["mandateId"], json!(null));
    }
}

#[tokio::test]
async fn an_answer_without_a_decision_is_never_an_approval() {
    let bench = Bench::new();
    bench.fake.decide(v1::Decision::Unspecified);
    let reply = bench.call("POST", "/gateway/evaluate", &flat()).await;
    assert_eq!((reply.status.as_u16(), reply.reason()), (500, "INTERNAL"));
}

#[tokio::test]
async fn a_call_without_a_key_gets_a_fresh_one_each_time() {
    let bench = Bench::new();
    let mut keys = Vec::new();
    for _ in 0..2 {
        bench.call("POST", "/gateway/evaluate", &nested()).await;
        keys.push(bench.fake.last::<v1::EvaluateRequest>().idempotency_key);
    }
    assert_ne!(keys[0], keys[1]);
    assert!(keys.iter().all(|key| (8..=128).contains(&key.len())), "{keys:?}");
}

#[tokio::test]
async fn a_question_consumes_no_key() {
    let bench = Bench::new();
    bench.call("POST", "/gateway/can-spend", &flat()).await;
    let message: v1::CanSpendRequest = bench.fake.last();
    assert_eq!(message.idempotency_key, "");
    assert_eq!((message.amount, message.metadata["run"].as_str()), (Some(500), "7"));
}

#[tokio::test]
async fn a_missing_currency_is_the_mandates() {
    let bench = Bench::new();
    let body = json!({"agentId": AGENT, "amount": 1, "vendor": "a.com"}).to_string();
    for path in ["/gateway/evaluate", "/gateway/can-spend"] {
        assert_eq!(bench.call("POST", path, &body).await.status, 200);
    }
    assert_eq!(bench.fake.last::<v1::EvaluateRequest>().currency, "EUR");
    assert_eq!(bench.fake.last::<v1::CanSpendRequest>().currency, "EUR");
    assert_eq!(bench.fake.last::<v1::GetBudgetRequest>().agent_id, AGENT);
}

#[tokio::test]
async fn without_a_mandate_the_currency_is_the_organizations() {
    let bench = Bench::new();
    bench.fake.fail("get_budget", Status::not_found("no mandate"));
    let body = json!({"agentId": AGENT, "amount": 1, "vendor": "a.com"}).to_string();
    assert_eq!(bench.call("POST", "/gateway/evaluate", &body).await.status, 200);
    assert_eq!(bench.fake.last::<v1::EvaluateRequest>().currency, "CHF");
    assert_eq!(bench.fake.called(), ["get_budget", "get_organization", "evaluate"]);
}

#[tokio::test]
async fn a_currency_that_cannot_be_found_out_decides_nothing() {
    let bench = Bench::new();
    bench.fake.fail("get_budget", Status::unavailable("down"));
    let body = json!({"agentId": AGENT, "amount": 1, "vendor": "a.com"}).to_string();
    let reply = bench.call("POST", "/gateway/evaluate", &body).await;
    assert_eq!((reply.status.as_u16(), reply.reason()), (503, "STORE_UNAVAILABLE"));
    assert_eq!(bench.fake.called(), ["get_budget"]);
}

#[tokio::test]
async fn the_token_comes_with_its_mandate() {
    let bench = Bench::new();
    let path = format!("/gateway/mandate-token?agentId={AGENT}");
    let reply = bench.call("GET", &path, "").await;
    assert_eq!(reply.status, 200);
    assert_eq!(bench.fake.last::<v1::GetMandateTokenRequest>().agent_id, AGENT);
    for (field, value) in [
        ("id", json!("mdt_1")),
        ("mandateId", json!("mdt_1")),
        ("name", json!("Research")),
        ("status", json!("active")),
        ("validUntil", json!(null)),
        ("token", json!("a.b.c")),
        ("rules", json!([{"type": "vendor_allowlist", "allowed": ["api.openai.com"]}])),
    ] {
        assert_eq!(reply.body[field], value, "{field}");
    }
    let budget = json!({"total": 10000, "perTransaction": 1000, "spent": 5300, "held": 200,
        "remaining": 4500, "currency": "EUR", "resetInterval": {"period": "monthly"},
        "resetsAt": "2026-01-01T00:00:00Z"});
    assert_eq!(reply.body["budget"], budget);

    bench.fake.fail("get_mandate_token", Status::not_found("no active mandate"));
    assert_eq!(bench.call("GET", &path, "").await.status, 404);
}
