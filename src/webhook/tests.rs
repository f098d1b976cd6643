//! Delivering to real receivers on loopback, from a real store, with events made here.
//!
//! Not here: the whole server, and its death by a signal (`tests/it/webhooks`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::deliver::{self, DeliveryParts};
use crate::clock::{Clock, ManualClock};
use crate::crypto::{MasterKey, WebhookSecret};
use crate::domain::actor::Actor;
use crate::domain::event::{Event, EventData, EventKind, event_id};
use crate::domain::id::{MandateId, OrgId, WebhookEndpointId};
use crate::domain::money::Currency;
use crate::domain::organization::Organization;
use crate::domain::webhook::{
    DeliveryState, DisabledReason, SealedSecrets, WebhookDelivery, WebhookEndpoint,
};
use crate::provider::egress::{Egress, EgressLimits, EgressRules, SystemResolver};
use crate::store::sqlite::SqliteStore;
use crate::store::{
    Author, CatalogueWriter, Change, DeliveryFilter, EventPage, EventStore, Growth, Page,
    SigningKeyRow, StoreError, WebhookChange, WebhookStore,
};

mod receiver;

use receiver::{Mode, Receiver};

/// How long anything may take that has to happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn org() -> OrgId {
    OrgId::from_bytes([1; 16])
}

fn start_of_time() -> Timestamp {
    "2026-05-04T12:00:00Z".parse().unwrap()
}

/// What happened, in memory.
#[derive(Default)]
struct Happenings(Mutex<Vec<Event>>, watch::Sender<Growth>);

#[async_trait::async_trait]
impl EventStore for Happenings {
    async fn events(
        &self,
        org: OrgId,
        after_seq: i64,
        limit: u32,
    ) -> Result<EventPage, StoreError> {
        let events = self.0.lock().unwrap();
        let found = events.iter().filter(|event| event.org_id == org && event.seq > after_seq);
        let events: Vec<_> = found.take(usize::try_from(limit).unwrap()).cloned().collect();
        Ok(EventPage { through: events.last().map_or(after_seq, |last| last.seq), events })
    }

    async fn last_event(&self, _: OrgId) -> Result<i64, StoreError> {
        Ok(self.0.lock().unwrap().last().map_or(0, |event| event.seq))
    }

    fn growth(&self) -> watch::Receiver<Growth> {
        self.1.subscribe()
    }
}

/// A store with one organization, and what delivers from it.
struct World {
    store: SqliteStore,
    happenings: Arc<Happenings>,
    clock: Arc<ManualClock>,
    wake: Arc<Notify>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
    _folder: TempDir,
}

fn master() -> MasterKey {
    MasterKey::new([7; 32])
}

