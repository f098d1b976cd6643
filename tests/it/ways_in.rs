//! The same story through every way in: approve, reject with every rule's result, budget, record.
//!
//! And what stands beside the calls on the one port: reflection, health, metrics, the OpenAPI
//! document and CORS. An orderly end with calls in flight is in `ways_in/end`. Not here: bad input.

mod browser;
mod end;

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage};
use quetra::clock::SystemClock;
use quetra::proto::v1::{self, Decision};
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1 as reflection, v1alpha as reflection_alpha};

use crate::harness::{Server, ask};

const EVALUATE: &str = "EvaluateService/Evaluate";
/// What is public, said without asking the code.
const SERVICES: [&str; 9] = [
    "quetra.v1.AgentsService",
    "quetra.v1.ApprovalsService",
    "quetra.v1.AuditService",
    "quetra.v1.BudgetService",
    "quetra.v1.EvaluateService",
    "quetra.v1.MandatesService",
    "quetra.v1.OrganizationService",
    "quetra.v1.TransactionsService",
    "quetra.v1.WebhooksService",
];

/// How a message travels where there is no generated client.
#[derive(Clone, Copy, Debug)]
enum Way {
    GrpcWeb,
    GrpcWebText,
    ConnectJson,
    ConnectProto,
}

impl Way {
    const fn media(self) -> &'static str {
        match self {
            Self::GrpcWeb => "application/grpc-web+proto",
            Self::GrpcWebText => "application/grpc-web-text",
            Self::ConnectJson => "application/json",
            Self::ConnectProto => "application/proto",
        }
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], length.as_slice(), message].concat()
}

/// The message and the trailers of a gRPC-Web body.
fn unframed(mut body: &[u8]) -> (Vec<u8>, String) {
    let (mut message, mut trailers) = (Vec::new(), String::new());
    while let Some((head, rest)) = body.split_at_checked(5) {
        let length = u32::from_be_bytes(head[1..].try_into().unwrap());
        let (content, rest) = rest.split_at(usize::try_from(length).unwrap());
        match head[0] {
            0 => message = content.to_vec(),
            0x80 => trailers = String::from_utf8(content.to_vec()).unwrap(),
            flag => panic!("an odd flag: {flag}"),
        }
        body = rest;
    }
    (message, trailers)
}

/// Base64 whose parts were encoded one by one, so that padding can stand in the middle.
fn decoded(text: &[u8]) -> Vec<u8> {
    assert_eq!(text.len() % 4, 0);
    text.chunks(4).flat_map(|quad| STANDARD.decode(quad).unwrap()).collect()
}

fn dynamic(name: &str, bytes: &[u8]) -> DynamicMessage {
    let pool = DescriptorPool::decode(quetra::proto::DESCRIPTORS).unwrap();
    DynamicMessage::decode(pool.get_message_by_name(name).unwrap(), bytes).unwrap()
}

fn from_json<M: Message + Name + Default>(json: Value) -> M {
    let pool = DescriptorPool::decode(quetra::proto::DESCRIPTORS).unwrap();
    let descriptor = pool.get_message_by_name(&M::full_name()).unwrap();
    let message = DynamicMessage::deserialize(descriptor, json).unwrap();
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

/// One call by plain HTTP.
async fn call<Q, A>(server: &Server, way: Way, rpc: &str, request: &Q) -> A
where
    Q: Message + Name,
    A: Message + Name + Default,
{
    let bytes = request.encode_to_vec();
    let body = match way {
        Way::GrpcWeb => framed(&bytes),
        Way::GrpcWebText => STANDARD.encode(framed(&bytes)).into_bytes(),
        Way::ConnectJson => serde_json::to_vec(&dynamic(&Q::full_name(), &bytes)).unwrap(),
        Way::ConnectProto => bytes,
    };
    let answer = reqwest::Client::new()
        .post(format!("{}/quetra.v1.{rpc}", server.url()))
        .bearer_auth(&server.first.agent_key)
        .header("content-type", way.media())
        .header("accept", way.media())
        .header("x-grpc-web", "1")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200, "{way:?} {rpc}");
    let media = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(media.starts_with(way.media()), "{way:?}: {media}");
    let body = answer.bytes().await.unwrap();
    let message = match way {
        Way::ConnectJson => return from_json(serde_json::from_slice(&body).unwrap()),
        Way::ConnectProto => body.to_vec(),
        Way::GrpcWeb | Way::GrpcWebText => {
            let body = if matches!(way, Way::GrpcWeb) { body.to_vec() } else { decoded(&body) };
            let (message, trailers) = unframed(&body);
            assert!(trailers.contains("grpc-status:0"), "{way:?}: {trailers}");
            message
        }
    };
    A::decode(message.as_slice()).unwrap()
}

