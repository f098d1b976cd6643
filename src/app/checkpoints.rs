//! Signs the ends of the journals now and then, and keeps each checkpoint in second places too.
//!
//! Whoever cuts the database's journal has to cut those places as well. A place that cannot be
//! reached makes nobody wait: its checkpoints do, the newest of each journal, as that one covers
//! what came before it. Not here: what is signed (`audit`), how it is written (`places`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use self::places::{Failure, Place};
use crate::clock::Clock;
use crate::config::{CheckpointConfig, EgressConfig};
use crate::domain::id::OrgId;
use crate::engine::{Engine, StoredCheckpoint};

mod places;

/// How often a journal that has grown is signed.
const EVERY: Duration = Duration::from_secs(10);

/// How long a server that ends waits for the places.
const LAST_TIME: Duration = Duration::from_secs(5);

/// A checkpoint of an organization's journal.
type Signed = (OrgId, StoredCheckpoint);

/// Where checkpoints are written beside the database.
#[derive(Debug)]
pub(super) struct Checkpoints {
    places: Vec<Waiting>,
}

/// What waits for a place.
#[derive(Debug)]
struct Waiting {
    place: Place,
    checkpoints: BTreeMap<OrgId, StoredCheckpoint>,
    is_failing: bool,
}

impl Checkpoints {
    /// The places of a configuration.
    ///
    /// # Errors
    /// When one of them cannot be used at all.
    pub(super) fn new(
        config: &CheckpointConfig,
        egress: &EgressConfig,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let places = Place::all(config, egress, clock)?;
        Ok(Self { places: places.into_iter().map(Waiting::new).collect() })
    }

    /// Signs until the server stops, and once more then.
    pub(super) async fn run(mut self, engine: Arc<Engine>, stop: CancellationToken) {
        // What a server that was killed had signed, and perhaps not brought there.
        match engine.current_checkpoints().await {
            Ok(current) => self.add(&current),
            Err(error) => tracing::warn!(%error, "the last checkpoints could not be read"),
        }
        self.keep().await;
        while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            self.sign(&engine).await;
        }
        if tokio::time::timeout(LAST_TIME, self.sign(&engine)).await.is_err() {
            tracing::warn!("the last checkpoints could not be kept in time; a new start does it");
        }
    }

    /// Signs what has grown. A failure is told in the log; the next time covers what was missed.
    async fn sign(&mut self, engine: &Engine) {
        match engine.sign_checkpoints().await {
            Ok(signed) => self.add(&signed),
            Err(error) => {
                tracing::warn!(%error, "the journal could not be signed; it will be tried again");
            }
        }
        self.keep().await;
    }

    async fn keep(&mut self) {
        join_all(self.places.iter_mut().map(Waiting::keep)).await;
    }

    fn add(&mut self, signed: &[Signed]) {
        for waiting in &mut self.places {
            waiting.checkpoints.extend(signed.iter().cloned());
        }
    }
}

impl Waiting {
    const fn new(place: Place) -> Self {
        Self { place, checkpoints: BTreeMap::new(), is_failing: false }
    }

    /// Keeps what waits, as far as the place lets it.
    async fn keep(&mut self) {
        let waiting: Vec<Signed> = std::mem::take(&mut self.checkpoints).into_iter().collect();
        let mut parts = waiting.chunks(self.place.at_once());
        let (name, mut failure) = (self.place.name(), None);
        for part in parts.by_ref() {
            let (left, failed) = self.place.keep(part).await;
            self.checkpoints.extend(left);
            failure = failed.or(failure);
            // One that is away is not waited for again and again; one that refuses some of them
            // gets the others.
            if failure.as_ref().is_some_and(Failure::is_absence) {
                break;
            }
        }
        self.checkpoints.extend(parts.flatten().cloned());
        let count = u32::try_from(self.checkpoints.len()).unwrap_or(u32::MAX);
        metrics::gauge!("quetra_checkpoints_waiting", "place" => name).set(f64::from(count));
        if let Some(failure) = failure {
            metrics::counter!("quetra_checkpoint_failures_total", "place" => name).increment(1);
            if !std::mem::replace(&mut self.is_failing, true) {
                tracing::error!(place = name, %failure, "checkpoints could not be kept; they will \
                    be tried again");
            }
        } else if !waiting.is_empty() && std::mem::take(&mut self.is_failing) {
            tracing::info!(place = name, "checkpoints are kept again");
        }
    }
}

#[cfg(test)]
mod tests;
