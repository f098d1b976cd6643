//! gRPC: the bad-input catalogue, byte by byte, on one connection that stays usable.

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, StatusCode};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_reflection::pb::{v1, v1alpha};

use super::*;
use crate::grpc::SERVICE_NAMES;
use crate::proto::v1::evaluate_service_client::EvaluateServiceClient;

/// One HTTP/2 connection, driven by hand.
struct Raw {
    sender: SendRequest<Bytes>,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

struct Answer {
    http: StatusCode,
    headers: HeaderMap,
    status: Option<Status>,
}

impl Raw {
    async fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async {
            let _ = connection.await;
        });
        Self { sender, address: server.address, _tasks: tasks }
    }

    fn request(&self, path: &str, headers: &[(&str, &str)]) -> http::request::Builder {
        let uri = format!("http://{}{path}", self.address);
        let mut request = http::Request::post(uri).version(http::Version::HTTP_2);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request
    }

    async fn send(&mut self, request: http::request::Builder, body: &[u8]) -> Option<Answer> {
        let mut sender = self.sender.clone().ready().await.ok()?;
        let (answer, mut stream) =
            sender.send_request(request.body(()).unwrap(), body.is_empty()).ok()?;
        if !body.is_empty() {
            let _ = stream.send_data(Bytes::copy_from_slice(body), true);
        }
        let (parts, mut incoming) = answer.await.ok()?.into_parts();
        while let Some(data) = incoming.data().await {
            let Ok(data) = data else { break };
            let _ = incoming.flow_control().release_capacity(data.len());
        }
        let trailers = incoming.trailers().await.ok().flatten().unwrap_or_default();
        let status =
            Status::from_header_map(&parts.headers).or_else(|| Status::from_header_map(&trailers));
        Some(Answer { http: parts.status, headers: parts.headers, status })
    }

    async fn call(&mut self, extra: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut headers = vec![("content-type", "application/grpc"), ("te", "trailers")];
        headers.extend(extra);
        let request = self.request(EVALUATE, &headers);
        self.send(request, body).await.unwrap()
    }
}

async fn client(server: &Server) -> EvaluateServiceClient<tonic::transport::Channel> {
    EvaluateServiceClient::connect(server.url("")).await.unwrap()
}

#[tokio::test]
async fn a_good_call_is_answered() {
    let server = Server::start().await;
    let answer = client(&server).await.evaluate(spend()).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap().len(), 16);
    assert_eq!(answer.into_inner().transaction_id, "tx_1");
}

/// A call that must be refused, and how.
struct Bad {
    name: &'static str,
    header: Option<(&'static str, &'static str)>,
    body: Vec<u8>,
    code: Code,
    word: &'static str,
}

fn bad(name: &'static str, body: Vec<u8>, code: Code, word: &'static str) -> Bad {
    Bad { name, header: None, body, code, word }
}

fn malformed(name: &'static str, body: Vec<u8>) -> Bad {
    bad(name, body, Code::InvalidArgument, "MALFORMED_REQUEST")
}

