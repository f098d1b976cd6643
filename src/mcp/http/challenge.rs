//! What a client is told that does not get in, and how it could.
//!
//! Keys are made by an administrator, not by an authorization server: the metadata of RFC 9728 says
//! where a key goes and names no server to ask. Not here: errors of tool calls (`failure`).

use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A request that is not handed on.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    reason: &'static str,
    error: &'static str,
    /// The `error` of a challenge (RFC 6750, section 3.1); none without a credential.
    challenge: Option<&'static str>,
    metadata: Option<String>,
    /// Seconds, for `Retry-After`.
    retry_after: Option<u64>,
}

impl Refusal {
    const fn new(status: StatusCode, reason: &'static str, error: &'static str) -> Self {
        Self { status, reason, error, challenge: None, metadata: None, retry_after: None }
    }

    pub(super) const fn unknown_host() -> Self {
        let error = "this server is not known by the host name of the request; add the name to \
                     mcp_allowed_hosts";
        Self::new(StatusCode::FORBIDDEN, "HOST_NOT_ALLOWED", error)
    }

    pub(super) const fn unknown_origin() -> Self {
        let error = "pages of this origin may not call; add it to cors_allowed_origins";
        Self::new(StatusCode::FORBIDDEN, "ORIGIN_NOT_ALLOWED", error)
    }

    pub(super) const fn wrong_method() -> Self {
        let error = "send each message with POST; there are no sessions and no other streams";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", error)
    }

    pub(super) const fn has_query() -> Self {
        let error = "this address takes no query; a key belongs in the authorization header";
        Self::new(StatusCode::BAD_REQUEST, "MALFORMED_REQUEST", error)
    }

    pub(super) const fn too_large() -> Self {
        let error = "a message may have 128 KiB";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "MESSAGE_TOO_LARGE", error)
    }

    pub(super) const fn cut_short() -> Self {
        let error = "the message ended before its end; send it again";
        Self::new(StatusCode::BAD_REQUEST, "MALFORMED_REQUEST", error)
    }

    pub(super) const fn no_credential() -> Self {
        let error = "send a key of an agent as `authorization: Bearer sk_…`";
        Self::new(StatusCode::UNAUTHORIZED, "CREDENTIAL_INVALID", error)
    }

    /// Why the credential was not accepted. A key in a URL gets one answer whatever is wrong with
    /// it, and none that would make a client ask for a sign-in.
    pub(super) fn of(status: &Status, in_url: bool) -> Self {
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied if in_url => {
                let error = "no MCP server is at this address; the key in it must be a valid key \
                             of the role agent";
                Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", error)
            }
            Code::Unauthenticated => {
                let error = "the key is garbled, unknown, revoked or expired; send another one";
                let refusal = Self::new(StatusCode::UNAUTHORIZED, "CREDENTIAL_INVALID", error);
                Self { challenge: Some("invalid_token"), ..refusal }
            }
            Code::PermissionDenied => {
                let error = "a model may use keys of the role agent only; make one with `quetra \
                             keys create NAME --role agent`";
                let refusal = Self::new(StatusCode::FORBIDDEN, "ROLE_NOT_ALLOWED", error);
                Self { challenge: Some("insufficient_scope"), ..refusal }
            }
            Code::ResourceExhausted => {
                let wait = status.get_details_retry_info().and_then(|info| info.retry_delay);
                let seconds = wait.map_or(1, |wait| wait.as_secs().saturating_add(1));
                let error = "too many requests; wait and send it again";
                let refusal =
                    Self::new(StatusCode::TOO_MANY_REQUESTS, "REQUEST_RATE_EXCEEDED", error);
                Self { retry_after: Some(seconds), ..refusal }
            }
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::InvalidArgument
            | Code::DeadlineExceeded
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => {
                let error = "the server cannot check the key now; send it again in a moment";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "STORE_UNAVAILABLE", error)
            }
        }
    }

    /// Where a client can read how to get in.
    pub(super) fn with_metadata(self, address: &str) -> Self {
        Self { metadata: Some(address.to_owned()), ..self }
    }

    pub(super) fn into_response(self) -> Response {
        let mut response = answer(&json!({ "error": self.error, "reason": self.reason }));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        let challenges = self.challenge.is_some() || self.status == StatusCode::UNAUTHORIZED;
        if let (true, Some(metadata)) = (challenges, &self.metadata) {
            let error = self.challenge.map(|error| format!("error=\"{error}\", "));
            let error = error.unwrap_or_default();
            let value = format!("Bearer {error}resource_metadata=\"{metadata}\"");
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(header::WWW_AUTHENTICATE, value);
            }
        }
        response
    }
}

/// The metadata of the protected resource (RFC 9728, section 2).
pub(super) fn metadata(resource: &str) -> Response {
    answer(&json!({
        "resource": resource,
        "resource_name": "Quetra",
        "bearer_methods_supported": ["header"],
    }))
}

/// An answer in JSON.
pub(super) fn answer(body: &serde_json::Value) -> Response {
    let mut response = Response::new(format!("{body}\n").into());
    let media = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response
}
