//! gRPC-Web and CORS, as browsers use them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, Response};

use super::*;

async fn call(server: &Server, media: &str, body: Vec<u8>) -> Response {
    let request = reqwest::Client::new().post(server.url(EVALUATE)).header("x-grpc-web", "1");
    let request = request.header("content-type", media).header("accept", media);
    request.body(body).send().await.unwrap()
}

/// Splits a body into its message and the text of its trailers.
fn parts(body: &[u8]) -> (Vec<u8>, String) {
    let (mut message, mut trailers, mut rest) = (Vec::new(), String::new(), body);
    while let Some((head, tail)) = rest.split_at_checked(5) {
        let length = u32::from_be_bytes(head[1..].try_into().unwrap());
        let (content, tail) = tail.split_at(usize::try_from(length).unwrap());
        match head[0] {
            0x80 => trailers = String::from_utf8(content.to_vec()).unwrap(),
            _ => message = content.to_vec(),
        }
        rest = tail;
    }
    (message, trailers)
}

#[tokio::test]
async fn a_binary_call_is_answered() {
    let server = Server::start().await;
    for media in ["application/grpc-web", "application/grpc-web+proto"] {
        let answer = call(&server, media, framed(&spend().encode_to_vec())).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/grpc-web+proto");
        let (message, trailers) = parts(&answer.bytes().await.unwrap());
        assert_eq!(EvaluateResponse::decode(&*message).unwrap().transaction_id, "tx_1");
        assert!(trailers.contains("grpc-status:0"), "{trailers}");
    }
}

#[tokio::test]
async fn a_text_call_is_answered() {
    let server = Server::start().await;
    let body = STANDARD.encode(framed(&spend().encode_to_vec())).into_bytes();
    let answer = call(&server, "application/grpc-web-text", body).await;
    assert_eq!(answer.headers()["content-type"], "application/grpc-web-text+proto");
    let text = answer.text().await.unwrap();
    // The message and the trailers are encoded one by one, so padding can stand in the middle.
    let bytes: Vec<u8> = text
        .split_inclusive('=')
        .flat_map(|piece| piece.as_bytes().chunks(4).map(<[u8]>::to_vec).collect::<Vec<_>>())
        .filter(|quad| quad.len() == 4)
        .flat_map(|quad| STANDARD.decode(quad).unwrap())
        .collect();
    let (message, trailers) = parts(&bytes);
    assert_eq!(EvaluateResponse::decode(&*message).unwrap().transaction_id, "tx_1");
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
}

#[tokio::test]
async fn errors_carry_their_details_in_headers() {
    let server = Server::start().await;
    let mut compressed = framed(&spend().encode_to_vec());
    compressed[0] = 1;
    let cases = [
        (framed(&[]), "3", "INVALID_FIELDS"),
        (vec![], "3", "MALFORMED_REQUEST"),
        (compressed, "12", "COMPRESSION_NOT_SUPPORTED"),
        (framed(&vec![0; MESSAGE_BYTES_MAX + 1]), "8", "MESSAGE_TOO_LARGE"),
        (framed(&spend_at("panic.example").encode_to_vec()), "13", "INTERNAL"),
    ];
    for (body, code, word) in cases {
        let answer = call(&server, "application/grpc-web+proto", body).await;
        assert_eq!(answer.headers()["grpc-status"], code, "{word}");
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(reason(&status), word);
    }
    for text in ["!!!!not base64!!!!", "AAAAA"] {
        let body = text.as_bytes().to_vec();
        let answer = call(&server, "application/grpc-web-text", body).await;
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), Code::InvalidArgument, "{text}: {status:?}");
        assert_eq!(reason(&status), "MALFORMED_REQUEST", "{text}: {status:?}");
    }
}

fn preflight(server: &Server, path: &str, origin: &str) -> reqwest::RequestBuilder {
    reqwest::Client::new()
        .request(Method::OPTIONS, server.url(path))
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,x-grpc-web,authorization")
}

fn with_origins(origins: &[&str]) -> FrontSettings {
    let cors_origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
    FrontSettings { cors_origins, ..FrontSettings::default() }
}

#[tokio::test]
async fn a_listed_origin_may_call_and_read_errors() {
    let settings = with_origins(&["https://console.example.com"]);
    let server = Server::start_with(settings, ServeLimits::default()).await;
    let answer = preflight(&server, EVALUATE, "https://console.example.com").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("access-control-allow-origin"), "https://console.example.com");
    assert_eq!(header("access-control-allow-methods"), "POST");
    assert!(header("access-control-allow-headers").contains("authorization"));
    assert!(!answer.headers().contains_key("access-control-allow-credentials"));

    let request = reqwest::Client::new().post(server.url(LOOKUP));
    let request = request.header("origin", "https://console.example.com");
    let request = request.header("content-type", "application/grpc-web+proto");
    let answer = request.body(framed(&[])).send().await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://console.example.com");
    let exposed = answer.headers()["access-control-expose-headers"].to_str().unwrap();
    for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
        assert!(exposed.contains(name), "{exposed}");
    }
}

#[tokio::test]
async fn any_other_origin_gets_no_permission() {
    let settings = with_origins(&["https://console.example.com"]);
    let server = Server::start_with(settings, ServeLimits::default()).await;
    let closed = Server::start().await;
    for (server, path) in [(&server, EVALUATE), (&closed, EVALUATE), (&server, "/healthz")] {
        let origin = match path {
            EVALUATE => "https://evil.example",
            _ => "https://console.example.com",
        };
        let answer = preflight(server, path, origin).send().await.unwrap();
        assert!(!answer.headers().contains_key("access-control-allow-origin"));
    }
}

#[tokio::test]
async fn any_origin_can_be_allowed_without_credentials() {
    let server = Server::start_with(with_origins(&["*"]), ServeLimits::default()).await;
    let answer = preflight(&server, EVALUATE, "http://localhost:5173").send().await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    assert!(!answer.headers().contains_key("access-control-allow-credentials"));
}

#[test]
fn an_origin_that_is_none_is_refused_with_its_text() {
    for wrong in ["console.example.com", "https://", "https://a/", "null", "https://a b"] {
        let settings = with_origins(&[wrong]);
        let error = front(axum::Router::new(), axum::Router::new(), &settings).unwrap_err();
        assert!(error.to_string().contains(wrong), "{error}");
    }
}
