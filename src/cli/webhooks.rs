//! `quetra webhooks …`: endpoints that are told of events, and what was told to them.
//!
//! Not here: verifying a message, which receivers do (docs/WEBHOOKS.md).

use std::time::Duration;

use clap::{Args, Subcommand};

use super::args::{Format, PageArgs, time as parse_time, word};
use super::client::{Session, collect};
use super::error::CliError;
use super::output::{dash, time};
use crate::forms::{Time, Word};
use crate::proto::v1;

/// How long a test waits for its attempt, and how often it looks.
const TEST_TIME: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(200);

/// The commands of the group.
#[derive(Debug, Subcommand)]
pub(super) enum WebhooksCommand {
    /// Create an endpoint and show its secret, this once
    Create(CreateArgs),
    /// List endpoints, newest first
    List(PageArgs),
    /// Show an endpoint
    Get(OneArgs),
    /// Change an endpoint
    Update(UpdateArgs),
    /// Remove an endpoint and the log of its deliveries
    Delete(OneArgs),
    /// Give an endpoint another secret and show it, this once
    RotateSecret(RotateArgs),
    /// Send a test event and show what the endpoint answered
    Test(OneArgs),
    /// List deliveries, newest first
    Deliveries(DeliveriesArgs),
    /// Show a delivery with its attempts
    Delivery {
        /// `whd_…`, as the list shows it
        id: String,
    },
    /// Send again: one delivery, or what happened in a time range
    Redeliver(RedeliverArgs),
}

/// Which endpoint.
#[derive(Debug, Args)]
pub(super) struct OneArgs {
    /// `whe_…`, as the list shows it
    id: String,
}

/// A new endpoint.
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// Where, such as <https://example.com/hooks>
    #[arg(id = "endpoint_url", value_name = "URL")]
    url: String,
    /// For people
    #[arg(long, default_value = "")]
    description: String,
    /// A type of event it is told of, such as transaction.approved; may be repeated; none means all
    #[arg(long = "event")]
    events: Vec<String>,
    /// Send nothing until it is enabled
    #[arg(long)]
    disabled: bool,
}

/// What to change.
#[derive(Debug, Args)]
pub(super) struct UpdateArgs {
    /// `whe_…`, as the list shows it
    id: String,
    /// Where
    #[arg(id = "endpoint_url", long = "endpoint-url", value_name = "URL")]
    url: Option<String>,
    /// For people
    #[arg(long)]
    description: Option<String>,
    /// The types of events it is told of, from now on these; may be repeated
    #[arg(long = "event", conflicts_with = "all_events")]
    events: Vec<String>,
    /// Tell it of all events
    #[arg(long)]
    all_events: bool,
    /// Whether anything is sent: true or false
    #[arg(long)]
    enabled: Option<bool>,
}

/// How to rotate.
#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// `whe_…`, as the list shows it
    id: String,
    /// How many hours the old secret signs too; 0 ends it at once
    #[arg(long, default_value_t = 24)]
    overlap_hours: u32,
}

/// Which deliveries.
#[derive(Debug, Args)]
pub(super) struct DeliveriesArgs {
    /// Only to this endpoint
    #[arg(long, value_name = "ID", default_value = "")]
    endpoint: String,
    /// Only in this state: pending, delivered or failed
    #[arg(long, value_parser = word::<v1::WebhookDeliveryState>)]
    state: Option<Word<v1::WebhookDeliveryState>>,
    /// Only of this type of event
    #[arg(long, default_value = "")]
    event: String,
    #[command(flatten)]
    page: PageArgs,
}

/// What to send again.
#[derive(Debug, Args)]
pub(super) struct RedeliverArgs {
    /// A delivery (`whd_…`), or with --since an endpoint (`whe_…`)
    id: String,
    /// What happened at or after this time, such as 2027-01-31T09:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Time>,
    /// What happened before this time; now, if it is not given
    #[arg(long, value_name = "TIME", value_parser = parse_time, requires = "since")]
    until: Option<Time>,
}

