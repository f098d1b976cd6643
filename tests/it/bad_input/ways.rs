//! The same refused request over gRPC, the Connect protocol and REST, and what each must answer.
//!
//! A row is written once, in the JSON of the contract; REST rows say where REST differs. What a
//! code becomes in HTTP is written down here again, from the protocols, not taken from the server.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use serde_json::Value;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::server::Server;
use super::wire::{Call, Http1, Http2, Reply};
use super::{CANARY, CANARY_HEAD};
use crate::harness::witness;

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(quetra::proto::DESCRIPTORS).unwrap());

/// A way into the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Grpc,
    Connect,
    Rest,
}

pub(crate) const WAYS: [Way; 3] = [Way::Grpc, Way::Connect, Way::Rest];

/// What REST calls the same thing.
#[derive(Clone, Debug)]
pub(crate) struct Rest {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    /// Null sends no body.
    pub(crate) body: Value,
}

pub(crate) fn rest(method: &'static str, path: impl Into<String>, body: Value) -> Rest {
    Rest { method, path: path.into(), body }
}

/// One request that must be refused.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// In the catalogue of bad input.
    pub(crate) number: u16,
    pub(crate) what: String,
    /// The credential; empty means none.
    pub(crate) key: String,
    pub(crate) rpc: String,
    pub(crate) message: Value,
    pub(crate) rest: Option<Rest>,
    pub(crate) code: Code,
    pub(crate) reason: &'static str,
    /// The fields that must be listed, in the names of the contract.
    pub(crate) fields: Vec<String>,
    /// The same for REST, where they are not simply in camel case.
    pub(crate) rest_fields: Option<Vec<String>>,
    pub(crate) not: Vec<Way>,
}

impl Row {
    pub(crate) fn new(number: u16, what: &str, rpc: &str, message: Value) -> Self {
        Self {
            number,
            what: what.to_owned(),
            key: String::new(),
            rpc: rpc.to_owned(),
            message,
            rest: None,
            code: Code::InvalidArgument,
            reason: "INVALID_FIELDS",
            fields: Vec::new(),
            rest_fields: None,
            not: Vec::new(),
        }
    }

    pub(crate) fn by(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self
    }

    pub(crate) fn rest(self, rest: Rest) -> Self {
        Self { rest: Some(rest), ..self }
    }

    pub(crate) fn fields(self, fields: &[&str]) -> Self {
        Self { fields: owned(fields), ..self }
    }

    pub(crate) fn rest_fields(self, fields: &[&str]) -> Self {
        Self { rest_fields: Some(owned(fields)), ..self }
    }

    pub(crate) fn refused(self, code: Code, reason: &'static str) -> Self {
        Self { code, reason, ..self }
    }

    pub(crate) fn not_found(self) -> Self {
        self.refused(Code::NotFound, "NOT_FOUND")
    }

    pub(crate) fn not(mut self, way: Way) -> Self {
        self.not.push(way);
        self
    }

    fn goes(&self, way: Way) -> bool {
        !self.not.contains(&way) && (way != Way::Rest || self.rest.is_some())
    }

    fn call(&self, way: Way) -> Call {
        match way {
            Way::Grpc => grpc(&self.key, &self.rpc, &encoded(&self.rpc, &self.message)),
            Way::Connect => connect(&self.key, &self.rpc, self.message.to_string()),
            Way::Rest => self.rest.as_ref().unwrap().call(&self.key),
        }
    }

    fn expected(&self, way: Way) -> Vec<String> {
        let mut fields = match (way, &self.rest_fields) {
            (Way::Rest, Some(fields)) => fields.clone(),
            (Way::Rest, None) => self.fields.iter().map(|field| camel(field)).collect(),
            (Way::Grpc | Way::Connect, _) => self.fields.clone(),
        };
        fields.sort_unstable();
        fields
    }
}

impl Rest {
    pub(crate) fn call(&self, key: &str) -> Call {
        let path = format!("/api/v1{}", self.path);
        let body = if self.body.is_null() { String::new() } else { self.body.to_string() };
        let call = Call::new(self.method, &path, body).header("content-type", "application/json");
        authorized(call, key)
    }
}

