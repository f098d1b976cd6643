//! The connection of a management command: address, key, time limits, generated clients.
//!
//! Not here: what is asked (the commands). The key of a development server is only ever sent to
//! the server that made it.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::args::{ClientArgs, Format};
use super::credentials::Credentials;
use super::error::CliError;
use super::output::Output;
use crate::config::{Environment, Secret};
use crate::proto::v1;
use crate::proto::v1::agents_service_client::AgentsServiceClient;
use crate::proto::v1::approvals_service_client::ApprovalsServiceClient;
use crate::proto::v1::audit_service_client::AuditServiceClient;
use crate::proto::v1::budget_service_client::BudgetServiceClient;
use crate::proto::v1::evaluate_service_client::EvaluateServiceClient;
use crate::proto::v1::mandates_service_client::MandatesServiceClient;
use crate::proto::v1::organization_service_client::OrganizationServiceClient;
use crate::proto::v1::transactions_service_client::TransactionsServiceClient;
use crate::proto::v1::webhooks_service_client::WebhooksServiceClient;

/// Where a server is if nobody says.
pub(super) const URL_DEFAULT: &str = "http://127.0.0.1:7070";
/// A page of 200 mandates with the longest vendor lists fits.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a server may send before it is told that some of it has been read: some parts of an export.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// The largest page the API gives.
const PAGE_SIZE_MAX: usize = 200;
/// A server on a reachable machine accepts far sooner.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// As whom a command asks, when the keys come from a credentials file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Actor {
    /// With the admin key.
    Operator,
    /// With the key of the demo agent, as the agent itself would.
    Agent,
}

/// Where to ask and with which key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) url: String,
    pub(super) key: Secret,
    pub(super) agent_id: Option<String>,
}

impl Target {
    /// Flags over the environment over the credentials file.
    pub(super) fn find(
        args: &ClientArgs,
        actor: Actor,
        environment: &Environment,
    ) -> Result<Self, CliError> {
        let given = |flag: &Option<String>, name: &str| {
            flag.clone().or_else(|| environment.get(name).map(str::to_owned))
        };
        let url = given(&args.url, "QUETRA_GATEWAY_URL").map(|url| trimmed(&url).to_owned());
        let agent_id = environment.get("QUETRA_AGENT_ID").map(str::to_owned);
        if let Some(key) = given(&args.api_key, "QUETRA_API_KEY") {
            let url = url.unwrap_or_else(|| URL_DEFAULT.to_owned());
            return Ok(Self { url, key: Secret::new(key), agent_id });
        }
        let found = Credentials::read(&args.credentials)?;
        match found.filter(|found| url.as_deref().is_none_or(|url| url == trimmed(&found.url))) {
            Some(found) => Ok(Self {
                url: trimmed(&found.url).to_owned(),
                key: Secret::new(match actor {
                    Actor::Operator => found.admin_key,
                    Actor::Agent => found.agent_key,
                }),
                agent_id: agent_id.or(Some(found.agent_id)),
            }),
            None => Err(CliError::Refused(format!(
                "no API key for {}; set QUETRA_API_KEY, or run this beside the .quetra directory \
                 of `quetra dev`",
                url.as_deref().unwrap_or(URL_DEFAULT)
            ))),
        }
    }
}

fn trimmed(url: &str) -> &str {
    url.strip_suffix('/').unwrap_or(url)
}

/// A channel to the server, bounded in time.
pub(super) async fn connect(url: &str, timeout: Duration) -> Result<Channel, CliError> {
    let refused = |why: &str| CliError::Refused(format!("cannot use the address {url}: {why}"));
    if url.starts_with("https://") {
        return Err(refused(
            "this version of the program speaks to servers without TLS only; use the address \
             behind the TLS proxy, or a tunnel to it",
        ));
    }
    if !url.starts_with("http://") {
        return Err(refused("write it like http://127.0.0.1:7070"));
    }
    let endpoint = Endpoint::from_shared(url.to_owned())
        .and_then(|endpoint| endpoint.user_agent(concat!("quetra-cli/", env!("CARGO_PKG_VERSION"))))
        .map_err(|_| refused("write it like http://127.0.0.1:7070"))?
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .timeout(timeout);
    endpoint.connect().await.map_err(|error| {
        let cause = error.source().map(|source| root(source).to_string());
        CliError::Refused(format!(
            "no server answers at {url}: {}\nnext: start one with `quetra dev`, or name another \
             with --url or QUETRA_GATEWAY_URL",
            cause.unwrap_or_else(|| error.to_string())
        ))
    })
}

