//! What is kept of webhooks: who is told, how far, and the log of deliveries.
//!
//! Endpoints are written by the catalogue's one writer. What moves with every delivery is not part
//! of the catalogue: nothing that is decided depends on it, so it is written in batches and without
//! the organization's turn. Not here: when anything is delivered (`webhook`).

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Page, StoreError};
use crate::domain::id::{OrgId, WebhookDeliveryId, WebhookEndpointId};
use crate::domain::webhook::{DeliveryState, WebhookDelivery, WebhookEndpoint};

/// A change of who is told what.
#[derive(Clone, Debug)]
pub enum WebhookChange {
    /// A new endpoint, told of what comes after this event; a conflict if there are too many, or
    /// another default one.
    Create(WebhookEndpoint, i64),
    /// An endpoint, if its version is still this; told only of what comes after this event, if one
    /// is given.
    Replace(WebhookEndpoint, i64, Option<i64>),
    /// Removes an endpoint with its deliveries.
    Delete(OrgId, WebhookEndpointId),
    /// Deliveries on their way, once more or for the first time.
    Send(OrgId, Vec<WebhookDelivery>),
}

impl WebhookChange {
    /// Whose.
    #[must_use]
    pub const fn org(&self) -> OrgId {
        match self {
            Self::Create(endpoint, _) | Self::Replace(endpoint, _, _) => endpoint.org_id,
            Self::Delete(org, _) | Self::Send(org, _) => *org,
        }
    }
}

/// Which deliveries to list.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Only to this endpoint.
    pub endpoint: Option<WebhookEndpointId>,
    /// Only in this state.
    pub state: Option<DeliveryState>,
    /// Only of this type of event.
    pub event_type: Option<String>,
    /// Only put on their way at or after this time.
    pub since: Option<Timestamp>,
    /// Only put on their way before this time.
    pub until: Option<Timestamp>,
}

/// Reads endpoints and deliveries.
#[async_trait]
pub trait WebhookStore: Send + Sync {
    /// One endpoint.
    async fn webhook_endpoint(
        &self,
        org: OrgId,
        id: WebhookEndpointId,
    ) -> Result<Option<WebhookEndpoint>, StoreError>;
    /// Endpoints, newest first; the page's sort key is the id (ids sort by time).
    async fn webhook_endpoints(
        &self,
        org: OrgId,
        page: Page,
    ) -> Result<Vec<WebhookEndpoint>, StoreError>;
    /// The one that the organization's `webhookUrl` manages.
    async fn default_webhook_endpoint(
        &self,
        org: OrgId,
    ) -> Result<Option<WebhookEndpoint>, StoreError>;
    /// One delivery.
    async fn webhook_delivery(
        &self,
        org: OrgId,
        id: WebhookDeliveryId,
    ) -> Result<Option<WebhookDelivery>, StoreError>;
    /// Deliveries, newest first; the page's sort key is [`delivery_place`].
    async fn webhook_deliveries(
        &self,
        org: OrgId,
        filter: DeliveryFilter,
        page: Page,
    ) -> Result<Vec<WebhookDelivery>, StoreError>;
}

/// Where a delivery is in the list of them.
#[must_use]
pub fn delivery_place(delivery: &WebhookDelivery) -> String {
    let micros = delivery.created_at.as_microsecond();
    format!("{micros}.{}", hex::encode(delivery.id.as_bytes()))
}

/// An endpoint that this server tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnedEndpoint {
    /// Whose.
    pub org_id: OrgId,
    /// Which.
    pub id: WebhookEndpointId,
    /// Its version: another one is another URL, filter or secret.
    pub version: i64,
    /// When its next delivery is due, if one waits.
    pub due_at: Option<Timestamp>,
}

/// An endpoint with the place it was told up to.
#[derive(Clone, Debug)]
pub struct ToldEndpoint {
    /// The endpoint, with its secrets.
    pub endpoint: WebhookEndpoint,
    /// Of every event up to this one there is a delivery, or it does not want it.
    pub after_seq: i64,
}

/// What became of an endpoint: how far it was told, and since when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Which.
    pub endpoint: WebhookEndpointId,
    /// Up to where.
    pub after_seq: i64,
    /// Since when it has accepted nothing.
    pub failing_since: Option<Timestamp>,
}

/// Moves deliveries on.
#[async_trait]
pub trait DeliveryStore: Send + Sync {
    /// Takes what nobody tells, keeps what is this server's, and returns all of that: every enabled
    /// endpoint where there is only one server.
    async fn own_endpoints(&self, server: [u8; 16]) -> Result<Vec<OwnedEndpoint>, StoreError>;
    /// Lets others take at once what was this server's.
    async fn disown_endpoints(&self, server: [u8; 16]) -> Result<(), StoreError>;
    /// An endpoint, to be told.
    async fn told_endpoint(
        &self,
        org: OrgId,
        id: WebhookEndpointId,
    ) -> Result<Option<ToldEndpoint>, StoreError>;
    /// What is due, the longest due first.
    async fn due_deliveries(
        &self,
        (org, endpoint): (OrgId, WebhookEndpointId),
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<WebhookDelivery>, StoreError>;
    /// Writes how deliveries stand, and how far their endpoints were told, all or nothing. What
    /// belongs to an endpoint that is gone is left out, and so is what became of an attempt at a
    /// delivery that was sent again by hand since.
    async fn record_deliveries(
        &self,
        org: OrgId,
        deliveries: &[WebhookDelivery],
        told: &[Told],
    ) -> Result<(), StoreError>;
    /// Forgets deliveries that are done: those before this time, and those beyond so many of an
    /// endpoint. Returns how many it forgot, a bounded number in one call.
    async fn forget_deliveries(
        &self,
        (org, endpoint): (OrgId, WebhookEndpointId),
        before: Timestamp,
        keep: u32,
    ) -> Result<u64, StoreError>;
}
