//! Endpoints, cursors and deliveries.

use super::*;
use crate::domain::event::EventKind;
use crate::domain::id::{EventId, WebhookDeliveryId, WebhookEndpointId};
use crate::domain::webhook::{
    DeliveryAttempt, DeliveryState, ENDPOINTS_MAX, SealedSecrets, WebhookDelivery, WebhookEndpoint,
};
use crate::store::{
    DeliveryFilter, DeliveryStore, Told, WebhookChange, WebhookStore, delivery_place,
};

const SERVER: [u8; 16] = [1; 16];
const OTHER: [u8; 16] = [2; 16];

fn endpoint(org: u32, number: u32) -> WebhookEndpoint {
    WebhookEndpoint {
        id: WebhookEndpointId::from_bytes(bytes(number)),
        org_id: org_id(org),
        url: "https://example.com/".to_owned(),
        description: "an endpoint".to_owned(),
        events: vec![EventKind::TransactionApproved],
        enabled: true,
        is_default: false,
        disabled: None,
        secrets: SealedSecrets { current: vec![1, 2, 3], previous: Some((vec![4], at_micros(9))) },
        failing_since: None,
        version: 1,
        created_at: at_micros(0),
        updated_at: at_micros(0),
    }
}

fn delivery(endpoint: &WebhookEndpoint, number: u32) -> WebhookDelivery {
    let id = WebhookDeliveryId::from_bytes(bytes(number));
    let event = EventId::from_bytes(bytes(number));
    let event = (event, Some(i64::from(number)), "transaction.approved", at_micros(0));
    WebhookDelivery::due((id, endpoint), event, at_micros(i64::from(number)))
}

async fn with(endpoints: &[WebhookEndpoint]) -> Fixture {
    let fixture = Fixture::seeded().await;
    for endpoint in endpoints {
        let change = Change::Webhook(WebhookChange::Create(endpoint.clone(), 5));
        fixture.commit([change]).await.unwrap();
    }
    fixture
}

async fn change(fixture: &Fixture, change: WebhookChange) -> Result<(), StoreError> {
    fixture.commit([Change::Webhook(change)]).await
}

#[tokio::test]
async fn an_endpoint_is_kept_with_its_secrets_and_seen_by_its_organization_alone() {
    let first = endpoint(1, 1);
    let default = WebhookEndpoint { is_default: true, ..endpoint(1, 2) };
    let fixture = with(&[first.clone(), default.clone()]).await;
    let store = &fixture.store;
    assert_eq!(store.webhook_endpoint(org_id(1), first.id).await.unwrap(), Some(first.clone()));
    assert_eq!(store.webhook_endpoint(org_id(2), first.id).await.unwrap(), None);
    let listed = store.webhook_endpoints(org_id(1), all()).await.unwrap();
    assert_eq!(listed, [default.clone(), first.clone()]);
    let after = Some(hex::encode(default.id.as_bytes()));
    let listed = store.webhook_endpoints(org_id(1), page(after, 9)).await.unwrap();
    assert_eq!(listed, [first]);
    assert_eq!(store.default_webhook_endpoint(org_id(1)).await.unwrap(), Some(default));
    assert_eq!(store.default_webhook_endpoint(org_id(2)).await.unwrap(), None);
    let second = WebhookEndpoint { is_default: true, ..endpoint(1, 3) };
    let refused = change(&fixture, WebhookChange::Create(second, 0)).await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Conflict);
}

#[tokio::test]
async fn an_organization_has_a_bounded_number_of_endpoints() {
    let endpoints: Vec<_> = (1..=ENDPOINTS_MAX).map(|number| endpoint(1, number)).collect();
    let fixture = with(&endpoints).await;
    let surplus = WebhookChange::Create(endpoint(1, 99), 0);
    let refused = change(&fixture, surplus.clone()).await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Conflict);
    change(&fixture, WebhookChange::Delete(org_id(1), endpoints[0].id)).await.unwrap();
    change(&fixture, surplus).await.unwrap();
}

