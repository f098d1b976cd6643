//! Calls by path: any RPC, any bytes, any credential header; and requests made from descriptors.
//!
//! For tests that walk the contract and so cover an RPC that nobody has thought of yet. Not here:
//! the typed clients (`harness`).

use bytes::{Buf, BufMut};
use http::uri::PathAndQuery;
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::witness::Witness;

/// Bytes in, bytes out.
#[derive(Clone, Copy, Debug, Default)]
struct Opaque;

impl Codec for Opaque {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Opaque {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Opaque {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}

/// A connection without a credential of its own.
#[derive(Clone, Debug)]
pub(crate) struct Raw(Witness);

impl Raw {
    pub(crate) async fn connect(url: &str) -> Self {
        let channel = Channel::from_shared(url.to_owned()).unwrap().connect().await.unwrap();
        Self(Witness(channel))
    }

    /// Calls with these `authorization` headers.
    pub(crate) async fn call(
        &self,
        method: &MethodDescriptor,
        authorization: &[&str],
        message: Vec<u8>,
    ) -> Result<Vec<u8>, Status> {
        let mut request = Request::new(message);
        for value in authorization {
            request.metadata_mut().append("authorization", value.parse().unwrap());
        }
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let path = PathAndQuery::try_from(path).unwrap();
        let mut client = tonic::client::Grpc::new(self.0.clone());
        client.ready().await.unwrap();
        if method.is_server_streaming() {
            let stream = client.server_streaming(request, path, Opaque).await?;
            drop(stream);
            return Ok(Vec::new());
        }
        Ok(client.unary(request, path, Opaque).await?.into_inner())
    }

    /// Calls with a key.
    pub(crate) async fn call_as(
        &self,
        key: &str,
        method: &MethodDescriptor,
        message: Vec<u8>,
    ) -> Result<Vec<u8>, Status> {
        self.call(method, &[&format!("Bearer {key}")], message).await
    }
}

/// A message given as proto3 JSON.
pub(crate) fn message(kind: &MessageDescriptor, json: &serde_json::Value) -> Vec<u8> {
    let read = DynamicMessage::deserialize(kind.clone(), json);
    read.unwrap_or_else(|error| panic!("{}: {error}: {json}", kind.full_name())).encode_to_vec()
}
