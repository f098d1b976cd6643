//! Sending again what was sent before, or was never sent: one delivery, or a time range of events.
//!
//! Not here: attempts that follow from the schedule (`webhook`).

use jiff::{SignedDuration, Timestamp};

use super::super::access::Principal;
use super::super::pages::Paged;
use super::super::{Engine, EngineError, EngineResult};
use crate::domain::event::Event;
use crate::domain::id::{OrgId, WebhookDeliveryId, WebhookEndpointId};
use crate::domain::webhook::{WebhookDelivery, WebhookEndpoint};
use crate::store::EventStore;

/// The most deliveries that one call sends again, and the most events that it looks at.
const SENT_MAX: usize = 1_000;
const LOOKED_AT_MAX: u32 = 10_000;
const READ_AT_ONCE: u32 = 500;

/// How much the clocks of servers may differ: acts have the time of the server that did them.
const SKEW: SignedDuration = SignedDuration::from_secs(10);

/// Which events to send again.
#[derive(Clone, Debug)]
pub struct RedeliveryAsk {
    /// To which endpoint.
    pub endpoint: WebhookEndpointId,
    /// What happened at or after this time.
    pub since: Timestamp,
    /// What happened before this time.
    pub until: Timestamp,
    /// Where a call before this one ended.
    pub page_token: String,
}

impl Engine {
    /// Sends one delivery again, with the same event id.
    ///
    /// # Errors
    /// When there is none, or its endpoint is disabled.
    pub async fn redeliver_webhook(
        &self,
        caller: &Principal,
        id: WebhookDeliveryId,
    ) -> EngineResult<WebhookDelivery> {
        let mut delivery = self.webhook_delivery(caller, id).await?;
        self.enabled_endpoint(caller, delivery.endpoint_id).await?;
        delivery.restart(self.clock.now());
        self.send(caller, vec![delivery.clone()]).await?;
        Ok(delivery)
    }

    /// Sends events of a time range to an endpoint that wants them, whether they were sent before
    /// or not: a bounded number, then says how to go on.
    ///
    /// # Errors
    /// When there is no such endpoint, it is disabled, or the token is not of this range.
    pub async fn redeliver_webhooks(
        &self,
        caller: &Principal,
        ask: &RedeliveryAsk,
    ) -> EngineResult<Paged<WebhookDelivery>> {
        let endpoint = self.enabled_endpoint(caller, ask.endpoint).await?;
        if ask.until <= ask.since {
            return Err(EngineError::invalid("until", "must be after since"));
        }
        let range = format!("redelivery {} {} {}", ask.endpoint, ask.since, ask.until);
        let late = self.catalogue.lateness(caller.org_id).await?.saturating_add(SKEW);
        let (from, to) = (ask.since.saturating_sub(late), ask.until.saturating_add(late));
        let (Ok(from), Ok(to)) = (from, to) else {
            return Err(EngineError::invalid("since", "is out of range"));
        };
        let mut after = match ask.page_token.as_str() {
            "" => self.before_time(caller.org_id, from).await?,
            token => self.pages.unseal(caller.org_id, &range, token)?,
        };
        let (mut sent, mut looked_at, mut is_over) = (Vec::new(), 0_u32, false);
        while !is_over && sent.len() < SENT_MAX && looked_at < LOOKED_AT_MAX {
            let page = self.events(caller.org_id, after, READ_AT_ONCE).await?;
            is_over = page.through <= after;
            let mut through = page.through;
            for event in page.events {
                if event.at >= to || sent.len() >= SENT_MAX {
                    is_over = event.at >= to;
                    through = event.seq.saturating_sub(1);
                    break;
                }
                let is_of_range = event.at >= ask.since && event.at < ask.until;
                if is_of_range && endpoint.wants(event.kind) {
                    sent.push(self.again(&endpoint, &event).await?);
                }
            }
            looked_at = looked_at.saturating_add(READ_AT_ONCE);
            after = through;
        }
        self.send(caller, sent.clone()).await?;
        let next = match is_over {
            true => String::new(),
            false => self.pages.seal(caller.org_id, &range, after),
        };
        Ok(Paged { items: sent, next })
    }

    /// The delivery of an event, due now; what there was of it is kept.
    async fn again(
        &self,
        endpoint: &WebhookEndpoint,
        event: &Event,
    ) -> EngineResult<WebhookDelivery> {
        let event_id = event.id.parse().map_err(|_| EngineError::Corrupt("the id of an event"))?;
        let id = WebhookDeliveryId::of(endpoint.id, event_id);
        let now = self.clock.now();
        let known = self.catalogue.webhook_delivery(endpoint.org_id, id).await?;
        let mut delivery = known.unwrap_or_else(|| {
            let event = (event_id, Some(event.seq), event.kind.word(), event.at);
            WebhookDelivery::due((id, endpoint), event, now)
        });
        delivery.restart(now);
        Ok(delivery)
    }

    /// A place in front of every event at or after a time, found by halving, if none of them stands
    /// in front of an earlier one: events are dense and, but for late ones, in the order of time.
    async fn before_time(&self, org: OrgId, time: Timestamp) -> EngineResult<i64> {
        let (mut low, mut high) = (0, self.last_event_seq(org).await?);
        while low < high {
            let middle = low.midpoint(high);
            match self.event_behind(org, middle).await? {
                Some(event) if event.at < time => low = event.seq,
                Some(_) | None => high = middle,
            }
        }
        Ok(low)
    }

    /// The first event behind a number; entries that nobody is told of are passed over.
    async fn event_behind(&self, org: OrgId, mut after: i64) -> EngineResult<Option<Event>> {
        loop {
            let page = self.events(org, after, 64).await?;
            if let Some(event) = page.events.into_iter().next() {
                return Ok(Some(event));
            }
            if page.through <= after {
                return Ok(None);
            }
            after = page.through;
        }
    }
}