const AUTHOR: Author = Author { actor: Actor::System, at: Timestamp::UNIX_EPOCH };

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("quetra.db")).await.unwrap();
        store.migrate().await.unwrap();
        let organization = Organization {
            id: org(),
            name: "Lab".to_owned(),
            slug: "lab".to_owned(),
            default_currency: Currency::parse("USD").unwrap(),
            timezone: "UTC".to_owned(),
            frozen: false,
            durability_floor: None,
            version: 1,
            created_at: start_of_time(),
            updated_at: start_of_time(),
        };
        let key = SigningKeyRow { key_id: "key".to_owned(), public_key: [3; 32], sealed: vec![1] };
        let created = vec![Change::CreateOrg(organization, key)];
        store.commit(created, None, AUTHOR).await.unwrap();
        let mut world = Self {
            store,
            happenings: Arc::default(),
            clock: Arc::new(ManualClock::new(start_of_time())),
            wake: Arc::default(),
            stop: CancellationToken::new(),
            task: None,
            _folder: folder,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let rules = EgressRules::new(true, vec!["127.0.0.0/8".parse().unwrap()]);
        let limits = EgressLimits {
            answer_time: Duration::from_millis(1_500),
            body_time: Duration::from_millis(200),
            ..EgressLimits::default()
        };
        let egress = Egress::new(Arc::new(rules), limits, Vec::new(), Arc::new(SystemResolver));
        let parts = DeliveryParts {
            store: Arc::new(self.store.clone()),
            catalogue: Arc::new(self.store.clone()),
            events: Arc::<Happenings>::clone(&self.happenings),
            egress: egress.unwrap(),
            clock: Arc::<ManualClock>::clone(&self.clock),
            most_deciding: Box::new(|| 0),
            master: master(),
            wake: Arc::clone(&self.wake),
        };
        self.stop = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "this test is the app")]
        let task = tokio::spawn(deliver::run(parts, self.stop.clone()));
        self.task = Some(task);
    }

    /// Ends without warning: nothing that is under way is noted.
    async fn kill(&mut self) {
        let task = self.task.take().unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }

    async fn end(mut self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.task.take().unwrap()).await;
        ended.expect("it does not stop").unwrap();
        self.store.close().await;
    }

    /// An endpoint at a URL; its secrets are made of the number.
    async fn endpoint(&self, number: u8, url: &str, events: &[EventKind]) -> WebhookEndpoint {
        let id = WebhookEndpointId::from_bytes([number; 16]);
        let endpoint = WebhookEndpoint {
            id,
            org_id: org(),
            url: url.to_owned(),
            description: String::new(),
            events: events.to_vec(),
            enabled: true,
            is_default: false,
            disabled: None,
            secrets: SealedSecrets { current: sealed(id, number), previous: None },
            failing_since: None,
            version: 1,
            created_at: start_of_time(),
            updated_at: start_of_time(),
        };
        let after = self.happenings.last_event(org()).await.unwrap();
        self.change(WebhookChange::Create(endpoint.clone(), after)).await;
        endpoint
    }

    async fn change(&self, change: WebhookChange) {
        self.store.commit(vec![Change::Webhook(change)], None, AUTHOR).await.unwrap();
        self.wake.notify_one();
    }

    fn happens(&self, kinds: impl IntoIterator<Item = EventKind>) -> Vec<String> {
        let mut ids = Vec::new();
        let mut events = self.happenings.0.lock().unwrap();
        for kind in kinds {
            let seq = events.last().map_or(1, |event| event.seq + 1);
            let id = event_id(org(), seq);
            let mandate = Some(MandateId::from_bytes([5; 16]));
            let data = EventData { mandate, amount: Some(seq), ..EventData::default() };
            events.push(Event { org_id: org(), seq, id, kind, at: self.clock.now(), data });
            ids.push(event_id(org(), seq));
        }
        let end = events.last().map_or(0, |event| event.seq);
        self.happenings.1.send_modify(|ends| _ = ends.insert(org(), end));
        ids
    }

    async fn deliveries(&self) -> Vec<WebhookDelivery> {
        let page = Page { after: None, limit: 10_000 };
        let filter = DeliveryFilter::default();
        self.store.webhook_deliveries(org(), filter, page).await.unwrap()
    }

    /// Waits until so many deliveries stand so; returns them.
    async fn until(&self, count: usize, state: DeliveryState) -> Vec<WebhookDelivery> {
        let found = Mutex::new(Vec::new());
        within(async || {
            let mut all = self.deliveries().await;
            all.retain(|delivery| delivery.state == state);
            let is_so = all.len() >= count;
            *found.lock().unwrap() = all;
            is_so
        })
        .await;
        found.into_inner().unwrap()
    }

    async fn read(&self, id: WebhookEndpointId) -> WebhookEndpoint {
        self.store.webhook_endpoint(org(), id).await.unwrap().unwrap()
    }

    fn pass(&self, time: SignedDuration) {
        self.clock.set(self.clock.now() + time);
    }
}

fn secret(number: u8) -> WebhookSecret {
    let bytes = (0..32).map(|index| index ^ number).collect();
    WebhookSecret::from_bytes(bytes).unwrap()
}

fn sealed(id: WebhookEndpointId, number: u8) -> Vec<u8> {
    let context = WebhookEndpoint::sealing_context(id);
    master().seal(&context, secret(number).as_bytes()).unwrap()
}

/// Waits until something is so.
async fn within(is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it does not happen");
}

