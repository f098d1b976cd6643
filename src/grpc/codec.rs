//! The codec of every service: Protobuf as prost writes it, requests read strictly.
//!
//! A request is checked once, on its wire bytes, before prost decodes it: no unknown fields, no
//! field twice, every rule of the protos, all violations reported at once. An old or new client
//! that means something this server does not know is refused, not half understood. Replies are
//! read tolerantly, as Protobuf intends. Not here: the rules themselves (`grpc/schema`).

mod walk;
mod wire;

use std::fmt;
use std::marker::PhantomData;

use bytes::Buf;
use prost::{Message, Name};
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic::{Code, Status};
use tonic_prost::ProstEncoder;

use crate::grpc::meaning;
use crate::grpc::schema::Schema;
use crate::grpc::status::{Violations, refusal};
use crate::proto::v1::ErrorReason;

/// First size of the buffer that a request is gathered in; most are smaller.
const DECODE_BUFFER: usize = 1024;
/// First size of the buffer that a reply is written to.
const ENCODE_BUFFER: usize = 4096;
/// Encoded bytes of a stream that are sent in one go.
const YIELD_THRESHOLD: usize = 32 * 1024;

/// Reads `U` and writes `T`. A `U` whose name ends in `Request` is validated and may occur only
/// once in a call, because no RPC of this server takes a stream.
pub struct StrictCodec<T, U>(PhantomData<fn(T) -> U>);

impl<T, U> Default for StrictCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> fmt::Debug for StrictCodec<T, U> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StrictCodec")
    }
}

impl<T, U> Codec for StrictCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = StrictDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(ENCODE_BUFFER, YIELD_THRESHOLD))
    }

    fn decoder(&mut self) -> Self::Decoder {
        StrictDecoder { is_used: false, message: PhantomData }
    }
}

/// The reading half of [`StrictCodec`].
pub struct StrictDecoder<U> {
    is_used: bool,
    message: PhantomData<fn() -> U>,
}

impl<U> fmt::Debug for StrictDecoder<U> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("StrictDecoder").field("is_used", &self.is_used).finish()
    }
}

impl<U: Message + Name + Default> Decoder for StrictDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        if U::NAME.ends_with("Request") {
            if self.is_used {
                return Err(malformed("the call has more than one message; send exactly one"));
            }
            self.is_used = true;
            if buffer.chunk().len() == buffer.remaining() {
                validate::<U>(buffer.chunk())?;
            } else {
                let bytes = buffer.copy_to_bytes(buffer.remaining());
                validate::<U>(&bytes)?;
                return decoded(U::decode(bytes));
            }
        }
        decoded(U::decode(buffer))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(DECODE_BUFFER, YIELD_THRESHOLD)
    }
}

fn decoded<U>(result: Result<U, prost::DecodeError>) -> Result<Option<U>, Status> {
    result.map(Some).map_err(|error| {
        tracing::debug!(%error, "undecodable message");
        malformed("the bytes are not a message of the expected type")
    })
}

/// Checks the wire bytes of a request against the rules of its type.
fn validate<U: Name>(bytes: &[u8]) -> Result<(), Status> {
    let found = check(U::PACKAGE, U::NAME, bytes)?;
    if found.is_empty() { Ok(()) } else { Err(with_meaning(found, U::NAME, bytes).status()) }
}

/// Everything that is wrong with the fields of an encoded request of the named type: their form,
/// and what they mean.
///
/// # Errors
/// The bytes are no message at all, or the type is not one of this server's requests.
pub(crate) fn faults(package: &str, name: &str, bytes: &[u8]) -> Result<Violations, Status> {
    Ok(with_meaning(check(package, name, bytes)?, name, bytes))
}

fn with_meaning(mut found: Violations, name: &str, bytes: &[u8]) -> Violations {
    let mut meant = Violations::default();
    for fault in meaning::faults(name, bytes) {
        meant.add(fault.field, fault.why);
    }
    found.add_others(meant);
    found
}

/// What is wrong with the form of the fields.
fn check(package: &str, name: &str, bytes: &[u8]) -> Result<Violations, Status> {
    let schema = Schema::shared().map_err(|error| {
        tracing::error!(%error, "the protos have a rule that cannot be enforced");
        unenforceable()
    })?;
    let request = schema.request(package, name).ok_or_else(unenforceable)?;
    walk::check(schema, request, bytes)
        .map_err(|why| malformed(&format!("the bytes are not a message of this type: {why}")))
}

/// Without its rules a request must not be served.
fn unenforceable() -> Status {
    refusal(Code::Internal, ErrorReason::Internal, "the request's rules are missing").status()
}

fn malformed(message: &str) -> Status {
    refusal(Code::InvalidArgument, ErrorReason::MalformedRequest, message).status()
}

#[cfg(test)]
mod tests;
