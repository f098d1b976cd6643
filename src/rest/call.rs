//! One REST request on its way to gRPC: what it brought, and the clients it can call.
//!
//! Not here: any handler; reading JSON (`tree`, `decode`).

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request};
use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Uri, header};
use prost::{Message, Name};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tonic::metadata::MetadataMap;
use tower::ServiceExt;

use super::failure::{Failure, Violation};
use super::tree::Node;
use super::{BODY_BYTES_MAX, decode, fields, tree};
use crate::grpc::codec;
use crate::grpc::status::Violations;
use crate::grpc::trial;
use crate::proto::v1::agents_service_client::AgentsServiceClient;
use crate::proto::v1::approvals_service_client::ApprovalsServiceClient;
use crate::proto::v1::budget_service_client::BudgetServiceClient;
use crate::proto::v1::evaluate_service_client::EvaluateServiceClient;
use crate::proto::v1::mandates_service_client::MandatesServiceClient;
use crate::proto::v1::organization_service_client::OrganizationServiceClient;
use crate::proto::v1::transactions_service_client::TransactionsServiceClient;
use crate::proto::v1::webhooks_service_client::WebhooksServiceClient;

/// Names one request across logs and answers.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const AGENT_ID: HeaderName = HeaderName::from_static("x-quetra-agent-id");

/// What a gRPC client could have sent itself, and nothing else.
const FORWARDED: [HeaderName; 6] = [
    header::AUTHORIZATION,
    REQUEST_ID,
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-forwarded-for"),
];

/// Bytes of an answer of ours: 200 transactions with every result of 50 rules stay below it.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One request, read but not understood yet. No `Debug`: it holds the credential.
pub(super) struct Call {
    caller: Arc<Caller>,
    uri: Uri,
    id: String,
    body: Bytes,
    request_id: Arc<OnceLock<HeaderValue>>,
}

/// What a caller is known by. No `Debug`: it holds the credential.
pub(super) struct Caller {
    grpc: axum::Router,
    headers: HeaderMap,
    /// What the connection is known by, for the layers around the services.
    extensions: Extensions,
}

impl Caller {
    /// What a gRPC call of this caller begins with.
    fn forwarded(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in FORWARDED {
            for value in self.headers.get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        headers
    }

    /// Why the caller may not call an RPC, if that is so.
    pub(super) async fn refusal(&self, rpc: &str) -> Option<Failure> {
        let mut request = trial::request(rpc, &self.forwarded()).ok()?;
        request.extensions_mut().extend(self.extensions.clone());
        let Ok(response) = self.grpc.clone().oneshot(request).await;
        trial::refusal(&response).map(Failure::from)
    }
}

/// Writes the client of one service.
macro_rules! client {
    ($name:ident, $client:ident, $what:literal) => {
        #[doc = $what]
        pub(super) fn $name(&self) -> $client<axum::Router> {
            $client::new(self.caller.grpc.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
        }
    };
}

impl Call {
    /// Takes over what a request is known by; its body comes with [`Call::receive`].
    pub(super) fn new(grpc: axum::Router, request: &Request) -> Self {
        let (headers, extensions) = (request.headers().clone(), request.extensions().clone());
        Self {
            caller: Arc::new(Caller { grpc, headers, extensions }),
            uri: request.uri().clone(),
            id: String::new(),
            body: Bytes::new(),
            request_id: Arc::default(),
        }
    }

    /// Takes the id of the path and the body, within its limits, and only with a credential.
    pub(super) async fn receive(
        &mut self,
        path: Result<Path<BTreeMap<String, String>>, PathRejection>,
        request: Request,
        time: Duration,
    ) -> Result<(), Failure> {
        if !self.caller.headers.contains_key(header::AUTHORIZATION) {
            return Err(Failure::no_credential());
        }
        self.id = match path {
            Ok(Path(mut ids)) => ids.remove("id").unwrap_or_default(),
            Err(PathRejection::MissingPathParams(_)) => String::new(),
            Err(_) => return Err(Failure::malformed("id", "must be valid UTF-8")),
        };
        let body = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX);
        let body = timeout(time, body).await.map_err(|_elapsed| Failure::too_slow())?;
        self.body = body.map_err(|error| unreadable(&error))?;
        Ok(())
    }

    client!(agents, AgentsServiceClient, "The service of agents.");
    client!(approvals, ApprovalsServiceClient, "The service of approvals.");
    client!(budget, BudgetServiceClient, "The service of budgets.");
    client!(evaluate, EvaluateServiceClient, "The service that decides.");
    client!(mandates, MandatesServiceClient, "The service of mandates.");
    client!(organization, OrganizationServiceClient, "The service of the organization.");
    client!(transactions, TransactionsServiceClient, "The service of transactions.");
    client!(webhooks, WebhooksServiceClient, "The service of webhooks.");

    /// The message with the credential, the request id and the deadline of this request.
    pub(super) fn request<M>(&self, message: M) -> tonic::Request<M> {
        let metadata = MetadataMap::from_headers(self.caller.forwarded());
        tonic::Request::from_parts(metadata, self.caller.extensions.clone(), message)
    }

    /// The message of an answer; its request id is kept for the response.
    pub(super) fn message<M>(
        &self,
        answer: Result<tonic::Response<M>, tonic::Status>,
    ) -> Result<M, tonic::Status> {
        match answer {
            Ok(response) => {
                self.note(response.metadata());
                Ok(response.into_inner())
            }
            Err(status) => {
                self.note(status.metadata());
                Err(status)
            }
        }
    }

    fn note(&self, metadata: &MetadataMap) {
        if let Some(id) = metadata.as_ref().get(REQUEST_ID) {
            // The first call of a request names it; the others carry the same id.
            let _already_named = self.request_id.set(id.clone());
        }
    }

    /// Who calls.
    pub(super) fn caller(&self) -> Arc<Caller> {
        Arc::clone(&self.caller)
    }

    /// Where the request id appears once a call has been answered.
    pub(super) fn request_id(&self) -> Arc<OnceLock<HeaderValue>> {
        Arc::clone(&self.request_id)
    }

    /// The id in the path.
    pub(super) fn id(&self) -> String {
        self.id.clone()
    }

    /// The address with the query.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The header `Idempotency-Key`.
    pub(super) fn idempotency_key(&self) -> Result<Option<String>, Failure> {
        self.header(&IDEMPOTENCY_KEY)
    }

    /// The header `X-Quetra-Agent-Id`.
    pub(super) fn agent_id(&self) -> Result<Option<String>, Failure> {
        self.header(&AGENT_ID)
    }

    fn header(&self, name: &HeaderName) -> Result<Option<String>, Failure> {
        let wrong = |text: &str| Failure::fields(vec![Violation::new(name.as_str(), text)]);
        let mut values = self.caller.headers.get_all(name).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(wrong("must be given once"));
        }
        let text = value.to_str().map_err(|_error| wrong("must be plain ASCII"))?;
        Ok(Some(text.to_owned()))
    }