#[tokio::test]
async fn a_change_compares_the_version_and_a_cursor_only_moves_on() {
    let before = endpoint(1, 1);
    let fixture = with(std::slice::from_ref(&before)).await;
    let after = WebhookEndpoint { version: 2, enabled: false, ..before.clone() };
    let replace = |version, after_seq| WebhookChange::Replace(after.clone(), version, after_seq);
    let stale = change(&fixture, replace(2, None)).await.unwrap_err();
    assert_eq!(stale.kind, StoreErrorKind::Conflict);
    change(&fixture, replace(1, Some(3))).await.unwrap();
    let told = fixture.store.told_endpoint(org_id(1), before.id).await.unwrap().unwrap();
    assert_eq!((told.endpoint.enabled, told.after_seq), (false, 5));
    let told = |after_seq, failing_since| Told { endpoint: before.id, after_seq, failing_since };
    for (told, expected) in
        [(told(9, Some(at_micros(7))), (9, Some(at_micros(7)))), (told(8, None), (9, None))]
    {
        fixture.store.record_deliveries(org_id(1), &[], &[told]).await.unwrap();
        let read = fixture.store.told_endpoint(org_id(1), before.id).await.unwrap().unwrap();
        assert_eq!((read.after_seq, read.endpoint.failing_since), expected);
    }
    let restarted = WebhookEndpoint { version: 3, ..after.clone() };
    change(&fixture, WebhookChange::Replace(restarted, 2, Some(50))).await.unwrap();
    let read = fixture.store.told_endpoint(org_id(1), before.id).await.unwrap().unwrap();
    assert_eq!(read.after_seq, 50);
}

#[tokio::test]
async fn deliveries_are_recorded_due_listed_and_forgotten() {
    let (first, second) = (endpoint(1, 1), endpoint(1, 2));
    let fixture = with(&[first.clone(), second.clone()]).await;
    let store = &fixture.store;
    let mut made: Vec<_> = (1..=6).map(|number| delivery(&first, number)).collect();
    made.push(delivery(&second, 7));
    store.record_deliveries(org_id(1), &made, &[]).await.unwrap();
    let of_first = (org_id(1), first.id);
    let due = store.due_deliveries(of_first, at_micros(3), 10).await.unwrap();
    assert_eq!(due, made[..3]);
    assert!(
        store.due_deliveries((org_id(2), first.id), at_micros(3), 10).await.unwrap().is_empty()
    );
    for delivery in &mut made[..4] {
        delivery.state = DeliveryState::Delivered;
        delivery.next_at = None;
    }
    store.record_deliveries(org_id(1), &made[..4], &[]).await.unwrap();
    assert_eq!(store.due_deliveries(of_first, at_micros(99), 10).await.unwrap(), made[4..6]);
    assert_eq!(store.webhook_delivery(org_id(1), made[0].id).await.unwrap().as_ref(), made.first());
    assert_eq!(store.webhook_delivery(org_id(2), made[0].id).await.unwrap(), None);

    let numbers = async |filter: DeliveryFilter, page| {
        let listed = store.webhook_deliveries(org_id(1), filter, page).await.unwrap();
        listed.iter().map(|found| found.event_seq.unwrap()).collect::<Vec<_>>()
    };
    let any = DeliveryFilter::default;
    assert_eq!(numbers(any(), all()).await, [7, 6, 5, 4, 3, 2, 1]);
    let of_first_alone = DeliveryFilter { endpoint: Some(first.id), ..any() };
    assert_eq!(numbers(of_first_alone.clone(), page(None, 2)).await, [6, 5]);
    let after = Some(delivery_place(&made[4]));
    assert_eq!(numbers(of_first_alone, page(after, 2)).await, [4, 3]);
    let pending = DeliveryFilter { state: Some(DeliveryState::Pending), ..any() };
    assert_eq!(numbers(pending, all()).await, [7, 6, 5]);
    let none = DeliveryFilter { event_type: Some("mandate.revoked".to_owned()), ..any() };
    assert!(numbers(none, all()).await.is_empty());
    let between = DeliveryFilter { since: Some(at_micros(2)), until: Some(at_micros(4)), ..any() };
    assert_eq!(numbers(between, all()).await, [3, 2]);
    assert!(store.webhook_deliveries(org_id(2), any(), all()).await.unwrap().is_empty());

    // What is done and old goes, what is done and surplus goes, what waits stays.
    assert_eq!(store.forget_deliveries(of_first, at_micros(2), 100).await.unwrap(), 1);
    assert_eq!(store.forget_deliveries(of_first, at_micros(0), 3).await.unwrap(), 2);
    assert_eq!(numbers(any(), all()).await, [7, 6, 5, 4]);
    // The log of one that is about to go is emptied in parts, whatever waits in it.
    assert_eq!(store.clear_deliveries(org_id(1), first.id).await.unwrap(), 3);
    assert_eq!(store.clear_deliveries(org_id(2), second.id).await.unwrap(), 0, "another's");
    assert_eq!(numbers(any(), all()).await, [7]);
    store.record_deliveries(org_id(1), &made[5..6], &[]).await.unwrap();
    assert_eq!(numbers(any(), all()).await, [7, 6]);
    change(&fixture, WebhookChange::Delete(org_id(1), first.id)).await.unwrap();
    assert_eq!(numbers(any(), all()).await, [7]);
    // An attempt that was under way then leaves nothing behind.
    store.record_deliveries(org_id(1), &made[..2], &[]).await.unwrap();
    assert_eq!(numbers(any(), all()).await, [7]);
}

