//! Endpoints that want to be told of events, and the deliveries to them with every attempt.
//!
//! Not here: the secrets in the clear (`crypto`), when an attempt is made (`webhook::schedule`),
//! and which URLs may be called (`provider::egress`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::event::EventKind;
use super::id::{EventId, OrgId, WebhookDeliveryId, WebhookEndpointId};

/// The most endpoints of an organization.
pub const ENDPOINTS_MAX: u32 = 32;

/// The most attempts that a delivery keeps; the oldest go first.
pub const ATTEMPTS_KEPT: usize = 32;

/// The type of the event that tries an endpoint out.
pub const TEST_EVENT: &str = "webhook.test";

/// Why the server stopped sending to an endpoint by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisabledReason {
    /// It said that it is gone (410).
    Gone,
    /// It accepted nothing for days.
    Failing,
}

impl DisabledReason {
    /// The word for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Failing => "failing",
        }
    }
}

/// What an endpoint's messages are signed with, sealed under the master key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SealedSecrets {
    /// The one that signs.
    pub current: Vec<u8>,
    /// The one before it, which signs too until that time.
    pub previous: Option<(Vec<u8>, Timestamp)>,
}

/// Where events are sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WebhookEndpoint {
    /// Its id.
    pub id: WebhookEndpointId,
    /// Whose events.
    pub org_id: OrgId,
    /// Where.
    pub url: String,
    /// For people.
    pub description: String,
    /// Which kinds of events; none means all.
    pub events: Vec<EventKind>,
    /// Whether anything is sent.
    pub enabled: bool,
    /// The one that the organization's `webhookUrl` manages.
    pub is_default: bool,
    /// Why and when the server itself disabled it.
    pub disabled: Option<(DisabledReason, Timestamp)>,
    /// Its secrets; a column of their own, never part of a document.
    #[serde(skip)]
    pub secrets: SealedSecrets,
    /// Since when it has accepted nothing; kept with its cursor.
    #[serde(skip)]
    pub failing_since: Option<Timestamp>,
    /// Grows with every change.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl WebhookEndpoint {
    /// Whether it wants to be told of such an event.
    #[must_use]
    pub fn wants(&self, kind: EventKind) -> bool {
        self.events.is_empty() || self.events.contains(&kind)
    }

    /// What its secrets are sealed for, so that they open nowhere else.
    #[must_use]
    pub fn sealing_context(id: WebhookEndpointId) -> String {
        format!("webhook/{id}")
    }
}

/// How a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// There will be another attempt.
    Pending,
    /// The endpoint has accepted it.
    Delivered,
    /// It was given up; it can be sent again.
    Failed,
}

impl DeliveryState {
    /// The word for people and stores.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryAttempt {
    /// When it was made.
    pub at: Timestamp,
    /// How long it took.
    pub duration_ms: u64,
    /// The answer's status, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// One word for why there was none, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// The beginning of the answer's body, without anything that a terminal would act on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub excerpt: String,
}

/// One event on its way to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookDelivery {
    /// Its id.
    pub id: WebhookDeliveryId,
    /// Whose.
    pub org_id: OrgId,
    /// To whom.
    pub endpoint_id: WebhookEndpointId,
    /// What: the `webhook-id` of every attempt.
    pub event_id: EventId,
    /// Its place in the organization's events; none of a test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_seq: Option<i64>,
    /// The event's type.
    pub event_type: String,
    /// How it stands.
    pub state: DeliveryState,
    /// When the next attempt is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
    /// Attempts since it was last put on its way: its place in the schedule.
    pub made: u32,
    /// All attempts there were.
    pub attempts_made: u32,
    /// The last of them, oldest first.
    pub attempts: Vec<DeliveryAttempt>,
    /// When the event happened.
    pub event_at: Timestamp,
    /// When it was first put on its way.
    pub created_at: Timestamp,
}

