//! One attempt: what is sent, and what the answer means.
//!
//! Not here: whether and when there is another one (`lane`, `schedule`).

use bytes::Bytes;
use http::StatusCode;
use http::header::RETRY_AFTER;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::schedule::retry_after;
use super::sign;
use crate::clock::Clock;
use crate::crypto::WebhookSecret;
use crate::domain::event::{Event, EventData};
use crate::domain::webhook::{DeliveryAttempt, TEST_EVENT, WebhookDelivery};
use crate::provider::egress::{Egress, EgressError, Reply};

/// Bytes of an answer's body that the log keeps.
const EXCERPT_BYTES_MAX: usize = 1_024;

/// What an endpoint is called with, from the version of it that was read.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) url: String,
    pub(super) current: WebhookSecret,
    /// Signs too, until that time.
    pub(super) previous: Option<(WebhookSecret, Timestamp)>,
}

impl Target {
    fn secrets(&self, now: Timestamp) -> Vec<WebhookSecret> {
        let previous = self.previous.iter().filter(|(_, until)| *until > now);
        let previous = previous.map(|(secret, _)| secret.clone());
        std::iter::once(self.current.clone()).chain(previous).collect()
    }
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has it.
    Accepted,
    /// It does not; whether it said so or nothing.
    Refused {
        /// How long it asked to be left alone.
        asked: Option<SignedDuration>,
        /// It was slow, or says that it has too much to do.
        is_overloaded: bool,
    },
    /// It is gone for good.
    Gone,
}

/// The body of an event; the same on every attempt.
pub(super) fn body(event: &Event) -> Bytes {
    let body = json!({
        "id": event.id,
        "type": event.kind.word(),
        "timestamp": event.at,
        "data": data(&event.data),
    });
    body.to_string().into()
}

/// What an event is about; what it is not about is left out.
fn data(data: &EventData) -> Value {
    let reasons = Some(&data.rejection_reasons).filter(|reasons| !reasons.is_empty());
    let fields = [
        ("mandateId", json!(data.mandate)),
        ("agentId", json!(data.agent)),
        ("transactionId", json!(data.transaction)),
        ("amount", json!(data.amount)),
        ("currency", json!(data.currency.map(|currency| currency.code().to_owned()))),
        ("budgetSpent", json!(data.budget_spent)),
        ("budgetTotal", json!(data.budget_total)),
        ("decision", json!(data.decision.map(|decision| decision.word()))),
        ("rejectionReasons", json!(reasons)),
    ];
    let known = fields.into_iter().filter(|(_, value)| !value.is_null());
    known.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>().into()
}

/// The body of an event that only tries an endpoint out.
pub(super) fn test_body(delivery: &WebhookDelivery) -> Bytes {
    let body = json!({
        "id": delivery.event_id,
        "type": TEST_EVENT,
        "timestamp": delivery.event_at,
        "data": {"webhookEndpointId": delivery.endpoint_id},
    });
    body.to_string().into()
}

/// Sends a body under an id, once.
pub(super) async fn attempt(
    (egress, clock): (&Egress, &dyn Clock),
    target: &Target,
    id: &str,
    body: Bytes,
) -> (DeliveryAttempt, Answer) {
    let at = clock.now();
    let headers = sign::headers(id, at, &body, &target.secrets(at));
    let began = Instant::now();
    let reply = egress.post(&target.url, headers, body).await;
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let answer = answer(&reply, at);
    let (status, error, excerpt) = match reply {
        Ok(reply) => (Some(reply.status.as_u16()), "", excerpt(&reply.body)),
        Err(error) => (None, error.word(), String::new()),
    };
    let error = error.to_owned();
    (DeliveryAttempt { at, duration_ms, status, error, excerpt }, answer)
}

fn answer(reply: &Result<Reply, EgressError>, now: Timestamp) -> Answer {
    match reply {
        Ok(reply) if reply.status.is_success() => Answer::Accepted,
        Ok(reply) if reply.status == StatusCode::GONE => Answer::Gone,
        Ok(reply) => {
            let asked = reply.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let is_overloaded = matches!(reply.status.as_u16(), 429 | 502 | 503 | 504);
            let asked = asked.and_then(|text| retry_after(text, now));
            Answer::Refused { asked, is_overloaded }
        }
        Err(error) => {
            let is_overloaded = matches!(error, EgressError::AnswerTime | EgressError::ConnectTime);
            Answer::Refused { asked: None, is_overloaded }
        }
    }
}

/// The beginning of a body, without anything that acts on a screen or hides.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut excerpt = String::new();
    for c in visible.filter(|c| !hides(*c)) {
        if excerpt.len().saturating_add(c.len_utf8()) > EXCERPT_BYTES_MAX {
            break;
        }
        excerpt.push(c);
    }
    excerpt
}

/// Whether a character hides or reorders what is around it.
fn hides(c: char) -> bool {
    let is_mark = matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{FEFF}');
    is_mark || matches!(c, '\u{2060}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::provider::egress::TlsFault;

    fn reply(status: u16, headers: &[(&'static str, &str)]) -> Result<Reply, EgressError> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        Ok(Reply { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::new() })
    }

    fn now() -> Timestamp {
        "2026-05-04T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn only_a_status_of_2xx_is_acceptance() {
        let refused = |asked: Option<i64>, is_overloaded| Answer::Refused {
            asked: asked.map(SignedDuration::from_secs),
            is_overloaded,
        };
        for (status, expected) in [
            (200, Answer::Accepted),
            (204, Answer::Accepted),
            (299, Answer::Accepted),
            (301, refused(None, false)),
            (307, refused(None, false)),
            (400, refused(None, false)),
            (404, refused(None, false)),
            (410, Answer::Gone),
            (429, refused(None, true)),
            (500, refused(None, false)),
            (503, refused(None, true)),
        ] {
            assert_eq!(answer(&reply(status, &[]), now()), expected, "{status}");
        }
        let asked = reply(503, &[("retry-after", "90")]);
        assert_eq!(answer(&asked, now()), refused(Some(90), true));
        assert_eq!(answer(&Err(EgressError::AnswerTime), now()), refused(None, true));
        assert_eq!(answer(&Err(EgressError::Tls(TlsFault::Expired)), now()), refused(None, false));
    }

    #[test]
    fn an_excerpt_is_bounded_and_harmless() {
        assert_eq!(excerpt(b"thank you"), "thank you");
        assert_eq!(excerpt("a\u{1b}[2Jb\r\nc\u{202e}d\u{0}".as_bytes()), "a [2Jb  cd ");
        assert_eq!(excerpt(&[0xff, 0xfe, b'x']), "\u{fffd}\u{fffd}x");
        assert_eq!(excerpt("é".repeat(4_000).as_bytes()).len(), EXCERPT_BYTES_MAX);
    }
}