fn bad_frames() -> Vec<Bad> {
    let good = framed(&spend().encode_to_vec());
    let twice = [good.clone(), good.clone()].concat();
    let mut cut = framed(&[0; 100]);
    cut.truncate(40);
    let with_flag = |flag| [&[flag], &good[1..]].concat();
    let oversized = framed(&vec![0; MESSAGE_BYTES_MAX + 1]);
    let no_compression = "COMPRESSION_NOT_SUPPORTED";
    vec![
        malformed("empty body", vec![]),
        malformed("short head", vec![0; 4]),
        malformed("ends early", cut),
        malformed("odd flag", with_flag(7)),
        malformed("two messages", twice),
        bad("too large", oversized, Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
        bad("compressed", with_flag(1), Code::Unimplemented, no_compression),
        Bad {
            header: Some(("grpc-encoding", "gzip")),
            ..bad("gzip", with_flag(1), Code::Unimplemented, no_compression)
        },
    ]
}

fn bad_messages() -> Vec<Bad> {
    let unknown = [spend().encode_to_vec(), vec![0xf8, 0x06, 0x01]].concat();
    let mut deep = Vec::new();
    for _ in 0..10_000 {
        let mut outer = vec![0x4a];
        prost::encode_length_delimiter(deep.len(), &mut outer).unwrap();
        outer.extend(deep);
        deep = outer;
    }
    vec![
        malformed("truncated varint", framed(&[0x10, 0x80])),
        malformed("wrong wire type", framed(&[0x08, 1])),
        malformed("not UTF-8", framed(&[0x0a, 1, 0xff])),
        bad("10,000 deep", framed(&deep), Code::InvalidArgument, "UNKNOWN_FIELDS"),
        bad("invalid", framed(&[]), Code::InvalidArgument, "INVALID_FIELDS"),
        bad("unknown", framed(&unknown), Code::InvalidArgument, "UNKNOWN_FIELDS"),
    ]
}

fn bad_times() -> Vec<Bad> {
    let good = framed(&spend().encode_to_vec());
    let no_time = bad("no time", good.clone(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    vec![
        Bad { header: Some(("grpc-timeout", "0n")), ..no_time },
        Bad { header: Some(("grpc-timeout", "abc")), ..malformed("no timeout", good) },
    ]
}

#[tokio::test]
async fn every_bad_call_is_refused_and_the_connection_stays_usable() {
    let server = Server::start().await;
    let mut raw = Raw::connect(&server).await;
    for bad in [bad_frames(), bad_messages(), bad_times()].into_iter().flatten() {
        let name = bad.name;
        let answer = raw.call(bad.header.as_slice(), &bad.body).await;
        assert_eq!(answer.http, StatusCode::OK, "{name}");
        let status = answer.status.expect(name);
        assert_eq!((status.code(), &*reason(&status)), (bad.code, bad.word), "{name}: {status:?}");
        assert!(!status.message().is_empty(), "{name}");
        assert!(answer.headers.contains_key("x-request-id"), "{name}");
    }
    assert_eq!(server.reached(), 0);
    let good = framed(&spend().encode_to_vec());
    let answer = raw.call(&[("grpc-timeout", "99999999H")], &good).await;
    assert_eq!(answer.status.unwrap().code(), Code::Ok);
    assert_eq!(server.reached(), 1);
}

#[tokio::test]
async fn what_is_no_grpc_call_gets_an_http_error() {
    let server = Server::start().await;
    let mut raw = Raw::connect(&server).await;
    for (media, code) in [("text/plain", 415), ("application/grpc+json", 415), ("", 415)] {
        let request = raw.request(EVALUATE, &[("content-type", media), ("te", "trailers")]);
        let answer = raw.send(request, &framed(&[])).await.unwrap();
        assert_eq!(answer.http.as_u16(), code, "{media}");
    }
    let without_te = raw.request(EVALUATE, &[("content-type", "application/grpc")]);
    assert_eq!(raw.send(without_te, &framed(&[])).await.unwrap().http, 400);
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let get = raw.request(EVALUATE, &headers).method("GET");
    assert_eq!(raw.send(get, &[]).await.unwrap().http, 405);

    let over_http1 = reqwest::Client::new().post(server.url(EVALUATE));
    let over_http1 = over_http1.header("content-type", "application/grpc").header("te", "trailers");
    assert_eq!(over_http1.send().await.unwrap().status(), 400);
    assert_eq!(server.reached(), 0);
}

#[tokio::test]
async fn an_unknown_method_or_service_is_unimplemented() {
    let server = Server::start().await;
    let mut raw = Raw::connect(&server).await;
    for path in ["/quetra.v1.EvaluateService/Nope", "/quetra.v1.Nope/Evaluate", "/nope"] {
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        let request = raw.request(path, &headers);
        let status = raw.send(request, &framed(&[])).await.unwrap().status.unwrap();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::Unimplemented, "UNKNOWN_METHOD")
        );
    }
}

#[tokio::test]
async fn headers_beyond_the_limit_are_refused() {
    let server = Server::start().await;
    let large = "x".repeat(17 * 1024);
    let mut raw = Raw::connect(&server).await;
    let request =
        raw.request(EVALUATE, &[("content-type", "application/grpc"), ("x-large", &large)]);
    assert!(raw.send(request, &[]).await.is_none_or(|answer| answer.http == 431));
    let mut raw = Raw::connect(&server).await;
    let mut request = raw.request(EVALUATE, &[("content-type", "application/grpc")]);
    for number in 0..1000 {
        request = request.header(format!("x-{number}"), "1");
    }
    assert!(raw.send(request, &[]).await.is_none_or(|answer| answer.http == 431));
    let answer = reqwest::Client::new().get(server.url("/healthz")).header("x-large", &large);
    assert_eq!(answer.send().await.unwrap().status(), 431);
}

#[tokio::test]
async fn an_error_of_a_handler_keeps_its_details() {
    let server = Server::start().await;
    let request = LookupDecisionRequest {
        idempotency_key: "key-0001".to_owned(),
        ..LookupDecisionRequest::default()
    };
    let status = client(&server).await.lookup_decision(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "NOT_FOUND"));
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().metadata["kind"], "decision");
    assert!(details.retry_info().is_some());
}

