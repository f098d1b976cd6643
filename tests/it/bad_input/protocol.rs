//! HTTP used otherwise than meant: methods, content types, sizes, encodings, heads, pipelines.
//!
//! Not here: gRPC's own framing (`frames`).

use serde_json::{Value, json};

use super::CANARY;
use super::server::Server;
use super::ways::{Answer, Way, connect};
use super::wire::{Call, Http1};
use crate::harness::unique;

const RPC: &str = "/quetra.v1.EvaluateService/Evaluate";
const PATH: &str = "/api/v1/gateway/evaluate";

fn spend(server: &Server) -> String {
    let spend = json!({
        "agentId": server.agent_id, "amount": 1, "currency": "USD", "vendor": "firecrawl.dev",
        "category": "research", "idempotencyKey": format!("http-{:08}", unique()),
    });
    spend.to_string()
}

fn good(server: &Server, path: &str) -> Call {
    let call = connect(&server.agent_key, "EvaluateService/Evaluate", spend(server));
    Call { path: path.to_owned(), ..call }
}

fn way_of(path: &str) -> Way {
    if path == RPC { Way::Connect } else { Way::Rest }
}

#[tokio::test]
async fn other_methods_and_media_are_refused_and_change_nothing() {
    let mut server = Server::start().await;
    let mut connection = Http1::connect(server.address).await;
    let before = server.state().await;
    for path in [RPC, PATH] {
        let call = good(&server, path);
        let method = |name: &str| Call { method: name.to_owned(), ..call.clone() };
        let media = |name: &str| call.clone().with("content-type", name);
        for (what, wrong, codes) in [
            ("GET", Call { body: Vec::new(), ..method("GET") }, [405, 405]),
            ("PUT", method("PUT"), [405, 405]),
            ("DELETE", method("DELETE"), [405, 405]),
            ("PATCH", method("PATCH"), [405, 405]),
            ("TRACE", Call { body: Vec::new(), ..method("TRACE") }, [405, 405]),
            ("OPTIONS", Call { body: Vec::new(), ..method("OPTIONS") }, [405, 405]),
            ("a method of our own", method("SPEND"), [405, 405]),
            ("a text", media("text/plain"), [415, 415]),
            ("a form", media("application/x-www-form-urlencoded"), [415, 415]),
            ("XML", media("application/xml"), [415, 415]),
            ("no content type", media(""), [415, 415]),
            ("gzip", call.clone().header("content-encoding", "gzip"), [501, 415]),
            ("two encodings", call.clone().header("content-encoding", "gzip, br"), [501, 415]),
        ] {
            let reply =
                connection.send(&wrong).await.unwrap_or_else(|why| panic!("{path} {what}: {why}"));
            let expected = if path == RPC { codes[0] } else { codes[1] };
            assert_eq!(reply.status, expected, "{path} {what}: {}", reply.everything());
            assert!(reply.header("access-control-allow-origin").is_empty(), "{path} {what}");
            let is_allowed = reply.status != 405 || !reply.header("allow").is_empty();
            assert!(is_allowed, "{path} {what}: no allow: {}", reply.everything());
            let leaked = reply.everything().contains(&server.agent_key);
            assert!(!leaked, "{path} {what}: the key comes back");
            assert_eq!(server.state().await, before, "{path} {what}");
        }
    }
    assert_eq!(server.log_complaints(), Vec::<String>::new());
    server.stop().await;
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_before_it_is_read() {
    let mut server = Server::start().await;
    let before = server.state().await;
    for path in [RPC, PATH] {
        let mut call = good(&server, path);
        for size in [256 * 1024 + 1, 5_000_000] {
            let padding = CANARY.repeat(size / CANARY.len() + 1);
            call.body = format!("{{\"description\":\"{padding}\"}}").into_bytes();
            let mut connection = Http1::connect(server.address).await;
            let reply = connection.send(&call).await.unwrap();
            let answer = Answer::read(way_of(path), &reply);
            let code = if path == RPC { 429 } else { 413 };
            let told = (answer.http, &*answer.reason);
            assert_eq!(told, (code, "MESSAGE_TOO_LARGE"), "{path} {size}: {answer:?}");
            assert!(!reply.everything().contains(CANARY), "{path} {size}");
        }
        assert_eq!(server.state().await, before, "{path}");
        // The largest that is read is read whole, and the connection serves on.
        let mut connection = Http1::connect(server.address).await;
        call.body = format!("{{\"description\":\"{}\"}}", "d".repeat(200 * 1024)).into_bytes();
        for _ in 0..2 {
            let reply = connection.send(&call).await.unwrap();
            assert_eq!(Answer::read(way_of(path), &reply).reason, "INVALID_FIELDS", "{path}");
        }
    }
    assert_eq!(server.log_complaints(), Vec::<String>::new());
    server.stop().await;
}

#[tokio::test]
async fn requests_in_one_go_are_answered_in_their_order() {
    let mut server = Server::start().await;
    let mut connection = Http1::connect(server.address).await;
    let (good_one, good_two) = (good(&server, RPC), good(&server, PATH));
    let wrong = Call { body: b"{".to_vec(), ..good_one.clone() };
    let health = Call::new("GET", "/healthz", "");
    let line = [&good_one, &wrong, &health, &good_two].map(Call::text).concat();
    let first = connection.raw(&line, false).await.unwrap();
    let mut codes = vec![first.status];
    for _ in 0..3 {
        codes.push(connection.next().await.unwrap().status);
    }
    assert_eq!(codes, [200, 400, 200, 200]);
    let answer: Value = serde_json::from_slice(&first.body).unwrap();
    assert_eq!(answer["decision"], "DECISION_APPROVED");
    let budget = server.ok("BudgetService/GetBudget", json!({"agentId": server.agent_id})).await;
    assert_eq!(budget["budget"]["spent"], "2");
    server.stop().await;
}

/// Heads that parsers disagree on; a proxy in front and this server must never do so.
fn ambiguous(server: &Server) -> Vec<(&'static str, Vec<u8>)> {
    let body = spend(server);
    let key = &server.agent_key;
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\n"
    );
    let length = body.len();
    let text = |lines: &str| format!("{head}{lines}\r\n{body}").into_bytes();
    vec![
        ("two lengths", text(&format!("content-length: {length}\r\ncontent-length: 5\r\n"))),
        ("a length with a sign", text(&format!("content-length: +{length}\r\n"))),
        ("a negative length", text("content-length: -1\r\n")),
        ("a length that is no number", text(&format!("content-length: {CANARY}\r\n"))),
        ("an encoding nobody knows", text("transfer-encoding: cow\r\n")),
        ("a broken chunk", text("transfer-encoding: chunked\r\n")),
        ("a space in a name", text(&format!("content-length : {length}\r\n"))),
        ("a folded line", text(&format!("x-folded: a\r\n b\r\ncontent-length: {length}\r\n"))),
        ("a bare line end", text(&format!("x-bare: a\rb\r\ncontent-length: {length}\r\n"))),
        ("NUL in a value", text(&format!("x-nul: a\0b\r\ncontent-length: {length}\r\n"))),
        ("no version", format!("GET /healthz\r\nhost: {CANARY}\r\n\r\n").into_bytes()),
        ("a version nobody knows", b"GET /healthz HTTP/9.9\r\nhost: a\r\n\r\n".to_vec()),
        ("no method", b" /healthz HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()),
        (
            "a path with a space",
            format!("GET /{CANARY} x HTTP/1.1\r\nhost: a\r\n\r\n").into_bytes(),
        ),
        ("no HTTP", format!("{CANARY}\r\n\r\n").into_bytes()),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello hello hello\r\n\r\n".to_vec()),
    ]
}

#[tokio::test]
async fn heads_that_parsers_disagree_on_are_refused() {
    let mut server = Server::start().await;
    let before = server.state().await;
    for (what, bytes) in ambiguous(&server) {
        let mut connection = Http1::connect(server.address).await;
        // Either a 400 or a closed connection; never an answer to a request nobody can agree on.
        if let Ok(reply) = connection.raw(&bytes, false).await {
            assert_eq!(reply.status, 400, "{what}: {}", reply.everything());
            assert!(!reply.everything().contains(CANARY), "{what}");
        }
        assert_eq!(server.state().await, before, "{what}");
        assert_eq!(server.log_complaints(), Vec::<String>::new(), "{what}");
    }
    // A length beside chunks: RFC 9112 lets a server refuse, or take the chunks and close.
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let both = format!(
        "POST {PATH} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n\
         {body}GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n",
        server.agent_key
    );
    let mut connection = Http1::connect(server.address).await;
    let reply = connection.raw(both.as_bytes(), false).await.unwrap();
    assert_eq!(reply.status, 400, "{}", reply.everything());
    assert_eq!(server.state().await, before);
    server.stop().await;
}

#[tokio::test]
async fn odd_paths_find_nothing() {
    let mut server = Server::start().await;
    let mut connection = Http1::connect(server.address).await;
    let before = server.state().await;
    let long = format!("/api/v1/agents/{CANARY}{}", "a".repeat(4_000));
    for (path, codes) in [
        ("/", &[404][..]),
        ("/api/v1", &[404]),
        ("/api/v1/", &[404]),
        ("//api/v1/agents", &[404]),
        ("/api/v1/../v1/agents", &[404]),
        ("/api/v1/%61gents", &[404]),
        ("/api/v1/agents/", &[404]),
        ("/api/v1/agents/..%2f..%2fetc%2fpasswd", &[400]),
        ("/api/v1/agents/%00", &[400]),
        ("/api/v1/agents/%ff%fe", &[400]),
        ("/api/v1/agents/%zz", &[400]),
        ("/api/v1/mandates/mdt_%0d%0aset-cookie:%20a=b", &[400]),
        ("/api/v1/agents?include=<script>", &[400]),
        (&long, &[400]),
        ("/.env", &[404]),
        ("/debug/pprof", &[404]),
        ("*", &[400, 404]),
        ("/quetra.v1.EvaluateService", &[404]),
        ("/quetra.v1.EvaluateService/", &[404]),
        ("/quetra.v1.EvaluateService/Evaluate/", &[404]),
    ] {
        let call = Call::new("GET", path, "");
        let call = call.header("authorization", &format!("Bearer {}", server.admin_key));
        let reply = connection.send(&call).await.unwrap_or_else(|why| panic!("{path}: {why}"));
        assert!(codes.contains(&reply.status), "{path}: {}", reply.everything());
        assert!(
            !reply.everything().contains("script>") && !reply.headers.contains_key("set-cookie")
        );
        assert!(!reply.everything().contains(CANARY), "{path}");
        if reply.header("connection") == "close" {
            connection = Http1::connect(server.address).await;
        }
    }
    let tunnel = Call::new("CONNECT", "169.254.169.254:80", "");
    let reply = connection.send(&tunnel).await;
    assert!(reply.is_err() || reply.is_ok_and(|reply| reply.status >= 400));
    assert_eq!(server.state().await, before);
    assert_eq!(server.log_complaints(), Vec::<String>::new());
    server.stop().await;
}
