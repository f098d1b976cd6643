//! Which endpoints this server tells: it looks for them, gives each a lane, and lets them go.
//!
//! Several servers on one database take an endpoint each by a lease; a server that dies loses its
//! leases within seconds, and another one goes on from the cursor. Not here: what happens in a lane
//! (`lane`), and how much is sent at once to one endpoint.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::lane;
use super::pace::{Allowed, Pace};
use super::record::{self, Entry, QUEUE};
use super::sender::Sender;
use crate::clock::Clock;
use crate::crypto::{MasterKey, random_id};
use crate::domain::actor::Actor;
use crate::domain::id::{OrgId, WebhookEndpointId};
use crate::domain::webhook::{DisabledReason, WebhookEndpoint};
use crate::provider::egress::Egress;
use crate::store::{
    Author, CatalogueWriter, Change, DeliveryStore, EventStore, Growth, OwnedEndpoint, StoreError,
    StoreErrorKind, WebhookChange,
};

/// Attempts under way at once, to all endpoints together.
const AT_ONCE_MAX: usize = 512;

/// How often to look for endpoints, and to keep those that are this server's.
const LOOK: Duration = Duration::from_secs(1);

/// How often old deliveries are forgotten.
const FORGET: Duration = Duration::from_secs(30);

/// How long to pause between two parts of that.
const FORGET_PAUSE: Duration = Duration::from_millis(100);

/// How long, and how many of an endpoint, deliveries that are done are kept.
const KEPT_TIME: SignedDuration = SignedDuration::from_hours(30 * 24);
const KEPT_MAX: u32 = 20_000;

/// What delivering needs.
pub struct DeliveryParts {
    /// Where endpoints and deliveries are kept.
    pub store: Arc<dyn DeliveryStore>,
    /// Where an endpoint is disabled.
    pub catalogue: Arc<dyn CatalogueWriter>,
    /// What happened.
    pub events: Arc<dyn EventStore>,
    /// The road out.
    pub egress: Egress,
    /// The most spends that were being decided at once since it was last asked: how much there is
    /// to give way to.
    pub most_deciding: Box<dyn Fn() -> usize + Send + Sync>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What secrets are sealed under.
    pub master: MasterKey,
    /// Says that an endpoint has changed, or that a delivery is due.
    pub wake: Arc<Notify>,
}

impl std::fmt::Debug for DeliveryParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeliveryParts").finish_non_exhaustive()
    }
}

/// What all lanes share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) parts: Arc<DeliveryParts>,
    /// Where attempts are made.
    pub(super) sender: Handle,
    permits: Arc<Semaphore>,
    pace: Arc<Pace>,
    entries: mpsc::Sender<Entry>,
}

impl Shared {
    /// To make an attempt, and whether another one may follow; none while there are enough.
    pub(super) fn permit(&self) -> Option<(OwnedSemaphorePermit, bool)> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        match self.pace.allows(Instant::now(), &self.parts.most_deciding) {
            Allowed::Any => Some((permit, true)),
            Allowed::One => Some((permit, false)),
            Allowed::None => None,
        }
    }

    pub(super) async fn hand_over(&self, entry: Entry) {
        // The writer ends after all lanes.
        drop(self.entries.send(entry).await);
    }

    /// Disables an endpoint as it was read; one that has changed since is judged again.
    pub(super) async fn disable(
        &self,
        endpoint: &WebhookEndpoint,
        reason: DisabledReason,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let disabled = WebhookEndpoint {
            enabled: false,
            disabled: Some((reason, now)),
            version: endpoint.version.saturating_add(1),
            updated_at: now,
            ..endpoint.clone()
        };
        let change = Change::Webhook(WebhookChange::Replace(disabled, endpoint.version, None));
        let author = Author { actor: Actor::System, at: now };
        match self.parts.catalogue.commit(vec![change], None, author).await {
            Err(error) if error.kind == StoreErrorKind::Conflict => Ok(()),
            result => result,
        }
    }
}

/// How a lane is told that there is something to look at, or to stop.
#[derive(Clone, Default)]
pub(super) struct Poke {
    signs: Arc<Signs>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Signs {
    events: AtomicBool,
    due: AtomicBool,
    reload: AtomicBool,
    notify: Notify,
}

impl Poke {
    fn raise(&self, sign: impl Fn(&Signs) -> &AtomicBool) {
        sign(&self.signs).store(true, Ordering::Release);
        self.signs.notify.notify_one();
    }

    pub(super) fn take_events(&self) -> bool {
        self.signs.events.swap(false, Ordering::AcqRel)
    }

    pub(super) fn take_due(&self) -> bool {
        self.signs.due.swap(false, Ordering::AcqRel)
    }

