//! Webhook endpoints and deliveries.

use jiff::SignedDuration;

use super::{Violations, defined, mask, timestamp};
use crate::domain::event::EventKind;
use crate::domain::webhook::{
    DeliveryAttempt, DeliveryState, TEST_EVENT, WebhookDelivery, WebhookEndpoint,
};
use crate::engine::webhooks::{
    NewWebhookEndpoint, OVERLAP_DEFAULT, OVERLAP_MAX, RedeliveryAsk, WebhookEndpointPatch,
};
use crate::engine::{DeliveryFilter, EngineResult, WebhookSecret};
use crate::proto::v1;

pub(in crate::grpc) fn endpoint(endpoint: WebhookEndpoint) -> v1::WebhookEndpoint {
    v1::WebhookEndpoint {
        id: endpoint.id.to_string(),
        url: endpoint.url,
        description: endpoint.description,
        events: endpoint.events.iter().map(|kind| kind.word().to_owned()).collect(),
        enabled: endpoint.enabled,
        is_default: endpoint.is_default,
        disabled_reason: endpoint
            .disabled
            .map_or_else(String::new, |(reason, _)| reason.word().to_owned()),
        disabled_at: endpoint.disabled.map(|(_, at)| timestamp(at)),
        failing_since: endpoint.failing_since.map(timestamp),
        previous_secret_until: endpoint.secrets.previous.map(|(_, until)| timestamp(until)),
        created_at: Some(timestamp(endpoint.created_at)),
        updated_at: Some(timestamp(endpoint.updated_at)),
    }
}

pub(in crate::grpc) fn delivery(delivery: WebhookDelivery) -> v1::WebhookDelivery {
    let state = match delivery.state {
        DeliveryState::Pending => v1::WebhookDeliveryState::Pending,
        DeliveryState::Delivered => v1::WebhookDeliveryState::Delivered,
        DeliveryState::Failed => v1::WebhookDeliveryState::Failed,
    };
    let attempt = |attempt: DeliveryAttempt| v1::WebhookAttempt {
        at: Some(timestamp(attempt.at)),
        duration_ms: i32::try_from(attempt.duration_ms).unwrap_or(i32::MAX),
        status: attempt.status.map_or(0, i32::from),
        error: attempt.error,
        response_excerpt: attempt.excerpt,
    };
    v1::WebhookDelivery {
        id: delivery.id.to_string(),
        webhook_endpoint_id: delivery.endpoint_id.to_string(),
        event_id: delivery.event_id.to_string(),
        event_type: delivery.event_type,
        state: state.into(),
        attempts_made: i32::try_from(delivery.attempts_made).unwrap_or(i32::MAX),
        attempts: delivery.attempts.into_iter().map(attempt).collect(),
        next_attempt_at: delivery.next_at.map(timestamp),
        event_at: Some(timestamp(delivery.event_at)),
        created_at: Some(timestamp(delivery.created_at)),
    }
}

pub(in crate::grpc) fn new_endpoint(
    request: v1::CreateWebhookEndpointRequest,
) -> EngineResult<NewWebhookEndpoint> {
    let mut wrong = Violations::default();
    wrong.visible("description", &request.description);
    let events = kinds(&request.events, &mut wrong);
    let secret: Option<WebhookSecret> = wrong.parse_optional("secret", &request.secret);
    wrong.finish(Some(NewWebhookEndpoint {
        url: request.url,
        description: request.description,
        events,
        enabled: !request.disabled,
        secret,
    }))
}

pub(in crate::grpc) fn endpoint_patch(
    request: v1::UpdateWebhookEndpointRequest,
) -> EngineResult<WebhookEndpointPatch> {
    const KNOWN: [&str; 4] = ["url", "description", "events", "enabled"];
    let mut wrong = Violations::default();
    let paths = mask(request.update_mask.as_ref(), &KNOWN, &mut wrong);
    let named = |path: &str| paths.iter().any(|named| named == path);
    let mut patch = WebhookEndpointPatch::default();
    if named("events") {
        patch.events = Some(kinds(&request.events, &mut wrong));
    }
    if named("description") {
        wrong.visible("description", &request.description);
        patch.description = Some(request.description);
    }
    patch.url = named("url").then_some(request.url);
    patch.enabled = named("enabled").then_some(request.enabled);
    wrong.finish(Some(patch))
}

/// The new secret, if one is given, and how long the old one signs too.
pub(in crate::grpc) fn rotation(
    request: &v1::RotateWebhookSecretRequest,
) -> EngineResult<(Option<WebhookSecret>, SignedDuration)> {
    let mut wrong = Violations::default();
    let secret: Option<WebhookSecret> = wrong.parse_optional("secret", &request.secret);
    let overlap = request
        .overlap
        .map_or(OVERLAP_DEFAULT, |overlap| SignedDuration::new(overlap.seconds, overlap.nanos));
    if overlap.is_negative() || overlap > OVERLAP_MAX {
        wrong.refuse("overlap", "must be from zero to seven days");
    }
    wrong.finish(Some((secret, overlap)))
}

pub(in crate::grpc) fn delivery_filter(
    request: &v1::ListWebhookDeliveriesRequest,
) -> EngineResult<DeliveryFilter> {
    let mut wrong = Violations::default();
    let is_type = |text: &&str| EventKind::of(text).is_some() || *text == TEST_EVENT;
    let event_type = Some(request.event_type.as_str()).filter(|text| !text.is_empty());
    if event_type.is_some_and(|text| !is_type(&text)) {
        wrong.refuse("event_type", format!("must be one of {}, {TEST_EVENT}", known_types()));
    }
    let filter = DeliveryFilter {
        endpoint: wrong.parse_optional("webhook_endpoint_id", &request.webhook_endpoint_id),
        state: match defined(request.state, v1::WebhookDeliveryState::Unspecified) {
            v1::WebhookDeliveryState::Unspecified => None,
            v1::WebhookDeliveryState::Pending => Some(DeliveryState::Pending),
            v1::WebhookDeliveryState::Delivered => Some(DeliveryState::Delivered),
            v1::WebhookDeliveryState::Failed => Some(DeliveryState::Failed),
        },
        event_type: event_type.map(str::to_owned),
        since: wrong.time("since", request.since),
        until: wrong.time("until", request.until),
    };
    wrong.finish(Some(filter))
}

/// A range that ends now, if it has no end.
pub(in crate::grpc) fn redelivery(
    request: v1::RedeliverWebhookRangeRequest,
    now: jiff::Timestamp,
) -> EngineResult<RedeliveryAsk> {
    let mut wrong = Violations::default();
    let endpoint = wrong.parse("webhook_endpoint_id", &request.webhook_endpoint_id);
    let since = wrong.time("since", request.since);
    let until = wrong.time("until", request.until).unwrap_or(now);
    let page_token = request.page_token;
    let ask = endpoint.zip(since).map(|(endpoint, since)| RedeliveryAsk {
        endpoint,
        since,
        until,
        page_token,
    });
    wrong.finish(ask)
}

/// Kinds of events, each once and in order.
fn kinds(words: &[String], wrong: &mut Violations) -> Vec<EventKind> {
    let mut kinds = Vec::new();
    for (index, word) in words.iter().enumerate() {
        match EventKind::of(word) {
            Some(kind) => kinds.push(kind),
            None => {
                let why = format!("must be one of {}", known_types());
                wrong.refuse(&format!("events[{index}]"), why);
            }
        }
    }
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

fn known_types() -> String {
    EventKind::ALL.iter().map(|kind| kind.word()).collect::<Vec<_>>().join(", ")
}
