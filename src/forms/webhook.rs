//! Webhook endpoints and their deliveries, as they are written and shown.
//!
//! Not here: which URLs and secrets are good, which the server says.

use serde::{Deserialize, Serialize};

use super::decision::present;
use super::patch::{given, masked};
use super::scalar::{Time, whole_or_none};
use super::words::Word;
use crate::proto::v1;

/// A new endpoint: the body of `POST /webhooks`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookEndpointForm {
    /// Where.
    pub url: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// The types of events it is told of; none means all.
    #[serde(default)]
    pub events: Vec<String>,
    /// Whether anything is sent; absent means yes.
    pub enabled: Option<bool>,
    /// The secret of a receiver that has one already.
    #[serde(default)]
    pub secret: WrittenSecret,
}

/// A secret in a body; it can be written, and is shown nowhere.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct WrittenSecret(String);

/// Without the secret.
impl std::fmt::Debug for WrittenSecret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("WrittenSecret(…)")
    }
}

impl WebhookEndpointForm {
    /// The request that creates it.
    #[must_use]
    pub fn into_create(self, idempotency_key: String) -> v1::CreateWebhookEndpointRequest {
        v1::CreateWebhookEndpointRequest {
            url: self.url,
            description: self.description,
            events: self.events,
            disabled: self.enabled == Some(false),
            secret: self.secret.0,
            idempotency_key,
        }
    }
}

/// Changes to an endpoint: the body of `PATCH /webhooks/:id`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WebhookEndpointPatch {
    /// Where.
    #[serde(deserialize_with = "given")]
    pub url: Option<String>,
    /// For people.
    #[serde(deserialize_with = "given")]
    pub description: Option<String>,
    /// The types of events it is told of; none means all.
    #[serde(deserialize_with = "given")]
    pub events: Option<Vec<String>>,
    /// Whether anything is sent.
    #[serde(deserialize_with = "given")]
    pub enabled: Option<bool>,
}

impl WebhookEndpointPatch {
    /// The request that makes the changes, with the mask of what is mentioned.
    #[must_use]
    pub fn into_update(
        self,
        webhook_endpoint_id: String,
        idempotency_key: String,
    ) -> v1::UpdateWebhookEndpointRequest {
        let mut mask = prost_types::FieldMask::default();
        v1::UpdateWebhookEndpointRequest {
            webhook_endpoint_id,
            url: masked(self.url, "url", &mut mask).unwrap_or_default(),
            description: masked(self.description, "description", &mut mask).unwrap_or_default(),
            events: masked(self.events, "events", &mut mask).unwrap_or_default(),
            enabled: masked(self.enabled, "enabled", &mut mask).unwrap_or_default(),
            idempotency_key,
            update_mask: Some(mask),
        }
    }
}

/// How to rotate a secret: the body of `POST /webhooks/:id/rotate-secret`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RotateSecretForm {
    /// The new one, if it is made elsewhere.
    pub secret: WrittenSecret,
    /// How long the old one signs too; absent means a day.
    #[serde(deserialize_with = "whole_or_none")]
    pub overlap_seconds: Option<i64>,
}

impl RotateSecretForm {
    /// The request that does it.
    #[must_use]
    pub fn into_rotate(
        self,
        webhook_endpoint_id: String,
        idempotency_key: String,
    ) -> v1::RotateWebhookSecretRequest {
        let overlap = |seconds| prost_types::Duration { seconds, nanos: 0 };
        v1::RotateWebhookSecretRequest {
            webhook_endpoint_id,
            secret: self.secret.0,
            overlap: self.overlap_seconds.map(overlap),
            idempotency_key,
        }
    }
}

/// Which events to send again: the body of `POST /webhooks/:id/redeliver`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedeliverForm {
    /// What happened at or after this time.
    pub since: Time,
    /// What happened before this time; absent means until now.
    pub until: Option<Time>,
    /// The token of an answer, to go on after it.
    #[serde(default)]
    pub page_token: String,
}

impl RedeliverForm {
    /// The request that does it.
    #[must_use]
    pub fn into_range(self, webhook_endpoint_id: String) -> v1::RedeliverWebhookRangeRequest {
        v1::RedeliverWebhookRangeRequest {
            webhook_endpoint_id,
            since: Some(self.since.to_proto()),
            until: self.until.map(Time::to_proto),
            page_token: self.page_token,
        }
    }
}

/// How far a range came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RedeliveredView {
    /// How many deliveries were put on their way.
    pub deliveries: i32,
    /// The end of the range.
    pub until: Option<Time>,
    /// Give it in the next request, with the same times; absent when the range is done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub next_page_token: String,
}

