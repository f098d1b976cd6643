//! Who makes a tool call: the credential it brings, and for which agents that credential stands.
//!
//! The server says what a key is; nothing of the key's own text is believed. Not here: the check of
//! the credential, which every gRPC call repeats.

use std::fmt;

use ::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use tonic::metadata::MetadataMap;
use tonic::{Code, Extensions, Status};

use super::gateway::Gateway;
use crate::proto::{KEY_IN_URL, v1};

/// What a gRPC client could have sent itself, and nothing else.
const FORWARDED: [HeaderName; 6] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static(KEY_IN_URL),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-forwarded-for"),
];

/// What every call of one client carries.
#[derive(Clone)]
pub(super) struct Credential {
    metadata: MetadataMap,
    /// What the connection is known by, for the services' own layers.
    connection: Extensions,
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credential(***)")
    }
}

impl Credential {
    /// Takes what may be forwarded out of the headers of an HTTP request. What is left of them can
    /// be logged.
    pub(super) fn take(headers: &mut HeaderMap, connection: Extensions) -> Self {
        let mut forwarded = HeaderMap::new();
        for name in FORWARDED {
            for value in headers.get_all(&name) {
                let mut value = value.clone();
                value.set_sensitive(name == header::AUTHORIZATION);
                forwarded.append(name.clone(), value);
            }
        }
        headers.remove(header::AUTHORIZATION);
        Self { metadata: MetadataMap::from_headers(forwarded), connection }
    }

    /// A key that this process was started with; none if the text cannot be one.
    pub(super) fn of_key(key: &str) -> Option<Self> {
        let mut value = HeaderValue::try_from(format!("Bearer {key}")).ok()?;
        value.set_sensitive(true);
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
        let metadata = MetadataMap::from_headers(headers);
        Some(Self { metadata, connection: Extensions::new() })
    }

    pub(super) fn request<M>(&self, message: M) -> tonic::Request<M> {
        tonic::Request::from_parts(self.metadata.clone(), self.connection.clone(), message)
    }
}

/// A client whose credential was found good.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    credential: Credential,
    /// The only agent it may act for. Without one, every call names its agent.
    pub(super) agent_id: Option<String>,
}

impl Caller {
    /// Asks the server what the credential is. Only keys of agents may be given to a model: it must
    /// not be able to change its own limits.
    pub(super) async fn identify(
        gateway: &Gateway,
        credential: Credential,
    ) -> Result<Self, Status> {
        let request = credential.request(v1::GetCallerRequest {});
        let found = gateway.organization().get_caller(request).await?.into_inner();
        match found.role() {
            v1::Role::Agent => {}
            v1::Role::Admin | v1::Role::Reader | v1::Role::Unspecified => {
                return Err(Status::new(Code::PermissionDenied, "the key is not an agent's"));
            }
        }
        let agent_id = Some(found.agent_id).filter(|id| !id.is_empty());
        Ok(Self { credential, agent_id })
    }

    /// The same, for one agent only.
    pub(super) fn only_for(self, agent_id: String) -> Self {
        Self { agent_id: Some(agent_id), ..self }
    }

    /// Whether each call must name an agent.
    pub(super) const fn serves_many(&self) -> bool {
        self.agent_id.is_none()
    }

    /// The message with the credential.
    pub(super) fn request<M>(&self, message: M) -> tonic::Request<M> {
        self.credential.request(message)
    }
}
