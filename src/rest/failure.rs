//! Everything that is not an answer: `{error, reason, details}` and its HTTP code.
//!
//! One match maps gRPC codes. The reason words are those of `ErrorReason`. Not here: a rejected
//! spend, which is an answer; how fields are renamed (`fields`).

use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::answer::json;
use super::fields;
use crate::forms::FormError;
use crate::proto::v1::ErrorReason;

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Violation {
    /// Its path, in REST names.
    pub(super) field: String,
    /// What is wrong and what to do.
    pub(super) description: String,
}

impl Violation {
    /// A wrong field.
    pub(super) fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }
}

/// Why a request was not served.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    reason: String,
    error: String,
    pub(super) details: Vec<Violation>,
    /// Seconds, for `Retry-After`.
    retry_after: Option<u64>,
    /// Said here, and not by the services: about the request alone.
    is_ours: bool,
}

/// The body, in the order people read it.
#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    reason: &'a str,
    details: &'a [Violation],
}

impl Failure {
    fn new(status: StatusCode, reason: ErrorReason, error: impl Into<String>) -> Self {
        Self {
            status,
            reason: word(reason).to_owned(),
            error: error.into(),
            details: Vec::new(),
            retry_after: None,
            is_ours: true,
        }
    }

    /// Whether no service has said it, so that nobody has looked at the caller.
    pub(super) const fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// 400 for fields that are wrong whatever the state.
    pub(super) fn fields(details: Vec<Violation>) -> Self {
        Self::listing(ErrorReason::InvalidFields, details)
    }

    /// 400 for fields that nobody here knows.
    pub(super) fn unknown_fields(details: Vec<Violation>) -> Self {
        Self::listing(ErrorReason::UnknownFields, details)
    }

    fn listing(reason: ErrorReason, details: Vec<Violation>) -> Self {
        let failure = Self::new(StatusCode::BAD_REQUEST, reason, sentence(&details));
        Self { details, ..failure }
    }

    /// 400 for a body that is no JSON, or none we accept.
    pub(super) fn malformed(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::listing(ErrorReason::MalformedRequest, vec![Violation::new(field, description)])
    }

    /// 401 without a credential, before the body is read.
    pub(super) fn no_credential() -> Self {
        let error = "send a valid key as `authorization: Bearer sk_…`";
        let failure = Self::new(StatusCode::UNAUTHORIZED, ErrorReason::CredentialInvalid, error);
        Self { is_ours: false, ..failure }
    }

    /// 504 for a request that does not arrive, or is not answered, in time.
    pub(super) fn too_slow() -> Self {
        let error = "the time allowed ran out; repeat with the same idempotency key";
        Self::new(StatusCode::GATEWAY_TIMEOUT, ErrorReason::DeadlineExceeded, error)
    }

    /// 404 for the secret of a webhook URL that is not set.
    pub(super) fn no_webhook() -> Self {
        let error = "the organization has no webhook; set `webhookUrl` first";
        Self::new(StatusCode::NOT_FOUND, ErrorReason::NotFound, error)
    }

    /// 404 for a path that is not served.
    pub(super) fn unknown_path() -> Self {
        let error = "there is no such path; see /openapi.json";
        Self::new(StatusCode::NOT_FOUND, ErrorReason::UnknownMethod, error)
    }

    /// 405 for a path that is served, by another method.
    pub(super) fn wrong_method() -> Self {
        let error = "the path does not take this method; see the `allow` header";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, ErrorReason::UnknownMethod, error)
    }

    /// 413 for a body above the limit.
    pub(super) fn too_large() -> Self {
        let error = "the body is larger than 256 KiB";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorReason::MessageTooLarge, error)
    }

    /// 415 for a body that does not claim to be JSON.
    pub(super) fn wrong_media_type() -> Self {
        let error = "send the body as `content-type: application/json`, uncompressed";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorReason::MalformedRequest, error)
    }

    /// 500 for a bug of ours.
    pub(super) fn internal() -> Self {
        let error = "the server made a mistake; nothing was approved. report the request id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorReason::Internal, error)
    }

    /// What a gRPC call failed with, its fields renamed by `rename`.
    pub(super) fn from_status(status: &Status, rename: fn(&str) -> String) -> Self {
        let info = status.get_details_error_info();
        let reason =
            info.map_or_else(|| word(reason_of(status.code())).to_owned(), |info| info.reason);
        let wrong = status.get_details_bad_request();
        let wrong = wrong.map_or_else(Vec::new, |wrong| wrong.field_violations);
        let details: Vec<_> = wrong
            .into_iter()
            .map(|wrong| Violation::new(rename(&wrong.field), wrong.description))
            .collect();
        // The sentence of the contract names the fields as the contract does.
        let error = match details.as_slice() {
            [] => status.message().to_owned(),
            details => sentence(details),
        };
        let http = http_status(status.code(), &reason);
        let wait = status.get_details_retry_info().and_then(|info| info.retry_delay);
        let retry_after = match http {
            StatusCode::TOO_MANY_REQUESTS => Some(wait.map_or(1, whole_seconds)),
            _ => wait.map(whole_seconds),
        };
        Self { status: http, reason, error, details, retry_after, is_ours: false }
    }

    /// The response.
    pub(super) fn into_response(self) -> Response {
        let body = Body { error: &self.error, reason: &self.reason, details: &self.details };
        let bytes = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = json(self.status, bytes);
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::from_status(&status, fields::rest_name)
    }
}

/// Client and server are one process here, so a form that cannot be shown is a bug.
impl From<FormError> for Failure {
    fn from(_error: FormError) -> Self {
        Self::internal()
    }
}

/// All violations in one line, for who only reads `error`.
fn sentence(details: &[Violation]) -> String {
    let list: Vec<_> = details
        .iter()
        .map(|violation| format!("{}: {}", violation.field, violation.description))
        .collect();
    list.join("; ")
}

/// `INVALID_FIELDS` for `ERROR_REASON_INVALID_FIELDS`, as `ErrorInfo` writes it.
fn word(reason: ErrorReason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}

/// `Retry-After` counts whole seconds, and 0 would ask for a stampede.
fn whole_seconds(wait: std::time::Duration) -> u64 {
    let seconds = wait.as_secs();
    let rest = u64::from(wait.subsec_nanos() > 0);
    seconds.saturating_add(rest).max(1)
}

fn http_status(code: Code, reason: &str) -> StatusCode {
    match code {
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::ResourceExhausted if reason == word(ErrorReason::MessageTooLarge) => {
            StatusCode::PAYLOAD_TOO_LARGE
        }
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Ok | Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// The reason of a status that carries none, which only layers below the services produce.
fn reason_of(code: Code) -> ErrorReason {
    match code {
        Code::InvalidArgument | Code::OutOfRange => ErrorReason::MalformedRequest,
        Code::Unauthenticated => ErrorReason::CredentialInvalid,
        Code::PermissionDenied => ErrorReason::RoleNotAllowed,
        Code::NotFound => ErrorReason::NotFound,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => {
            ErrorReason::ConcurrentChange
        }
        Code::ResourceExhausted => ErrorReason::Overloaded,
        Code::Unavailable => ErrorReason::StoreUnavailable,
        Code::DeadlineExceeded => ErrorReason::DeadlineExceeded,
        Code::Unimplemented => ErrorReason::UnknownMethod,
        Code::DataLoss => ErrorReason::RecordCorrupt,
        Code::Ok | Code::Cancelled | Code::Unknown | Code::Internal => ErrorReason::Internal,
    }
}
