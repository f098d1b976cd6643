//! The service of webhooks, answered from constants.

use super::*;
use crate::proto::v1::webhooks_service_server::WebhooksService;

fn endpoint() -> Option<v1::WebhookEndpoint> {
    Some(v1::WebhookEndpoint {
        id: "whe_1".into(),
        url: "https://example.com/hooks".into(),
        events: vec!["transaction.approved".into()],
        enabled: true,
        created_at: time(1_767_000_000),
        updated_at: time(1_767_000_000),
        ..v1::WebhookEndpoint::default()
    })
}

fn delivery() -> Option<v1::WebhookDelivery> {
    let attempt = |status: i32, error: &str| v1::WebhookAttempt {
        at: time(1_767_000_000),
        duration_ms: 12,
        status,
        error: error.into(),
        response_excerpt: "busy".into(),
    };
    Some(v1::WebhookDelivery {
        id: "whd_1".into(),
        webhook_endpoint_id: "whe_1".into(),
        event_id: "evt_1".into(),
        event_type: "transaction.approved".into(),
        state: v1::WebhookDeliveryState::Pending.into(),
        attempts_made: 2,
        attempts: vec![attempt(0, "timeout"), attempt(503, "")],
        next_attempt_at: time(1_767_000_300),
        event_at: time(1_767_000_000),
        created_at: time(1_767_000_000),
    })
}

service!(WebhooksService {
    create_webhook_endpoint(CreateWebhookEndpointRequest) -> CreateWebhookEndpointResponse
        = |_f, _m| v1::CreateWebhookEndpointResponse {
            webhook_endpoint: endpoint(),
            secret: "whsec_secret".into(),
        };
    get_webhook_endpoint(GetWebhookEndpointRequest) -> GetWebhookEndpointResponse
        = |_f, _m| v1::GetWebhookEndpointResponse { webhook_endpoint: endpoint() };
    list_webhook_endpoints(ListWebhookEndpointsRequest) -> ListWebhookEndpointsResponse
        = |fake, message| v1::ListWebhookEndpointsResponse {
            webhook_endpoints: endpoint().into_iter().collect(),
            next_page_token: fake.next_page(message.page.as_ref()),
        };
    update_webhook_endpoint(UpdateWebhookEndpointRequest) -> UpdateWebhookEndpointResponse
        = |_f, _m| v1::UpdateWebhookEndpointResponse { webhook_endpoint: endpoint() };
    delete_webhook_endpoint(DeleteWebhookEndpointRequest) -> DeleteWebhookEndpointResponse
        = |_f, _m| v1::DeleteWebhookEndpointResponse {};
    rotate_webhook_secret(RotateWebhookSecretRequest) -> RotateWebhookSecretResponse
        = |_f, _m| v1::RotateWebhookSecretResponse {
            webhook_endpoint: endpoint(),
            secret: "whsec_secret".into(),
        };
    send_test_webhook(SendTestWebhookRequest) -> SendTestWebhookResponse
        = |_f, _m| v1::SendTestWebhookResponse { webhook_delivery: delivery() };
    get_webhook_delivery(GetWebhookDeliveryRequest) -> GetWebhookDeliveryResponse
        = |_f, _m| v1::GetWebhookDeliveryResponse { webhook_delivery: delivery() };
    list_webhook_deliveries(ListWebhookDeliveriesRequest) -> ListWebhookDeliveriesResponse
        = |fake, message| v1::ListWebhookDeliveriesResponse {
            webhook_deliveries: delivery().into_iter().collect(),
            next_page_token: fake.next_page(message.page.as_ref()),
        };
    redeliver_webhook(RedeliverWebhookRequest) -> RedeliverWebhookResponse
        = |_f, _m| v1::RedeliverWebhookResponse { webhook_delivery: delivery() };
    redeliver_webhook_range(RedeliverWebhookRangeRequest) -> RedeliverWebhookRangeResponse
        = |_f, _m| v1::RedeliverWebhookRangeResponse {
            deliveries: 3,
            until: time(1_767_000_300),
            next_page_token: "t".into(),
        };
});
