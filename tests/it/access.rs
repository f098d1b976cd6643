//! Who may call what, and whose things they see: every RPC of the contract, found by walking it.
//!
//! `access/roles.rs` has the matrix of roles and credentials, `ids.rs` the ids of others,
//! `tenants.rs` lists. An RPC that is added to the protos is covered at once, or fails here until
//! it is. Not here: what the RPCs do.

mod ids;
mod requests;
mod roles;
mod tenants;

use std::sync::Arc;

use quetra::clock::ManualClock;
use quetra::proto::v1;

use crate::harness::{Clients, Server, ask, budget, unique};

/// When these tests happen.
fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new("2026-05-04T12:00:00Z".parse().unwrap()))
}

/// Something of every kind that has an id, all of one agent.
#[derive(Clone, Debug)]
struct Belongings {
    agent_id: String,
    mandate_id: String,
    transaction_id: String,
    idempotency_key: String,
    api_key_id: String,
    webhook_endpoint_id: String,
    webhook_delivery_id: String,
    /// The text of the key, which is bound to the agent.
    key: String,
}

impl Belongings {
    /// Made by an admin.
    async fn make(admin: &mut Clients) -> Self {
        let (agent_id, mandate_id) = admin.agent_with_mandate(budget(10_000, 500), vec![]).await;
        let request = ask(&agent_id, 100);
        let idempotency_key = request.idempotency_key.clone();
        let transaction_id = admin.spend(request).await.transaction_id;
        let (api_key_id, key) = key(admin, v1::Role::Agent, &agent_id, None).await;
        let (webhook_endpoint_id, webhook_delivery_id) = webhook(admin).await;
        Self {
            agent_id,
            mandate_id,
            transaction_id,
            idempotency_key,
            api_key_id,
            webhook_endpoint_id,
            webhook_delivery_id,
            key,
        }
    }

    /// The ids and the names that nobody else may see.
    fn marks(&self) -> [&str; 7] {
        [
            &self.agent_id,
            &self.mandate_id,
            &self.transaction_id,
            &self.idempotency_key,
            &self.api_key_id,
            &self.webhook_endpoint_id,
            &self.webhook_delivery_id,
        ]
    }
}

/// An endpoint, new or one there is already, as there cannot be many; and a delivery to it. The
/// name of its host leads nowhere.
async fn webhook(admin: &mut Clients) -> (String, String) {
    let listed = v1::ListWebhookEndpointsRequest::default();
    let listed = admin.webhooks.list_webhook_endpoints(listed).await.unwrap().into_inner();
    let webhook_endpoint_id = match listed.webhook_endpoints.first() {
        Some(endpoint) => endpoint.id.clone(),
        None => {
            let url = "https://receiver.invalid/hooks".to_owned();
            let request = v1::CreateWebhookEndpointRequest { url, ..Default::default() };
            let made = admin.webhooks.create_webhook_endpoint(request).await.unwrap();
            made.into_inner().webhook_endpoint.unwrap().id
        }
    };
    let request = v1::UpdateWebhookEndpointRequest {
        webhook_endpoint_id: webhook_endpoint_id.clone(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["enabled".to_owned()] }),
        enabled: true,
        ..Default::default()
    };
    admin.webhooks.update_webhook_endpoint(request).await.unwrap();
    let request = v1::SendTestWebhookRequest { webhook_endpoint_id: webhook_endpoint_id.clone() };
    let sent = admin.webhooks.send_test_webhook(request).await.unwrap().into_inner();
    (webhook_endpoint_id, sent.webhook_delivery.unwrap().id)
}

/// A new key: its id and its text.
async fn key(
    admin: &mut Clients,
    role: v1::Role,
    agent_id: &str,
    expires_at: Option<prost_types::Timestamp>,
) -> (String, String) {
    let request = v1::CreateApiKeyRequest {
        name: format!("key {}", unique()),
        role: role.into(),
        agent_id: agent_id.to_owned(),
        expires_at,
        ..Default::default()
    };
    let made = admin.organization.create_api_key(request).await.unwrap().into_inner();
    (made.api_key.unwrap().id, made.key)
}

async fn start() -> (Server, Clients) {
    let server = Server::with(|_| {}, clock()).await;
    let admin = server.admin().await;
    (server, admin)
}