#[tokio::test]
async fn who_sends_again_takes_no_attempt_away_that_was_recorded_meanwhile() {
    let first = endpoint(1, 1);
    let fixture = with(std::slice::from_ref(&first)).await;
    let store = &fixture.store;
    let seen = delivery(&first, 1);
    store.record_deliveries(org_id(1), std::slice::from_ref(&seen), &[]).await.unwrap();
    let tried = refused(&seen);
    store.record_deliveries(org_id(1), std::slice::from_ref(&tried), &[]).await.unwrap();
    // Two who saw it before the attempt.
    for at in [7, 8] {
        let mut again = seen.clone();
        again.restart(at_micros(at));
        change(&fixture, WebhookChange::Send(org_id(1), vec![again])).await.unwrap();
        let stored = store.webhook_delivery(org_id(1), seen.id).await.unwrap().unwrap();
        assert_eq!((stored.attempts_made, stored.attempts.len()), (1, 1));
        assert_eq!((stored.state, stored.made), (DeliveryState::Pending, 0));
        assert_eq!(stored.next_at, Some(at_micros(at)));
    }
}

/// The delivery after an attempt.
fn refused(delivery: &WebhookDelivery) -> WebhookDelivery {
    let attempt = DeliveryAttempt {
        at: at_micros(5),
        duration_ms: 1,
        status: Some(500),
        error: String::new(),
        excerpt: String::new(),
    };
    let mut tried = delivery.clone();
    tried.note(attempt, DeliveryState::Failed, None);
    tried
}

#[tokio::test]
async fn what_is_sent_again_while_an_attempt_is_recorded_stays_on_its_way() {
    let first = endpoint(1, 1);
    let fixture = with(std::slice::from_ref(&first)).await;
    let store = &fixture.store;
    let told = Told { endpoint: first.id, after_seq: 9, failing_since: None };
    for number in 1..=100 {
        let seen = delivery(&first, number);
        let mut again = seen.clone();
        again.restart(at_micros(7));
        let (tried, sent) = ([refused(&seen)], WebhookChange::Send(org_id(1), vec![again]));
        let recorded = store.record_deliveries(org_id(1), &tried, std::slice::from_ref(&told));
        let (recorded, sent) = tokio::join!(recorded, change(&fixture, sent));
        recorded.and(sent).unwrap();
        let stored = store.webhook_delivery(org_id(1), seen.id).await.unwrap().unwrap();
        assert_eq!((stored.state, stored.next_at), (DeliveryState::Pending, Some(at_micros(7))));
    }
}

#[tokio::test]
async fn each_enabled_endpoint_has_one_server_until_that_lets_go() {
    let disabled = WebhookEndpoint { enabled: false, ..endpoint(1, 3) };
    let fixture = with(&[endpoint(1, 1), endpoint(2, 2), disabled]).await;
    let store = &fixture.store;
    let late = delivery(&endpoint(2, 2), 4);
    store.record_deliveries(org_id(2), std::slice::from_ref(&late), &[]).await.unwrap();
    let mut owned = store.own_endpoints(SERVER).await.unwrap();
    owned.sort_by_key(|owned| owned.id);
    let seen: Vec<_> = owned.iter().map(|owned| (owned.org_id, owned.due_at)).collect();
    assert_eq!(seen, [(org_id(1), None), (org_id(2), late.next_at)]);
    if dialect::OWN_ENDPOINTS.is_some() {
        assert!(store.own_endpoints(OTHER).await.unwrap().is_empty());
    }
    assert_eq!(store.own_endpoints(SERVER).await.unwrap().len(), 2);
    store.disown_endpoints(SERVER).await.unwrap();
    assert_eq!(store.own_endpoints(OTHER).await.unwrap().len(), 2);
}