    pub(super) fn take_reload(&self) -> bool {
        self.signs.reload.swap(false, Ordering::AcqRel)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    pub(super) async fn poked(&self) {
        self.signs.notify.notified().await;
    }

    pub(super) async fn sleep(&self, time: Duration) {
        let _is_stopped = self.stop.run_until_cancelled(tokio::time::sleep(time)).await.is_none();
    }
}

/// A lane that runs.
struct Running {
    org: OrgId,
    version: i64,
    /// The last entry of the journal that it was told of.
    end: i64,
    poke: Poke,
}

/// Delivers webhooks until it is stopped, then ends in order: attempts under way, what became of
/// them, and the leases.
pub async fn run(parts: DeliveryParts, stop: CancellationToken) {
    let (entries, received) = mpsc::channel(QUEUE);
    let parts = Arc::new(parts);
    let permits = Arc::new(Semaphore::new(AT_ONCE_MAX));
    let sender = Sender::start();
    let shared = Shared {
        parts: Arc::clone(&parts),
        sender: sender.handle().clone(),
        permits,
        pace: Arc::default(),
        entries,
    };
    let server = random_id();
    let recording = record::run(Arc::clone(&parts.store), received, stop.clone());
    let telling = async {
        let (lanes, tasks, forgetting) = (HashMap::new(), JoinSet::new(), JoinSet::new());
        Server { shared, lanes, tasks, forgetting }.run(server, &stop).await;
    };
    tokio::join!(recording, telling);
    if let Err(error) = parts.store.disown_endpoints(server).await {
        tracing::debug!(%error, "the leases of webhook endpoints end by themselves");
    }
}

struct Server {
    shared: Shared,
    lanes: HashMap<WebhookEndpointId, Running>,
    tasks: JoinSet<WebhookEndpointId>,
    forgetting: JoinSet<()>,
}

impl Server {
    async fn run(mut self, server: [u8; 16], stop: &CancellationToken) {
        let mut forget = tokio::time::interval(FORGET);
        forget.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let parts = Arc::clone(&self.shared.parts);
        let mut growth = parts.events.growth();
        while !stop.is_cancelled() {
            match parts.store.own_endpoints(server).await {
                Ok(owned) => self.serve(&owned),
                Err(error) => tracing::warn!(%error, "webhook endpoints cannot be looked for"),
            }
            let mut look = std::pin::pin!(tokio::time::sleep(LOOK));
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = parts.wake.notified() => break,
                    () = &mut look => break,
                    Ok(()) = growth.changed() => self.poke_grown(&growth.borrow_and_update()),
                    _ = forget.tick() => self.forget(),
                    Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                        self.ended(ended);
                    }
                }
            }
        }
        for running in self.lanes.values() {
            running.poke.stop.cancel();
        }
        self.forgetting.shutdown().await;
        while self.tasks.join_next().await.is_some() {}
    }

    /// Starts, rouses and stops lanes, so that there is one for each endpoint of this server.
    fn serve(&mut self, owned: &[OwnedEndpoint]) {
        let now = self.shared.parts.clock.now();
        for endpoint in owned {
            match self.lanes.get_mut(&endpoint.id) {
                None => self.start(endpoint),
                Some(running) => {
                    if running.version != endpoint.version {
                        running.version = endpoint.version;
                        running.poke.raise(|signs| &signs.reload);
                    }
                    if endpoint.due_at.is_some_and(|due| due <= now) {
                        running.poke.raise(|signs| &signs.due);
                    }
                }
            }
        }
        let is_ours = |id: &WebhookEndpointId| owned.iter().any(|endpoint| endpoint.id == *id);
        for (_, running) in self.lanes.iter().filter(|(id, _)| !is_ours(id)) {
            running.poke.stop.cancel();
        }
    }

    fn start(&mut self, endpoint: &OwnedEndpoint) {
        let poke = Poke::default();
        let (org, version) = (endpoint.org_id, endpoint.version);
        let running = Running { org, version, end: 0, poke: poke.clone() };
        self.lanes.insert(endpoint.id, running);
        let (shared, id) = (self.shared.clone(), endpoint.id);
        self.tasks.spawn(async move {
            lane::run(shared, (org, id), poke).await;
            id
        });
    }

    /// Forgets a lane that has ended; if its endpoint is still this server's it begins anew.
    fn ended(&mut self, ended: Result<WebhookEndpointId, JoinError>) {
        match ended {
            Ok(id) => drop(self.lanes.remove(&id)),
            Err(error) => {
                tracing::error!(%error, "the lane of a webhook endpoint broke; all begin anew");
                for running in self.lanes.values() {
                    running.poke.stop.cancel();
                }
            }
        }
    }

    /// Rouses the lanes whose journal has grown; the others have nothing to read.
    fn poke_grown(&mut self, ends: &Growth) {
        for running in self.lanes.values_mut() {
            if let Some(end) = ends.get(&running.org)
                && *end != running.end
            {
                running.end = *end;
                running.poke.raise(|signs| &signs.events);
            }
        }
    }

    /// Forgets old deliveries of this server's endpoints, unless it is at it already.
    fn forget(&mut self) {
        while self.forgetting.try_join_next().is_some() {}
        let before = self.shared.parts.clock.now().checked_sub(KEPT_TIME);
        let (Ok(before), true) = (before, self.forgetting.is_empty()) else { return };
        let parts = Arc::clone(&self.shared.parts);
        let of: Vec<_> = self.lanes.iter().map(|(id, running)| (running.org, *id)).collect();
        self.forgetting.spawn(async move {
            for of in of {
                loop {
                    match parts.store.forget_deliveries(of, before, KEPT_MAX).await {
                        Ok(0) => break,
                        // Others write to the same database.
                        Ok(_) => tokio::time::sleep(FORGET_PAUSE).await,
                        Err(error) => {
                            tracing::warn!(%error, "old webhook deliveries cannot be forgotten");
                            break;
                        }
                    }
                }
            }
        });
    }
}