    /// Reads the body, which must be there.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        self.form(|_| Vec::new())
    }

    /// Reads the body, which must be there. If its JSON is wrong somewhere, what the contract
    /// finds in the message that the rest of it would become is reported too.
    pub(super) fn json_for<T, M>(&self, message: impl FnOnce(T) -> M) -> Result<T, Failure>
    where
        T: DeserializeOwned,
        M: Message + Name,
    {
        self.json_named(|form| (message(form), fields::rest_name))
    }

    /// The same, where the shape of the body decides what its fields are called.
    pub(super) fn json_named<T, M>(
        &self,
        message: impl FnOnce(T) -> (M, fn(&str) -> String),
    ) -> Result<T, Failure>
    where
        T: DeserializeOwned,
        M: Message + Name,
    {
        self.form(|form| {
            let (message, rename) = message(form);
            let faults = codec::faults(M::PACKAGE, M::NAME, &message.encode_to_vec());
            let status = faults.ok().filter(|faults| !faults.is_empty()).map(Violations::status);
            status.map(|status| Failure::from_status(&status, rename).details).unwrap_or_default()
        })
    }

    fn form<T: DeserializeOwned>(
        &self,
        others: impl FnOnce(T) -> Vec<Violation>,
    ) -> Result<T, Failure> {
        if self.body.is_empty() {
            let missing = "is empty; send a JSON object";
            return Err(Failure::malformed("body", missing));
        }
        self.check_media_type()?;
        match tree::parse(&self.body)? {
            tree @ Node::Object(_) => decode::decode(tree, others),
            Node::Null
            | Node::Bool(_)
            | Node::Signed(_)
            | Node::Unsigned(_)
            | Node::Float(_)
            | Node::Text(_)
            | Node::List(_)
            | Node::Hole => Err(Failure::malformed("body", "must be a JSON object")),
        }
    }

    /// Reads the body if there is one.
    pub(super) fn json_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Failure> {
        if self.body.is_empty() {
            return Ok(T::default());
        }
        self.json()
    }

    /// Refuses a body with fields where none are taken, so that no wish is silently dropped.
    pub(super) fn no_fields(&self) -> Result<(), Failure> {
        let NoFields {} = self.json_or_default()?;
        Ok(())
    }

    fn check_media_type(&self) -> Result<(), Failure> {
        let given = self.caller.headers.get(header::CONTENT_TYPE);
        let given = given.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let json = essence == "application/json"
            || (essence.starts_with("application/") && essence.ends_with("+json"));
        if json && !self.caller.headers.contains_key(header::CONTENT_ENCODING) {
            Ok(())
        } else {
            Err(Failure::wrong_media_type())
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoFields {}

/// The limit that was met may be ours or that of the port in front; both hide it below their own
/// error.
fn unreadable(error: &axum::Error) -> Failure {
    let first: &(dyn std::error::Error + 'static) = error;
    let mut causes = std::iter::successors(Some(first), |cause| cause.source());
    if causes.any(|cause| cause.is::<http_body_util::LengthLimitError>()) {
        Failure::too_large()
    } else {
        Failure::malformed("body", "ended early; send it again")
    }
}
