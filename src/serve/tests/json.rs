//! The Connect protocol, as `curl` and the Connect clients use it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Value, json};

use super::*;

const GOOD: &str = r#"{"agentId":"agent","amount":"200","currency":"USD",
    "vendor":"firecrawl.dev","idempotencyKey":"key-0001"}"#;

async fn post(server: &Server, path: &str, body: impl Into<String>) -> (u16, Value) {
    let answer = reqwest::Client::new()
        .post(server.url(path))
        .header("content-type", "application/json")
        .body(body.into())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert!(answer.headers().contains_key("x-request-id"));
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    let code = answer.status().as_u16();
    (code, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
}

fn reason_of(error: &Value) -> &str {
    error["details"][0]["debug"]["reason"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_good_call_is_answered_in_canonical_json() {
    let server = Server::start().await;
    let (code, answer) = post(&server, EVALUATE, GOOD).await;
    assert_eq!(code, 200);
    assert_eq!(
        answer,
        json!({
            "decision": "DECISION_APPROVED",
            "state": "TRANSACTION_STATE_UNSPECIFIED",
            "transactionId": "tx_1",
            "mandateId": "",
            "mandateVersion": "9007199254740993",
            "ruleResults": [{
                "ruleType": "budget_total",
                "passed": true,
                "detail": "",
                "reason": "REJECTION_REASON_UNSPECIFIED",
                "remaining": "0",
                "retryable": false,
            }],
            "reasons": [],
            "explanation": "firecrawl.dev",
            "durability": "DURABILITY_UNSPECIFIED",
            "decidedAt": "2023-11-14T22:13:20.500Z",
            "replayed": false,
        })
    );
}

#[tokio::test]
async fn protobuf_bodies_work_too() {
    let server = Server::start().await;
    let answer = reqwest::Client::new()
        .post(server.url(EVALUATE))
        .header("content-type", "application/proto")
        .header("connect-protocol-version", "1")
        .header("connect-timeout-ms", "5000")
        .body(spend().encode_to_vec())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/proto");
    let answer = EvaluateResponse::decode(answer.bytes().await.unwrap()).unwrap();
    assert_eq!(answer.transaction_id, "tx_1");
}

#[tokio::test]
async fn an_error_has_its_details_as_bytes_and_readable() {
    let server = Server::start().await;
    let (code, error) = post(&server, LOOKUP, r#"{"idempotencyKey":"key-0001"}"#).await;
    assert_eq!(code, 404);
    assert_eq!(error["code"], "not_found");
    assert_eq!(error["message"], "nothing was decided with this key");
    assert_eq!(error["details"][0]["type"], "google.rpc.ErrorInfo");
    assert_eq!(
        error["details"][0]["debug"],
        json!({"reason": "NOT_FOUND", "domain": "quetra", "metadata": {"kind": "decision"}})
    );
    let bytes = STANDARD_NO_PAD.decode(error["details"][0]["value"].as_str().unwrap()).unwrap();
    assert_eq!(tonic_types::pb::ErrorInfo::decode(&*bytes).unwrap().reason, "NOT_FOUND");
    assert_eq!(error["details"][1]["debug"], json!({"retryDelay": "1.500s"}));
}

#[tokio::test]
async fn everything_that_is_wrong_is_listed_at_once() {
    let body = r#"{"agent_id":5,"amount":15.5,"currency":"usd","vendr":"x","protocol":"CASH",
        "metadata":{"a":1}}"#;
    let server = Server::start().await;
    let (code, error) = post(&server, EVALUATE, body).await;
    assert_eq!((code, reason_of(&error)), (400, "UNKNOWN_FIELDS"));
    let violations = error["details"][1]["debug"]["fieldViolations"].as_array().unwrap();
    let violations: Vec<String> = violations
        .iter()
        .map(|v| format!("{} {}", v["field"].as_str().unwrap(), v["description"].as_str().unwrap()))
        .collect();
    assert_eq!(
        violations,
        [
            "agent_id must be a string",
            "amount must be a whole number, as a JSON number or in quotes",
            "vendr is a field this server does not know",
            "protocol must be one of PROTOCOL_UNSPECIFIED, PROTOCOL_DIRECT, PROTOCOL_X402, \
             PROTOCOL_ACP, PROTOCOL_STRIPE_CC, PROTOCOL_AP2, PROTOCOL_CONNECTOR",
            "metadata[\"a\"] must be a string",
            "currency must match ^([A-Z]{3}|USDC)$",
            "vendor is required and must not be empty",
            "idempotency_key is required and must match ^[A-Za-z0-9_:.-]{8,128}$",
        ]
    );
}

#[tokio::test]
async fn bodies_that_are_not_the_message_are_refused() {
    let deep = format!("{{\"metadata\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let large = format!("{{\"description\":\"{}\"}}", "x".repeat(MESSAGE_BYTES_MAX));
    let cases = [
        ("", 400, "MALFORMED_REQUEST"),
        ("{", 400, "MALFORMED_REQUEST"),
        ("[]", 400, "MALFORMED_REQUEST"),
        ("{} {}", 400, "MALFORMED_REQUEST"),
        ("\u{feff}{}", 400, "MALFORMED_REQUEST"),
        (&deep, 400, "MALFORMED_REQUEST"),
        (&large, 429, "MESSAGE_TOO_LARGE"),
        ("{}", 400, "INVALID_FIELDS"),
        (r#"{"amount":1,"amount":2}"#, 400, "MALFORMED_REQUEST"),
        (r#"{"agentId":"a","agent_id":"b"}"#, 400, "MALFORMED_REQUEST"),
    ];
    let server = Server::start().await;
    for (body, code, word) in cases {
        let (answered, error) = post(&server, EVALUATE, body).await;
        assert_eq!((answered, reason_of(&error)), (code, word), "{:.40}", body);
    }
    assert_eq!(server.reached(), 0);
}

#[tokio::test]
async fn http_is_used_as_the_protocol_says() {
    let server = Server::start().await;
    let client = reqwest::Client::new();
    let answer = client.get(server.url(EVALUATE)).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["allow"]),
        (405, &"POST, OPTIONS".parse().unwrap())
    );

    for media in ["text/plain", "application/xml", "application/connect+json"] {
        let request = client.post(server.url(EVALUATE)).header("content-type", media);
        let answer = request.body("{}").send().await.unwrap();
        assert_eq!(answer.status(), 415, "{media}");
        assert!(answer.headers()["accept-post"].to_str().unwrap().contains("application/json"));
    }
    let cases = [
        ("content-encoding", "gzip", 501, "COMPRESSION_NOT_SUPPORTED"),
        ("connect-protocol-version", "2", 400, "MALFORMED_REQUEST"),
        ("connect-timeout-ms", "soon", 400, "MALFORMED_REQUEST"),
        ("connect-timeout-ms", "12345678901", 400, "MALFORMED_REQUEST"),
        ("connect-timeout-ms", "0", 504, "DEADLINE_EXCEEDED"),
    ];
    for (name, value, code, word) in cases {
        let request = client.post(server.url(EVALUATE)).header("content-type", "application/json");
        let answer = request.header(name, value).body(GOOD).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), code, "{name}: {value}");
        let error: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(reason_of(&error), word, "{name}: {value}");
    }
    assert_eq!(server.reached(), 0);
    let request = client.post(server.url(EVALUATE)).header("connect-timeout-ms", "9999999999");
    let request = request.header("content-type", "Application/JSON; charset=utf-8").body(GOOD);
    assert_eq!(request.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_unknown_method_says_so() {
    let server = Server::start().await;
    for path in ["/quetra.v1.EvaluateService/Nope", "/quetra.v1.Nope/Evaluate"] {
        let (code, error) = post(&server, path, "{}").await;
        assert_eq!((code, reason_of(&error)), (501, "UNKNOWN_METHOD"));
    }
}

#[tokio::test]
async fn a_stream_arrives_in_envelopes() {
    let server = Server::start().await;
    let watch = |service: &str| {
        reqwest::Client::new()
            .post(server.url("/grpc.health.v1.Health/Watch"))
            .header("content-type", "application/connect+json")
            .body(framed(json!({ "service": service }).to_string().as_bytes()))
            .send()
    };
    let mut answer = watch("").await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/connect+json");
    assert_eq!(answer.chunk().await.unwrap().unwrap(), framed(br#"{"status":"NOT_SERVING"}"#));
    server.health.set_service_status("", tonic_health::ServingStatus::Serving).await;
    assert_eq!(answer.chunk().await.unwrap().unwrap(), framed(br#"{"status":"SERVING"}"#));
}

#[tokio::test]
async fn a_stream_that_cannot_begin_ends_with_the_error_in_an_envelope() {
    let server = Server::start().await;
    for body in [vec![], vec![1, 0, 0, 0, 0], framed(b"{\"nope\":1}"), framed(b"{")] {
        let answer = reqwest::Client::new()
            .post(server.url("/grpc.health.v1.Health/Watch"))
            .header("content-type", "application/connect+json")
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let bytes = answer.bytes().await.unwrap();
        assert_eq!(bytes[0], 2);
        let end: Value = serde_json::from_slice(&bytes[5..]).unwrap();
        assert!(end["error"]["code"].is_string(), "{end}");
        assert_eq!(end["error"]["details"][0]["type"], "google.rpc.ErrorInfo");
    }
    let request = reqwest::Client::new().post(server.url("/grpc.health.v1.Health/Watch"));
    let request = request.header("content-type", "application/json").body("{}");
    assert_eq!(request.send().await.unwrap().status(), 415);
}

#[tokio::test]
async fn a_panic_is_an_internal_error() {
    let server = Server::start().await;
    let body = GOOD.replace("firecrawl.dev", "panic.example");
    let (code, error) = post(&server, EVALUATE, body).await;
    assert_eq!((code, reason_of(&error)), (500, "INTERNAL"));
}

#[tokio::test]
async fn other_paths_reach_the_other_router_with_security_headers() {
    let server = Server::start().await;
    let client = reqwest::Client::new();
    let answer = client.get(server.url("/healthz")).send().await.unwrap();
    assert_eq!(answer.headers()["x-frame-options"], "DENY");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert!(answer.headers().contains_key("x-request-id"));
    assert_eq!(answer.text().await.unwrap(), "ok");
    assert_eq!(client.get(server.url("/nope")).send().await.unwrap().status(), 404);
    assert_eq!(client.get(server.url("/panic")).send().await.unwrap().status(), 500);
    let large = vec![0; MESSAGE_BYTES_MAX + 1];
    let answer = client.post(server.url("/echo")).body(large).send().await.unwrap();
    assert_eq!(answer.status(), 413);
}
