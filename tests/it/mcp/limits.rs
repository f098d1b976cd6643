//! What a model or a client gets wrong, and how much of it the server bears.

use std::sync::Arc;
use std::time::Duration;

use quetra::clock::SystemClock;
use quetra::config::ServerConfig;
use serde_json::{Value, json};

use super::{LEGACY, Mcp, agent_key};
use crate::harness::{Server, budget};

#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_are_corrected_and_nothing_is_charged() {
    let server = Server::start().await;
    let mcp = Mcp::of_agent(&server);
    let table = [
        (json!({"amount": 2.5}), "1500 for $15.00"),
        (json!({"amount": 200.0}), "1500 for $15.00"),
        (json!({"amount": "200"}), "without quotes"),
        (json!({"amount": null}), "`amount` is required"),
        (json!({"amount": -1}), "INVALID_FIELDS: `amount`"),
        (json!({"amount": 1_000_000_000_001_i64}), "INVALID_FIELDS: `amount`"),
        (json!({"amount": true}), "is not a number"),
        (json!({"vendor": ""}), "INVALID_FIELDS: `vendor`"),
        (json!({"vendor": null}), "`vendor`"),
        (json!({"vendor": ["firecrawl.dev"]}), "`vendor` must be text"),
        (json!({"vendor": "x".repeat(3_000)}), "INVALID_FIELDS: `vendor`"),
        (json!({"currency": "dollars"}), "INVALID_FIELDS: `currency`"),
        (json!({"protocol": "cash"}), "`protocol` must be one of"),
        (json!({"intentKey": "short"}), "INVALID_FIELDS: `intentKey`"),
        (json!({"intentKey": "with spaces in it"}), "INVALID_FIELDS: `intentKey`"),
        (json!({"approved": true}), "there is no argument `approved`"),
        (json!({"mandateId": "nonsense"}), "mandateId"),
    ];
    for (change, expected) in table {
        let mut arguments =
            json!({"amount": 200, "vendor": "firecrawl.dev", "category": "research"});
        arguments.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let why = mcp.failure("quetra_evaluate", arguments).await;
        assert!(why.starts_with("NOT APPROVED"), "{change}: {why}");
        assert!(why.contains(expected), "{change}: {why}");
        assert!(!why.contains("idempotency_key") && !why.contains("xxx"), "{change}: {why}");
    }
    let left = mcp.data("quetra_check_budget", json!({})).await;
    assert_eq!(left["budget"]["spent"], 0);
    let found = mcp.data("quetra_transactions", json!({})).await;
    assert_eq!(found["transactions"], json!([]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_get_the_errors_of_the_protocol() {
    let server = Server::start().await;
    let mcp = Mcp::of_agent(&server);
    let good = mcp.message("tools/call", json!({"name": "quetra_check_budget"}));
    let answer = |request: reqwest::RequestBuilder| async move {
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let body = response.text().await.unwrap();
        let code =
            serde_json::from_str::<Value>(&body).unwrap_or_default()["error"]["code"].as_i64();
        (status, code)
    };
    // A header that says another thing than the body (SEP-2243).
    let mut request = mcp.request(&good).build().unwrap();
    request.headers_mut().insert("mcp-name", "quetra_evaluate".parse().unwrap());
    let request = reqwest::RequestBuilder::from_parts(mcp.http.clone(), request);
    assert_eq!(answer(request).await, (400, Some(-32020)));
    let mut request = mcp.request(&good).build().unwrap();
    request.headers_mut().remove("mcp-method");
    let request = reqwest::RequestBuilder::from_parts(mcp.http.clone(), request);
    assert_eq!(answer(request).await, (400, Some(-32020)));
    let mut request = mcp.request(&good).build().unwrap();
    request.headers_mut().insert("mcp-protocol-version", LEGACY.parse().unwrap());
    let request = reqwest::RequestBuilder::from_parts(mcp.http.clone(), request);
    assert_eq!(answer(request).await, (400, Some(-32020)));
    let legacy = mcp.clone().legacy();
    let mut request = legacy.request(&legacy.message("tools/list", json!({}))).build().unwrap();
    request.headers_mut().insert("mcp-protocol-version", "1999-01-01".parse().unwrap());
    let request = reqwest::RequestBuilder::from_parts(mcp.http.clone(), request);
    assert_eq!(answer(request).await.0, 400);
    // A revision that nobody speaks.
    let mut unknown = good.clone();
    unknown["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = "2099-01-01".into();
    let mut request = mcp.request(&unknown).build().unwrap();
    request.headers_mut().insert("mcp-protocol-version", "2099-01-01".parse().unwrap());
    let request = reqwest::RequestBuilder::from_parts(mcp.http.clone(), request);
    assert_eq!(answer(request).await, (400, Some(-32022)));
    // Methods and tools that do not exist.
    let nothing = mcp.message("prompts/list", json!({}));
    assert_eq!(answer(mcp.request(&nothing)).await, (404, Some(-32601)));
    let nobody = mcp.message("tools/call", json!({"name": "quetra_create_mandate"}));
    assert_eq!(answer(mcp.request(&nobody)).await.1, Some(-32602));
    // Bytes that are no message, and a body that is too long.
    for body in ["", "{", "[]", "null", "{\"jsonrpc\":\"2.0\"}", "\u{0}"] {
        let request = mcp.request(&good).body(body.to_owned());
        assert_eq!(answer(request).await.0, 400, "{body:?}");
    }
    let batch = json!([good, good]).to_string();
    assert_eq!(answer(mcp.request(&good).body(batch)).await, (400, Some(-32600)));
    let mut deep = "[".repeat(20_000);
    deep.push_str(&"]".repeat(20_000));
    assert_eq!(answer(mcp.request(&good).body(deep)).await, (400, Some(-32700)));
    // A call that is none.
    for params in [json!([]), json!({"name": 5}), json!({"name": "x", "arguments": []})] {
        let mut wrong = good.clone();
        wrong["method"] = json!("tools/call");
        wrong["params"] = params;
        assert_eq!(answer(mcp.request(&wrong)).await.1, Some(-32602), "{wrong}");
    }
    for length in [129 * 1024, 300 * 1024] {
        let mut huge = good.clone();
        huge["params"]["arguments"] = json!({"x": "x".repeat(length)});
        let (status, _) = answer(mcp.request(&huge)).await;
        assert_eq!(status, 413, "{length}");
    }
    // Media types.
    let request = mcp.request(&good).header("content-type", "text/plain");
    let mut request = request.build().unwrap();
    request.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    let request = reqwest::RequestBuilder::from_parts(mcp.http.clone(), request);
    assert_eq!(answer(request).await.0, 415);
    let mut request = mcp.request(&good).build().unwrap();
    request.headers_mut().insert("accept", "text/html".parse().unwrap());
    let request = reqwest::RequestBuilder::from_parts(mcp.http.clone(), request);
    assert_eq!(answer(request).await.0, 406);
    // And the server is none the worse for it.
    assert_eq!(answer(mcp.request(&good)).await, (200, None));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_at_once_are_all_decided_exactly() {
    const CALLS: i64 = 1_000;
    // The last of them waits for all the others, on a machine that has other things to do as well.
    let patient = |config: &mut ServerConfig| config.request_timeout = Duration::from_secs(120);
    let server = Server::with(patient, Arc::new(SystemClock)).await;
    let mut admin = server.admin().await;
    let (agent_id, _) = admin.agent_with_mandate(budget(CALLS * 10 / 2, 10), vec![]).await;
    let mcp = Mcp::new(&server, &agent_key(&mut admin, &agent_id).await);
    let spend = json!({"amount": 10, "vendor": "firecrawl.dev"});
    let calls = (0..CALLS).map(|_| mcp.data("quetra_evaluate", spend.clone()));
    let answers = futures::future::join_all(calls).await;
    let approved = answers.iter().filter(|answer| answer["approved"] == true).count();
    assert_eq!(approved, usize::try_from(CALLS / 2).unwrap());
    let left = mcp.data("quetra_check_budget", json!({})).await;
    assert_eq!(left["budget"]["remaining"], 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_many_clients_never_get_the_answer_of_another() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let mut clients = Vec::new();
    for total in 1..=8_i64 {
        let (agent_id, _) = admin.agent_with_mandate(budget(total * 1_000, 100), vec![]).await;
        clients.push((total * 1_000, Mcp::new(&server, &agent_key(&mut admin, &agent_id).await)));
    }
    // The same id of message for all of them, over the same pool of connections.
    let http = reqwest::Client::new();
    let message = clients[0].1.message("tools/call", json!({"name": "quetra_check_budget"}));
    let calls = (0..50).flat_map(|_| &clients).map(|(total, mcp)| {
        let mcp = Mcp { http: http.clone(), ..mcp.clone() };
        let request = mcp.request(&message);
        async move {
            let answer: Value = request.send().await.unwrap().json().await.unwrap();
            let found = &answer["result"]["structuredContent"]["budget"]["total"];
            assert_eq!(found, &json!(total), "{answer}");
        }
    });
    futures::future::join_all(calls).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_leaves_the_books_right() {
    let server = Server::start().await;
    let mcp = Mcp::of_agent(&server);
    let spend = |key: usize| {
        json!({"name": "quetra_evaluate", "arguments": {
            "amount": 10, "vendor": "firecrawl.dev", "category": "research",
            "intentKey": format!("hang-up-{key:04}"),
        }})
    };
    for key in 0..40 {
        let request = mcp.request(&mcp.message("tools/call", spend(key)));
        let patience = Duration::from_micros(200 * u64::try_from(key).unwrap());
        let _given_up = tokio::time::timeout(patience, request.send()).await;
    }
    // Clients of the revisions before say that they gave up; without sessions it is only heard.
    let legacy = mcp.clone().legacy();
    let params = json!({"requestId": 1, "reason": "the user changed his mind"});
    let mut cancelled = legacy.message("notifications/cancelled", params);
    cancelled.as_object_mut().unwrap().remove("id");
    assert_eq!(legacy.request(&cancelled).send().await.unwrap().status(), 202);
    // Whatever became of each, repeating it decides it once.
    for key in 0..40 {
        let answer = mcp.result("tools/call", spend(key)).await;
        assert_eq!(answer["structuredContent"]["approved"], true, "{answer}");
    }
    let left = mcp.data("quetra_check_budget", json!({})).await;
    assert_eq!(left["budget"]["spent"], 400);
    server.stop().await;
}
