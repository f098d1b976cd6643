//! Rows 1 to 14: bytes that are no gRPC call, on one connection that stays usable.
//!
//! Not here: messages that can be read and are wrong.

use prost_reflect::prost::Message as _;
use quetra::proto::v1;
use tonic::Code;

use super::CANARY;
use super::server::Server;
use super::ways::{Answer, Connections, Way, framed, grpc};
use super::wire::{Call, Http1, Http2};
use crate::harness::unique;

const EVALUATE: &str = "EvaluateService/Evaluate";
/// The largest message, as the server documents it.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;

fn spend(server: &Server) -> Vec<u8> {
    let request = v1::EvaluateRequest {
        agent_id: server.agent_id.clone(),
        amount: Some(1),
        currency: "USD".to_owned(),
        vendor: "firecrawl.dev".to_owned(),
        category: "research".to_owned(),
        idempotency_key: format!("frame-{:08}", unique()),
        ..Default::default()
    };
    request.encode_to_vec()
}

/// Number, what, headers that are replaced, the whole body, code and reason.
type Bad = (u16, &'static str, Vec<(&'static str, &'static str)>, Vec<u8>, Code, &'static str);

fn malformed(number: u16, what: &'static str, body: Vec<u8>) -> Bad {
    (number, what, Vec::new(), body, Code::InvalidArgument, "MALFORMED_REQUEST")
}

fn deep() -> Vec<u8> {
    // CreateMandateRequest would be the place for nesting; here any field 9 of a message nests.
    let mut deep = Vec::new();
    for _ in 0..10_000 {
        let mut outer = vec![0x4a];
        prost_reflect::prost::encode_length_delimiter(deep.len(), &mut outer).unwrap();
        outer.extend(deep);
        deep = outer;
    }
    deep
}

