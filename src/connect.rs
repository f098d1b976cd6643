//! The Connect protocol: every RPC as an HTTP POST with JSON or Protobuf, by reflection.
//!
//! `POST /quetra.v1.EvaluateService/Evaluate` with `content-type: application/json` is all that a
//! client needs. Each call becomes a gRPC call to the router behind it, so it passes the same
//! authentication, validation and limits. Server streams work as Connect's enveloped streams. Not
//! here: GET requests and compression, which the protocol leaves optional, the REST paths, and
//! CORS.

mod error;
mod json;
mod stream;

use std::collections::HashMap;
use std::time::Duration;

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use tonic::{Code, Status};

use crate::grpc::status::refusal;
use crate::grpc::trial;
use crate::proto::v1::ErrorReason;

const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("connect-protocol-version");
const TIMEOUT: HeaderName = HeaderName::from_static("connect-timeout-ms");
const STREAM_ENCODING: HeaderName = HeaderName::from_static("connect-content-encoding");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Headers that speak of the HTTP exchange and not of the call.
const NOT_METADATA: [HeaderName; 10] = [
    PROTOCOL_VERSION,
    TIMEOUT,
    STREAM_ENCODING,
    GRPC_TIMEOUT,
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::TRANSFER_ENCODING,
];
/// Digits of the longest `connect-timeout-ms`, by the protocol.
const TIMEOUT_DIGITS_MAX: usize = 10;
/// Digits of the longest `grpc-timeout`, by the protocol.
const GRPC_TIMEOUT_MAX: u64 = 99_999_999;
/// Bytes of the head of a gRPC or Connect message: a flag and a length.
const HEAD_BYTES: usize = 5;
/// What a POST may carry, for `accept-post`.
const ACCEPTED: &str = "application/json, application/proto, application/connect+json, \
     application/connect+proto, application/grpc, application/grpc-web, application/grpc-web-text";

/// Limits of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of the largest request.
    pub(crate) request_bytes: usize,
    /// Bytes of the largest reply.
    pub(crate) reply_bytes: usize,
    /// Longest time in which a request must have arrived.
    pub(crate) arrival: Duration,
}

/// The methods that can be called.
#[derive(Debug)]
pub(crate) struct Connect {
    methods: HashMap<String, MethodDescriptor>,
    limits: Limits,
}

/// How the messages of one call are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Media {
    is_json: bool,
    is_stream: bool,
}

impl Media {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let name = value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase();
        let (is_json, is_stream) = match name.as_str() {
            "application/json" => (true, false),
            "application/proto" => (false, false),
            "application/connect+json" => (true, true),
            "application/connect+proto" => (false, true),
            _ => return None,
        };
        Some(Self { is_json, is_stream })
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match (self.is_json, self.is_stream) {
            (true, false) => "application/json",
            (false, false) => "application/proto",
            (true, true) => "application/connect+json",
            (false, true) => "application/connect+proto",
        })
    }
}

impl Connect {
    /// Reads the methods of every service in the descriptor sets.
    ///
    /// # Errors
    /// A descriptor set cannot be read.
    pub(crate) fn new(
        descriptor_sets: &[&[u8]],
        limits: Limits,
    ) -> Result<Self, prost_reflect::DescriptorError> {
        let mut methods = HashMap::new();
        for set in descriptor_sets {
            for service in DescriptorPool::decode(*set)?.services() {
                for method in service.methods() {
                    methods.insert(format!("/{}/{}", service.full_name(), method.name()), method);
                }
            }
        }
        Ok(Self { methods, limits })
    }

