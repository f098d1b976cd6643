//! Looks at one request and sends it the right way: gRPC, gRPC-Web, Connect, or everything else.
//!
//! A plain gRPC call is recognised by its content type and passes nothing that it does not need.
//! The others get the headers that browsers want: CORS for the RPC paths, and security headers.
//! Not here: authentication, and the paths of REST, MCP and the dashboard.

use std::convert::Infallible;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures::FutureExt;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::Limited;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::calls::GrpcCalls;
use super::request_id::{self, REQUEST_ID};
use super::url_key;
use crate::connect::{Connect, Limits, unsupported_media};
use crate::grpc::{MESSAGE_BYTES_MAX, REPLY_BYTES_MAX};
use crate::proto::DESCRIPTORS;

/// How long a browser may remember the answer to a preflight.
const PREFLIGHT_AGE: Duration = Duration::from_secs(2 * 60 * 60);

/// Headers that a page may send.
const CORS_REQUEST_HEADERS: [&str; 9] = [
    "authorization",
    "connect-protocol-version",
    "connect-timeout-ms",
    "content-type",
    "grpc-timeout",
    "idempotency-key",
    "x-grpc-web",
    "x-request-id",
    "x-user-agent",
];

/// Headers that a page may read; an error without a message travels in them.
const CORS_RESPONSE_HEADERS: [&str; 4] =
    ["grpc-status", "grpc-message", "grpc-status-details-bin", "x-request-id"];

/// Security headers of every answer that a browser could see, unless the handler set them.
const SECURITY_HEADERS: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::CACHE_CONTROL, "no-store"),
];

/// What the operator can choose.
#[derive(Debug, Clone)]
pub struct FrontSettings {
    /// Pages that may call the server from a browser, such as `https://console.example.com`. Empty
    /// means none beside the server's own; `*` means any. Never with credentials.
    pub cors_origins: Vec<String>,
    /// The longest time of one call; a client's own deadline can only shorten it.
    pub call_time_max: Duration,
    /// The longest time until a request that is not an RPC is answered.
    pub other_time_max: Duration,
}

impl Default for FrontSettings {
    fn default() -> Self {
        Self {
            cors_origins: Vec::new(),
            call_time_max: Duration::from_secs(10),
            other_time_max: Duration::from_secs(30),
        }
    }
}

/// The front cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// An entry of [`FrontSettings::cors_origins`] is not an origin.
    #[error("`{0}` is not an origin; write it as https://host or https://host:port, or `*`")]
    Origin(String),
    /// The descriptor set is broken, which a test of this module prevents.
    #[error("the service descriptors cannot be read: {0}")]
    Descriptors(#[from] prost_reflect::DescriptorError),
}

/// Everything that the port serves. Cheap to clone.
#[derive(Clone)]
pub struct Front(Arc<Inner>);

struct Inner {
    calls: GrpcCalls,
    connect: Connect,
    cors: Option<CorsLayer>,
    other: axum::Router,
    other_time_max: Duration,
}

impl fmt::Debug for Front {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Front").field("connect", &self.0.connect).finish_non_exhaustive()
    }
}

/// Puts the parts of the port together: the gRPC services (with health and reflection), and a
/// router with every path that is not an RPC.
///
/// # Errors
/// An origin of the settings is not one.
pub fn front(
    grpc: axum::Router,
    other: axum::Router,
    settings: &FrontSettings,
) -> Result<Front, FrontError> {
    let limits = Limits {
        request_bytes: MESSAGE_BYTES_MAX,
        reply_bytes: REPLY_BYTES_MAX,
        arrival: settings.call_time_max,
    };
    Ok(Front(Arc::new(Inner {
        calls: GrpcCalls::new(grpc, settings.call_time_max),
        connect: Connect::new(&[DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET], limits)?,
        cors: cors(&settings.cors_origins)?,
        other: other.with_state(()),
        other_time_max: settings.other_time_max,
    })))
}

fn cors(origins: &[String]) -> Result<Option<CorsLayer>, FrontError> {
    if origins.is_empty() {
        return Ok(None);
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        let origins = origins.iter().map(|origin| {
            let value = HeaderValue::from_str(origin).ok().filter(|_| is_origin(origin));
            value.ok_or_else(|| FrontError::Origin(origin.clone()))
        });
        AllowOrigin::list(origins.collect::<Result<Vec<_>, _>>()?)
    };
    Ok(Some(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::POST])
            .allow_headers(CORS_REQUEST_HEADERS.map(HeaderName::from_static))
            .expose_headers(CORS_RESPONSE_HEADERS.map(HeaderName::from_static))
            .max_age(PREFLIGHT_AGE),
    ))
}