impl From<v1::RedeliverWebhookRangeResponse> for RedeliveredView {
    fn from(response: v1::RedeliverWebhookRangeResponse) -> Self {
        Self {
            deliveries: response.deliveries,
            until: Time::from_proto(response.until.as_ref()),
            next_page_token: response.next_page_token,
        }
    }
}

/// An endpoint, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookEndpointView {
    /// `whe_…`.
    pub id: String,
    /// Where.
    pub url: String,
    /// For people.
    pub description: String,
    /// The types of events it is told of; none means all.
    pub events: Vec<String>,
    /// Whether anything is sent.
    pub enabled: bool,
    /// The one that the organization's `webhookUrl` manages.
    pub is_default: bool,
    /// Why the server itself disabled it: `gone` or `failing`; null if it did not.
    pub disabled_reason: Option<String>,
    /// When it did; null if it did not.
    pub disabled_at: Option<Time>,
    /// Since when it has accepted nothing; null if it accepted the last one.
    pub failing_since: Option<Time>,
    /// Until when the secret before this one signs too; null if it does not.
    pub previous_secret_until: Option<Time>,
    /// When it was made.
    pub created_at: Option<Time>,
    /// When it last changed.
    pub updated_at: Option<Time>,
}

impl From<v1::WebhookEndpoint> for WebhookEndpointView {
    fn from(endpoint: v1::WebhookEndpoint) -> Self {
        Self {
            id: endpoint.id,
            url: endpoint.url,
            description: endpoint.description,
            events: endpoint.events,
            enabled: endpoint.enabled,
            is_default: endpoint.is_default,
            disabled_reason: present(endpoint.disabled_reason),
            disabled_at: Time::from_proto(endpoint.disabled_at.as_ref()),
            failing_since: Time::from_proto(endpoint.failing_since.as_ref()),
            previous_secret_until: Time::from_proto(endpoint.previous_secret_until.as_ref()),
            created_at: Time::from_proto(endpoint.created_at.as_ref()),
            updated_at: Time::from_proto(endpoint.updated_at.as_ref()),
        }
    }
}

/// An endpoint that was just given a secret, with it this once.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookSecretView {
    /// The endpoint.
    #[serde(flatten)]
    pub endpoint: WebhookEndpointView,
    /// `whsec_…`; null when a call is repeated, because it cannot be shown again.
    pub secret: Option<String>,
}

/// Without the secret.
impl std::fmt::Debug for WebhookSecretView {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("WebhookSecretView");
        shown.field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// A delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookDeliveryView {
    /// `whd_…`.
    pub id: String,
    /// To which endpoint.
    pub webhook_endpoint_id: String,
    /// Which event: the `webhook-id` of every attempt.
    pub event_id: String,
    /// The event's type.
    pub event_type: String,
    /// How it stands.
    pub state: Word<v1::WebhookDeliveryState>,
    /// All attempts there were.
    pub attempts_made: i32,
    /// The last of them, oldest first.
    pub attempts: Vec<WebhookAttemptView>,
    /// When the next attempt is due; null if there will be none.
    pub next_attempt_at: Option<Time>,
    /// When the event happened.
    pub event_at: Option<Time>,
    /// When it was first put on its way.
    pub created_at: Option<Time>,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookAttemptView {
    /// When it was made.
    pub at: Option<Time>,
    /// How long it took.
    pub duration_ms: i32,
    /// The status of the answer; null if there was none.
    pub status: Option<i32>,
    /// Why there was none, in one word; null if there was one.
    pub error: Option<String>,
    /// The beginning of the answer's body.
    pub response_excerpt: String,
}

impl From<v1::WebhookDelivery> for WebhookDeliveryView {
    fn from(delivery: v1::WebhookDelivery) -> Self {
        let attempt = |attempt: v1::WebhookAttempt| WebhookAttemptView {
            at: Time::from_proto(attempt.at.as_ref()),
            duration_ms: attempt.duration_ms,
            status: Some(attempt.status).filter(|status| *status != 0),
            error: present(attempt.error),
            response_excerpt: attempt.response_excerpt,
        };
        Self {
            id: delivery.id,
            webhook_endpoint_id: delivery.webhook_endpoint_id,
            event_id: delivery.event_id,
            event_type: delivery.event_type,
            state: Word::from_number(delivery.state),
            attempts_made: delivery.attempts_made,
            attempts: delivery.attempts.into_iter().map(attempt).collect(),
            next_attempt_at: Time::from_proto(delivery.next_attempt_at.as_ref()),
            event_at: Time::from_proto(delivery.event_at.as_ref()),
            created_at: Time::from_proto(delivery.created_at.as_ref()),
        }
    }
}