/// Runs one of them.
pub(super) async fn run(
    command: WebhooksCommand,
    session: &mut Session<'_>,
) -> Result<u8, CliError> {
    match command {
        WebhooksCommand::Create(args) => create(args, session).await,
        WebhooksCommand::List(page) => list(&page, session).await,
        WebhooksCommand::Get(one) => {
            let request = v1::GetWebhookEndpointRequest { webhook_endpoint_id: one.id };
            let answer = session.webhooks().get_webhook_endpoint(request).await?.into_inner();
            if !session.json(&answer)? {
                show(answer.webhook_endpoint, session)?;
            }
            Ok(0)
        }
        WebhooksCommand::Update(args) => update(args, session).await,
        WebhooksCommand::Delete(one) => {
            let request = v1::DeleteWebhookEndpointRequest { webhook_endpoint_id: one.id };
            let answer = session.webhooks().delete_webhook_endpoint(request).await?.into_inner();
            if !session.json(&answer)? {
                session.output.line("deleted")?;
            }
            Ok(0)
        }
        WebhooksCommand::RotateSecret(args) => rotate(args, session).await,
        WebhooksCommand::Test(one) => test(one, session).await,
        WebhooksCommand::Deliveries(args) => deliveries(args, session).await,
        WebhooksCommand::Delivery { id } => {
            let request = v1::GetWebhookDeliveryRequest { webhook_delivery_id: id };
            let answer = session.webhooks().get_webhook_delivery(request).await?.into_inner();
            if !session.json(&answer)? {
                show_delivery(answer.webhook_delivery, session)?;
            }
            Ok(0)
        }
        WebhooksCommand::Redeliver(args) => redeliver(args, session).await,
    }
}

async fn create(args: CreateArgs, session: &mut Session<'_>) -> Result<u8, CliError> {
    let request = v1::CreateWebhookEndpointRequest {
        url: args.url,
        description: args.description,
        events: args.events,
        disabled: args.disabled,
        ..Default::default()
    };
    let answer = session.webhooks().create_webhook_endpoint(request).await?.into_inner();
    if session.output.format == Format::Json {
        session.output.message(&answer)?;
        return Ok(0);
    }
    show_with_secret(answer.webhook_endpoint, &answer.secret, session)
}

async fn rotate(args: RotateArgs, session: &mut Session<'_>) -> Result<u8, CliError> {
    let seconds = i64::from(args.overlap_hours).saturating_mul(3_600);
    let request = v1::RotateWebhookSecretRequest {
        webhook_endpoint_id: args.id,
        overlap: Some(prost_types::Duration { seconds, nanos: 0 }),
        ..Default::default()
    };
    let answer = session.webhooks().rotate_webhook_secret(request).await?.into_inner();
    if session.output.format == Format::Json {
        session.output.message(&answer)?;
        return Ok(0);
    }
    show_with_secret(answer.webhook_endpoint, &answer.secret, session)
}

async fn update(args: UpdateArgs, session: &mut Session<'_>) -> Result<u8, CliError> {
    let mut mask = prost_types::FieldMask::default();
    let given = [
        ("url", args.url.is_some()),
        ("description", args.description.is_some()),
        ("events", args.all_events || !args.events.is_empty()),
        ("enabled", args.enabled.is_some()),
    ];
    mask.paths.extend(given.iter().filter(|(_, given)| *given).map(|(path, _)| (*path).to_owned()));
    if mask.paths.is_empty() {
        return Err(CliError::Refused("nothing to change; see --help".to_owned()));
    }
    let request = v1::UpdateWebhookEndpointRequest {
        webhook_endpoint_id: args.id,
        update_mask: Some(mask),
        url: args.url.unwrap_or_default(),
        description: args.description.unwrap_or_default(),
        events: args.events,
        enabled: args.enabled.unwrap_or_default(),
        idempotency_key: String::new(),
    };
    let answer = session.webhooks().update_webhook_endpoint(request).await?.into_inner();
    if !session.json(&answer)? {
        show(answer.webhook_endpoint, session)?;
    }
    Ok(0)
}

