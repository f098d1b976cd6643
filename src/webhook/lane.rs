//! The lane of one endpoint: events in their order, retries when they are due, a bounded number of
//! attempts at a time, and rest for one that fails.
//!
//! Each endpoint has a lane of its own, and one that is slow gets fewer attempts at a time, so none
//! delays another. An endpoint that is down costs no rows: what it was not offered yet waits behind
//! its cursor. Not here: which endpoints this server tells (`deliver`).

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::attempt::{Answer, Target, attempt, body, test_body};
use super::deliver::{Poke, Shared};
use super::health::{Begun, Health};
use super::record::{Entry, Open};
use super::schedule;
use crate::crypto::{WebhookSecret, random};
use crate::domain::event::Event;
use crate::domain::id::{EventId, OrgId, WebhookDeliveryId, WebhookEndpointId};
use crate::domain::webhook::{
    DeliveryAttempt, DeliveryState, DisabledReason, WebhookDelivery, WebhookEndpoint,
};
use crate::store::{StoreError, StoreErrorKind, Told};

/// Events that are read at once.
const EVENTS_READ: u32 = 256;

/// Retries that are read at once.
const RETRIES_READ: u32 = 64;

/// How long to wait at least for a permit when there is none.
const PERMIT_REST: Duration = Duration::from_millis(5);

/// How often to look for events that other servers wrote, if there were some just now, and if not.
const LOOK_MIN: Duration = Duration::from_millis(250);
const LOOK_MAX: Duration = Duration::from_secs(2);

/// How long attempts under way may take when the server stops.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// How long to wait after the store failed.
const STORE_REST: Duration = Duration::from_secs(1);

/// An attempt that is over.
struct Done {
    delivery: WebhookDelivery,
    made: DeliveryAttempt,
    answer: Answer,
    begun: Begun,
}

/// The lane's state; all of it can be read again from the store.
pub(super) struct Lane {
    shared: Shared,
    endpoint: WebhookEndpoint,
    target: Arc<Target>,
    /// Up to where events were read.
    read_seq: i64,
    /// Events that were read and have no outcome yet.
    open_seqs: BTreeSet<i64>,
    /// The cursor that was last handed over to be written.
    told_seq: i64,
    events: VecDeque<Event>,
    retries: VecDeque<WebhookDelivery>,
    open: Open,
    running: JoinSet<Done>,
    health: Health,
    may_have_events: bool,
    may_have_retries: bool,
    look_after: Duration,
}

/// Why a lane ends.
enum End {
    /// The endpoint is gone, or nothing is to be sent to it.
    Nothing,
    /// The store failed; the lane is made anew.
    Store(StoreError),
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Tells an endpoint of events until the lane is stopped or the endpoint is disabled.
pub(super) async fn run(shared: Shared, (org, id): (OrgId, WebhookEndpointId), poke: Poke) {
    while !poke.is_stopped() {
        match Lane::open(&shared, org, id).await {
            Ok(Some(mut lane)) => match lane.run(&poke).await {
                End::Nothing => return,
                End::Store(error) => warn(&error, id),
            },
            Ok(None) => return,
            Err(error) => warn(&error, id),
        }
        poke.sleep(STORE_REST).await;
    }
}

fn warn(error: &StoreError, endpoint: WebhookEndpointId) {
    tracing::warn!(%error, %endpoint, "an endpoint cannot be told of events; trying again");
}

impl Lane {
    async fn open(
        shared: &Shared,
        org: OrgId,
        id: WebhookEndpointId,
    ) -> Result<Option<Self>, StoreError> {
        let told = shared.parts.store.told_endpoint(org, id).await?;
        let Some(told) = told.filter(|told| told.endpoint.enabled) else { return Ok(None) };
        let Some(target) = target(shared, &told.endpoint) else { return Ok(None) };
        Ok(Some(Self {
            shared: shared.clone(),
            endpoint: told.endpoint,
            target,
            read_seq: told.after_seq,
            open_seqs: BTreeSet::new(),
            told_seq: told.after_seq,
            events: VecDeque::new(),
            retries: VecDeque::new(),
            open: Open::default(),
            running: JoinSet::new(),
            health: Health::default(),
            may_have_events: true,
            may_have_retries: true,
            look_after: LOOK_MIN,
        }))
    }

