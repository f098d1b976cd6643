//! Writes down what became of attempts, many at a time.
//!
//! One writer for all endpoints of a server, so that thousands of deliveries in a second are a few
//! commits. What cannot be written is tried again until it can: nothing is forgotten, and nothing
//! more is sent meanwhile than fits the queue. Not here: what became of what (`lane`).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::domain::id::{OrgId, WebhookDeliveryId, WebhookEndpointId};
use crate::domain::webhook::WebhookDelivery;
use crate::store::{DeliveryStore, StoreError, Told};

/// Entries that wait to be written; senders wait beyond it.
pub(super) const QUEUE: usize = 4_096;

/// How long entries are gathered. Commits of the ledger wait for the same disk.
const GATHER_TIME: Duration = Duration::from_millis(50);

/// The most entries of one commit.
const BATCH_MAX: usize = 1_000;

/// How long to wait after a commit that failed.
const RETRY_TIME: Duration = Duration::from_millis(500);

/// Deliveries whose last attempt is not written down yet: the store would call them due.
pub(super) type Open = Arc<Mutex<HashSet<WebhookDeliveryId>>>;

/// What became of an endpoint, or of a delivery to it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) org: OrgId,
    pub(super) told: Told,
    pub(super) delivery: Option<(WebhookDelivery, Open)>,
}

/// What one commit writes of an organization: of several entries about one thing, the last.
#[derive(Default)]
struct Batch {
    deliveries: HashMap<WebhookDeliveryId, WebhookDelivery>,
    told: HashMap<WebhookEndpointId, Told>,
    opened: Vec<(WebhookDeliveryId, Open)>,
}

/// Writes until all senders are gone, or, once told to stop, until the store fails.
pub(super) async fn run(
    store: Arc<dyn DeliveryStore>,
    mut entries: mpsc::Receiver<Entry>,
    stop: CancellationToken,
) {
    let mut gathered = Vec::new();
    while entries.recv_many(&mut gathered, BATCH_MAX).await > 0 {
        if gathered.len() < BATCH_MAX && !stop.is_cancelled() {
            let gathering = stop.run_until_cancelled(tokio::time::sleep(GATHER_TIME));
            let _is_stopping = gathering.await.is_none();
            while gathered.len() < BATCH_MAX
                && let Ok(entry) = entries.try_recv()
            {
                gathered.push(entry);
            }
        }
        for (org, batch) in sorted(gathered.drain(..)) {
            while let Err(error) = write(&*store, org, &batch).await {
                tracing::error!(%error, "webhook deliveries cannot be recorded; trying again");
                if stop.run_until_cancelled(tokio::time::sleep(RETRY_TIME)).await.is_none() {
                    // What is not recorded is sent again after the next start.
                    break;
                }
            }
            for (id, open) in batch.opened {
                open.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            }
        }
    }
}

fn sorted(entries: impl Iterator<Item = Entry>) -> HashMap<OrgId, Batch> {
    let mut batches: HashMap<OrgId, Batch> = HashMap::new();
    for entry in entries {
        let batch = batches.entry(entry.org).or_default();
        batch.told.insert(entry.told.endpoint, entry.told);
        if let Some((delivery, open)) = entry.delivery {
            batch.opened.push((delivery.id, open));
            batch.deliveries.insert(delivery.id, delivery);
        }
    }
    batches
}

async fn write(store: &dyn DeliveryStore, org: OrgId, batch: &Batch) -> Result<(), StoreError> {
    let deliveries: Vec<_> = batch.deliveries.values().cloned().collect();
    let told: Vec<_> = batch.told.values().copied().collect();
    store.record_deliveries(org, &deliveries, &told).await
}