fn bad_frames(server: &Server) -> Vec<Bad> {
    let good = framed(&spend(server));
    let flagged = |flag: u8| [&[flag], &good[1..]].concat();
    let mut cut = framed(&[0; 100]);
    cut.truncate(60);
    let endless = [&[0, 0xff, 0xff, 0xff, 0xff], CANARY.as_bytes()].concat();
    let mut bad = vec![
        malformed(4, "no body", Vec::new()),
        malformed(5, "half a head", vec![0; 4]),
        malformed(5, "it ends early", cut),
        malformed(5, "an odd flag", flagged(7)),
        malformed(10, "two messages", [good.clone(), framed(&spend(server))].concat()),
    ];
    for (number, what, body) in [
        (8, "a length of 4 GB", endless),
        (8, "one byte too many", framed(&vec![0; MESSAGE_BYTES_MAX + 1])),
        (48, "5 MB", framed(&vec![b'x'; 5_000_000])),
    ] {
        let (code, reason) = (Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
        bad.push((number, what, Vec::new(), body, code, reason));
    }
    for encoding in ["", "gzip", "middle-out"] {
        let headers = vec![("grpc-encoding", encoding)];
        let (code, reason) = (Code::Unimplemented, "COMPRESSION_NOT_SUPPORTED");
        bad.push((9, "compressed", headers, flagged(1), code, reason));
    }
    let late = (Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    let malformed = (Code::InvalidArgument, "MALFORMED_REQUEST");
    for (number, timeout, (code, reason)) in
        [(11, "0n", late), (11, "0S", late), (13, "abc", malformed), (13, "-1S", malformed)]
    {
        let headers = vec![("grpc-timeout", timeout)];
        bad.push((number, "a timeout", headers, good.clone(), code, reason));
    }
    bad
}

fn bad_messages(server: &Server) -> Vec<Bad> {
    let good = spend(server);
    let text = |field: u8, bytes: &[u8]| {
        framed(&[&[field << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat())
    };
    let unknown = (Code::InvalidArgument, "UNKNOWN_FIELDS");
    vec![
        malformed(6, "half a number", framed(&[0x10, 0x80])),
        malformed(6, "a number of 11 bytes", framed(&[&[0x10], [0xff; 11].as_slice()].concat())),
        malformed(6, "a text that is a number", framed(&[0x08, 1])),
        malformed(6, "a number that is a text", text(2, CANARY.as_bytes())),
        malformed(6, "a text beyond the message", framed(&[0x0a, 0x7f, b'x'])),
        malformed(6, "not UTF-8", text(4, &[0xff, 0xfe])),
        malformed(6, "half a character", text(4, &[0xe2, 0x82])),
        malformed(6, "a surrogate", text(4, &[0xed, 0xa0, 0x80])),
        malformed(6, "an overlong character", text(4, &[0xc0, 0xaf])),
        malformed(6, "field 0", framed(&[0x00, 0x01])),
        malformed(6, "wire type 7", framed(&[0x0f, 0x01])),
        malformed(6, "a group without an end", framed(&[0x0b, 0x08, 0x01])),
        malformed(6, "a field twice", framed(&[good.as_slice(), &[0x10, 0x02]].concat())),
        (7, "10,000 levels", Vec::new(), framed(&deep()), unknown.0, unknown.1),
        (4, "an empty message", Vec::new(), framed(&[]), Code::InvalidArgument, "INVALID_FIELDS"),
    ]
}

#[tokio::test]
async fn bytes_that_are_no_message_cost_nothing_but_an_answer() {
    let mut server = Server::start().await;
    let mut connections = Connections::open(&server).await;
    let before = server.state().await;
    let rows = [bad_frames(&server), bad_messages(&server)].concat();
    for (number, what, headers, body, code, reason) in rows {
        let name = format!("row {number} ({what})");
        let mut call = grpc(&server.agent_key, EVALUATE, &[]);
        call.body = body;
        let call = headers.iter().fold(call, |call, (name, value)| call.with(name, value));
        let reply = connections.send(Way::Grpc, &call).await.expect(&name);
        let answer = Answer::read(Way::Grpc, &reply);
        let told = (answer.http, answer.code, &*answer.reason);
        assert_eq!(told, (200, code, reason), "{name}: {answer:?}");
        assert!(!answer.sentence.is_empty() && !reply.everything().contains(CANARY), "{name}");
        connections.is_usable(Way::Grpc, &server).await.expect(&name);
        assert_eq!(server.state().await, before, "{name}");
        assert_eq!(server.log_complaints(), Vec::<String>::new(), "{name}");
    }
    // 12: more time than anyone has is capped, not refused.
    let call = grpc(&server.agent_key, EVALUATE, &spend(&server)).with("grpc-timeout", "99999999H");
    let reply = connections.send(Way::Grpc, &call).await.unwrap();
    assert_eq!(Answer::read(Way::Grpc, &reply).code, Code::Ok);
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_grpc_call_gets_an_http_error() {
    let mut server = Server::start().await;
    let mut connection = Http2::connect(server.address).await;
    let before = server.state().await;
    let call = grpc(&server.agent_key, EVALUATE, &spend(&server));
    for (number, what, wrong, code) in [
        (1, "text", call.clone().with("content-type", "text/plain"), 415),
        (1, "another gRPC", call.clone().with("content-type", "application/grpc+thrift"), 415),
        (1, "a form", call.clone().with("content-type", "application/x-www-form-urlencoded"), 415),
        (1, "no content type", call.clone().with("content-type", ""), 415),
        (2, "no te", call.clone().with("te", ""), 400),
        (2, "GET", Call { method: "GET".to_owned(), body: Vec::new(), ..call.clone() }, 405),
        (2, "DELETE", Call { method: "DELETE".to_owned(), ..call.clone() }, 405),
    ] {
        let reply = connection.send(&wrong).await.unwrap();
        assert_eq!(reply.status, code, "row {number} ({what}): {}", reply.everything());
        assert_eq!(server.state().await, before, "row {number} ({what})");
    }
    let reply = connection.send(&call.clone().with("content-type", "application/json")).await;
    assert_eq!(reply.unwrap().status, 400, "row 1: frames are not JSON");
    let mut old = Http1::connect(server.address).await;
    let reply = old.send(&call).await.unwrap();
    assert_eq!(reply.status, 400, "row 2: {}", reply.everything());
    assert!(reply.everything().contains("HTTP/2"), "{}", reply.everything());
    for path in ["EvaluateService/Nope", "NopeService/Evaluate", "OrganizationService/RevealApiKey"]
    {
        // 3, and 93: there is no call that shows a key again.
        let reply = connection.send(&grpc(&server.admin_key, path, &[])).await.unwrap();
        let answer = Answer::read(Way::Grpc, &reply);
        assert_eq!(
            (answer.code, &*answer.reason),
            (Code::Unimplemented, "UNKNOWN_METHOD"),
            "{path}"
        );
    }
    assert_eq!(server.state().await, before);
    assert_eq!(server.log_complaints(), Vec::<String>::new());
    server.stop().await;
}

#[tokio::test]
async fn header_floods_are_refused_and_others_are_served() {
    let mut server = Server::start().await;
    let before = server.state().await;
    let call = grpc(&server.agent_key, EVALUATE, &spend(&server));
    let large = call.clone().header("x-large", &CANARY.repeat(400));
    let many = (0..1_000).fold(call, |call, n| call.header(&format!("x-{n}"), CANARY));
    for (what, flood) in [("18 KB", large), ("1,000 headers", many)] {
        let mut connection = Http2::connect(server.address).await;
        // 14: HTTP/2 says 431, or ends the stream or the connection; never is it served.
        if let Ok(reply) = connection.send(&flood).await {
            assert_eq!(reply.status, 431, "{what}: {}", reply.everything());
        }
        let mut old = Http1::connect(server.address).await;
        let plain = Call { path: "/healthz".to_owned(), method: "GET".to_owned(), ..flood };
        let plain = Call { body: Vec::new(), ..plain };
        let reply = old.send(&plain).await.unwrap();
        assert_eq!(reply.status, 431, "{what}: {}", reply.everything());
        assert_eq!(server.state().await, before, "{what}");
        assert_eq!(server.log_complaints(), Vec::<String>::new(), "{what}");
    }
    server.stop().await;
}
