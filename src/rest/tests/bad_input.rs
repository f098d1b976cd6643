//! What is wrong is refused with a code, a word, every field, and without a call where possible.
//!
//! Not here: bounds of values, which the contract's validation checks.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use super::Bench;

#[tokio::test]
async fn every_code_of_a_failure_has_its_http_code() {
    let cases = [
        (Code::InvalidArgument, "INVALID_FIELDS", 400),
        (Code::Unauthenticated, "CREDENTIAL_INVALID", 401),
        (Code::PermissionDenied, "ROLE_NOT_ALLOWED", 403),
        (Code::NotFound, "NOT_FOUND", 404),
        (Code::AlreadyExists, "ACTIVE_MANDATE_EXISTS", 409),
        (Code::Aborted, "VERSION_CONFLICT", 409),
        (Code::FailedPrecondition, "MANDATE_WRONG_STATUS", 409),
        (Code::ResourceExhausted, "MESSAGE_TOO_LARGE", 413),
        (Code::ResourceExhausted, "OVERLOADED", 429),
        (Code::Internal, "INTERNAL", 500),
        (Code::Unknown, "INTERNAL", 500),
        (Code::DataLoss, "RECORD_CORRUPT", 500),
        (Code::Unimplemented, "UNKNOWN_METHOD", 501),
        (Code::Unavailable, "STORE_UNAVAILABLE", 503),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", 504),
    ];
    for (code, reason, http) in cases {
        let bench = Bench::new();
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, "quetra", HashMap::new());
        let status = Status::with_error_details(code, "say what to do", details);
        bench.fake.fail("get_organization", status);
        let reply = bench.call("GET", "/organization", "").await;
        assert_eq!((reply.status.as_u16(), reply.reason()), (http, reason));
        let expected = json!({"error": "say what to do", "reason": reason, "details": []});
        assert_eq!(reply.body, expected);
        assert_eq!(reply.headers.contains_key("www-authenticate"), http == 401);
        assert_eq!(reply.headers.contains_key("retry-after"), http == 429);
    }
}

#[tokio::test]
async fn a_wait_is_rounded_up_to_whole_seconds() {
    let bench = Bench::new();
    let mut details = ErrorDetails::new();
    details.set_retry_info(Some(Duration::from_millis(1_200)));
    let status = Status::with_error_details(Code::Unavailable, "later", details);
    bench.fake.fail("get_organization", status);
    let reply = bench.call("GET", "/organization", "").await;
    assert_eq!(reply.headers["retry-after"], "2");
}

