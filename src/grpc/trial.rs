//! A call without a message: it meets all that stands in front of a method, and reaches none.
//!
//! Whoever reads a request in another form asks first whether the caller may make it, before saying
//! what is wrong with it: what a field must look like is not told to strangers. Not here: the check
//! itself (`access`).

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Request, Response, Version, header};
use tonic::{Code, Status};

/// The call of a method by its path, with the headers of the request that it is about.
pub(crate) fn request(path: &str, headers: &HeaderMap) -> Result<Request<Body>, http::Error> {
    let mut request = Request::post(path).version(Version::HTTP_2).body(Body::empty())?;
    let own = request.headers_mut();
    own.clone_from(headers);
    own.remove(header::CONTENT_LENGTH);
    own.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    own.insert(header::TE, HeaderValue::from_static("trailers"));
    Ok(request)
}

/// Why the caller is not let through, if that is so.
pub(crate) fn refusal(response: &Response<Body>) -> Option<Status> {
    let status = Status::from_header_map(response.headers())?;
    match status.code() {
        // Let through, and then missed: there is no message.
        Code::Ok | Code::InvalidArgument | Code::Internal => None,
        Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => Some(status),
    }
}
