//! One call: its prebuilt bytes, what changes from call to call, and the cheap check of its reply.
//!
//! Not here: connections, pacing and measuring (`loader`). No message is encoded or decoded per
//! call, so that the loader costs little beside the server it measures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Method, Request, Version, header};
use prost::Message;
use quetra::proto::v1;

/// A UUID in text form.
pub(crate) type AgentId = [u8; 36];

/// Both replies that are expected here begin with it: field 1, a varint, is 1
/// (`DECISION_APPROVED`, and `SERVING` of the health service).
const WANTED_FIRST_BYTES: [u8; 2] = [0x08, 0x01];
/// Stands where the identity of the agent goes.
const AGENT_PLACE: &str = "aaaaaaaa-aaaa-4aaa-aaaa-aaaaaaaaaaaa";
/// Stands where the idempotency key goes, a version 7 UUID as clients are told to make.
const KEY_PLACE: &str = "kkkkkkkk-kkkk-kkkk-kkkk-kkkkkkkkkkkk";
/// A compression flag and a length come before every gRPC message.
const FRAME_HEAD: usize = 5;
/// What every call spends, in minor units.
pub(crate) const AMOUNT: i64 = 100;

/// Idempotency keys that no other run uses: the time of each, and a counter.
#[derive(Debug)]
pub(crate) struct Keys {
    next: AtomicU64,
}

impl Keys {
    /// Starts to count.
    pub(crate) fn new() -> Self {
        Self { next: AtomicU64::new(0) }
    }

    /// Writes a key: now in milliseconds, the version, the variant, and the number of the call.
    fn write(place: &mut [u8], number: u64) {
        let now = std::time::UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_millis();
        write_hex(&mut place[..8], now as u64 >> 16);
        write_hex(&mut place[9..13], now as u64);
        write_hex(&mut place[14..18], 0x7000);
        write_hex(&mut place[19..23], 0x8000);
        write_hex(&mut place[24..], number);
        for at in [8, 13, 18, 23] {
            place[at] = b'-';
        }
    }
}

/// The server answered, and the answer is wrong: asking again would hide it.
#[derive(Debug, thiserror::Error)]
#[error("{decision:?} instead of approved: {explanation}")]
pub(crate) struct WrongDecision {
    decision: v1::Decision,
    explanation: String,
}

/// What to call.
#[derive(Clone, Debug)]
pub(crate) enum Calls {
    /// The health service of the same port: the whole stack without the engine.
    Echo,
    /// Evaluate, for these agents in a scattered order.
    Evaluate(Arc<[AgentId]>, Arc<Keys>),
}

/// Everything of a call that can be made before the first one.
#[derive(Debug)]
pub(crate) struct Template {
    calls: Calls,
    request: Request<()>,
    body: Vec<u8>,
    agent_at: usize,
    key_at: usize,
}

impl Template {
    /// Encodes the call once; `authority` is the address of the server.
    pub(crate) fn new(calls: &Calls, authority: &str, key: &str) -> anyhow::Result<Self> {
        let (path, message) = match calls {
            Calls::Echo => ("/grpc.health.v1.Health/Check", Vec::new()),
            Calls::Evaluate(..) => ("/quetra.v1.EvaluateService/Evaluate", spend()),
        };
        let mut body = vec![0; FRAME_HEAD];
        body[1..].copy_from_slice(&u32::try_from(message.len())?.to_be_bytes());
        body.extend_from_slice(&message);
        let (agent_at, key_at) = match calls {
            Calls::Echo => (0, 0),
            Calls::Evaluate(..) => (position(&body, AGENT_PLACE)?, position(&body, KEY_PLACE)?),
        };

        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = format!("http://{authority}{path}").parse()?;
        let headers = request.headers_mut();
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        if !key.is_empty() {
            headers.insert(header::AUTHORIZATION, format!("Bearer {key}").parse()?);
        }
        Ok(Self { calls: calls.clone(), request, body, agent_at, key_at })
    }

    /// The body of the next call: a copy in which only the agent and the key are new.
    fn next_body(&self) -> Bytes {
        let mut body = BytesMut::from(self.body.as_slice());
        if let Calls::Evaluate(agents, keys) = &self.calls {
            let number = keys.next.fetch_add(1, Ordering::Relaxed);
            // A multiplicative hash: neighbours in time are far apart, and all are used alike.
            let scattered = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
            let agent = &agents[scattered as usize % agents.len()];
            body[self.agent_at..][..agent.len()].copy_from_slice(agent);
            Keys::write(&mut body[self.key_at..][..KEY_PLACE.len()], number);
        }
        body.freeze()
    }

    /// Makes one call and checks its reply.
    ///
    /// Fails with what the server said, unless the status is 0 and the first field is 1.
    pub(crate) async fn call(&self, client: &mut SendRequest<Bytes>) -> anyhow::Result<()> {
        std::future::poll_fn(|context| client.poll_ready(context)).await?;
        let (response, mut body) = client.send_request(self.request.clone(), false)?;
        body.send_data(self.next_body(), true)?;
        let mut response = response.await?;
        if response.status() != http::StatusCode::OK {
            bail!("the server answered HTTP {}", response.status());
        }
        let mut message = Bytes::new();
        while let Some(chunk) = response.body_mut().data().await {
            let chunk = chunk?;
            response.body_mut().flow_control().release_capacity(chunk.len())?;
            message = if message.is_empty() { chunk } else { [message, chunk].concat().into() };
        }
        match response.body_mut().trailers().await? {
            Some(trailers) => check_status(&trailers)?,
            None => check_status(response.headers())?,
        }
        self.check_reply(&message)
    }

    fn check_reply(&self, framed: &[u8]) -> anyhow::Result<()> {
        let message = framed.get(FRAME_HEAD..).context("the reply has no message")?;
        if message.starts_with(&WANTED_FIRST_BYTES) {
            return Ok(());
        }
        match self.calls {
            Calls::Echo => bail!("the server says that it is not serving"),
            Calls::Evaluate(..) => {
                let reply = v1::EvaluateResponse::decode(message)?;
                let decision = reply.decision();
                Err(WrongDecision { decision, explanation: reply.explanation }.into())
            }
        }
    }
}

fn check_status(headers: &HeaderMap) -> anyhow::Result<()> {
    let status = headers.get("grpc-status").context("the reply has no grpc-status")?;
    if status != "0" {
        bail!("grpc-status {status:?}, {:?}", headers.get("grpc-message"));
    }
    Ok(())
}

fn spend() -> Vec<u8> {
    let request = v1::EvaluateRequest {
        agent_id: AGENT_PLACE.to_owned(),
        amount: Some(AMOUNT),
        currency: "USD".to_owned(),
        vendor: "api.firecrawl.dev".to_owned(),
        category: "research".to_owned(),
        description: "one page of search results".to_owned(),
        protocol: v1::Protocol::Direct.into(),
        idempotency_key: KEY_PLACE.to_owned(),
        ..v1::EvaluateRequest::default()
    };
    request.encode_to_vec()
}

fn position(body: &[u8], place: &str) -> anyhow::Result<usize> {
    let found = body.windows(place.len()).position(|window| window == place.as_bytes());
    found.context("the encoded request lacks a place to patch")
}

/// Writes the lowest digits of the number, in lower-case hexadecimal.
fn write_hex(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}
