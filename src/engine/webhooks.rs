//! Webhook endpoints: who is told of which events, with which secret, and what was told.
//!
//! A URL is judged when it is saved, so that a wrong one is refused while somebody looks. Not here:
//! delivering (`webhook`), and the calls themselves (`provider::egress`).

use jiff::SignedDuration;

use super::access::Principal;
use super::pages::{PageAsk, Paged};
use super::receipts::Idempotency;
use super::{ATTEMPTS, Engine, EngineError, EngineResult};
use crate::crypto::{WebhookSecret, random_id, time_ordered_id};
use crate::domain::event::EventKind;
use crate::domain::id::{EventId, OrgId, WebhookDeliveryId, WebhookEndpointId};
use crate::domain::webhook::{
    ENDPOINTS_MAX, SealedSecrets, TEST_EVENT, WebhookDelivery, WebhookEndpoint,
};
use crate::store::{Change, DeliveryFilter, EventStore, Page, WebhookChange, delivery_place};

mod again;

pub use again::RedeliveryAsk;

/// How long an old secret signs beside the new one, if nothing is said.
pub const OVERLAP_DEFAULT: SignedDuration = SignedDuration::from_hours(24);

/// The longest that it may.
pub const OVERLAP_MAX: SignedDuration = SignedDuration::from_hours(7 * 24);

/// An endpoint to make.
#[derive(Clone, Debug)]
pub struct NewWebhookEndpoint {
    /// Where.
    pub url: String,
    /// For people.
    pub description: String,
    /// Which kinds of events; none means all.
    pub events: Vec<EventKind>,
    /// Whether anything is sent.
    pub enabled: bool,
    /// The secret of a receiver that has one already.
    pub secret: Option<WebhookSecret>,
}

/// What to change of an endpoint; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct WebhookEndpointPatch {
    /// See [`WebhookEndpoint::url`].
    pub url: Option<String>,
    /// See [`WebhookEndpoint::description`].
    pub description: Option<String>,
    /// See [`WebhookEndpoint::events`].
    pub events: Option<Vec<EventKind>>,
    /// See [`WebhookEndpoint::enabled`].
    pub enabled: Option<bool>,
}

/// A change of an endpoint, and where it is told from afterwards, if not from where it was.
type Changed = (WebhookEndpoint, Option<i64>);

impl Engine {
    /// Makes an endpoint; its secret is returned this once, and not again when the call is
    /// repeated. It is told of what happens from now on.
    ///
    /// # Errors
    /// When its URL may not be called, or there are too many endpoints.
    pub async fn create_webhook_endpoint(
        &self,
        caller: &Principal,
        wanted: NewWebhookEndpoint,
        idempotency: &Idempotency,
    ) -> EngineResult<(WebhookEndpoint, Option<WebhookSecret>)> {
        if let Some(endpoint) = self.replay(caller.org_id, idempotency).await? {
            return Ok((endpoint, None));
        }
        self.judge_url("url", &wanted.url)?;
        let secret = wanted.secret.map_or_else(WebhookSecret::generate, Ok)?;
        let mut endpoint = self.new_endpoint(caller.org_id, wanted.url, &secret)?;
        endpoint.description = wanted.description;
        endpoint.events = wanted.events;
        endpoint.enabled = wanted.enabled;
        let after = self.last_event_seq(caller.org_id).await?;
        let changes = vec![Change::Webhook(WebhookChange::Create(endpoint.clone(), after))];
        match self.commit(caller, changes, idempotency, &endpoint).await {
            Ok(()) => {
                self.deliveries.notify_one();
                Ok((endpoint, Some(secret)))
            }
            Err(error) if error.is_conflict() => {
                let replayed = self.replay(caller.org_id, idempotency).await?;
                replayed.map(|endpoint| (endpoint, None)).ok_or(EngineError::TooManyEndpoints)
            }
            Err(error) => Err(error),
        }
    }