#[tokio::test]
async fn a_panic_is_an_internal_error_with_the_request_id() {
    let server = Server::start().await;
    let mut client = client(&server).await;
    let mut request = tonic::Request::new(spend_at("panic.example"));
    request.metadata_mut().insert("x-request-id", "my-id.1".parse().unwrap());
    let status = client.evaluate(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Internal, "INTERNAL"));
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().metadata["request_id"], "my-id.1");
    assert_eq!(status.metadata().get("x-request-id").unwrap(), "my-id.1");
    client.evaluate(spend()).await.unwrap();
}

#[tokio::test]
async fn a_call_takes_no_longer_than_the_caller_or_the_server_allows() {
    let settings =
        FrontSettings { call_time_max: Duration::from_millis(150), ..FrontSettings::default() };
    let server = Server::start_with(settings, ServeLimits::default()).await;
    let mut client = client(&server).await;
    let status = client.evaluate(spend_at("stuck.example")).await.unwrap_err();
    assert_eq!(reason(&status), "DEADLINE_EXCEEDED");
    let mut raw = Raw::connect(&server).await;
    let body = framed(&spend_at("stuck.example").encode_to_vec());
    for timeout in ["99999999H", "20m"] {
        let status = raw.call(&[("grpc-timeout", timeout)], &body).await.status.unwrap();
        assert_eq!(reason(&status), "DEADLINE_EXCEEDED", "{timeout}");
    }
}

#[tokio::test]
async fn health_says_what_its_reporter_says() {
    let server = Server::start().await;
    let channel = tonic::transport::Channel::from_shared(server.url("")).unwrap();
    let mut health = HealthClient::new(channel.connect().await.unwrap());
    for service in ["", "quetra.v1.EvaluateService", "quetra.v1.OrganizationService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request.clone()).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::NotServing, "{service}");
        server.health.set_service_status(service, tonic_health::ServingStatus::Serving).await;
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let request = HealthCheckRequest { service: "nope".to_owned() };
    assert_eq!(health.check(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_lists_the_public_services_in_both_versions() {
    let server = Server::start().await;
    let channel = tonic::transport::Channel::from_shared(server.url("")).unwrap();
    let channel = channel.connect().await.unwrap();
    macro_rules! listed {
        ($version:ident) => {{
            use $version::server_reflection_request::MessageRequest;
            use $version::server_reflection_response::MessageResponse;
            let request = $version::ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::ListServices(String::new())),
            };
            let mut client =
                $version::server_reflection_client::ServerReflectionClient::new(channel.clone());
            let stream = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
            let answer = stream.into_inner().message().await.unwrap().unwrap();
            let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
                panic!("no list");
            };
            let mut names: Vec<String> = list.service.into_iter().map(|s| s.name).collect();
            names.sort();
            names
        }};
    }
    for (names, own) in [
        (listed!(v1), "grpc.reflection.v1.ServerReflection"),
        (listed!(v1alpha), "grpc.reflection.v1alpha.ServerReflection"),
    ] {
        let mut expected = [SERVICE_NAMES.as_slice(), &["grpc.health.v1.Health", own]].concat();
        expected.sort_unstable();
        assert_eq!(names, expected);
    }
}