    async fn run(&mut self, poke: &Poke) -> End {
        loop {
            if let Err(end) = self.fill().await {
                self.drain().await;
                return end;
            }
            let wait = self.wait();
            tokio::select! {
                () = poke.stopped() => {
                    self.drain().await;
                    return End::Nothing;
                }
                Some(done) = self.running.join_next(), if !self.running.is_empty() => {
                    if let Err(end) = self.finish_all(done).await {
                        self.drain().await;
                        return end;
                    }
                }
                () = poke.poked() => {
                    self.may_have_events |= poke.take_events();
                    self.may_have_retries |= poke.take_due();
                    if poke.take_reload() && let Err(end) = self.reload().await {
                        self.drain().await;
                        return end;
                    }
                }
                () = tokio::time::sleep(wait) => {
                    self.may_have_events = true;
                    self.look_after = self.look_after.saturating_mul(2).min(LOOK_MAX);
                }
            }
        }
    }

    /// How long nothing needs to be done, if nothing happens.
    fn wait(&self) -> Duration {
        match self.health.rest(Instant::now()) {
            Some(rest) => rest.min(LOOK_MAX),
            // There is work, and all permits are taken: chance says which lane is the next.
            None if self.has_work() && self.has_room() => {
                PERMIT_REST.saturating_add(Duration::from_micros(u64::from(jitter() / 2)))
            }
            None => self.look_after,
        }
    }

    fn has_work(&self) -> bool {
        !self.events.is_empty() || !self.retries.is_empty()
    }

    fn has_room(&self) -> bool {
        self.running.len() < self.health.at_once()
    }

    /// Starts attempts while there is room, and reads what to start.
    async fn fill(&mut self) -> Result<(), End> {
        if self.health.rest(Instant::now()).is_some() {
            return Ok(());
        }
        while self.has_room() {
            self.read().await?;
            if !self.has_work() {
                break;
            }
            let Some((permit, may_go_on)) = self.shared.permit() else { break };
            self.start(permit).await?;
            if !may_go_on {
                break;
            }
        }
        self.tell_skipped().await;
        Ok(())
    }

    async fn read(&mut self) -> Result<(), StoreError> {
        let (org, id) = (self.endpoint.org_id, self.endpoint.id);
        if self.retries.is_empty() && self.may_have_retries {
            let under_way = self.open_ids();
            let more = u32::try_from(under_way.len()).unwrap_or(u32::MAX);
            let limit = RETRIES_READ.saturating_add(more);
            let now = self.shared.parts.clock.now();
            let due = self.shared.parts.store.due_deliveries((org, id), now, limit).await?;
            let due = due.into_iter().filter(|delivery| !under_way.contains(&delivery.id));
            self.retries.extend(due);
            self.may_have_retries = !self.retries.is_empty();
        }
        if self.events.is_empty() && self.may_have_events {
            let page = self.shared.parts.events.events(org, self.read_seq, EVENTS_READ).await?;
            let passed = page.through.saturating_sub(self.read_seq);
            self.may_have_events = passed >= i64::from(EVENTS_READ);
            if passed > 0 {
                self.look_after = LOOK_MIN;
            }
            self.read_seq = page.through;
            for event in page.events {
                if self.endpoint.wants(event.kind) {
                    self.open_seqs.insert(event.seq);
                    self.events.push_back(event);
                }
            }
        }
        Ok(())
    }

    fn open_ids(&self) -> HashSet<WebhookDeliveryId> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts the next attempt: what was offered before goes first.
    async fn start(&mut self, permit: OwnedSemaphorePermit) -> Result<(), StoreError> {
        let (delivery, body) = if let Some(delivery) = self.retries.pop_front() {
            let Some(body) = self.body_of(&delivery).await? else { return Ok(()) };
            (delivery, body)
        } else if let Some(event) = self.events.pop_front() {
            let event_id = id_of(&event)?;
            let id = WebhookDeliveryId::of(self.endpoint.id, event_id);
            let now = self.shared.parts.clock.now();
            let about = (event_id, Some(event.seq), event.kind.word(), event.at);
            (WebhookDelivery::due((id, &self.endpoint), about, now), body(&event))
        } else {
            return Ok(());
        };
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(delivery.id);
        let (shared, target) = (self.shared.clone(), Arc::clone(&self.target));
        let (sender, begun) = (shared.sender.clone(), self.health.begin());
        let attempt = async move {
            let id = delivery.event_id.to_string();
            let parts = (&shared.parts.egress, &*shared.parts.clock);
            let (made, answer) = attempt(parts, &target, &id, body).await;
            drop(permit);
            Done { delivery, made, answer, begun }
        };
        self.running.spawn_on(attempt, &sender);
        Ok(())
    }