fn owned(fields: &[&str]) -> Vec<String> {
    fields.iter().map(|field| (*field).to_owned()).collect()
}

/// `agentId` for `agent_id`; what stands in brackets is the caller's.
pub(crate) fn camel(field: &str) -> String {
    let (mut camel, mut upper, mut depth) = (String::new(), false, 0);
    for letter in field.chars() {
        depth += i32::from(letter == '[') - i32::from(letter == ']');
        match letter {
            '_' if depth == 0 => upper = true,
            letter if upper => {
                camel.extend(letter.to_uppercase());
                upper = false;
            }
            letter => camel.push(letter),
        }
    }
    camel
}

fn authorized(call: Call, key: &str) -> Call {
    if key.is_empty() { call } else { call.header("authorization", &format!("Bearer {key}")) }
}

/// A message with its head.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], length.as_slice(), message].concat()
}

/// A gRPC call of already encoded bytes.
pub(crate) fn grpc(key: &str, rpc: &str, message: &[u8]) -> Call {
    let call = Call::new("POST", &format!("/quetra.v1.{rpc}"), framed(message))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    authorized(call, key)
}

/// A call by the Connect protocol.
pub(crate) fn connect(key: &str, rpc: &str, body: impl Into<Vec<u8>>) -> Call {
    let call = Call::new("POST", &format!("/quetra.v1.{rpc}"), body)
        .header("content-type", "application/json");
    authorized(call, key)
}

fn method(rpc: &str) -> MethodDescriptor {
    let (service, method) = rpc.split_once('/').unwrap();
    let service = POOL.get_service_by_name(&format!("quetra.v1.{service}")).unwrap();
    service.methods().find(|known| known.name() == method).unwrap()
}

/// The message that the JSON describes, as bytes.
pub(crate) fn encoded(rpc: &str, message: &Value) -> Vec<u8> {
    use prost_reflect::prost::Message as _;
    let message = DynamicMessage::deserialize(method(rpc).input(), message.clone()).unwrap();
    message.encode_to_vec()
}

/// An answer in the words of the contract.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) http: u16,
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) fields: Vec<String>,
    pub(crate) sentence: String,
    /// What the caller is told to wait, in milliseconds.
    pub(crate) wait: Option<u128>,
}

impl Answer {
    pub(crate) fn read(way: Way, reply: &Reply) -> Self {
        match way {
            Way::Grpc => Self::of_grpc(reply),
            Way::Connect => Self::of_connect(reply),
            Way::Rest => Self::of_rest(reply),
        }
    }

    fn of_grpc(reply: &Reply) -> Self {
        let status = status(reply);
        let details = status.get_error_details();
        let violations = details.bad_request().map(|wrong| wrong.field_violations.clone());
        let fields = violations.unwrap_or_default().into_iter().map(|wrong| wrong.field);
        Self {
            http: reply.status,
            code: status.code(),
            reason: details.error_info().map(|info| info.reason.clone()).unwrap_or_default(),
            fields: fields.collect(),
            sentence: status.message().to_owned(),
            wait: details.retry_info().and_then(|info| info.retry_delay).map(|d| d.as_millis()),
        }
    }

    fn of_connect(reply: &Reply) -> Self {
        let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let words = body["code"].as_str().unwrap_or("ok").to_uppercase();
        let details = body["details"].as_array().cloned().unwrap_or_default();
        let detail = |name: &str| {
            let found =
                details.iter().find(|detail| detail["type"] == format!("google.rpc.{name}"));
            found.map(|detail| detail["debug"].clone()).unwrap_or_default()
        };
        let delay = detail("RetryInfo")["retryDelay"].as_str().map(|text| {
            let seconds: f64 = text.trim_end_matches('s').parse().unwrap();
            std::time::Duration::from_secs_f64(seconds).as_millis()
        });
        Self {
            http: reply.status,
            code: code_of(&words),
            reason: detail("ErrorInfo")["reason"].as_str().unwrap_or_default().to_owned(),
            fields: fields_of(&detail("BadRequest")["fieldViolations"]),
            sentence: body["message"].as_str().unwrap_or_default().to_owned(),
            wait: delay,
        }
    }

