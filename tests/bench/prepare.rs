//! Agents with one active mandate of five rules each, made through the public gRPC API.
//!
//! A generated client is fast enough here: nothing of it is measured except how many mandates a
//! second come into being. Not here: the decisions (`loader`).

use std::ops::Range;
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use futures::{StreamExt, TryStreamExt, stream};
use quetra::proto::v1;
use quetra::proto::v1::agents_service_client::AgentsServiceClient;
use quetra::proto::v1::mandates_service_client::MandatesServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use crate::loader::{AgentId, Target};

/// Mandates being made at the same time.
const IN_FLIGHT: usize = 256;
/// Connections that share them: servers bound the calls on one.
const CONNECTIONS: usize = 4;
/// How long one call may take.
const CALL_MAX: Duration = Duration::from_secs(60);
/// A limit that no run reaches, in minor units: the highest a budget may have.
const ENOUGH: i64 = 90_000_000_000_000;
/// The same for one transaction.
const ENOUGH_AT_ONCE: i64 = 10_000;
/// The same for the count in a window: the highest a rate limit may have.
const OFTEN_ENOUGH: i64 = 1_000_000;

/// Registers agents and gives each an active mandate; the numbers only make names.
///
/// # Errors
/// The first call that fails.
pub(crate) async fn agents(target: &Target, numbers: Range<usize>) -> anyhow::Result<Vec<AgentId>> {
    let address = format!("http://{}", target.address);
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        let endpoint = Endpoint::from_shared(address.clone())?.timeout(CALL_MAX);
        channels.push(endpoint.connect().await?);
    }
    // Names are unique in an organization, and a server may have seen a run before.
    let run = SystemTime::UNIX_EPOCH.elapsed()?.as_millis();
    let key: MetadataValue<Ascii> = format!("Bearer {}", target.key).parse()?;

    let made = stream::iter(numbers).map(|number| {
        let channel = channels[number % channels.len()].clone();
        let name = format!("bench-{run}-{number}");
        agent(channel, key.clone(), name)
    });
    made.buffer_unordered(IN_FLIGHT).try_collect().await
}

async fn agent(
    channel: Channel,
    key: MetadataValue<Ascii>,
    name: String,
) -> anyhow::Result<AgentId> {
    let mut agents = AgentsServiceClient::new(channel.clone());
    let mut mandates = MandatesServiceClient::new(channel);

    let register = v1::RegisterAgentRequest { name, ..v1::RegisterAgentRequest::default() };
    let registered = agents.register_agent(with(&key, register)).await.context("register")?;
    let id = registered.into_inner().agent.context("the reply has no agent")?.id;

    let created = mandates.create_mandate(with(&key, draft(&id))).await.context("create")?;
    let mandate_id = created.into_inner().mandate.context("the reply has no mandate")?.id;

    let activate = v1::ActivateMandateRequest { mandate_id };
    mandates.activate_mandate(with(&key, activate)).await.context("activate")?;
    id.into_bytes().try_into().map_err(|_| anyhow!("the id of an agent is not a UUID"))
}

fn with<M>(key: &MetadataValue<Ascii>, message: M) -> tonic::Request<M> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("authorization", key.clone());
    request
}

fn draft(agent_id: &str) -> v1::CreateMandateRequest {
    use v1::rule::Kind;
    let vendors = ["exa.ai", "firecrawl.dev", "serper.dev"].map(str::to_owned).to_vec();
    let kinds = [
        Kind::Category(v1::CategoryRule { allowed: vec!["research".to_owned()] }),
        Kind::VendorAllowlist(v1::VendorAllowlistRule { vendors }),
        Kind::VendorCap(v1::VendorCapRule {
            vendor: "firecrawl.dev".to_owned(),
            amount: ENOUGH,
            period: v1::Period::Monthly.into(),
        }),
        Kind::RateLimit(v1::RateLimitRule { max_transactions: OFTEN_ENOUGH, window_minutes: 60 }),
        Kind::MaxAmount(v1::MaxAmountRule { amount: ENOUGH_AT_ONCE }),
    ];
    v1::CreateMandateRequest {
        agent_id: agent_id.to_owned(),
        name: "benchmark".to_owned(),
        budget: Some(v1::Budget {
            total: ENOUGH,
            per_transaction: ENOUGH_AT_ONCE,
            currency: "USD".to_owned(),
            reset: v1::Period::Monthly.into(),
            ..v1::Budget::default()
        }),
        rules: kinds.into_iter().map(|kind| v1::Rule { kind: Some(kind) }).collect(),
        ..v1::CreateMandateRequest::default()
    }
}