impl WebhookDelivery {
    /// A delivery that is due at once.
    #[must_use]
    pub fn due(
        (id, endpoint): (WebhookDeliveryId, &WebhookEndpoint),
        event: (EventId, Option<i64>, &str, Timestamp),
        now: Timestamp,
    ) -> Self {
        let (event_id, event_seq, event_type, event_at) = event;
        Self {
            id,
            org_id: endpoint.org_id,
            endpoint_id: endpoint.id,
            event_id,
            event_seq,
            event_type: event_type.to_owned(),
            state: DeliveryState::Pending,
            next_at: Some(now),
            made: 0,
            attempts_made: 0,
            attempts: Vec::new(),
            event_at,
            created_at: now,
        }
    }

    /// Whether it only tries the endpoint out, once.
    #[must_use]
    pub const fn is_test(&self) -> bool {
        self.event_seq.is_none()
    }

    /// Puts it on its way again, from the beginning of the schedule.
    pub fn restart(&mut self, now: Timestamp) {
        self.state = DeliveryState::Pending;
        self.next_at = Some(now);
        self.made = 0;
    }

    /// Writes an attempt down and says how it stands after it.
    pub fn note(
        &mut self,
        attempt: DeliveryAttempt,
        state: DeliveryState,
        next: Option<Timestamp>,
    ) {
        self.attempts.push(attempt);
        let surplus = self.attempts.len().saturating_sub(ATTEMPTS_KEPT);
        self.attempts.drain(..surplus);
        self.made = self.made.saturating_add(1);
        self.attempts_made = self.attempts_made.saturating_add(1);
        self.state = state;
        self.next_at = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-05-04T12:00:00Z".parse().unwrap()
    }

    pub(crate) fn endpoint(events: &[EventKind]) -> WebhookEndpoint {
        WebhookEndpoint {
            id: WebhookEndpointId::from_bytes([1; 16]),
            org_id: OrgId::from_bytes([2; 16]),
            url: "https://example.com/".to_owned(),
            description: String::new(),
            events: events.to_vec(),
            enabled: true,
            is_default: false,
            disabled: None,
            secrets: SealedSecrets { current: vec![7; 60], previous: None },
            failing_since: None,
            version: 1,
            created_at: now(),
            updated_at: now(),
        }
    }

    #[test]
    fn no_filter_wants_everything_and_a_filter_what_it_names() {
        let settled = endpoint(&[EventKind::TransactionSettled]);
        for kind in EventKind::ALL {
            assert!(endpoint(&[]).wants(*kind));
            assert_eq!(settled.wants(*kind), *kind == EventKind::TransactionSettled);
        }
    }

    #[test]
    fn a_stored_endpoint_has_no_secret_in_its_document() {
        let document = serde_json::to_string(&endpoint(&[EventKind::MandateRevoked])).unwrap();
        assert!(!document.contains("secret") && !document.contains("[7,7"), "{document}");
        assert!(document.contains("mandate.revoked"), "{document}");
        let read: WebhookEndpoint = serde_json::from_str(&document).unwrap();
        assert_eq!(read.secrets, SealedSecrets::default());
    }

    #[test]
    fn a_delivery_keeps_its_last_attempts_and_counts_them_all() {
        let id = WebhookDeliveryId::from_bytes([3; 16]);
        let event = (EventId::from_bytes([4; 16]), Some(9), "transaction.approved", now());
        let mut delivery = WebhookDelivery::due((id, &endpoint(&[])), event, now());
        for number in 0..40 {
            let attempt = DeliveryAttempt {
                at: now(),
                duration_ms: number,
                status: Some(500),
                error: String::new(),
                excerpt: String::new(),
            };
            delivery.note(attempt, DeliveryState::Pending, Some(now()));
        }
        assert_eq!((delivery.attempts.len(), delivery.attempts_made), (ATTEMPTS_KEPT, 40));
        assert_eq!(delivery.attempts[0].duration_ms, 8);
        delivery.restart(now());
        assert_eq!((delivery.made, delivery.attempts_made), (0, 40));
        let document = serde_json::to_string(&delivery).unwrap();
        assert_eq!(serde_json::from_str::<WebhookDelivery>(&document).unwrap(), delivery);
    }
}