fn unwanted(agent_id: &str) -> v1::EvaluateRequest {
    v1::EvaluateRequest {
        vendor: "netflix.com".to_owned(),
        category: "entertainment".to_owned(),
        ..ask(agent_id, 50_000)
    }
}

/// The story, as the contract tells it.
fn told(
    (yes, no): (&v1::EvaluateResponse, &v1::EvaluateResponse),
    budget: &v1::GetBudgetResponse,
    listed: &v1::ListTransactionsResponse,
) {
    assert_eq!(yes.decision(), Decision::Approved);
    assert!(yes.rule_results.iter().all(|result| result.passed), "{yes:?}");
    assert_eq!(yes.budget.as_ref().unwrap().remaining, 9_800);
    assert_eq!(no.decision(), Decision::Rejected);
    let results: Vec<_> =
        no.rule_results.iter().map(|result| (&*result.rule_type, result.passed)).collect();
    assert_eq!(
        results,
        [
            ("currency_mismatch", true),
            ("budget_per_tx", false),
            ("budget_total", false),
            ("category", false),
            ("vendor_allowlist", false),
            ("vendor_cap", true),
            ("rate_limit", true),
        ]
    );
    assert!(no.rule_results.iter().all(|result| !result.detail.is_empty()));
    assert_eq!(no.reasons.len(), 4);
    let left = budget.budget.as_ref().unwrap();
    assert_eq!((left.total, left.spent, left.remaining), (10_000, 200, 9_800));
    let ids: Vec<_> = listed.transactions.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(ids, [no.transaction_id.as_str(), yes.transaction_id.as_str()]);
    assert_eq!(listed.total, Some(2));
}