fn root<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a dyn std::error::Error {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

/// Adds the key to each call.
#[derive(Clone)]
pub(super) struct Bearer(MetadataValue<Ascii>);

impl fmt::Debug for Bearer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Bearer(***)")
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

type Wire = InterceptedService<Channel, Bearer>;

/// An open connection and where the answers go.
pub(super) struct Session<'a> {
    wire: Wire,
    pub(super) agent_id: Option<String>,
    pub(super) output: &'a mut Output,
}

impl<'a> Session<'a> {
    /// Connects as the arguments, the environment or the credentials file say.
    pub(super) async fn open(
        args: &ClientArgs,
        actor: Actor,
        environment: &Environment,
        output: &'a mut Output,
    ) -> Result<Self, CliError> {
        output.format = args.output;
        let target = Target::find(args, actor, environment)?;
        let mut bearer: MetadataValue<Ascii> =
            format!("Bearer {}", target.key.expose()).parse().map_err(|_| {
                CliError::Refused(
                    "the API key has characters that no key has; copy it again".to_owned(),
                )
            })?;
        bearer.set_sensitive(true);
        let channel = connect(&target.url, Duration::from_millis(args.timeout_ms)).await?;
        let wire = InterceptedService::new(channel, Bearer(bearer));
        Ok(Self { wire, agent_id: target.agent_id, output })
    }

    pub(super) fn agents(&self) -> AgentsServiceClient<Wire> {
        AgentsServiceClient::new(self.wire.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(super) fn approvals(&self) -> ApprovalsServiceClient<Wire> {
        ApprovalsServiceClient::new(self.wire.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(super) fn audit(&self) -> AuditServiceClient<Wire> {
        AuditServiceClient::new(self.wire.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(super) fn budget(&self) -> BudgetServiceClient<Wire> {
        BudgetServiceClient::new(self.wire.clone())
    }

    pub(super) fn evaluate(&self) -> EvaluateServiceClient<Wire> {
        EvaluateServiceClient::new(self.wire.clone())
    }

    pub(super) fn mandates(&self) -> MandatesServiceClient<Wire> {
        MandatesServiceClient::new(self.wire.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(super) fn organization(&self) -> OrganizationServiceClient<Wire> {
        OrganizationServiceClient::new(self.wire.clone())
    }

    pub(super) fn webhooks(&self) -> WebhooksServiceClient<Wire> {
        WebhooksServiceClient::new(self.wire.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(super) fn transactions(&self) -> TransactionsServiceClient<Wire> {
        TransactionsServiceClient::new(self.wire.clone())
            .max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Shows the answer as JSON if that was asked for; whether it was.
    pub(super) fn json<M: prost::Message + prost::Name>(
        &mut self,
        answer: &M,
    ) -> Result<bool, CliError> {
        if self.output.format == Format::Json {
            self.output.message(answer)?;
        }
        Ok(self.output.format == Format::Json)
    }
}

/// Part of a list, and the token of what follows; empty at the end.
pub(super) struct Collected<T> {
    pub(super) items: Vec<T>,
    pub(super) next_page_token: String,
}

/// Reads pages until there are `limit` items or no more.
pub(super) async fn collect<T>(
    limit: usize,
    mut page: impl AsyncFnMut(v1::PageRequest) -> Result<(Vec<T>, String), Status>,
) -> Result<Collected<T>, Status> {
    let mut items: Vec<T> = Vec::new();
    let mut next_page_token = String::new();
    loop {
        let wanted = limit.saturating_sub(items.len()).min(PAGE_SIZE_MAX);
        if wanted == 0 {
            break;
        }
        let page_size = i32::try_from(wanted).unwrap_or(i32::MAX);
        let request = v1::PageRequest { page_size, page_token: next_page_token };
        let (more, token) = page(request).await?;
        items.extend(more);
        next_page_token = token;
        if next_page_token.is_empty() {
            break;
        }
    }
    Ok(Collected { items, next_page_token })
}

/// A runtime for one command: a client needs one thread.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