    fn of_rest(reply: &Reply) -> Self {
        let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        Self {
            http: reply.status,
            // REST has no codes beside HTTP's.
            code: Code::Unknown,
            reason: body["reason"].as_str().unwrap_or_default().to_owned(),
            fields: fields_of(&body["details"]),
            sentence: body["error"].as_str().unwrap_or_default().to_owned(),
            wait: reply.header("retry-after").parse::<u128>().ok().map(|seconds| seconds * 1_000),
        }
    }
}

/// The status of a gRPC call.
fn status(reply: &Reply) -> Status {
    Status::from_header_map(&reply.headers)
        .or_else(|| Status::from_header_map(&reply.trailers))
        .unwrap_or_else(|| Status::unknown(reply.everything()))
}

/// How an error over gRPC breaks what the contract says of its RPC, if it does.
pub(crate) fn undocumented(rpc: &str, reply: &Reply) -> Option<String> {
    witness::complaint(&format!("/quetra.v1.{rpc}"), &status(reply))
}

/// Every RPC of the product.
pub(crate) fn rpcs() -> Vec<String> {
    let services = POOL.services().filter(|service| service.package_name() == "quetra.v1");
    let names = services.flat_map(|service| {
        let methods: Vec<_> = service.methods().collect();
        methods.into_iter().map(move |method| format!("{}/{}", service.name(), method.name()))
    });
    names.collect()
}

fn fields_of(violations: &Value) -> Vec<String> {
    let violations = violations.as_array().cloned().unwrap_or_default();
    violations.iter().map(|wrong| wrong["field"].as_str().unwrap().to_owned()).collect()
}

fn code_of(word: &str) -> Code {
    let word = if word == "CANCELED" { "CANCELLED" } else { word };
    let known = (0..17).map(Code::from_i32);
    let name = |code: &Code| {
        let name = format!("{code:?}");
        let mut snake = String::new();
        for letter in name.chars() {
            if letter.is_uppercase() && !snake.is_empty() {
                snake.push('_');
            }
            snake.extend(letter.to_uppercase());
        }
        snake
    };
    known.into_iter().find(|code| name(code) == word).unwrap_or(Code::Unknown)
}

/// The HTTP code of a refusal.
pub(crate) fn http_of(way: Way, code: Code, reason: &str) -> u16 {
    match (way, code) {
        (Way::Grpc, _) => 200,
        (Way::Rest, _) if reason == "MESSAGE_TOO_LARGE" => 413,
        (Way::Rest, Code::FailedPrecondition) | (_, Code::AlreadyExists | Code::Aborted) => 409,
        (_, Code::InvalidArgument | Code::FailedPrecondition) => 400,
        (_, Code::Unauthenticated) => 401,
        (_, Code::PermissionDenied) => 403,
        (_, Code::NotFound) => 404,
        (_, Code::ResourceExhausted) => 429,
        (_, Code::Unimplemented) => 501,
        (_, Code::Unavailable) => 503,
        (_, Code::DeadlineExceeded) => 504,
        (_, code) => panic!("{code:?} is never meant"),
    }
}

/// One connection for each way, kept for all rows.
pub(crate) struct Connections {
    grpc: Http2,
    connect: Http1,
    rest: Http1,
}

impl Connections {
    pub(crate) async fn open(server: &Server) -> Self {
        Self {
            grpc: Http2::connect(server.address).await,
            connect: Http1::connect(server.address).await,
            rest: Http1::connect(server.address).await,
        }
    }

    pub(crate) async fn send(&mut self, way: Way, call: &Call) -> std::io::Result<Reply> {
        match way {
            Way::Grpc => self.grpc.send(call).await,
            Way::Connect => self.connect.send(call).await,
            Way::Rest => self.rest.send(call).await,
        }
    }