/// A scheme and a host, and nothing after them, as browsers write it.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        !host.is_empty() && host.bytes().all(is_allowed)
    })
}

/// The ways in that are told apart by content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Grpc,
    GrpcWeb,
    Other,
}

impl Way {
    fn of(headers: &HeaderMap) -> Self {
        let media = headers.get(header::CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
        match media.strip_prefix(b"application/grpc") {
            Some(b"" | b"+proto") => Self::Grpc,
            Some(b"-web" | b"-web+proto" | b"-web-text" | b"-web-text+proto") => Self::GrpcWeb,
            _ => Self::Other,
        }
    }
}

/// Whether a path has the form `/package.Service/Method`.
fn is_rpc(path: &str) -> bool {
    let mut parts = path.split('/');
    let (root, service, method) = (parts.next(), parts.next(), parts.next());
    root == Some("")
        // `/.well-known/…` is not a method of a service without a name.
        && service.is_some_and(|service| !service.starts_with('.') && service.contains('.'))
        && method.is_some_and(|method| !method.is_empty())
        && parts.next().is_none()
}

impl Front {
    /// Answers one request.
    pub async fn handle(&self, mut request: Request<Body>) -> Response<Body> {
        let id = request_id::settle(request.headers_mut());
        let mut response = match Way::of(request.headers()) {
            Way::Grpc => self.grpc(request).await,
            way @ (Way::GrpcWeb | Way::Other) => Box::pin(self.browsable(request, way)).await,
        };
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }

    /// A plain gRPC call, from a client that speaks all of the protocol.
    async fn grpc(&self, request: Request<Body>) -> Response<Body> {
        if request.version() != Version::HTTP_2 {
            return plain(StatusCode::BAD_REQUEST, "gRPC needs HTTP/2; use JSON or gRPC-Web here");
        }
        if request.method() != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "call a method with POST");
        }
        if request.headers().get(header::TE).is_none_or(|te| te != "trailers") {
            return plain(StatusCode::BAD_REQUEST, "gRPC needs the header te: trailers");
        }
        self.0.calls.call(request).await
    }

    /// Everything that can come from a browser.
    async fn browsable(&self, mut request: Request<Body>, way: Way) -> Response<Body> {
        url_key::take(&mut request);
        let id = request.headers().get(REQUEST_ID).cloned();
        let answered = AssertUnwindSafe(self.routed(request, way)).catch_unwind().await;
        let mut response = answered.unwrap_or_else(|_panic| {
            tracing::error!(request_id = ?id, "a request panicked");
            let why = "the server has a bug; report the request id of this answer";
            plain(StatusCode::INTERNAL_SERVER_ERROR, why)
        });
        for (name, value) in SECURITY_HEADERS {
            response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
        }
        response
    }

    async fn routed(&self, request: Request<Body>, way: Way) -> Response<Body> {
        if way == Way::Other && !is_rpc(request.uri().path()) {
            return self.other(request).await;
        }
        let Some(cors) = &self.0.cors else {
            return self.rpc(request, way).await;
        };
        let front = self.clone();
        let rpc = service_fn(move |request| {
            let front = front.clone();
            async move { Ok::<_, Infallible>(front.rpc(request, way).await) }
        });
        match cors.layer(rpc).oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    async fn rpc(&self, request: Request<Body>, way: Way) -> Response<Body> {
        let calls = self.0.calls.clone();
        if way == Way::Other {
            let is_grpc = request
                .headers()
                .get(header::CONTENT_TYPE)
                .is_some_and(|media| media.as_bytes().starts_with(b"application/grpc"));
            if is_grpc {
                return unsupported_media("of gRPC's content types, send application/grpc");
            }
            return self
                .0
                .connect
                .call(request, |request| async move { calls.call(request).await })
                .await;
        }
        let mut service = tonic_web::GrpcWebLayer::new().layer(calls);
        match service.call(request).await {
            Ok(response) => response.map(Body::new),
            Err(never) => match never {},
        }
    }

    /// A request to a path that is not an RPC.
    async fn other(&self, request: Request<Body>) -> Response<Body> {
        let mut router = self.0.other.clone();
        let request = request.map(|body| Body::new(Limited::new(body, MESSAGE_BYTES_MAX)));
        match tokio::time::timeout(self.0.other_time_max, router.call(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_elapsed) => plain(StatusCode::GATEWAY_TIMEOUT, "the request took too long"),
        }
    }
}

fn plain(code: StatusCode, sentence: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{sentence}\n")));
    *response.status_mut() = code;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}