    /// Answers one request to a path of the form `/package.Service/Method`, by way of `grpc`.
    pub(crate) async fn call<F, R>(&self, request: Request<Body>, grpc: F) -> Response<Body>
    where
        F: FnOnce(Request<Body>) -> R,
        R: Future<Output = Response<Body>>,
    {
        if request.method() != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "call a method with POST", |headers| {
                headers.insert(header::ALLOW, HeaderValue::from_static("POST, OPTIONS"));
            });
        }
        let Some(media) = Media::of(request.headers()) else {
            return unsupported_media("send application/json or application/proto");
        };
        let Some(method) = self.methods.get(request.uri().path()) else {
            return error::response(&unknown_method(), media);
        };
        if media.is_stream != method.is_server_streaming() {
            return unsupported_media(match media.is_stream {
                true => "the method is unary: send application/json or application/proto",
                false => "the method streams: send application/connect+json or +proto",
            });
        }
        match self.exchange(request, media, method, grpc).await {
            Ok(response) => response,
            Err(status) => error::response(&status, media),
        }
    }

    async fn exchange<F, R>(
        &self,
        request: Request<Body>,
        media: Media,
        method: &MethodDescriptor,
        grpc: F,
    ) -> Result<Response<Body>, Status>
    where
        F: FnOnce(Request<Body>) -> R,
        R: Future<Output = Response<Body>>,
    {
        let (mut parts, body) = request.into_parts();
        let (message, timeout) = match self.read((&parts.headers, body), media, method).await {
            Ok(read) => read,
            Err(wrong) => {
                // What is wrong is for those who may call.
                for name in NOT_METADATA {
                    parts.headers.remove(name);
                }
                let Ok(trial) = trial::request(parts.uri.path(), &parts.headers) else {
                    return Err(wrong);
                };
                return Err(trial::refusal(&grpc(trial).await).unwrap_or(wrong));
            }
        };

        for name in NOT_METADATA {
            parts.headers.remove(name);
        }
        let headers = &mut parts.headers;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        if let Some(timeout) = timeout {
            headers.insert(GRPC_TIMEOUT, timeout);
        }
        parts.version = Version::HTTP_2;
        let response = grpc(Request::from_parts(parts, Body::from(framed(0, &message)?))).await;

        let (parts, body) = response.into_parts();
        if let Some(status) = failure(&parts.headers) {
            let mut response = error::response(&status, media);
            copy_metadata(&parts.headers, response.headers_mut(), "");
            return Ok(response);
        }
        let mut response = match media.is_stream {
            true => Response::new(stream::envelopes(body, media, method.output())),
            false => self.unary(body, media, method).await?,
        };
        copy_metadata(&parts.headers, response.headers_mut(), "");
        response.headers_mut().insert(header::CONTENT_TYPE, media.content_type());
        Ok(response)
    }

    /// The message of a request, and the time that it allows.
    async fn read(
        &self,
        (headers, body): (&HeaderMap, Body),
        media: Media,
        method: &MethodDescriptor,
    ) -> Result<(Bytes, Option<HeaderValue>), Status> {
        negotiate(headers)?;
        let timeout = timeout(headers)?;
        let collected = tokio::time::timeout(self.limits.arrival, self.collect(body));
        let bytes = collected.await.map_err(|_| too_slow())??;
        let bytes = if media.is_stream { stream::only_message(bytes)? } else { bytes };
        let message = match media.is_json {
            true => json::to_message(&method.input(), &bytes)?,
            false => bytes,
        };
        Ok((message, timeout))
    }

    async fn collect(&self, body: Body) -> Result<Bytes, Status> {
        match Limited::new(body, self.limits.request_bytes).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(too_large(self.limits.request_bytes))
            }
            Err(_) => Err(malformed("the body ended early; send it again")),
        }
    }

    async fn unary(
        &self,
        body: Body,
        media: Media,
        method: &MethodDescriptor,
    ) -> Result<Response<Body>, Status> {
        let limit = self.limits.reply_bytes.saturating_add(HEAD_BYTES);
        let collected = Limited::new(body, limit).collect().await.map_err(|error| {
            tracing::error!(%error, "a reply could not be read");
            internal("the reply could not be read")
        })?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        if let Some(status) = failure(&trailers) {
            let mut response = error::response(&status, media);
            copy_metadata(&trailers, response.headers_mut(), "trailer-");
            return Ok(response);
        }
        let bytes = collected.to_bytes();
        let message = match bytes.len() >= HEAD_BYTES {
            true => bytes.slice(HEAD_BYTES..),
            false => return Err(internal("the reply is missing")),
        };
        let body = match media.is_json {
            true => json::from_bytes(method.output(), &message)?,
            false => message,
        };
        let mut response = Response::new(Body::from(body));
        copy_metadata(&trailers, response.headers_mut(), "trailer-");
        Ok(response)
    }
}

