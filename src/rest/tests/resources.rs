//! Agents, mandates, transactions, the organization and keys: every path, in and out.
//!
//! Not here: decisions (`gateway`), wrong bodies (`bad_input`).

use serde_json::{Value, json};

use super::fake::AGENT;
use super::{Bench, Reply};
use crate::proto::v1;

/// One call: method, path, body, expected code, and a field of the answer.
type Case = (&'static str, &'static str, Value, u16, (&'static str, Value));

async fn check(cases: Vec<Case>) {
    for (method, path, body, status, (pointer, value)) in cases {
        let bench = Bench::new();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let reply = bench.call(method, path, &body).await;
        assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
        assert_eq!(reply.body.pointer(pointer), Some(&value), "{method} {path}: {reply:?}");
    }
}

#[tokio::test]
async fn every_agent_path_answers() {
    check(vec![
        ("POST", "/agents", json!({"name": "a", "framework": "ag2"}), 201, ("/id", json!(AGENT))),
        ("GET", "/agents", json!(null), 200, ("/agents/0/status", json!("active"))),
        (
            "GET",
            "/agents?include=mandate",
            json!(null),
            200,
            ("/agents/0/mandate/id", json!("mdt_1")),
        ),
        ("GET", "/agents/x", json!(null), 200, ("/framework", json!("openai-agents"))),
        ("PATCH", "/agents/x", json!({"name": "b"}), 200, ("/name", json!("researcher"))),
        ("DELETE", "/agents/x", json!(null), 200, ("/status", json!("decommissioned"))),
        ("POST", "/agents/x/suspend", json!(null), 200, ("/status", json!("suspended"))),
        ("POST", "/agents/x/resume", json!({}), 200, ("/status", json!("active"))),
    ])
    .await;
}

#[tokio::test]
async fn every_mandate_path_answers() {
    let body = json!({"agentId": AGENT, "name": "m", "rules": [], "budget": {
        "total": 100, "perTransaction": 10, "currency": "EUR"}});
    check(vec![
        ("POST", "/mandates", body, 201, ("/status", json!("draft"))),
        ("GET", "/mandates", json!(null), 200, ("/mandates/0/version", json!(3))),
        ("GET", "/mandates/mdt_1", json!(null), 200, ("/budget/remaining", json!(4500))),
        ("PATCH", "/mandates/mdt_1", json!({"name": "n"}), 200, ("/id", json!("mdt_1"))),
        ("PATCH", "/mandates/mdt_1/budget", json!({"total": 5}), 200, ("/id", json!("mdt_1"))),
        ("POST", "/mandates/mdt_1/activate", json!(null), 200, ("/status", json!("active"))),
        ("POST", "/mandates/mdt_1/pause", json!(null), 200, ("/status", json!("paused"))),
        ("POST", "/mandates/mdt_1/resume", json!(null), 200, ("/status", json!("active"))),
        (
            "POST",
            "/mandates/mdt_1/revoke",
            json!({"reason": "over"}),
            200,
            ("/status", json!("revoked")),
        ),
        ("POST", "/mandates/mdt_1/revoke", json!(null), 200, ("/status", json!("revoked"))),
    ])
    .await;
}

#[tokio::test]
async fn a_deleted_draft_leaves_nothing_to_say() {
    let reply: Reply = Bench::new().call("DELETE", "/mandates/mdt_1", "").await;
    assert_eq!((reply.status.as_u16(), reply.body), (204, Value::Null));
}

#[tokio::test]
async fn every_transaction_path_answers() {
    check(vec![
        ("GET", "/transactions", json!(null), 200, ("/total", json!(7))),
        (
            "GET",
            "/transactions",
            json!(null),
            200,
            ("/transactions/0/ruleEvaluations/0/ruleType", json!("budget_total")),
        ),
        ("GET", "/transactions/tx_1", json!(null), 200, ("/budgetAfter", json!(5500))),
        (
            "GET",
            "/transactions/tx_1",
            json!(null),
            200,
            ("/createdAt", json!("2025-12-29T09:20:00Z")),
        ),
        (
            "POST",
            "/transactions/tx_1/settle",
            json!({"amount": 400}),
            200,
            ("/state", json!("settled")),
        ),
        (
            "POST",
            "/transactions/tx_1/settle",
            json!({"amount": 400}),
            200,
            ("/budget/remaining", json!(4500)),
        ),
        ("POST", "/transactions/tx_1/void", json!(null), 200, ("/state", json!("voided"))),
        ("POST", "/transactions/tx_1/refund", json!(null), 200, ("/state", json!("refunded"))),
        ("POST", "/transactions/tx_1/refund", json!({"amount": 1}), 200, ("/budget", json!(null))),
    ])
    .await;
}

#[tokio::test]
async fn every_path_of_the_organization_answers() {
    let key = json!({"name": "ci", "role": "agent", "agentId": AGENT,
                     "expiresAt": "2027-01-01T00:00:00Z"});
    check(vec![
        ("GET", "/organization", json!(null), 200, ("/defaultCurrency", json!("CHF"))),
        ("GET", "/organization", json!(null), 200, ("/durabilityFloor", json!("durable"))),
        ("PATCH", "/organization", json!({"timezone": "UTC"}), 200, ("/slug", json!("lab"))),
        ("POST", "/organization/freeze", json!(null), 200, ("/frozen", json!(true))),
        ("POST", "/organization/unfreeze", json!(null), 200, ("/frozen", json!(false))),
        ("POST", "/api-keys", key, 201, ("/key", json!("sk_secret"))),
        ("GET", "/api-keys", json!(null), 200, ("/apiKeys/0/prefix", json!("sk_abcd"))),
        (
            "DELETE",
            "/api-keys/key_1",
            json!(null),
            200,
            ("/revokedAt", json!("2025-12-29T09:20:01Z")),
        ),
    ])
    .await;
}

#[tokio::test]
async fn bodies_and_headers_reach_the_messages() {
    let bench = Bench::new();
    let body = json!({"name": "a", "description": "d", "framework": "custom",
                      "executionMode": "supervised", "tags": ["x"], "metadata": {"k": "v"}});
    let key = [("idempotency-key", "key-00000003")];
    bench.call_with("POST", "/agents", &body.to_string(), &key).await;
    let message: v1::RegisterAgentRequest = bench.fake.last();
    assert_eq!(message.framework(), v1::Framework::Custom);
    assert_eq!(message.execution_mode, "supervised");
    assert_eq!((message.tags.len(), message.metadata.len()), (1, 1));
    assert_eq!(message.idempotency_key, "key-00000003");

    bench.call("PATCH", "/agents/x", r#"{"description": null, "tags": []}"#).await;
    let message: v1::UpdateAgentRequest = bench.fake.last();
    assert_eq!(message.agent_id, "x");
    assert_eq!(message.update_mask.unwrap().paths, ["description", "tags"]);

    let body = r#"{"total": 7, "expectedVersion": 3}"#;
    bench.call("PATCH", "/mandates/mdt_9/budget", body).await;
    let message: v1::UpdateBudgetRequest = bench.fake.last();
    assert_eq!((message.total, message.per_transaction), (Some(7), None));
    assert_eq!((message.mandate_id.as_str(), message.expected_version), ("mdt_9", 3));

    let body = r#"{"defaultCurrency": "USD"}"#;
    bench.call("PATCH", "/organization", body).await;
    let message: v1::UpdateOrganizationRequest = bench.fake.last();
    assert_eq!(message.update_mask.unwrap().paths, ["default_currency"]);
    assert_eq!(message.default_currency, "USD");
}

#[tokio::test]
async fn a_budget_without_currency_takes_the_right_one() {
    let bench = Bench::new();
    let body = json!({"agentId": AGENT, "name": "m",
                      "budget": {"total": 100, "perTransaction": 10}});
    assert_eq!(bench.call("POST", "/mandates", &body.to_string()).await.status, 201);
    let message: v1::CreateMandateRequest = bench.fake.last();
    assert_eq!(message.budget.unwrap().currency, "CHF");

    let body = json!({"budget": {"total": 100, "perTransaction": 10}});
    assert_eq!(bench.call("PATCH", "/mandates/mdt_1", &body.to_string()).await.status, 200);
    let message: v1::UpdateMandateRequest = bench.fake.last();
    assert_eq!(message.budget.unwrap().currency, "EUR");
    assert_eq!(message.update_mask.unwrap().paths, ["budget"]);
}

#[tokio::test]
async fn the_filters_of_transactions_reach_the_message() {
    let bench = Bench::new();
    let path = "/transactions?limit=20&offset=40&agentId=a&mandateId=m&decision=rejected\
                &state=settled&since=2026-01-01T00:00:00Z&until=2026-02-01T00:00:00%2B01:00";
    let reply = bench.call("GET", path, "").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let message: v1::ListTransactionsRequest = bench.fake.last();
    assert_eq!((message.page.as_ref().unwrap().page_size, message.skip), (20, 40));
    assert_eq!((message.agent_id.as_str(), message.mandate_id.as_str()), ("a", "m"));
    assert_eq!(message.decision(), v1::Decision::Rejected);
    assert_eq!(message.state(), v1::TransactionState::Settled);
    assert_eq!(message.since.unwrap().seconds, 1_767_225_600);
    assert!(message.until.is_some() && message.include_total);

    bench.call("GET", "/transactions", "").await;
    let message: v1::ListTransactionsRequest = bench.fake.last();
    assert_eq!(message.page.unwrap().page_size, 50);
}

#[tokio::test]
async fn an_offset_walks_along_the_cursor_where_there_is_nothing_else() {
    let bench = Bench::new();
    bench.fake.pages(3);
    let reply = bench.call("GET", "/agents?limit=1&offset=1", "").await;
    assert_eq!(reply.body["agents"].as_array().unwrap().len(), 1);
    assert_eq!(reply.body["nextPageToken"], "2");
    assert_eq!(bench.fake.called().len(), 2);
    let page = bench.fake.last::<v1::ListAgentsRequest>().page.unwrap();
    assert_eq!((page.page_size, page.page_token.as_str()), (1, "1"));

    let reply = bench.call("GET", "/mandates?pageToken=2", "").await;
    assert_eq!(reply.body.get("nextPageToken"), None);
    let reply = bench.call("GET", "/mandates?offset=9", "").await;
    assert_eq!(reply.body, json!({"mandates": []}));
}

#[tokio::test]
async fn the_credential_the_request_id_and_the_deadline_are_passed_on_and_nothing_else() {
    let bench = Bench::new();
    let headers = [("x-request-id", "mine"), ("grpc-timeout", "5S"), ("cookie", "c=1")];
    bench.call_with("GET", "/organization", "", &headers).await;
    let metadata = bench.fake.metadata();
    assert_eq!(metadata.get("authorization").unwrap(), "Bearer sk_test");
    assert_eq!(metadata.get("x-request-id").unwrap(), "mine");
    assert_eq!(metadata.get("grpc-timeout").unwrap(), "5S");
    assert!(metadata.get("cookie").is_none());
}
