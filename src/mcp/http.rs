//! The remote way in: Streamable HTTP at one path, and what stands before the SDK.
//!
//! In order: is this a name and an origin we serve, is it the one method there is, who is calling.
//! A client that can only paste a URL has its key in the path; the port takes the key out of there
//! before anything sees the path (`serve`). Not here: sessions, which no revision needs any more.

mod challenge;
mod guard;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{any, get};
use http::{HeaderName, Method, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use rmcp::ServerHandler;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tonic::transport::server::TcpConnectInfo;
use tower_http::cors::{AllowOrigin, CorsLayer};

use self::challenge::Refusal;
use self::guard::Guard;
use super::adapter::Adapter;
use super::caller::{Caller, Credential};
use super::gateway::Gateway;
use super::message;
use crate::proto::KEY_IN_URL;

/// Where it is served.
const PATH: &str = "/mcp";

/// Where a client learns how to get in (RFC 9728, section 3.1): for this path, and at the root.
const METADATA: [&str; 2] =
    ["/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"];

/// Bytes of a request: the longest arguments that the contract allows are far below it.
const BODY_BYTES_MAX: usize = 128 * 1024;

/// Headers that a page may send.
const CORS_REQUEST_HEADERS: [&str; 6] =
    ["accept", "authorization", "content-type", "mcp-method", "mcp-name", "mcp-protocol-version"];

/// How often a stream that is still open says so.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What the operator can choose.
#[derive(Debug, Clone, Default)]
pub struct HttpSettings {
    /// Names, with or without a port, under which clients reach this server, beside those of the
    /// machine itself.
    pub allowed_hosts: Vec<String>,
    /// Pages that may call from a browser, beside the server's own.
    pub allowed_origins: Vec<String>,
    /// Whether clients reach it by https.
    pub behind_tls_proxy: bool,
}

/// One client's way in.
struct Entrance<H: ServerHandler> {
    guard: Guard,
    gateway: Gateway,
    service: StreamableHttpService<H, NeverSessionManager>,
}

/// Serves `/mcp`, and the metadata that a 401 points to, by calling `gateway`.
pub fn router(gateway: Gateway, settings: HttpSettings) -> Router {
    router_with(gateway, settings, |adapter| adapter)
}

/// [`router()`] with something around the adapter that answers more than it does.
///
/// The fixtures that the official conformance suite asks for come in here: behind everything that
/// stands before a call, and beside the tools.
pub fn router_with<H: ServerHandler>(
    gateway: Gateway,
    settings: HttpSettings,
    around: impl Fn(Adapter) -> H + Send + Sync + 'static,
) -> Router {
    let cors = cors(&settings.allowed_origins);
    // Host and origin are checked in front, for the metadata too and with words that say what to
    // do; the SDK's own check would only repeat it.
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_sse_keep_alive(Some(KEEP_ALIVE))
        .with_max_request_body_bytes(BODY_BYTES_MAX)
        .disable_allowed_hosts();
    let adapter = Adapter::remote(gateway.clone());
    let make = move || Ok(around(adapter.clone()));
    let service =
        StreamableHttpService::new(make, Arc::new(NeverSessionManager::default()), config);
    let entrance = Arc::new(Entrance { guard: Guard::new(settings), gateway, service });
    let metadata = {
        let entrance = Arc::clone(&entrance);
        move |request| async move { entrance.metadata(&request) }
    };
    let serve = move |request| async move { entrance.serve(request).await };
    let mut router = Router::new().route(PATH, any(serve));
    if let Some(cors) = cors {
        router = router.layer(cors);
    }
    for path in METADATA {
        router = router.route(path, get(metadata.clone()));
    }
    router
}

/// What a page of another origin may send and read, if the operator named any. Never a cookie.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<_> = origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    (!origins.is_empty()).then(|| {
        CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_methods([Method::POST])
            .allow_headers(CORS_REQUEST_HEADERS.map(HeaderName::from_static))
            .expose_headers([header::WWW_AUTHENTICATE])
    })
}

impl<H: ServerHandler> Entrance<H> {
    fn metadata(&self, request: &Request) -> Response {
        match self.guard.admit(request) {
            Ok(origin) => challenge::metadata(&format!("{origin}{PATH}")),
            Err(refusal) => refusal.into_response(),
        }
    }

    async fn serve(&self, request: Request) -> Response {
        let origin = match self.guard.admit(&request) {
            Ok(origin) => origin,
            Err(refusal) => return refusal.into_response(),
        };
        let metadata = format!("{origin}{}", METADATA[0]);
        match self.admitted(request).await {
            Ok(response) => response,
            Err(refusal) => refusal.with_metadata(&metadata).into_response(),
        }
    }

    async fn admitted(&self, request: Request) -> Result<Response, Refusal> {
        if request.method() != Method::POST {
            return Err(Refusal::wrong_method());
        }
        if request.uri().query().is_some() {
            return Err(Refusal::has_query());
        }
        let (mut parts, body) = request.into_parts();
        let in_url = parts.headers.contains_key(KEY_IN_URL);
        if !parts.headers.contains_key(header::AUTHORIZATION) {
            return Err(Refusal::no_credential());
        }
        let mut connection = tonic::Extensions::new();
        if let Some(info) = parts.extensions.get::<TcpConnectInfo>() {
            connection.insert(info.clone());
        }
        let credential = Credential::take(&mut parts.headers, connection);
        let caller = Caller::identify(&self.gateway, credential).await;
        let caller = caller.map_err(|status| Refusal::of(&status, in_url))?;
        parts.extensions.insert(caller);
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|error| {
            let is_long = error.is::<LengthLimitError>();
            if is_long { Refusal::too_large() } else { Refusal::cut_short() }
        })?;
        let body = body.to_bytes();
        // Another media type is the SDK's to refuse.
        let media = parts.headers.get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok());
        if media.is_some_and(|media| media.starts_with("application/json"))
            && let Err(wrong) = message::check(&body)
        {
            let mut response = challenge::answer(&wrong.answer());
            if !wrong.is_message() {
                *response.status_mut() = StatusCode::BAD_REQUEST;
            }
            return Ok(response);
        }
        let request = Request::from_parts(parts, Body::from(body));
        Ok(self.service.handle(request).await.map(Body::new))
    }
}
