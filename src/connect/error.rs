//! Errors as Connect writes them: a code word, the sentence, and every detail twice, as bytes for
//! programs and readable for people with `curl`.

use std::sync::OnceLock;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::{Media, stream};

/// The word and the HTTP code of a canonical code, by the Connect protocol.
fn code_word(code: Code) -> (&'static str, u16) {
    match code {
        Code::Ok | Code::Unknown => ("unknown", 500),
        Code::Cancelled => ("canceled", 499),
        Code::InvalidArgument => ("invalid_argument", 400),
        Code::DeadlineExceeded => ("deadline_exceeded", 504),
        Code::NotFound => ("not_found", 404),
        Code::AlreadyExists => ("already_exists", 409),
        Code::PermissionDenied => ("permission_denied", 403),
        Code::ResourceExhausted => ("resource_exhausted", 429),
        Code::FailedPrecondition => ("failed_precondition", 400),
        Code::Aborted => ("aborted", 409),
        Code::OutOfRange => ("out_of_range", 400),
        Code::Unimplemented => ("unimplemented", 501),
        Code::Internal => ("internal", 500),
        Code::Unavailable => ("unavailable", 503),
        Code::DataLoss => ("data_loss", 500),
        Code::Unauthenticated => ("unauthenticated", 401),
    }
}

/// The whole answer to a call that failed before its first message.
pub(super) fn response(status: &Status, media: Media) -> Response<Body> {
    if media.is_stream {
        let mut response = Response::new(Body::from(stream::end(Some(status))));
        response.headers_mut().insert(header::CONTENT_TYPE, media.content_type());
        return response;
    }
    let mut response = Response::new(Body::from(Bytes::from(body(status).to_string())));
    let (_, code) = code_word(status.code());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or_default();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// The JSON of an error.
pub(super) fn body(status: &Status) -> Value {
    let details = tonic_types::pb::Status::decode(status.details())
        .map(|status| status.details)
        .unwrap_or_default();
    let details: Vec<Value> = details
        .into_iter()
        .map(|detail| {
            let name = detail.type_url.rsplit('/').next().unwrap_or_default();
            let mut written = json!({
                "type": name,
                "value": STANDARD_NO_PAD.encode(&detail.value),
            });
            if let (Some(debug), Some(object)) =
                (readable(name, &detail.value), written.as_object_mut())
            {
                object.insert("debug".to_owned(), debug);
            }
            written
        })
        .collect();
    let (word, _) = code_word(status.code());
    json!({ "code": word, "message": status.message(), "details": details })
}

/// A detail as JSON, if its type is one of `google.rpc`.
fn readable(name: &str, bytes: &[u8]) -> Option<Value> {
    static TYPES: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    let types =
        TYPES.get_or_init(|| DescriptorPool::decode(tonic_types::pb::FILE_DESCRIPTOR_SET).ok());
    let descriptor = types.as_ref()?.get_message_by_name(name)?;
    serde_json::to_value(DynamicMessage::decode(descriptor, bytes).ok()?).ok()
}
