//! A successful answer, and the one place that writes JSON responses.
//!
//! Not here: failures (`failure`), the shapes themselves (`crate::forms`).

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use super::failure::Failure;

/// What a handler answers with when it did what was asked.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    body: Vec<u8>,
}

impl Answer {
    /// 200 with a body.
    pub(super) fn ok(view: &impl Serialize) -> Result<Self, Failure> {
        Self::with(StatusCode::OK, view)
    }

    /// 201 with a body.
    pub(super) fn created(view: &impl Serialize) -> Result<Self, Failure> {
        Self::with(StatusCode::CREATED, view)
    }

    /// 204, nothing left to say.
    pub(super) fn nothing() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: Vec::new() }
    }

    /// Any status with a body.
    pub(super) fn with(status: StatusCode, view: &impl Serialize) -> Result<Self, Failure> {
        let body = serde_json::to_vec(view).map_err(|_error| Failure::internal())?;
        Ok(Self { status, body })
    }

    /// The response.
    pub(super) fn into_response(self) -> Response {
        json(self.status, self.body)
    }
}

/// A JSON response that no cache keeps: it may hold a key, and decisions are never cached.
pub(super) fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let empty = body.is_empty();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !empty {
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
    }
    response
}