/// Refuses what this server does not speak.
fn negotiate(headers: &HeaderMap) -> Result<(), Status> {
    for name in [header::CONTENT_ENCODING, STREAM_ENCODING] {
        if headers.get(name).is_some_and(|encoding| encoding != "identity") {
            let reason = ErrorReason::CompressionNotSupported;
            let why = "the request is compressed; send it without a content encoding";
            return Err(refusal(Code::Unimplemented, reason, why).status());
        }
    }
    match headers.get(PROTOCOL_VERSION) {
        Some(version) if version != "1" => {
            Err(malformed("connect-protocol-version must be 1 or absent"))
        }
        _ => Ok(()),
    }
}

/// The `grpc-timeout` that says the same as the request's `connect-timeout-ms`.
fn timeout(headers: &HeaderMap) -> Result<Option<HeaderValue>, Status> {
    let Some(value) = headers.get(TIMEOUT) else {
        return Ok(None);
    };
    let digits = value.to_str().ok().filter(|digits| {
        digits.len() <= TIMEOUT_DIGITS_MAX && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    let milliseconds = digits.and_then(|digits| digits.parse::<u64>().ok());
    let milliseconds = milliseconds.ok_or_else(|| {
        malformed("connect-timeout-ms must be a number of milliseconds of at most 10 digits")
    })?;
    let written = format!("{}m", milliseconds.min(GRPC_TIMEOUT_MAX));
    Ok(HeaderValue::from_str(&written).ok())
}

/// One message with its head, as gRPC and Connect's streams write it.
fn framed(flag: u8, message: &[u8]) -> Result<Bytes, Status> {
    let length = u32::try_from(message.len()).map_err(|_| too_large(message.len()))?;
    let mut frame = BytesMut::with_capacity(message.len().saturating_add(HEAD_BYTES));
    frame.put_u8(flag);
    frame.put_u32(length);
    frame.put_slice(message);
    Ok(frame.freeze())
}

/// The status of a finished call, if it failed.
fn failure(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)
}

fn copy_metadata(from: &HeaderMap, to: &mut HeaderMap, prefix: &str) {
    for (name, value) in from {
        if name.as_str().starts_with("grpc-") || NOT_METADATA.contains(name) {
            continue;
        }
        if prefix.is_empty() {
            to.append(name.clone(), value.clone());
        } else if let Ok(name) = HeaderName::try_from(format!("{prefix}{name}")) {
            to.append(name, value.clone());
        }
    }
}

fn plain(
    code: StatusCode,
    sentence: &'static str,
    add: impl FnOnce(&mut HeaderMap),
) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{sentence}\n")));
    *response.status_mut() = code;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    add(response.headers_mut());
    response
}

/// The answer to a content type that no protocol of this server has.
pub(crate) fn unsupported_media(sentence: &'static str) -> Response<Body> {
    plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, sentence, |headers| {
        headers.insert("accept-post", HeaderValue::from_static(ACCEPTED));
    })
}

/// The error for a method that no service has.
pub(crate) fn unknown_method() -> Status {
    let why = "there is no such method; the names are in the proto files and in reflection";
    refusal(Code::Unimplemented, ErrorReason::UnknownMethod, why).status()
}

fn malformed(why: &str) -> Status {
    refusal(Code::InvalidArgument, ErrorReason::MalformedRequest, why).status()
}

fn internal(why: &str) -> Status {
    refusal(Code::Internal, ErrorReason::Internal, why).status()
}

fn too_large(limit: usize) -> Status {
    let why = format!("the request is larger than {limit} bytes; send less at once");
    refusal(Code::ResourceExhausted, ErrorReason::MessageTooLarge, why).status()
}

fn too_slow() -> Status {
    let why = "the request did not arrive in time; nothing was done, send it again";
    refusal(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded, why).status()
}

/// Decodes a message of a known type.
fn decode(
    descriptor: prost_reflect::MessageDescriptor,
    bytes: &[u8],
) -> Result<DynamicMessage, Status> {
    DynamicMessage::decode(descriptor, bytes).map_err(|error| {
        tracing::error!(%error, "a reply could not be decoded");
        internal("the reply could not be decoded")
    })
}

#[cfg(test)]
mod tests;