#[tokio::test]
async fn fields_of_the_contract_are_reported_under_their_rest_names() {
    let violation = |field: &str| FieldViolation::new(field, "is wrong");
    let status = |fields: &[&str]| {
        let mut details = ErrorDetails::new();
        details.set_bad_request(fields.iter().copied().map(violation).collect::<Vec<_>>());
        Status::with_error_details(Code::InvalidArgument, "wrong", details)
    };
    let bench = Bench::new();
    bench.fake.fail("create_mandate", status(&["agent_id", "rules[0].geo.allowed_countries[2]"]));
    let body = json!({"agentId": "x", "name": "m", "budget": {"total": 1, "perTransaction": 1,
                      "currency": "EUR"}});
    let reply = bench.call("POST", "/mandates", &body.to_string()).await;
    assert_eq!(reply.fields(), ["agentId", "rules[0].allowed[2]"]);
    assert_eq!(reply.body["details"][0]["description"], "is wrong");
    assert_eq!(reply.body["error"], "agentId: is wrong; rules[0].allowed[2]: is wrong");

    bench.fake.fail("evaluate", status(&["amount", "agent_id"]));
    let flat = r#"{"amount": 1, "vendor": "a.com", "currency": "EUR"}"#;
    let reply = bench.call("POST", "/gateway/evaluate", flat).await;
    assert_eq!(reply.fields(), ["amount", "agentId"]);
    let nested = format!(r#"{{"paymentRequest": {flat}}}"#);
    let reply = bench.call("POST", "/gateway/evaluate", &nested).await;
    assert_eq!(reply.fields(), ["paymentRequest.amount", "agentId"]);
}

#[tokio::test]
async fn an_amount_that_is_no_whole_number_is_refused_by_name() {
    let too_large = "9223372036854775808";
    for amount in ["1.5", "1.0", "1e2", "\"5\"", "true", "[1]", "{}", too_large, "1e400", "NaN"] {
        for (body, field) in [
            (format!(r#"{{"vendor": "a.com", "amount": {amount}}}"#), "amount"),
            (
                format!(r#"{{"paymentRequest": {{"vendor": "a.com", "amount": {amount}}}}}"#),
                "paymentRequest.amount",
            ),
        ] {
            let bench = Bench::new();
            let reply = bench.call("POST", "/gateway/evaluate", &body).await;
            assert_eq!((reply.status.as_u16(), reply.fields()), (400, vec![field]), "{body}");
            assert!(bench.fake.called().is_empty());
        }
    }
}

#[tokio::test]
async fn all_faults_are_reported_at_once() {
    let bench = Bench::new();
    let body = json!({
        "agentld": "x", "name": 5, "validUntil": "tomorrow",
        "budget": {"total": 1.5, "currency": "EUR", "resetInterval": {"period": "yearly"}},
        "rules": [
            {"type": "category", "allowed": ["a"], "days": [1]},
            {"type": "max_amount", "amount": "5"},
            {"type": "time_window", "days": [1, "2"], "startHour": 9.5, "endHour": 25,
             "timezone": "UTC"},
            {"type": "unheard_of"},
            {"type": "rate_limit", "windowMinutes": 5},
        ],
    });
    let reply = bench.call("POST", "/mandates", &body.to_string()).await;
    assert_eq!(reply.status, 400);
    let mut fields = reply.fields();
    fields.sort_unstable();
    let expected = [
        "agentId",
        "agentld",
        "budget.perTransaction",
        "budget.resetInterval.period",
        "budget.total",
        "name",
        "rules[0].days",
        "rules[1].amount",
        "rules[2].days[1]",
        "rules[2].endHour",
        "rules[2].startHour",
        "rules[3].type",
        "rules[4].maxTransactions",
        "validUntil",
    ];
    assert_eq!(fields, expected, "{reply:?}");
    assert!(bench.fake.called().is_empty());
}

#[tokio::test]
async fn unknown_fields_have_their_own_word_and_are_not_echoed_at_length() {
    let bench = Bench::new();
    let long = "x".repeat(10_000);
    let body = format!(r#"{{"amount": 1, "vendor": "a.com", "{long}\u0000": 1}}"#);
    let reply = bench.call("POST", "/gateway/evaluate", &body).await;
    assert_eq!((reply.status.as_u16(), reply.reason()), (400, "UNKNOWN_FIELDS"));
    assert!(reply.body.to_string().len() < 1_000);
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_refused() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let cases = [
        ("", "MALFORMED_REQUEST"),
        ("{", "MALFORMED_REQUEST"),
        (r#"{"amount": 1} x"#, "MALFORMED_REQUEST"),
        (r#"{"amount": 1} {}"#, "MALFORMED_REQUEST"),
        (r#"{"amount": 1, "amount": 2}"#, "MALFORMED_REQUEST"),
        (r#"{"metadata": {"a": "1", "a": "2"}}"#, "MALFORMED_REQUEST"),
        (r#"{"amount": 01}"#, "MALFORMED_REQUEST"),
        ("\u{feff}{}", "MALFORMED_REQUEST"),
        (deep.as_str(), "MALFORMED_REQUEST"),
        ("[]", "MALFORMED_REQUEST"),
        ("null", "MALFORMED_REQUEST"),
        ("5", "MALFORMED_REQUEST"),
        (r#"[1, "a"]"#, "MALFORMED_REQUEST"),
    ];
    for (body, reason) in cases {
        let bench = Bench::new();
        let reply = bench.call("POST", "/gateway/evaluate", body).await;
        let start: String = body.chars().take(40).collect();
        assert_eq!((reply.status.as_u16(), reply.reason()), (400, reason), "{start}");
        assert_eq!(reply.fields().len(), 1, "{start}");
        assert!(bench.fake.called().is_empty(), "{start}");
        assert!(reply.body.to_string().len() < 1_000, "{start}");
    }
    let twice = r#"{"amount": 1, "amount": 2}"#;
    let reply = Bench::new().call("POST", "/gateway/evaluate", twice).await;
    assert_eq!(reply.fields(), ["amount"]);
}

#[tokio::test]
async fn size_and_media_type_are_checked() {
    let bench = Bench::new();
    let large = format!(r#"{{"vendor": "{}"}}"#, "x".repeat(256 * 1024));
    let reply = bench.call("POST", "/gateway/evaluate", &large).await;
    assert_eq!((reply.status.as_u16(), reply.reason()), (413, "MESSAGE_TOO_LARGE"));

    for (name, value) in [
        ("content-type", "text/plain"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("accept", "application/json"),
    ] {
        let request = Request::post("/api/v1/gateway/evaluate")
            .header("authorization", "Bearer sk_test")
            .header(name, value);
        let reply = bench.send(request.body(Body::from("{}")).unwrap()).await;
        assert_eq!(reply.status, 415, "{name}: {value}");
    }
    let gzip = [("content-encoding", "gzip")];
    let reply = bench.call_with("POST", "/agents", "{}", &gzip).await;
    assert_eq!(reply.status, 415);
    assert!(bench.fake.called().is_empty());
}

#[tokio::test]
async fn unknown_paths_and_methods_answer_in_json() {
    let bench = Bench::new();
    for path in ["/", "", "/agent", "/agents/", "/agents/x/y", "/gateway/x402/pay"] {
        let reply = bench.call("GET", path, "").await;
        assert_eq!((reply.status.as_u16(), reply.reason()), (404, "UNKNOWN_METHOD"), "{path}");
    }
    for (method, path) in
        [("PUT", "/agents"), ("GET", "/gateway/evaluate"), ("POST", "/mandates/x")]
    {
        let reply = bench.call(method, path, "").await;
        assert_eq!((reply.status.as_u16(), reply.reason()), (405, "UNKNOWN_METHOD"), "{path}");
        assert!(reply.headers.contains_key("allow"), "{method} {path}");
    }
    let request = Request::get("/elsewhere").body(Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(bench.app.clone(), request).await.unwrap();
    assert_eq!(response.status(), 404);
    assert!(!response.headers().contains_key("content-type"));
}

#[tokio::test]
async fn without_a_credential_nothing_is_read() {
    let bench = Bench::new();
    let request = Request::post("/api/v1/gateway/evaluate").body(Body::from("{{{")).unwrap();
    let reply = bench.send(request).await;
    assert_eq!((reply.status.as_u16(), reply.reason()), (401, "CREDENTIAL_INVALID"));
    assert_eq!(reply.headers["www-authenticate"], "Bearer");
    assert!(bench.fake.called().is_empty());
}

#[tokio::test]
async fn a_body_that_never_ends_is_not_waited_for() {
    let times = crate::rest::Times { arrival: Duration::from_millis(20), ..crate::rest::TIMES };
    let bench = Bench::within(times);
    let body = futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
    let request = Request::post("/api/v1/gateway/evaluate")
        .header("authorization", "Bearer sk_test")
        .header("content-type", "application/json");
    let reply = bench.send(request.body(Body::from_stream(body)).unwrap()).await;
    assert_eq!((reply.status.as_u16(), reply.reason()), (504, "DEADLINE_EXCEEDED"));
    assert!(bench.fake.called().is_empty());
}

#[test]
fn every_path_names_an_rpc_of_the_contract() {
    let pool = prost_reflect::DescriptorPool::decode(crate::proto::DESCRIPTORS).unwrap();
    for route in crate::rest::routes::table() {
        let (service, method) = route.rpc.trim_start_matches('/').split_once('/').unwrap();
        let service = pool.get_service_by_name(service).unwrap();
        assert!(service.methods().any(|known| known.name() == method), "{}", route.rpc);
    }
}

#[tokio::test]
async fn two_credentials_are_passed_on_so_that_they_are_refused_there() {
    let bench = Bench::new();
    let second = [("authorization", "Bearer sk_other")];
    bench.call_with("GET", "/organization", "", &second).await;
    assert_eq!(bench.fake.metadata().get_all("authorization").iter().count(), 2);
}

#[tokio::test]
async fn contradictions_are_refused() {
    let bench = Bench::new();
    let body = json!({"agentId": "a", "idempotencyKey": "key-00000001", "amount": 1,
                      "paymentRequest": {"amount": 2, "vendor": "a.com"}});
    let headers = [("x-quetra-agent-id", "b"), ("idempotency-key", "key-00000002")];
    let reply = bench.call_with("POST", "/gateway/evaluate", &body.to_string(), &headers).await;
    assert_eq!(reply.fields(), ["amount", "agentId", "idempotencyKey"]);

    let twice = [("idempotency-key", "key-00000001"), ("idempotency-key", "key-00000001")];
    let reply = bench.call_with("POST", "/agents", r#"{"name": "a"}"#, &twice).await;
    assert_eq!((reply.status.as_u16(), reply.fields()), (400, vec!["idempotency-key"]));
    assert!(bench.fake.called().is_empty());
}

#[tokio::test]
async fn an_empty_key_or_currency_is_passed_on_and_never_replaced() {
    let bench = Bench::new();
    let body = r#"{"amount": 1, "vendor": "a.com", "currency": "", "idempotencyKey": ""}"#;
    bench.call("POST", "/gateway/evaluate", body).await;
    assert!(!bench.fake.called().contains(&"get_budget"));
}

#[tokio::test]
async fn queries_are_checked() {
    let bench = Bench::new();
    let cases = [
        ("/transactions?limit=0", "limit"),
        ("/transactions?limit=201", "limit"),
        ("/transactions?limit=-1", "limit"),
        ("/transactions?limit=+5", "limit"),
        ("/transactions?limit=1e2", "limit"),
        ("/transactions?limit=", "limit"),
        ("/transactions?offset=10001", "offset"),
        ("/transactions?decision=Approved", "decision"),
        ("/transactions?state=open", "state"),
        ("/transactions?since=yesterday", "since"),
        ("/transactions?agentld=x", "agentld"),
        ("/transactions?agentId=x&agentId=y", "agentId"),
        ("/agents?include=everything", "include"),
        ("/agents?status=gone", "status"),
        ("/gateway/mandate-token?agent=x", "agent"),
    ];
    for (path, field) in cases {
        let reply = bench.call("GET", path, "").await;
        assert_eq!((reply.status.as_u16(), reply.fields()), (400, vec![field]), "{path}");
    }
    let reply = bench.call("GET", "/transactions?limit=0&state=x&y=1", "").await;
    assert_eq!(reply.fields(), ["y", "limit", "state"]);
    assert!(bench.fake.called().is_empty());
}

#[tokio::test]
async fn what_is_not_served_yet_says_so() {
    let bench = Bench::new();
    let body =
        r#"{"agent": "researcher", "name": "m", "budget": {"total": 1, "perTransaction": 1}}"#;
    let reply = bench.call("POST", "/mandates", body).await;
    assert_eq!((reply.status.as_u16(), reply.fields()), (400, vec!["agent"]));
    assert!(bench.fake.called().is_empty());
}

#[tokio::test]
async fn a_body_where_none_is_taken_is_refused_if_it_says_something() {
    let bench = Bench::new();
    let reply = bench.call("POST", "/transactions/tx_1/void", r#"{"amount": 5}"#).await;
    assert_eq!((reply.status.as_u16(), reply.fields()), (400, vec!["amount"]));
    assert!(bench.fake.called().is_empty());
}

#[tokio::test]
async fn a_path_that_is_not_utf8_is_refused() {
    let reply = Bench::new().call("GET", "/agents/%ff", "").await;
    assert_eq!((reply.status.as_u16(), reply.fields()), (400, vec!["id"]));
}

#[tokio::test]
async fn bounds_of_the_contract_are_reported_all_at_once_under_their_rest_names() {
    let rules = json!([
        {"type": "vendor_allowlist", "allowed": []},
        {"type": "time_window", "days": [7], "start": "9:00", "endHour": 17, "timezone": "UTC"},
        {"type": "geo", "blocked": ["hr"]},
    ]);
    let mandate = json!({"agentId": "", "name": "m", "rules": rules,
        "budget": {"total": -1, "perTransaction": 1, "currency": "euro"}});
    let cases = [
        (
            "POST",
            "/mandates",
            mandate,
            vec![
                "agentId",
                "budget.currency",
                "budget.total",
                "rules[0].allowed",
                "rules[1].days[0]",
                "rules[1].start",
                "rules[2].blocked[0]",
            ],
        ),
        (
            "POST",
            "/gateway/evaluate",
            json!({"idempotencyKey": "short", "currency": ""}),
            vec!["amount", "currency", "idempotencyKey", "vendor"],
        ),
        (
            "POST",
            "/gateway/evaluate",
            json!({"paymentRequest": {"amount": -1, "vendor": "a.com", "metadata": {"": "x"}}}),
            vec!["paymentRequest.amount", "paymentRequest.metadata[\"\"]"],
        ),
        ("PATCH", "/mandates/m/budget", json!({"total": 0}), vec!["total"]),
        ("POST", "/transactions/t/settle", json!({"amount": 0}), vec!["amount"]),
    ];
    for (method, path, body, expected) in cases {
        let reply = Bench::new().call(method, path, &body.to_string()).await;
        assert_eq!((reply.status.as_u16(), reply.reason()), (400, "INVALID_FIELDS"), "{reply:?}");
        let mut fields = reply.fields();
        fields.sort_unstable();
        assert_eq!(fields, expected, "{reply:?}");
    }
}