    /// What was sent before; `None` if it cannot be known any more, and is given up.
    async fn body_of(&mut self, delivery: &WebhookDelivery) -> Result<Option<Bytes>, StoreError> {
        let Some(seq) = delivery.event_seq else { return Ok(Some(test_body(delivery))) };
        let before = seq.saturating_sub(1);
        let events = &self.shared.parts.events;
        let page = events.events(self.endpoint.org_id, before, 1).await?;
        let id = delivery.event_id.to_string();
        let event = page.events.first().filter(|event| event.id == id);
        if event.is_none() {
            let mut lost = delivery.clone();
            (lost.state, lost.next_at) = (DeliveryState::Failed, None);
            tracing::error!(delivery = %lost.id, "the event of a webhook delivery is not there");
            self.hand_over(Some(lost)).await;
        }
        Ok(event.map(body))
    }

    /// Finishes an attempt, and all others that are over by now.
    async fn finish_all(&mut self, first: Result<Done, JoinError>) -> Result<(), End> {
        let mut next = Some(first);
        while let Some(done) = next {
            // A panic inside an attempt is an attempt that never was.
            if let Ok(done) = done {
                self.finish(done).await?;
            }
            next = self.running.try_join_next();
        }
        Ok(())
    }

    /// Says what follows from an attempt, for the endpoint as well.
    async fn finish(&mut self, done: Done) -> Result<(), End> {
        let now = self.shared.parts.clock.now();
        let reason = match self.note(done, now).await {
            Answer::Gone => Some(DisabledReason::Gone),
            Answer::Accepted => None,
            Answer::Refused { .. } => self
                .endpoint
                .failing_since
                .filter(|since| schedule::has_failed_too_long(*since, now))
                .map(|_| DisabledReason::Failing),
        };
        match reason {
            Some(reason) => Err(self.disable(reason, now).await),
            None => Ok(()),
        }
    }

    /// Says what follows from an attempt for its delivery, and has it written down.
    async fn note(&mut self, done: Done, now: Timestamp) -> Answer {
        let Done { mut delivery, made, answer, begun } = done;
        let next = match answer {
            Answer::Refused { asked, .. } if !delivery.is_test() => {
                let made = delivery.made.saturating_add(1);
                schedule::next_attempt(made, now, asked, jitter())
            }
            Answer::Accepted | Answer::Gone | Answer::Refused { .. } => None,
        };
        let state = match (answer, next) {
            (Answer::Accepted, _) => DeliveryState::Delivered,
            (_, Some(_)) => DeliveryState::Pending,
            (_, None) => DeliveryState::Failed,
        };
        delivery.note(made, state, next);
        if state == DeliveryState::Failed && !delivery.is_test() {
            let (delivery, endpoint) = (delivery.id, self.endpoint.id);
            tracing::warn!(%delivery, %endpoint, "a webhook delivery was given up");
        }
        if let Some(seq) = delivery.event_seq {
            self.open_seqs.remove(&seq);
        }
        self.judge((answer, begun), now);
        self.hand_over(Some(delivery)).await;
        answer
    }

    /// Gives the endpoint more attempts at a time, or fewer, or rest.
    fn judge(&mut self, (answer, begun): (Answer, Begun), now: Timestamp) {
        match answer {
            Answer::Accepted => {
                self.health.accepted();
                self.endpoint.failing_since = None;
            }
            Answer::Refused { asked, is_overloaded } => {
                self.health.refused(begun, (asked, is_overloaded), Instant::now());
                self.endpoint.failing_since.get_or_insert(now);
            }
            Answer::Gone => {
                self.endpoint.failing_since.get_or_insert(now);
            }
        }
    }

    /// Up to where the endpoint was told: before the first event without an outcome.
    fn cursor(&self) -> i64 {
        self.open_seqs.first().map_or(self.read_seq, |first| first.saturating_sub(1))
    }