fn all() -> v1::ListTransactionsRequest {
    v1::ListTransactionsRequest { include_total: true, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_is_the_same_through_a_generated_client() {
    let server = Server::start().await;
    let mut agent = server.agent().await;
    let yes = agent.spend(ask(&server.agent_id(), 200)).await;
    let no = agent.spend(unwanted(&server.agent_id())).await;
    let budget = agent.budget.get_budget(v1::GetBudgetRequest::default()).await.unwrap();
    let listed = agent.transactions.list_transactions(all()).await.unwrap();
    told((&yes, &no), budget.get_ref(), listed.get_ref());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_is_the_same_through_grpc_web_and_connect() {
    for way in [Way::GrpcWeb, Way::GrpcWebText, Way::ConnectJson, Way::ConnectProto] {
        let server = Server::start().await;
        let (good, bad) = (ask(&server.agent_id(), 200), unwanted(&server.agent_id()));
        let yes = call(&server, way, EVALUATE, &good).await;
        let no = call(&server, way, EVALUATE, &bad).await;
        let whose = v1::GetBudgetRequest::default();
        let budget = call(&server, way, "BudgetService/GetBudget", &whose).await;
        let rpc = "TransactionsService/ListTransactions";
        told((&yes, &no), &budget, &call(&server, way, rpc, &all()).await);
        server.stop().await;
    }
}

/// One REST request; status and body.
async fn rest(server: &Server, method: &str, path: &str, body: Value) -> (u16, Value) {
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let url = format!("{}/api/v1{path}", server.url());
    let mut request = reqwest::Client::new().request(method, url);
    request = request.bearer_auth(&server.first.agent_key);
    if !body.is_null() {
        request = request.header("x-quetra-agent-id", server.agent_id()).json(&body);
    }
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_is_the_same_through_both_published_rest_bodies() {
    for is_nested in [false, true] {
        let server = Server::start().await;
        let body = |spend: Value| match is_nested {
            false => spend,
            true => json!({"mandateId": server.first.mandate_id, "paymentRequest": spend}),
        };
        let yes = json!({"amount": 200, "vendor": "firecrawl.dev", "category": "research"});
        let no = json!({"amount": 50_000, "vendor": "netflix.com", "category": "entertainment"});
        let (code, asked) = rest(&server, "POST", "/gateway/can-spend", body(no.clone())).await;
        assert_eq!((code, &asked["decision"]), (200, &json!("rejected")), "{asked}");
        let (code, yes) = rest(&server, "POST", "/gateway/evaluate", body(yes)).await;
        assert_eq!((code, &yes["decision"]), (200, &json!("approved")), "{yes}");
        assert_eq!(yes["remainingBudget"], 9_800, "{yes}");
        assert_eq!(yes["budgetRemaining"], 9_800, "{yes}");
        let (code, no) = rest(&server, "POST", "/gateway/evaluate", body(no)).await;
        assert_eq!((code, &no["decision"]), (403, &json!("rejected")), "{no}");
        assert_eq!(no["evaluations"].as_array().unwrap().len(), 7, "{no}");
        let failed: Vec<_> = no["reasons"].as_array().unwrap().iter().collect();
        let failed: Vec<_> = failed.iter().map(|reason| reason["ruleType"].as_str()).collect();
        let expected = ["budget_per_tx", "budget_total", "category", "vendor_allowlist"];
        assert_eq!(failed, expected.map(Some));
        assert!(no["evaluationDurationMs"].is_number() && yes["explanation"].is_string());
        let (code, token) = rest(&server, "GET", "/gateway/mandate-token", Value::Null).await;
        let budget = &token["budget"];
        assert_eq!(
            (code, &budget["spent"], &budget["remaining"]),
            (200, &json!(200), &json!(9_800))
        );
        let (code, listed) = rest(&server, "GET", "/transactions?limit=10", Value::Null).await;
        assert_eq!((code, &listed["total"]), (200, &json!(2)));
        let ids = listed["transactions"].as_array().unwrap().iter().map(|record| &record["id"]);
        assert_eq!(ids.collect::<Vec<_>>(), [&no["transactionId"], &yes["transactionId"]]);
        server.stop().await;
    }
}

async fn channel(server: &Server) -> Channel {
    Channel::from_shared(server.url()).unwrap().connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_exactly_the_public_services_in_both_versions() {
    let server = Server::start().await;
    let channel = channel(&server).await;
    macro_rules! listed {
        ($version:ident, $own:literal) => {{
            use $version::server_reflection_request::MessageRequest;
            use $version::server_reflection_response::MessageResponse;
            let ask = |request| $version::ServerReflectionRequest {
                host: String::new(),
                message_request: Some(request),
            };
            let requests = [
                ask(MessageRequest::ListServices(String::new())),
                ask(MessageRequest::FileContainingSymbol(SERVICES[2].to_owned())),
            ];
            let client =
                $version::server_reflection_client::ServerReflectionClient::new(channel.clone());
            let stream = tokio_stream::iter(requests);
            let answers = client.clone().server_reflection_info(stream).await.unwrap();
            let mut answers = answers.into_inner();
            let first = answers.message().await.unwrap().unwrap().message_response;
            let Some(MessageResponse::ListServicesResponse(list)) = first else {
                panic!("{first:?}");
            };
            let second = answers.message().await.unwrap().unwrap().message_response;
            let Some(MessageResponse::FileDescriptorResponse(files)) = second else {
                panic!("{second:?}");
            };
            assert!(!files.file_descriptor_proto.is_empty());
            let names: BTreeSet<_> = list.service.into_iter().map(|s| s.name).collect();
            let ours = SERVICES.into_iter().chain(["grpc.health.v1.Health", $own]);
            assert_eq!(names, ours.map(str::to_owned).collect());
        }};
    }
    listed!(reflection, "grpc.reflection.v1.ServerReflection");
    listed!(reflection_alpha, "grpc.reflection.v1alpha.ServerReflection");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_metrics_say_that_the_server_serves() {
    let server = Server::start().await;
    let mut health = HealthClient::new(channel(&server).await);
    for service in [""].into_iter().chain(SERVICES) {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request.clone()).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
        let mut watched = health.watch(request).await.unwrap().into_inner();
        let first = watched.message().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving, "{service}");
    }
    let unknown = HealthCheckRequest { service: "quetra.v1.Nope".to_owned() };
    assert_eq!(health.check(unknown).await.unwrap_err().code(), tonic::Code::NotFound);
    server.agent().await.spend(ask(&server.agent_id(), 200)).await;
    let get = async |path: &str| {
        let answer = reqwest::get(format!("{}{path}", server.url())).await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let media = answer.headers()["content-type"].to_str().unwrap().to_owned();
        (media, answer.text().await.unwrap())
    };
    assert_eq!(get("/healthz").await.1, "ok\n");
    assert_eq!(get("/readyz").await.1, "ready\n");
    let (media, metrics) = get("/metrics").await;
    assert!(media.starts_with("text/plain; version=0.0.4"), "{media}");
    assert!(metrics.contains("quetra_decisions_total{decision=\"approved\"} "), "{metrics}");
    for line in metrics.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let value = line.rsplit(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(!line.contains("sk_") && !line.contains("firecrawl"), "{line}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document_describes_paths_that_exist() {
    let server = Server::start().await;
    let answer = reqwest::get(format!("{}/openapi.json", server.url())).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    let document: Value = answer.json().await.unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."), "{document}");
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let method = method.to_uppercase();
            let full = path.strip_prefix("/api/v1").unwrap_or(path);
            described.insert(format!("{method} {full}"));
            let url = format!("{}/api/v1{}", server.url(), full.replace(['{', '}'], "x"));
            let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
            let answer = reqwest::Client::new().request(method, url).send().await.unwrap();
            // It asks who is there, so it exists.
            assert_eq!(answer.status(), 401, "{full}");
        }
    }
    for published in [
        "POST /agents",
        "GET /agents",
        "GET /agents/{id}",
        "PATCH /agents/{id}",
        "DELETE /agents/{id}",
        "POST /mandates",
        "GET /mandates",
        "GET /mandates/{id}",
        "PATCH /mandates/{id}",
        "DELETE /mandates/{id}",
        "POST /mandates/{id}/activate",
        "POST /mandates/{id}/pause",
        "POST /mandates/{id}/resume",
        "POST /mandates/{id}/revoke",
        "PATCH /mandates/{id}/budget",
        "POST /gateway/evaluate",
        "POST /gateway/can-spend",
        "GET /gateway/mandate-token",
        "GET /transactions",
        "GET /transactions/{id}",
        "POST /transactions/{id}/settle",
        "POST /transactions/{id}/void",
        "POST /transactions/{id}/refund",
        "PATCH /organization",
        "POST /organization/freeze",
        "POST /organization/unfreeze",
        "POST /api-keys",
        "GET /api-keys",
        "DELETE /api-keys/{id}",
    ] {
        assert!(described.contains(published), "{published} is missing: {described:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_listed_origins_may_call_and_no_others() {
    const OURS: &str = "https://console.example.com";
    let listed = |config: &mut quetra::config::ServerConfig| {
        config.cors_allowed_origins = vec![OURS.to_owned()];
    };
    let server = Server::with(listed, Arc::new(SystemClock)).await;
    let url = format!("{}/quetra.v1.{EVALUATE}", server.url());
    for (origin, allowed) in [(OURS, Some(OURS)), ("https://evil.example", None), ("null", None)] {
        let preflight = reqwest::Client::new()
            .request(reqwest::Method::OPTIONS, &url)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type,x-grpc-web")
            .send()
            .await
            .unwrap();
        let answer = reqwest::Client::new()
            .post(&url)
            .header("origin", origin)
            .header("content-type", "application/grpc-web+proto")
            .body(framed(&[]))
            .send()
            .await
            .unwrap();
        for answer in [preflight, answer] {
            let told = answer.headers().get("access-control-allow-origin");
            assert_eq!(told.map(|value| value.to_str().unwrap()), allowed, "{origin}");
            assert!(!answer.headers().contains_key("access-control-allow-credentials"));
        }
    }
    server.stop().await;
}
