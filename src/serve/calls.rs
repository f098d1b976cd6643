//! Every gRPC call, whatever protocol it came in by: its time limit, its panics, and errors that
//! tonic words differently from the contract.
//!
//! tonic answers bytes it cannot read with INTERNAL and a message over the limit with
//! `OUT_OF_RANGE`; here they become the caller's errors they are, so that an alert on INTERNAL
//! means a bug. Not here: authentication and the methods, which are in the router behind.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response};
use tonic::{Code, Status};
use tower::Service;

use super::request_id::REQUEST_ID;
use crate::connect::unknown_method;
use crate::grpc::status::refusal;
use crate::proto::v1::ErrorReason;

/// Digits of the longest `grpc-timeout`, by the protocol.
const TIMEOUT_DIGITS_MAX: usize = 8;

/// The gRPC services, as a service that can be called in process by a generated client too.
///
/// Bounds the time of each call by its `grpc-timeout` and by the server's own limit, turns a panic
/// into INTERNAL, and corrects tonic's codes.
#[derive(Debug, Clone)]
pub struct GrpcCalls {
    router: axum::Router,
    time_max: Duration,
}

impl GrpcCalls {
    /// Wraps a router of gRPC services; no call may take longer than `time_max`.
    #[must_use]
    pub fn new(router: axum::Router, time_max: Duration) -> Self {
        // Preparing the state now makes every call cheaper.
        Self { router: router.with_state(()), time_max }
    }

    /// Makes one call.
    pub(super) async fn call(&self, request: Request<Body>) -> Response<Body> {
        let time = match time_allowed(request.headers(), self.time_max) {
            Ok(Duration::ZERO) => {
                return answer(expired("the time allowed is zero; nothing was done"));
            }
            Ok(time) => time,
            Err(status) => return answer(status),
        };
        let id = request.headers().get(REQUEST_ID).cloned();
        let mut router = self.router.clone();
        let call = AssertUnwindSafe(async move { router.call(request).await }).catch_unwind();
        match tokio::time::timeout(time, call).await {
            Ok(Ok(Ok(response))) => corrected(response),
            Ok(Ok(Err(never))) => match never {},
            Ok(Err(_panic)) => answer(panicked(id.as_ref())),
            Err(_elapsed) => {
                answer(expired("the time allowed ran out; repeat with the same idempotency key"))
            }
        }
    }
}

impl<B> Service<Request<B>> for GrpcCalls
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let calls = self.clone();
        let request = request.map(Body::new);
        Box::pin(async move { Ok(Self::call(&calls, request).await) })
    }
}

/// How long the call may take.
fn time_allowed(headers: &HeaderMap, time_max: Duration) -> Result<Duration, Status> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(time_max);
    };
    parsed_timeout(value).map(|time| time.min(time_max)).ok_or_else(|| {
        let why = "grpc-timeout must be at most 8 digits and a unit, such as 500m or 2S";
        refusal(Code::InvalidArgument, ErrorReason::MalformedRequest, why).status()
    })
}

fn parsed_timeout(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    if digits.is_empty()
        || digits.len() > TIMEOUT_DIGITS_MAX
        || !digits.iter().all(u8::is_ascii_digit)
    {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number.saturating_mul(3600)),
        b'M' => Duration::from_secs(number.saturating_mul(60)),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// A reply that consists of an error.
pub(super) fn answer(status: Status) -> Response<Body> {
    status.into_http()
}

/// The error for a bug that was caught.
fn panicked(id: Option<&HeaderValue>) -> Status {
    let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default();
    tracing::error!(request_id = id, "a call panicked");
    let why = "the server has a bug and nothing was approved; report the request id";
    refusal(Code::Internal, ErrorReason::Internal, why).with("request_id", id).status()
}

fn expired(why: &str) -> Status {
    refusal(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded, why).status()
}

/// Rewrites an error of tonic's own, which is known by having no details.
fn corrected(response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    let is_ours = match headers.get(Status::GRPC_STATUS) {
        None => true,
        Some(code) => code == "0" || headers.contains_key(Status::GRPC_STATUS_DETAILS),
    };
    if is_ours {
        return response;
    }
    let Some(corrected) = Status::from_header_map(headers).and_then(|status| correction(&status))
    else {
        return response;
    };
    let mut rewritten = answer(corrected);
    if let Some(accepted) = headers.get("grpc-accept-encoding") {
        rewritten.headers_mut().insert("grpc-accept-encoding", accepted.clone());
    }
    rewritten
}

/// The contract's error for one of tonic's. The tests of this module hold tonic to its words.
fn correction(status: &Status) -> Option<Status> {
    let message = status.message();
    let has = |part: &str| message.contains(part);
    let malformed = |why: &str| {
        Some(refusal(Code::InvalidArgument, ErrorReason::MalformedRequest, why).status())
    };
    let compressed = || {
        let why = "the request is compressed; send it uncompressed";
        Some(refusal(Code::Unimplemented, ErrorReason::CompressionNotSupported, why).status())
    };
    if status.code() == Code::OutOfRange && has("message length too large") {
        let why = "the message is larger than the limit; send less at once";
        return Some(refusal(Code::ResourceExhausted, ErrorReason::MessageTooLarge, why).status());
    }
    if status.code() == Code::Unimplemented {
        return if has("compress") {
            compressed()
        } else if message.is_empty() {
            Some(unknown_method())
        } else {
            None
        };
    }
    if has("tonic-web:") && matches!(status.code(), Code::Internal | Code::DataLoss) {
        return malformed("the body is not base64, which grpc-web-text needs");
    }
    if status.code() != Code::Internal {
        return None;
    }
    if has("Missing request message") {
        malformed("the call has no message; send exactly one")
    } else if has("Unexpected EOF") {
        malformed("the call ends in the middle of its message")
    } else if has("compressed-flag") {
        compressed()
    } else if has("invalid compression flag") {
        malformed("the message does not begin with a flag of 0 or 1")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_read_as_the_protocol_says() {
        let read = |text: &str| parsed_timeout(&HeaderValue::from_str(text).unwrap());
        assert_eq!(read("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(read("2M"), Some(Duration::from_secs(120)));
        assert_eq!(read("3S"), Some(Duration::from_secs(3)));
        assert_eq!(read("4m"), Some(Duration::from_millis(4)));
        assert_eq!(read("5u"), Some(Duration::from_micros(5)));
        assert_eq!(read("6n"), Some(Duration::from_nanos(6)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for wrong in ["", "S", "5", "abc", "123456789S", "-1S", "+1S", "1.5S", "1 S", "1s"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