    async fn hand_over(&mut self, delivery: Option<WebhookDelivery>) {
        self.told_seq = self.cursor();
        let entry = Entry {
            org: self.endpoint.org_id,
            told: Told {
                endpoint: self.endpoint.id,
                after_seq: self.told_seq,
                failing_since: self.endpoint.failing_since,
            },
            delivery: delivery.map(|delivery| (delivery, Open::clone(&self.open))),
        };
        self.shared.hand_over(entry).await;
    }

    /// Has the cursor written down when it has passed many events that nobody wanted: reading them
    /// once more after a restart would cost little.
    async fn tell_skipped(&mut self) {
        let passed = self.cursor().saturating_sub(self.told_seq);
        if passed >= i64::from(EVENTS_READ) {
            self.hand_over(None).await;
        }
    }

    /// Reads the endpoint again; what is under way goes on as it was.
    async fn reload(&mut self) -> Result<(), End> {
        let (org, id) = (self.endpoint.org_id, self.endpoint.id);
        let told = self.shared.parts.store.told_endpoint(org, id).await?;
        let Some(told) = told.filter(|told| told.endpoint.enabled) else {
            return Err(End::Nothing);
        };
        let Some(target) = target(&self.shared, &told.endpoint) else { return Err(End::Nothing) };
        if told.after_seq > self.read_seq {
            // It was enabled again: it is told of what happens from then on.
            self.events.clear();
            self.open_seqs.clear();
            self.read_seq = told.after_seq;
        }
        let is_elsewhere = self.endpoint.url != told.endpoint.url;
        let failing_since = self.endpoint.failing_since.filter(|_| !is_elsewhere);
        self.endpoint = WebhookEndpoint { failing_since, ..told.endpoint };
        self.target = target;
        if is_elsewhere {
            // Another place deserves another chance.
            self.health = Health::default();
        }
        Ok(())
    }

    /// Stops telling the endpoint, and says so where people look.
    async fn disable(&self, reason: DisabledReason, now: Timestamp) -> End {
        let endpoint = &self.endpoint;
        tracing::warn!(
            endpoint = %endpoint.id,
            reason = reason.word(),
            "a webhook endpoint was disabled; enable it again when it works"
        );
        match self.shared.disable(endpoint, reason, now).await {
            Ok(()) => End::Nothing,
            Err(error) => End::Store(error),
        }
    }

    /// Waits for what is under way, not for long, and writes down how far the endpoint was told.
    async fn drain(&mut self) {
        let until = Instant::now().checked_add(DRAIN_TIME);
        while let Some(until) = until
            && let Ok(Some(done)) = tokio::time::timeout_at(until, self.running.join_next()).await
        {
            if let Ok(done) = done {
                // Whether it is disabled is said already, or seen by the next lane.
                let now = self.shared.parts.clock.now();
                self.note(done, now).await;
            }
        }
        self.running.shutdown().await;
        self.hand_over(None).await;
    }
}

/// What an endpoint is called with; `None` when its secret cannot be opened.
fn target(shared: &Shared, endpoint: &WebhookEndpoint) -> Option<Arc<Target>> {
    let context = WebhookEndpoint::sealing_context(endpoint.id);
    let open = |sealed: &[u8]| {
        let bytes = shared.parts.master.unseal(&context, sealed).ok()?;
        WebhookSecret::from_bytes(bytes).ok()
    };
    let previous = endpoint.secrets.previous.as_ref();
    let previous = previous.and_then(|(sealed, until)| Some((open(sealed)?, *until)));
    let Some(current) = open(&endpoint.secrets.current) else {
        tracing::error!(endpoint = %endpoint.id, "the secret of a webhook endpoint does not open");
        return None;
    };
    Some(Arc::new(Target { url: endpoint.url.clone(), current, previous }))
}

fn id_of(event: &Event) -> Result<EventId, StoreError> {
    let id = event.id.parse::<EventId>();
    id.map_err(|error| StoreError::new(StoreErrorKind::Corrupt, "read the id of an event", error))
}

/// Any number; without random bits it is the same one every time, which does little harm.
fn jitter() -> u16 {
    random::<2>().map_or(0, u16::from_be_bytes)
}