    /// Whether a good call works on the connection of a way.
    pub(crate) async fn is_usable(&mut self, way: Way, server: &Server) -> Result<(), String> {
        let key = &server.agent_key;
        let rpc = "BudgetService/GetBudget";
        let call = match way {
            Way::Grpc => grpc(key, rpc, &[]),
            Way::Connect => connect(key, rpc, "{}"),
            Way::Rest => rest("GET", "/gateway/mandate-token", Value::Null).call(key),
        };
        let reply = self.send(way, &call).await.map_err(|error| error.to_string())?;
        let is_good = match way {
            Way::Grpc => Answer::of_grpc(&reply).code == Code::Ok,
            Way::Connect | Way::Rest => reply.status == 200,
        };
        if is_good { Ok(()) } else { Err(reply.everything()) }
    }
}

/// Sends every row every way it goes; everything that is wrong, of all rows.
pub(crate) async fn complaints(server: &mut Server, rows: &[Row]) -> Vec<String> {
    assert!(!rows.is_empty());
    let mut connections = Connections::open(server).await;
    let mut complaints = Vec::new();
    let before = server.state().await;
    for row in rows {
        for way in WAYS.into_iter().filter(|way| row.goes(*way)) {
            let place = format!("row {} ({}) over {way:?}", row.number, row.what);
            let mut complain = |what: String| complaints.push(format!("{place}: {what}"));
            match connections.send(way, &row.call(way)).await {
                Ok(reply) => judge(row, way, &reply).into_iter().for_each(&mut complain),
                Err(error) => complain(format!("no answer: {error}")),
            }
            if let Err(why) = connections.is_usable(way, server).await {
                complain(format!("the connection is not usable: {why}"));
                connections = Connections::open(server).await;
            }
            server.log_complaints().into_iter().for_each(&mut complain);
        }
        if server.state().await != before {
            complaints.push(format!("row {} ({}) changed something", row.number, row.what));
            return complaints;
        }
    }
    complaints
}

fn judge(row: &Row, way: Way, reply: &Reply) -> Vec<String> {
    let answer = Answer::read(way, reply);
    let mut complaints = Vec::new();
    let code = if way == Way::Rest { Code::Unknown } else { row.code };
    let expected = (http_of(way, row.code, row.reason), code, row.reason);
    if (answer.http, answer.code, &*answer.reason) != expected {
        complaints.push(format!("{expected:?} expected: {answer:?} {}", reply.everything()));
        return complaints;
    }
    if way == Way::Grpc {
        complaints.extend(undocumented(&row.rpc, reply));
    }
    let mut fields = answer.fields.clone();
    fields.sort_unstable();
    if fields != row.expected(way) {
        complaints.push(format!("fields {:?} expected: {answer:?}", row.expected(way)));
    }
    if answer.sentence.is_empty() || answer.sentence.ends_with('.') {
        complaints.push(format!("no sentence of ours: {answer:?}"));
    }
    if reply.everything().contains(CANARY) {
        complaints.push(format!("the value comes back: {answer:?}"));
    }
    let is_secret = row.message.to_string().contains("secret-");
    if is_secret && reply.everything().contains(CANARY_HEAD) {
        complaints.push(format!("a secret comes back: {answer:?}"));
    }
    complaints
}

/// The first complaint decides, and all are shown.
pub(crate) async fn refused(server: &mut Server, rows: &[Row]) {
    let complaints = complaints(server, rows).await;
    assert!(complaints.is_empty(), "{} of:\n{}", complaints.len(), complaints.join("\n"));
}

/// `base` with some members replaced; null removes.
pub(crate) fn patched(base: &Value, patch: &Value) -> Value {
    let mut merged = base.clone();
    for (name, value) in patch.as_object().unwrap() {
        if value.is_null() {
            merged.as_object_mut().unwrap().remove(name);
        } else {
            merged[name] = value.clone();
        }
    }
    merged
}
