//! `WebhooksService`: translation only.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::access::caller;
use super::convert::webhook::{
    delivery, delivery_filter, endpoint, endpoint_patch, new_endpoint, redelivery, rotation,
};
use super::convert::{id, page, timestamp};
use super::idempotency;
use super::status::status_of;
use crate::domain::id::{WebhookDeliveryId, WebhookEndpointId};
use crate::engine::{Engine, WebhookSecret};
use crate::proto::v1;
use crate::proto::v1::webhooks_service_server::WebhooksService;

/// Serves `WebhooksService`.
#[derive(Clone, Debug)]
pub struct WebhooksApi {
    engine: Arc<Engine>,
}

impl WebhooksApi {
    /// On an engine.
    #[must_use]
    pub const fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

fn shown(secret: Option<WebhookSecret>) -> String {
    secret.map_or_else(String::new, |secret| secret.reveal().to_string())
}

#[tonic::async_trait]
impl WebhooksService for WebhooksApi {
    async fn create_webhook_endpoint(
        &self,
        request: Request<v1::CreateWebhookEndpointRequest>,
    ) -> Result<Response<v1::CreateWebhookEndpointResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let once = idempotency(&request.idempotency_key, "CreateWebhookEndpoint", &request);
        let wanted = new_endpoint(request).map_err(status_of)?;
        let made = self.engine.create_webhook_endpoint(&caller, wanted, &once).await;
        let (made, secret) = made.map_err(status_of)?;
        let secret = shown(secret);
        let webhook_endpoint = Some(endpoint(made));
        Ok(Response::new(v1::CreateWebhookEndpointResponse { webhook_endpoint, secret }))
    }

    async fn get_webhook_endpoint(
        &self,
        request: Request<v1::GetWebhookEndpointRequest>,
    ) -> Result<Response<v1::GetWebhookEndpointResponse>, Status> {
        let caller = caller(&request)?;
        let id = id_of_endpoint(&request.get_ref().webhook_endpoint_id)?;
        let found = self.engine.webhook_endpoint(&caller, id).await.map_err(status_of)?;
        let webhook_endpoint = Some(endpoint(found));
        Ok(Response::new(v1::GetWebhookEndpointResponse { webhook_endpoint }))
    }

    async fn list_webhook_endpoints(
        &self,
        request: Request<v1::ListWebhookEndpointsRequest>,
    ) -> Result<Response<v1::ListWebhookEndpointsResponse>, Status> {
        let caller = caller(&request)?;
        let ask = page(request.into_inner().page);
        let listed = self.engine.webhook_endpoints(&caller, &ask).await.map_err(status_of)?;
        Ok(Response::new(v1::ListWebhookEndpointsResponse {
            webhook_endpoints: listed.items.into_iter().map(endpoint).collect(),
            next_page_token: listed.next,
        }))
    }

