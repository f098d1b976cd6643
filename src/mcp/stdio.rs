//! The local way in: one client on standard input and output, one agent, a server over a network.
//!
//! Key and agent are checked before the first message, so that a mistake in a client's settings is
//! a sentence on standard error and not a tool that never works. Standard output carries messages
//! of the protocol and nothing else. Not here: where the settings come from (`cli`).

mod lines;

use std::fmt;

use rmcp::service::ServiceExt;
use tonic::{Code, Status};

use super::adapter::Adapter;
use super::caller::{Caller, Credential};
use super::gateway::Gateway;
use crate::proto::v1;

/// For whom the process speaks.
pub struct Local {
    /// The key.
    pub api_key: String,
    /// The agent; a key that is bound to one needs none.
    pub agent_id: Option<String>,
}

impl fmt::Debug for Local {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Local").field("agent_id", &self.agent_id).finish_non_exhaustive()
    }
}

/// Why the process cannot serve, each with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    /// The server refuses the key.
    #[error(
        "the server does not accept QUETRA_API_KEY: it is garbled, unknown, revoked or expired; \
         make one with `quetra keys create NAME --role agent`"
    )]
    Key,
    /// The key is not an agent's.
    #[error(
        "QUETRA_API_KEY is not a key of the role agent, and a model must not hold any other; make \
         one with `quetra keys create NAME --role agent`"
    )]
    Role,
    /// The key serves several agents and none was named.
    #[error("QUETRA_API_KEY serves every agent; set QUETRA_AGENT_ID to the id of one")]
    NoAgent,
    /// The agent does not exist, or the key is bound to another.
    #[error(
        "QUETRA_AGENT_ID names no agent that this key may act for; `quetra agents list` shows ids"
    )]
    UnknownAgent,
    /// The server does not answer as expected.
    #[error("the server at QUETRA_GATEWAY_URL could not say who the key belongs to: {0}")]
    Server(String),
    /// The client does not speak the protocol.
    #[error("the client did not open the conversation as MCP demands: {0}")]
    Client(String),
}

impl From<Status> for StdioError {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Unauthenticated => Self::Key,
            Code::PermissionDenied => Self::Role,
            Code::NotFound | Code::InvalidArgument => Self::UnknownAgent,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::AlreadyExists
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Self::Server(status.message().to_owned()),
        }
    }
}

/// Finds out who is calling and for which agent.
async fn identify(gateway: &Gateway, local: Local) -> Result<Caller, StdioError> {
    let credential = Credential::of_key(&local.api_key).ok_or(StdioError::Key)?;
    let caller = Caller::identify(gateway, credential).await?;
    let agent_id = match (local.agent_id, &caller.agent_id) {
        (None, None) => return Err(StdioError::NoAgent),
        (None, Some(own)) => own.clone(),
        (Some(named), _) => named,
    };
    // Also tells an agent that the key may not act for from its own.
    let request = v1::GetAgentRequest { agent_id, include_mandate: false };
    let found = gateway.agents().get_agent(caller.request(request)).await?.into_inner();
    let agent = found.agent.ok_or(StdioError::UnknownAgent)?;
    Ok(caller.only_for(agent.id))
}

/// Serves one client until it closes its end.
///
/// # Errors
/// Key or agent are wrong, the server does not answer, or the client does not speak MCP.
pub async fn stdio(gateway: Gateway, local: Local) -> Result<(), StdioError> {
    let caller = identify(&gateway, local).await?;
    let adapter = Adapter::local(gateway, caller);
    let broken = |error: &dyn fmt::Display| StdioError::Client(error.to_string());
    let (input, output) = rmcp::transport::stdio();
    let (lines, reading) = lines::open(input, output);
    let serving = async {
        let running = adapter.serve(lines).await.map_err(|error| broken(&error))?;
        running.waiting().await.map_err(|error| broken(&error))
    };
    let (served, read) = tokio::join!(serving, reading);
    served?;
    read.map_err(|error| broken(&error))
}
