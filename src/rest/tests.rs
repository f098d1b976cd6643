//! Every path against made-up gRPC services, in one process and without a socket.
//!
//! Not here: real decisions; the services answer with fixed messages and remember what came.

mod bad_input;
mod fake;
mod gateway;
mod openapi;
mod resources;

use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use serde_json::Value;
use tower::ServiceExt;

use self::fake::Fake;

/// The paths in front of the made-up services.
struct Bench {
    fake: Fake,
    app: axum::Router,
}

/// One answer.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Reply {
    /// The reason word of an error.
    fn reason(&self) -> &str {
        self.body["reason"].as_str().unwrap_or_default()
    }

    /// The fields that an error lists.
    fn fields(&self) -> Vec<&str> {
        let details = self.body["details"].as_array();
        let fields = details.into_iter().flatten().map(|detail| detail["field"].as_str());
        fields.map(Option::unwrap_or_default).collect()
    }
}

impl Bench {
    fn new() -> Self {
        Self::within(super::TIMES)
    }

    fn within(times: super::Times) -> Self {
        let fake = Fake::default();
        let app = super::router_within(fake.router(), times);
        Self { fake, app }
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let body = match bytes.len() {
            0 => Value::Null,
            _ => serde_json::from_slice(&bytes).unwrap(),
        };
        Reply { status: parts.status, headers: parts.headers, body }
    }

    /// A request with a credential and, if there is a body, its media type.
    async fn call(&self, method: &str, path: &str, body: &str) -> Reply {
        self.call_with(method, path, body, &[]).await
    }

    async fn call_with(
        &self,
        method: &str,
        path: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        request = request.header("authorization", "Bearer sk_test");
        if !body.is_empty() {
            request = request.header("content-type", "application/json; charset=utf-8");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }
}