fn approvals(count: usize) -> Vec<EventKind> {
    vec![EventKind::TransactionApproved; count]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_reaches_its_endpoint_signed_and_is_logged() {
    let (world, receiver) = (World::new().await, Receiver::start(Mode::Accepts).await);
    let endpoint = world.endpoint(9, &receiver.url, &[]).await;
    let ids = world.happens(approvals(600));
    let delivered = world.until(600, DeliveryState::Delivered).await;
    let attempts: BTreeSet<_> = delivered.iter().map(|delivery| delivery.attempts_made).collect();
    assert_eq!(attempts, BTreeSet::from([1]));
    let received = receiver.received();
    let wanted: BTreeSet<_> = ids.iter().cloned().collect();
    assert_eq!(received.iter().map(|got| got.id.clone()).collect::<BTreeSet<_>>(), wanted);
    for got in &received {
        assert!(got.is_signed_by(&secret(9)), "{got:?}");
        let body: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
        assert_eq!(body["id"], got.id.as_str());
        assert_eq!(body["type"], "transaction.approved");
        assert_eq!(body["timestamp"], "2026-05-04T12:00:00Z");
        let mandate = MandateId::from_bytes([5; 16]).to_string();
        assert_eq!(body["data"]["mandateId"], mandate);
        assert_eq!(body["data"].as_object().unwrap().len(), 2, "{body}");
    }
    let store = world.store.clone();
    within(async || {
        use crate::store::DeliveryStore;
        let told = store.told_endpoint(org(), endpoint.id).await.unwrap().unwrap();
        told.after_seq == 600
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_gets_what_it_asked_for_and_nothing_from_before() {
    let (world, receiver) = (World::new().await, Receiver::start(Mode::Accepts).await);
    world.happens(approvals(5));
    world.endpoint(1, &receiver.url, &[EventKind::TransactionSettled]).await;
    let kinds = [EventKind::TransactionApproved, EventKind::TransactionSettled];
    let ids = world.happens(kinds.into_iter().cycle().take(40));
    world.until(20, DeliveryState::Delivered).await;
    let wanted: BTreeSet<_> = ids.iter().skip(1).step_by(2).cloned().collect();
    let received: BTreeSet<_> = receiver.received().into_iter().map(|got| got.id).collect();
    assert_eq!(received, wanted);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_delivery_is_repeated_by_the_schedule_under_the_same_id() {
    let (world, receiver) = (World::new().await, Receiver::start(Mode::Answers(500)).await);
    world.endpoint(1, &receiver.url, &[]).await;
    let ids = world.happens(approvals(1));
    for (made, delay) in [(1, 5), (2, 300), (3, 1_800)] {
        within(async || {
            let deliveries = world.deliveries().await;
            deliveries.first().is_some_and(|delivery| delivery.attempts_made == made)
        })
        .await;
        let delivery = world.deliveries().await.remove(0);
        let wait = delivery.next_at.unwrap().duration_since(world.clock.now());
        let delay = SignedDuration::from_secs(delay);
        assert!(wait >= delay && wait <= delay + delay / 10, "{made}: {wait}");
        assert_eq!(delivery.attempts.last().unwrap().status, Some(500));
        assert_eq!(delivery.attempts.last().unwrap().excerpt, "said [31m 500");
        world.pass(wait);
    }
    receiver.set(Mode::Accepts);
    let delivered = world.until(1, DeliveryState::Delivered).await;
    assert_eq!(delivered[0].attempts_made, 4);
    let received = receiver.received();
    let seen: BTreeSet<_> = received.iter().map(|got| got.id.as_str()).collect();
    assert_eq!(seen, BTreeSet::from([ids[0].as_str()]));
    let times: BTreeSet<_> = received.iter().map(|got| got.timestamp.clone()).collect();
    assert_eq!(times.len(), 4, "each attempt has a time and a signature of its own");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_asks_for_time_gets_it() {
    let (world, receiver) = (World::new().await, Receiver::start(Mode::AsksForTime(3_600)).await);
    let endpoint = world.endpoint(1, &receiver.url, &[]).await;
    world.happens(approvals(50));
    within(async || !world.deliveries().await.is_empty()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let deliveries = world.deliveries().await;
    // Those under way when it asked, and no more.
    assert!(deliveries.len() <= 16, "{}", deliveries.len());
    for delivery in &deliveries {
        let wait = delivery.next_at.unwrap().duration_since(world.clock.now());
        assert_eq!(wait, SignedDuration::from_secs(3_600));
    }
    assert!(world.read(endpoint.id).await.failing_since.is_some());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_gone_or_fails_for_days_is_disabled_and_says_why() {
    let world = World::new().await;
    let gone = Receiver::start(Mode::Answers(410)).await;
    let gone_endpoint = world.endpoint(1, &gone.url, &[]).await;
    let failing = Receiver::start(Mode::Answers(302)).await;
    let failing_endpoint = world.endpoint(2, &failing.url, &[]).await;
    world.happens(approvals(1));
    within(async || !world.read(gone_endpoint.id).await.enabled).await;
    let disabled = world.read(gone_endpoint.id).await.disabled;
    assert_eq!(disabled, Some((DisabledReason::Gone, world.clock.now())));

    within(async || world.read(failing_endpoint.id).await.failing_since.is_some()).await;
    assert!(world.read(failing_endpoint.id).await.enabled);
    world.pass(SignedDuration::from_hours(121));
    within(async || !world.read(failing_endpoint.id).await.enabled).await;
    let disabled = world.read(failing_endpoint.id).await.disabled;
    assert_eq!(disabled.unwrap().0, DisabledReason::Failing);
    let heard = (gone.received().len(), failing.received().len());
    world.happens(approvals(20));
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!((gone.received().len(), failing.received().len()), heard);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_and_a_dead_endpoint_delay_no_other() {
    let world = World::new().await;
    let (hangs, quick) = (Receiver::start(Mode::Hangs).await, Receiver::start(Mode::Accepts).await);
    for number in 1..=20 {
        world.endpoint(number, &hangs.url, &[]).await;
    }
    world.endpoint(30, "http://127.0.0.1:1025/nobody", &[]).await;
    world.endpoint(31, &quick.url, &[]).await;
    // Until the hanging ones have all that they get.
    world.happens(approvals(100));
    within(async || quick.received().len() >= 100).await;
    let began = tokio::time::Instant::now();
    world.happens(approvals(400));
    within(async || quick.received().len() >= 500).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_lies_about_its_body_has_still_said_its_status() {
    let world = World::new().await;
    let table = [(Mode::HangsInBody, 1), (Mode::Endless, 2)];
    for (mode, number) in table {
        let receiver = Receiver::start(mode).await;
        world.endpoint(number, &receiver.url, &[]).await;
        std::mem::forget(receiver);
    }
    world.happens(approvals(1));
    let delivered = world.until(2, DeliveryState::Delivered).await;
    for delivery in delivered {
        let attempt = &delivery.attempts[0];
        assert_eq!(attempt.status, Some(200));
        assert!(attempt.excerpt.len() <= 1_024 && attempt.duration_ms < 1_000, "{attempt:?}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_invented_when_it_dies_again_and_again() {
    let events = 2_000;
    let (mut world, receiver) = (World::new().await, Receiver::start(Mode::Accepts).await);
    world.endpoint(1, &receiver.url, &[]).await;
    let mut ids = BTreeSet::new();
    for round in 1..=5 {
        let happened = world.happens(approvals(events / 6));
        ids.extend(happened);
        let some = events / 6 * round - events / 12;
        within(async || receiver.distinct() >= some).await;
        world.kill().await;
        world.start();
    }
    let rest = world.happens(approvals(events - ids.len()));
    ids.extend(rest);
    world.until(events.min(10_000), DeliveryState::Delivered).await;
    within(async || receiver.distinct() >= events).await;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for got in receiver.received() {
        assert!(got.is_signed_by(&secret(1)));
        *counts.entry(got.id).or_default() += 1;
    }
    assert_eq!(counts.keys().cloned().collect::<BTreeSet<_>>(), ids);
    let twice = counts.values().filter(|count| **count > 1).count();
    assert!(twice <= 5 * 1_500, "{twice} of {events} were sent more than once");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_secret_is_rotated_both_sign_and_afterwards_only_the_new_one() {
    let (world, receiver) = (World::new().await, Receiver::start(Mode::Accepts).await);
    let before = world.endpoint(1, &receiver.url, &[]).await;
    let until = world.clock.now() + SignedDuration::from_hours(24);
    let secrets = SealedSecrets {
        current: sealed(before.id, 2),
        previous: Some((before.secrets.current.clone(), until)),
    };
    let after = WebhookEndpoint { secrets, version: 2, ..before.clone() };
    world.change(WebhookChange::Replace(after, 1, None)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.happens(approvals(1));
    world.until(1, DeliveryState::Delivered).await;
    world.pass(SignedDuration::from_hours(25));
    world.happens(approvals(1));
    world.until(2, DeliveryState::Delivered).await;
    let [during, later] = receiver.received().try_into().unwrap();
    assert!(during.is_signed_by(&secret(1)) && during.is_signed_by(&secret(2)), "{during:?}");
    assert!(!later.is_signed_by(&secret(1)) && later.is_signed_by(&secret(2)), "{later:?}");
    world.end().await;
}