    async fn update_webhook_endpoint(
        &self,
        request: Request<v1::UpdateWebhookEndpointRequest>,
    ) -> Result<Response<v1::UpdateWebhookEndpointResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let once = idempotency(&request.idempotency_key, "UpdateWebhookEndpoint", &request);
        let id = id_of_endpoint(&request.webhook_endpoint_id)?;
        let patch = endpoint_patch(request).map_err(status_of)?;
        let changed = self.engine.update_webhook_endpoint(&caller, id, &patch, &once).await;
        let webhook_endpoint = Some(endpoint(changed.map_err(status_of)?));
        Ok(Response::new(v1::UpdateWebhookEndpointResponse { webhook_endpoint }))
    }

    async fn delete_webhook_endpoint(
        &self,
        request: Request<v1::DeleteWebhookEndpointRequest>,
    ) -> Result<Response<v1::DeleteWebhookEndpointResponse>, Status> {
        let caller = caller(&request)?;
        let id = id_of_endpoint(&request.get_ref().webhook_endpoint_id)?;
        self.engine.delete_webhook_endpoint(&caller, id).await.map_err(status_of)?;
        Ok(Response::new(v1::DeleteWebhookEndpointResponse {}))
    }

    async fn rotate_webhook_secret(
        &self,
        request: Request<v1::RotateWebhookSecretRequest>,
    ) -> Result<Response<v1::RotateWebhookSecretResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let once = idempotency(&request.idempotency_key, "RotateWebhookSecret", &request);
        let id = id_of_endpoint(&request.webhook_endpoint_id)?;
        let wanted = rotation(&request).map_err(status_of)?;
        let rotated = self.engine.rotate_webhook_secret(&caller, id, wanted, &once).await;
        let (rotated, secret) = rotated.map_err(status_of)?;
        let secret = shown(secret);
        let webhook_endpoint = Some(endpoint(rotated));
        Ok(Response::new(v1::RotateWebhookSecretResponse { webhook_endpoint, secret }))
    }

    async fn send_test_webhook(
        &self,
        request: Request<v1::SendTestWebhookRequest>,
    ) -> Result<Response<v1::SendTestWebhookResponse>, Status> {
        let caller = caller(&request)?;
        let id = id_of_endpoint(&request.get_ref().webhook_endpoint_id)?;
        let sent = self.engine.send_test_webhook(&caller, id).await.map_err(status_of)?;
        let webhook_delivery = Some(delivery(sent));
        Ok(Response::new(v1::SendTestWebhookResponse { webhook_delivery }))
    }

    async fn get_webhook_delivery(
        &self,
        request: Request<v1::GetWebhookDeliveryRequest>,
    ) -> Result<Response<v1::GetWebhookDeliveryResponse>, Status> {
        let caller = caller(&request)?;
        let id = id_of_delivery(&request.get_ref().webhook_delivery_id)?;
        let found = self.engine.webhook_delivery(&caller, id).await.map_err(status_of)?;
        let webhook_delivery = Some(delivery(found));
        Ok(Response::new(v1::GetWebhookDeliveryResponse { webhook_delivery }))
    }

    async fn list_webhook_deliveries(
        &self,
        request: Request<v1::ListWebhookDeliveriesRequest>,
    ) -> Result<Response<v1::ListWebhookDeliveriesResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let filter = delivery_filter(&request).map_err(status_of)?;
        let ask = page(request.page);
        let listed = self.engine.webhook_deliveries(&caller, filter, &ask).await;
        let listed = listed.map_err(status_of)?;
        Ok(Response::new(v1::ListWebhookDeliveriesResponse {
            webhook_deliveries: listed.items.into_iter().map(delivery).collect(),
            next_page_token: listed.next,
        }))
    }

    async fn redeliver_webhook(
        &self,
        request: Request<v1::RedeliverWebhookRequest>,
    ) -> Result<Response<v1::RedeliverWebhookResponse>, Status> {
        let caller = caller(&request)?;
        let id = id_of_delivery(&request.get_ref().webhook_delivery_id)?;
        let sent = self.engine.redeliver_webhook(&caller, id).await.map_err(status_of)?;
        let webhook_delivery = Some(delivery(sent));
        Ok(Response::new(v1::RedeliverWebhookResponse { webhook_delivery }))
    }

    async fn redeliver_webhook_range(
        &self,
        request: Request<v1::RedeliverWebhookRangeRequest>,
    ) -> Result<Response<v1::RedeliverWebhookRangeResponse>, Status> {
        let caller = caller(&request)?;
        let ask = redelivery(request.into_inner(), self.engine.now()).map_err(status_of)?;
        let sent = self.engine.redeliver_webhooks(&caller, &ask).await.map_err(status_of)?;
        Ok(Response::new(v1::RedeliverWebhookRangeResponse {
            deliveries: i32::try_from(sent.items.len()).unwrap_or(i32::MAX),
            until: Some(timestamp(ask.until)),
            next_page_token: sent.next,
        }))
    }
}

fn id_of_endpoint(text: &str) -> Result<WebhookEndpointId, Status> {
    id("webhook_endpoint_id", text).map_err(status_of)
}

fn id_of_delivery(text: &str) -> Result<WebhookDeliveryId, Status> {
    id("webhook_delivery_id", text).map_err(status_of)
}