    /// One endpoint.
    ///
    /// # Errors
    /// When there is none.
    pub async fn webhook_endpoint(
        &self,
        caller: &Principal,
        id: WebhookEndpointId,
    ) -> EngineResult<WebhookEndpoint> {
        let found = self.catalogue.webhook_endpoint(caller.org_id, id).await?;
        found.ok_or(EngineError::NotFound("webhook endpoint"))
    }

    /// A page of endpoints, newest first.
    ///
    /// # Errors
    /// When the token is not of this list.
    pub async fn webhook_endpoints(
        &self,
        caller: &Principal,
        ask: &PageAsk,
    ) -> EngineResult<Paged<WebhookEndpoint>> {
        const LIST: &str = "webhook endpoints";
        let page = self.pages.open(caller.org_id, LIST, ask)?;
        let rows = self.catalogue.webhook_endpoints(caller.org_id, page).await?;
        let position = |endpoint: &WebhookEndpoint| hex::encode(endpoint.id.as_bytes());
        Ok(self.pages.close(caller.org_id, LIST, ask, (rows, position)))
    }

    /// Changes an endpoint. One that is enabled again is told of what happens from now on.
    ///
    /// # Errors
    /// When there is none, or its new URL may not be called.
    pub async fn update_webhook_endpoint(
        &self,
        caller: &Principal,
        id: WebhookEndpointId,
        patch: &WebhookEndpointPatch,
        idempotency: &Idempotency,
    ) -> EngineResult<WebhookEndpoint> {
        if let Some(url) = &patch.url {
            self.judge_url("url", url)?;
        }
        let now = self.last_event_seq(caller.org_id).await?;
        let change = |mut endpoint: WebhookEndpoint| {
            let was_enabled = endpoint.enabled;
            endpoint.url = patch.url.clone().unwrap_or(endpoint.url);
            endpoint.description = patch.description.clone().unwrap_or(endpoint.description);
            endpoint.events = patch.events.clone().unwrap_or(endpoint.events);
            endpoint.enabled = patch.enabled.unwrap_or(endpoint.enabled);
            let is_switched = endpoint.enabled != was_enabled;
            if is_switched {
                endpoint.disabled = None;
            }
            let after = (is_switched && endpoint.enabled).then_some(now);
            (endpoint, after)
        };
        self.change_endpoint(caller, id, idempotency, change).await
    }

    /// Gives an endpoint another secret, which is returned this once. The old one signs beside it
    /// for as long as the overlap is.
    ///
    /// # Errors
    /// When there is no such endpoint.
    pub async fn rotate_webhook_secret(
        &self,
        caller: &Principal,
        id: WebhookEndpointId,
        (secret, overlap): (Option<WebhookSecret>, SignedDuration),
        idempotency: &Idempotency,
    ) -> EngineResult<(WebhookEndpoint, Option<WebhookSecret>)> {
        if let Some(endpoint) = self.replay(caller.org_id, idempotency).await? {
            return Ok((endpoint, None));
        }
        let secret = secret.map_or_else(WebhookSecret::generate, Ok)?;
        let sealed = self.seal(id, &secret)?;
        let overlap = overlap.clamp(SignedDuration::ZERO, OVERLAP_MAX);
        let until = self.clock.now().checked_add(overlap);
        let until = until.map_err(|_| EngineError::Corrupt("the clock"))?;
        let change = |mut endpoint: WebhookEndpoint| {
            let old = std::mem::replace(&mut endpoint.secrets.current, sealed.clone());
            endpoint.secrets.previous = (!overlap.is_zero()).then_some((old, until));
            (endpoint, None)
        };
        let rotated = self.change_endpoint(caller, id, idempotency, change).await?;
        let is_ours = rotated.secrets.current == sealed;
        Ok((rotated, is_ours.then_some(secret)))
    }

