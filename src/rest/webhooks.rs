//! `/webhooks`: endpoints that are told of events, and what was told to them.
//!
//! Not here: the organization's own webhook URL (`organization`).

use serde::Serialize;

use super::answer::Answer;
use super::call::Call;
use super::page::{LIMIT_DEFAULT, LIMIT_MAX, Window, walk};
use super::query::Query;
use super::routes::Outcome;
use crate::forms::{
    FormError, RedeliverForm, RedeliveredView, RotateSecretForm, WebhookDeliveryView,
    WebhookEndpointForm, WebhookEndpointPatch, WebhookEndpointView, WebhookSecretView,
};
use crate::proto::v1;

/// A page of endpoints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WebhookEndpoints {
    webhook_endpoints: Vec<WebhookEndpointView>,
    #[serde(skip_serializing_if = "String::is_empty")]
    next_page_token: String,
}

/// A page of deliveries.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WebhookDeliveries {
    webhook_deliveries: Vec<WebhookDeliveryView>,
    #[serde(skip_serializing_if = "String::is_empty")]
    next_page_token: String,
}

pub(super) async fn create(call: Call) -> Outcome {
    let form: WebhookEndpointForm =
        call.json_for(|form: WebhookEndpointForm| form.into_create(String::new()))?;
    let key = call.idempotency_key()?.unwrap_or_default();
    let request = call.request(form.into_create(key));
    let response = call.message(call.webhooks().create_webhook_endpoint(request).await)?;
    Answer::created(&with_secret(response.webhook_endpoint, response.secret)?)
}

pub(super) async fn list(call: Call) -> Outcome {
    let mut query = Query::read(call.uri(), &["limit", "offset", "pageToken"]);
    let window = Window::read(&mut query, LIMIT_MAX);
    query.finish()?;
    let (endpoints, next_page_token) = walk(window, |page| {
        let message = v1::ListWebhookEndpointsRequest { page: Some(page) };
        let (mut client, request) = (call.webhooks(), call.request(message));
        let call = &call;
        async move {
            let response = call.message(client.list_webhook_endpoints(request).await)?;
            Ok((response.webhook_endpoints, response.next_page_token))
        }
    })
    .await?;
    let webhook_endpoints = endpoints.into_iter().map(Into::into).collect();
    Answer::ok(&WebhookEndpoints { webhook_endpoints, next_page_token })
}

pub(super) async fn get(call: Call) -> Outcome {
    let request = call.request(v1::GetWebhookEndpointRequest { webhook_endpoint_id: call.id() });
    let response = call.message(call.webhooks().get_webhook_endpoint(request).await)?;
    Answer::ok(&endpoint(response.webhook_endpoint)?)
}

pub(super) async fn update(call: Call) -> Outcome {
    let patch: WebhookEndpointPatch =
        call.json_for(|form: WebhookEndpointPatch| form.into_update(call.id(), String::new()))?;
    let key = call.idempotency_key()?.unwrap_or_default();
    let request = call.request(patch.into_update(call.id(), key));
    let response = call.message(call.webhooks().update_webhook_endpoint(request).await)?;
    Answer::ok(&endpoint(response.webhook_endpoint)?)
}

pub(super) async fn delete(call: Call) -> Outcome {
    call.no_fields()?;
    let request = v1::DeleteWebhookEndpointRequest { webhook_endpoint_id: call.id() };
    let request = call.request(request);
    call.message(call.webhooks().delete_webhook_endpoint(request).await)?;
    Ok(Answer::nothing())
}

pub(super) async fn rotate(call: Call) -> Outcome {
    rotate_of(&call, call.id()).await
}

/// Rotates the secret of an endpoint, as the body says.
pub(super) async fn rotate_of(call: &Call, id: String) -> Outcome {
    let form: RotateSecretForm = call.json_or_default()?;
    let key = call.idempotency_key()?.unwrap_or_default();
    let request = call.request(form.into_rotate(id, key));
    let response = call.message(call.webhooks().rotate_webhook_secret(request).await)?;
    Answer::ok(&with_secret(response.webhook_endpoint, response.secret)?)
}

pub(super) async fn test(call: Call) -> Outcome {
    call.no_fields()?;
    let request = call.request(v1::SendTestWebhookRequest { webhook_endpoint_id: call.id() });
    let response = call.message(call.webhooks().send_test_webhook(request).await)?;
    Answer::created(&delivery(response.webhook_delivery)?)
}

pub(super) async fn redeliver_range(call: Call) -> Outcome {
    let form: RedeliverForm = call.json_for(|form: RedeliverForm| form.into_range(call.id()))?;
    let request = call.request(form.into_range(call.id()));
    let response = call.message(call.webhooks().redeliver_webhook_range(request).await)?;
    Answer::ok(&RedeliveredView::from(response))
}

pub(super) async fn deliveries(call: Call) -> Outcome {
    let known = [
        "limit",
        "offset",
        "pageToken",
        "webhookEndpointId",
        "eventType",
        "state",
        "since",
        "until",
    ];
    let mut query = Query::read(call.uri(), &known);
    let window = Window::read(&mut query, LIMIT_DEFAULT);
    let message = v1::ListWebhookDeliveriesRequest {
        webhook_endpoint_id: query.text("webhookEndpointId"),
        state: query.word::<v1::WebhookDeliveryState>("state"),
        event_type: query.text("eventType"),
        since: query.time("since"),
        until: query.time("until"),
        page: None,
    };
    query.finish()?;
    let (deliveries, next_page_token) = walk(window, |page| {
        let message = v1::ListWebhookDeliveriesRequest { page: Some(page), ..message.clone() };
        let (mut client, request) = (call.webhooks(), call.request(message));
        let call = &call;
        async move {
            let response = call.message(client.list_webhook_deliveries(request).await)?;
            Ok((response.webhook_deliveries, response.next_page_token))
        }
    })
    .await?;
    let webhook_deliveries = deliveries.into_iter().map(Into::into).collect();
    Answer::ok(&WebhookDeliveries { webhook_deliveries, next_page_token })
}

pub(super) async fn get_delivery(call: Call) -> Outcome {
    let request = call.request(v1::GetWebhookDeliveryRequest { webhook_delivery_id: call.id() });
    let response = call.message(call.webhooks().get_webhook_delivery(request).await)?;
    Answer::ok(&delivery(response.webhook_delivery)?)
}

pub(super) async fn redeliver(call: Call) -> Outcome {
    call.no_fields()?;
    let request = call.request(v1::RedeliverWebhookRequest { webhook_delivery_id: call.id() });
    let response = call.message(call.webhooks().redeliver_webhook(request).await)?;
    Answer::ok(&delivery(response.webhook_delivery)?)
}

fn endpoint(found: Option<v1::WebhookEndpoint>) -> Result<WebhookEndpointView, FormError> {
    found.map(Into::into).ok_or(FormError::Incomplete("webhook endpoint"))
}

fn delivery(found: Option<v1::WebhookDelivery>) -> Result<WebhookDeliveryView, FormError> {
    found.map(Into::into).ok_or(FormError::Incomplete("webhook delivery"))
}

fn with_secret(
    found: Option<v1::WebhookEndpoint>,
    secret: String,
) -> Result<WebhookSecretView, FormError> {
    let secret = Some(secret).filter(|secret| !secret.is_empty());
    Ok(WebhookSecretView { endpoint: endpoint(found)?, secret })
}