async fn list(page: &PageArgs, session: &mut Session<'_>) -> Result<u8, CliError> {
    let mut client = session.webhooks();
    let found = collect(page.count(), async |page| {
        let request = v1::ListWebhookEndpointsRequest { page: Some(page) };
        let answer = client.list_webhook_endpoints(request).await?.into_inner();
        Ok((answer.webhook_endpoints, answer.next_page_token))
    })
    .await?;
    let answer = v1::ListWebhookEndpointsResponse {
        webhook_endpoints: found.items,
        next_page_token: found.next_page_token,
    };
    if session.json(&answer)? {
        return Ok(0);
    }
    let rows = answer.webhook_endpoints.into_iter().map(|endpoint| {
        let (state, events) = (state_of(&endpoint), events_of(&endpoint));
        [endpoint.id, state, events, endpoint.url, dash(endpoint.description)]
    });
    let columns = ["ID", "STATE", "EVENTS", "URL", "DESCRIPTION"];
    session.output.table(columns, rows.collect())?;
    session.output.more(&answer.next_page_token)?;
    Ok(0)
}

/// Sends a test event and waits for what becomes of it; the exit code is 1 if it is refused.
async fn test(one: OneArgs, session: &mut Session<'_>) -> Result<u8, CliError> {
    let mut client = session.webhooks();
    let request = v1::SendTestWebhookRequest { webhook_endpoint_id: one.id };
    let sent = client.send_test_webhook(request).await?.into_inner().webhook_delivery;
    let webhook_delivery_id = sent.unwrap_or_default().id;
    let looking = async {
        loop {
            let webhook_delivery_id = webhook_delivery_id.clone();
            let request = v1::GetWebhookDeliveryRequest { webhook_delivery_id };
            let answer = client.get_webhook_delivery(request).await?.into_inner();
            let found = answer.webhook_delivery.clone().unwrap_or_default();
            if found.state() != v1::WebhookDeliveryState::Pending {
                return Ok::<_, CliError>(answer);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let answer = tokio::time::timeout(TEST_TIME, looking).await.map_err(|_| {
        let why = format!("no attempt was made yet; ask later for {webhook_delivery_id}");
        CliError::Refused(why)
    })??;
    let state = answer.webhook_delivery.clone().unwrap_or_default().state();
    if !session.json(&answer)? {
        show_delivery(answer.webhook_delivery, session)?;
    }
    Ok(u8::from(state != v1::WebhookDeliveryState::Delivered))
}

async fn deliveries(args: DeliveriesArgs, session: &mut Session<'_>) -> Result<u8, CliError> {
    let mut client = session.webhooks();
    let found = collect(args.page.count(), async |page| {
        let request = v1::ListWebhookDeliveriesRequest {
            webhook_endpoint_id: args.endpoint.clone(),
            state: args.state.map_or(0, |state| state.number()),
            event_type: args.event.clone(),
            since: None,
            until: None,
            page: Some(page),
        };
        let answer = client.list_webhook_deliveries(request).await?.into_inner();
        Ok((answer.webhook_deliveries, answer.next_page_token))
    })
    .await?;
    let answer = v1::ListWebhookDeliveriesResponse {
        webhook_deliveries: found.items,
        next_page_token: found.next_page_token,
    };
    if session.json(&answer)? {
        return Ok(0);
    }
    let rows = answer.webhook_deliveries.into_iter().map(|delivery| {
        [
            delivery.id,
            Word::<v1::WebhookDeliveryState>::from_number(delivery.state).to_string(),
            delivery.attempts_made.to_string(),
            delivery.attempts.last().map_or_else(|| "-".to_owned(), said),
            time(delivery.next_attempt_at.as_ref()),
            time(delivery.event_at.as_ref()),
            delivery.event_type,
            delivery.webhook_endpoint_id,
        ]
    });
    let columns =
        ["ID", "STATE", "ATTEMPTS", "LAST", "NEXT ATTEMPT", "HAPPENED", "EVENT", "ENDPOINT"];
    session.output.table(columns, rows.collect())?;
    session.output.more(&answer.next_page_token)?;
    Ok(0)
}

async fn redeliver(args: RedeliverArgs, session: &mut Session<'_>) -> Result<u8, CliError> {
    let Some(since) = args.since else {
        let request = v1::RedeliverWebhookRequest { webhook_delivery_id: args.id };
        let answer = session.webhooks().redeliver_webhook(request).await?.into_inner();
        if !session.json(&answer)? {
            show_delivery(answer.webhook_delivery, session)?;
        }
        return Ok(0);
    };
    let mut request = v1::RedeliverWebhookRangeRequest {
        webhook_endpoint_id: args.id,
        since: Some(since.to_proto()),
        until: args.until.map(Time::to_proto),
        page_token: String::new(),
    };
    let mut client = session.webhooks();
    let mut whole = v1::RedeliverWebhookRangeResponse::default();
    loop {
        let answer = client.redeliver_webhook_range(request.clone()).await?.into_inner();
        whole.deliveries = whole.deliveries.saturating_add(answer.deliveries);
        whole.until = answer.until;
        if answer.next_page_token.is_empty() {
            break;
        }
        request.until = answer.until;
        request.page_token = answer.next_page_token;
    }
    if !session.json(&whole)? {
        session.output.line(&format!("{} deliveries are on their way again", whole.deliveries))?;
    }
    Ok(0)
}

/// The outcome of an attempt, in a word.
fn said(attempt: &v1::WebhookAttempt) -> String {
    if attempt.status == 0 { attempt.error.clone() } else { attempt.status.to_string() }
}

fn state_of(endpoint: &v1::WebhookEndpoint) -> String {
    match (endpoint.enabled, endpoint.failing_since.is_some()) {
        (true, false) => "enabled".to_owned(),
        (true, true) => "failing".to_owned(),
        (false, _) if endpoint.disabled_reason.is_empty() => "disabled".to_owned(),
        (false, _) => format!("disabled ({})", endpoint.disabled_reason),
    }
}

fn events_of(endpoint: &v1::WebhookEndpoint) -> String {
    if endpoint.events.is_empty() { "all".to_owned() } else { endpoint.events.join(", ") }
}

fn show(endpoint: Option<v1::WebhookEndpoint>, session: &mut Session<'_>) -> Result<(), CliError> {
    let endpoint = endpoint.unwrap_or_default();
    let when = |moment: &Option<prost_types::Timestamp>| {
        moment.as_ref().map(|moment| time(Some(moment))).unwrap_or_default()
    };
    session.output.pairs(&[
        ("state", state_of(&endpoint)),
        ("events", events_of(&endpoint)),
        ("failing since", when(&endpoint.failing_since)),
        ("disabled", when(&endpoint.disabled_at)),
        ("old secret until", when(&endpoint.previous_secret_until)),
        ("created", when(&endpoint.created_at)),
        ("id", endpoint.id),
        ("url", endpoint.url),
        ("description", endpoint.description),
    ])
}

fn show_with_secret(
    endpoint: Option<v1::WebhookEndpoint>,
    secret: &str,
    session: &mut Session<'_>,
) -> Result<u8, CliError> {
    show(endpoint, session)?;
    session.output.line("")?;
    session.output.line(secret)?;
    session.output.line("")?;
    session.output.line("Store it now: it cannot be shown again.")?;
    Ok(0)
}

fn show_delivery(
    delivery: Option<v1::WebhookDelivery>,
    session: &mut Session<'_>,
) -> Result<(), CliError> {
    let delivery = delivery.unwrap_or_default();
    session.output.pairs(&[
        ("state", Word::<v1::WebhookDeliveryState>::from_number(delivery.state).to_string()),
        ("id", delivery.id),
        ("event", delivery.event_type),
        ("webhook-id", delivery.event_id),
        ("endpoint", delivery.webhook_endpoint_id),
        ("attempts", delivery.attempts_made.to_string()),
        ("next attempt", time(delivery.next_attempt_at.as_ref())),
    ])?;
    let rows = delivery.attempts.iter().map(|attempt| {
        let duration = format!("{} ms", attempt.duration_ms);
        let excerpt = dash(attempt.response_excerpt.clone());
        [time(attempt.at.as_ref()), said(attempt), duration, excerpt]
    });
    if delivery.attempts.is_empty() {
        return Ok(());
    }
    session.output.line("")?;
    session.output.table(["AT", "ANSWER", "TOOK", "SAID"], rows.collect())
}