    /// Removes an endpoint and the log of its deliveries.
    ///
    /// # Errors
    /// When there is none.
    pub async fn delete_webhook_endpoint(
        &self,
        caller: &Principal,
        id: WebhookEndpointId,
    ) -> EngineResult<()> {
        let change = Change::Webhook(WebhookChange::Delete(caller.org_id, id));
        match self.commit(caller, vec![change], &Idempotency::default(), &()).await {
            Err(error) if error.is_conflict() => Err(EngineError::NotFound("webhook endpoint")),
            result => {
                self.deliveries.notify_one();
                result
            }
        }
    }

    /// Sends an event that means nothing to one endpoint, once.
    ///
    /// # Errors
    /// When there is no such endpoint, or it is disabled.
    pub async fn send_test_webhook(
        &self,
        caller: &Principal,
        id: WebhookEndpointId,
    ) -> EngineResult<WebhookDelivery> {
        let endpoint = self.enabled_endpoint(caller, id).await?;
        let now = self.clock.now();
        let event = EventId::from_bytes(random_id());
        let id = WebhookDeliveryId::of(endpoint.id, event);
        let delivery = WebhookDelivery::due((id, &endpoint), (event, None, TEST_EVENT, now), now);
        self.send(caller, vec![delivery.clone()]).await?;
        Ok(delivery)
    }

    /// One delivery.
    ///
    /// # Errors
    /// When there is none.
    pub async fn webhook_delivery(
        &self,
        caller: &Principal,
        id: WebhookDeliveryId,
    ) -> EngineResult<WebhookDelivery> {
        let found = self.catalogue.webhook_delivery(caller.org_id, id).await?;
        found.ok_or(EngineError::NotFound("webhook delivery"))
    }

    /// A page of deliveries, newest first.
    ///
    /// # Errors
    /// When there is no such endpoint, or the token is not of this list.
    pub async fn webhook_deliveries(
        &self,
        caller: &Principal,
        filter: DeliveryFilter,
        ask: &PageAsk,
    ) -> EngineResult<Paged<WebhookDelivery>> {
        if let Some(endpoint) = filter.endpoint {
            self.webhook_endpoint(caller, endpoint).await?;
        }
        let list = format!("webhook deliveries {filter:?}");
        let page = self.pages.open(caller.org_id, &list, ask)?;
        let rows = self.catalogue.webhook_deliveries(caller.org_id, filter, page).await?;
        Ok(self.pages.close(caller.org_id, &list, ask, (rows, delivery_place)))
    }

