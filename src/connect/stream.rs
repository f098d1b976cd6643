//! Connect's streams: messages in envelopes, with the outcome in the last one.
//!
//! Only server streams: one message comes in, any number goes out.

use axum::body::Body;
use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use prost_reflect::MessageDescriptor;
use serde_json::{Map, Value, json};
use tonic::{Code, Status};

use super::{HEAD_BYTES, Media, error, failure, framed, internal, json as messages, malformed};
use crate::grpc::status::refusal;
use crate::proto::v1::ErrorReason;

/// The flag of an envelope whose message is compressed.
const COMPRESSED: u8 = 0b01;
/// The flag of the envelope that ends a stream.
const END: u8 = 0b10;

/// The one message in the body of a request.
pub(super) fn only_message(mut body: Bytes) -> Result<Bytes, Status> {
    let Some((flag, length)) = head(&body) else {
        return Err(malformed("the body has no complete envelope; send exactly one message"));
    };
    if flag & COMPRESSED != 0 {
        let why = "the message is compressed; send it uncompressed";
        let reason = ErrorReason::CompressionNotSupported;
        return Err(refusal(Code::Unimplemented, reason, why).status());
    }
    body.advance(HEAD_BYTES);
    if flag != 0 || body.len() != length {
        return Err(malformed("the body must be one envelope with exactly one message"));
    }
    Ok(body)
}

/// Flag and length of the envelope that the bytes begin with.
fn head(bytes: &[u8]) -> Option<(u8, usize)> {
    let (flag, rest) = bytes.split_first()?;
    let length = u32::from_be_bytes(*rest.first_chunk()?);
    Some((*flag, usize::try_from(length).ok()?))
}

/// The envelope that ends a stream, well or with an error.
pub(super) fn end(status: Option<&Status>) -> Bytes {
    end_with(status, &HeaderMap::new())
}

fn end_with(status: Option<&Status>, trailers: &HeaderMap) -> Bytes {
    let mut metadata = Map::new();
    for name in trailers.keys().filter(|name| !name.as_str().starts_with("grpc-")) {
        let values = trailers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        metadata.insert(name.to_string(), values.map(Value::from).collect());
    }
    let mut outcome = Map::new();
    if let Some(status) = status {
        outcome.insert("error".to_owned(), error::body(status));
    }
    if !metadata.is_empty() {
        outcome.insert("metadata".to_owned(), Value::Object(metadata));
    }
    framed(END, json!(outcome).to_string().as_bytes()).unwrap_or_default()
}

/// A gRPC stream on its way to a client of Connect.
struct Envelopes {
    body: Body,
    pending: BytesMut,
    media: Media,
    output: MessageDescriptor,
    is_ended: bool,
}

/// The body of a reply: each message of the gRPC body in an envelope, then the outcome.
pub(super) fn envelopes(body: Body, media: Media, output: MessageDescriptor) -> Body {
    let state = Envelopes { body, pending: BytesMut::new(), media, output, is_ended: false };
    Body::from_stream(futures::stream::unfold(state, |mut state| async move {
        let envelope = state.next().await?;
        Some((Ok::<_, std::convert::Infallible>(envelope), state))
    }))
}

impl Envelopes {
    async fn next(&mut self) -> Option<Bytes> {
        while !self.is_ended {
            match self.message() {
                Ok(Some(envelope)) => return Some(envelope),
                Ok(None) => {}
                Err(status) => return Some(self.end(Some(&status), &HeaderMap::new())),
            }
            let Some(frame) = self.body.frame().await else {
                let status = internal("the stream broke off");
                return Some(self.end(Some(&status), &HeaderMap::new()));
            };
            match frame.map(http_body::Frame::into_data) {
                Ok(Ok(data)) => self.pending.extend_from_slice(&data),
                Ok(Err(frame)) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    return Some(self.end(failure(&trailers).as_ref(), &trailers));
                }
                Err(error) => {
                    tracing::debug!(%error, "a stream broke off");
                    let status = internal("the stream broke off");
                    return Some(self.end(Some(&status), &HeaderMap::new()));
                }
            }
        }
        None
    }

    /// The next message, if all of it has arrived.
    fn message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((_, length)) = head(&self.pending) else {
            return Ok(None);
        };
        if self.pending.len() < HEAD_BYTES.saturating_add(length) {
            return Ok(None);
        }
        self.pending.advance(HEAD_BYTES);
        let message = self.pending.split_to(length).freeze();
        let message = match self.media.is_json {
            true => messages::from_bytes(self.output.clone(), &message)?,
            false => message,
        };
        framed(0, &message).map(Some)
    }

    fn end(&mut self, status: Option<&Status>, trailers: &HeaderMap) -> Bytes {
        self.is_ended = true;
        end_with(status, trailers)
    }
}