    /// The endpoint that the organization's `webhookUrl` manages.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn default_webhook_endpoint(
        &self,
        org: OrgId,
    ) -> EngineResult<Option<WebhookEndpoint>> {
        Ok(self.catalogue.default_webhook_endpoint(org).await?)
    }

    /// What makes a URL the organization's own, or takes it away if it is empty: at most one
    /// change.
    pub(super) async fn default_webhook_change(
        &self,
        org: OrgId,
        url: &str,
    ) -> EngineResult<Option<Change>> {
        let before = self.default_webhook_endpoint(org).await?;
        if url.is_empty() {
            return Ok(before.map(|old| Change::Webhook(WebhookChange::Delete(org, old.id))));
        }
        self.judge_url("webhook_url", url)?;
        let change = match before {
            Some(same) if same.url == url && same.enabled => return Ok(None),
            Some(old) => {
                let is_enabled_again = !old.enabled;
                let after = match is_enabled_again {
                    true => Some(self.last_event_seq(org).await?),
                    false => None,
                };
                let mut endpoint = self.successor(&old);
                url.clone_into(&mut endpoint.url);
                endpoint.enabled = true;
                endpoint.disabled = None;
                WebhookChange::Replace(endpoint, old.version, after)
            }
            None => {
                let listed = Page { after: None, limit: ENDPOINTS_MAX };
                let listed = self.catalogue.webhook_endpoints(org, listed).await?;
                if u32::try_from(listed.len()).is_ok_and(|listed| listed >= ENDPOINTS_MAX) {
                    return Err(EngineError::TooManyEndpoints);
                }
                let mut endpoint =
                    self.new_endpoint(org, url.to_owned(), &WebhookSecret::generate()?)?;
                endpoint.is_default = true;
                WebhookChange::Create(endpoint, self.last_event_seq(org).await?)
            }
        };
        Ok(Some(Change::Webhook(change)))
    }

    async fn enabled_endpoint(
        &self,
        caller: &Principal,
        id: WebhookEndpointId,
    ) -> EngineResult<WebhookEndpoint> {
        let endpoint = self.webhook_endpoint(caller, id).await?;
        if endpoint.enabled { Ok(endpoint) } else { Err(EngineError::EndpointDisabled) }
    }

    async fn send(&self, caller: &Principal, deliveries: Vec<WebhookDelivery>) -> EngineResult<()> {
        if deliveries.is_empty() {
            return Ok(());
        }
        let change = Change::Webhook(WebhookChange::Send(caller.org_id, deliveries));
        self.commit(caller, vec![change], &Idempotency::default(), &()).await?;
        self.deliveries.notify_one();
        Ok(())
    }

    /// Changes an endpoint as it stands, again if it has changed meanwhile.
    async fn change_endpoint(
        &self,
        caller: &Principal,
        id: WebhookEndpointId,
        idempotency: &Idempotency,
        change: impl Fn(WebhookEndpoint) -> Changed + Send + Sync,
    ) -> EngineResult<WebhookEndpoint> {
        for _ in 0..ATTEMPTS {
            if let Some(endpoint) = self.replay(caller.org_id, idempotency).await? {
                return Ok(endpoint);
            }
            let before = self.webhook_endpoint(caller, id).await?;
            let (after, from) = change(before.clone());
            let is_changed = after != before;
            if !is_changed && idempotency.key.is_none() {
                return Ok(before);
            }
            // A call that changes nothing leaves its answer for who repeats it, and no act.
            let (after, changes) = if is_changed {
                let after = self.successor(&after);
                let replaced = WebhookChange::Replace(after.clone(), before.version, from);
                (after, vec![Change::Webhook(replaced)])
            } else {
                (before, Vec::new())
            };
            match self.commit(caller, changes, idempotency, &after).await {
                Ok(()) => {
                    self.deliveries.notify_one();
                    return Ok(after);
                }
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Err(EngineError::ConcurrentChange)
    }

    /// The next version of an endpoint; an old secret whose time is over is not kept.
    fn successor(&self, endpoint: &WebhookEndpoint) -> WebhookEndpoint {
        let now = self.clock.now();
        let mut next = endpoint.clone();
        next.secrets.previous = next.secrets.previous.filter(|(_, until)| *until > now);
        next.version = endpoint.version.saturating_add(1);
        next.updated_at = now;
        next
    }

    fn new_endpoint(
        &self,
        org_id: OrgId,
        url: String,
        secret: &WebhookSecret,
    ) -> EngineResult<WebhookEndpoint> {
        let id = WebhookEndpointId::from_bytes(time_ordered_id());
        let now = self.clock.now();
        Ok(WebhookEndpoint {
            id,
            org_id,
            url,
            description: String::new(),
            events: Vec::new(),
            enabled: true,
            is_default: false,
            disabled: None,
            secrets: SealedSecrets { current: self.seal(id, secret)?, previous: None },
            failing_since: None,
            version: 1,
            created_at: now,
            updated_at: now,
        })
    }

    fn seal(&self, id: WebhookEndpointId, secret: &WebhookSecret) -> EngineResult<Vec<u8>> {
        let context = WebhookEndpoint::sealing_context(id);
        Ok(self.master.seal(&context, secret.as_bytes())?)
    }

    fn judge_url(&self, field: &str, url: &str) -> EngineResult<()> {
        let judged = self.egress.destination(url);
        judged.map(drop).map_err(|refusal| EngineError::invalid(field, refusal))
    }

    async fn last_event_seq(&self, org: OrgId) -> EngineResult<i64> {
        Ok(self.last_event(org).await?)
    }
}
