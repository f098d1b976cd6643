//! The watch: the server has a connection to each Redis that has shards, to the process that it was
//! made to, and Postgres still says that these may be spent from.
//!
//! A replica may be promoted while the old master serves on, to those who are connected to it. They
//! find out here, within `shards::KNOWN_TO_ALL`, or stop. Not here: what is done in an epoch
//! (`decide`), how one begins (`shards`), and where shards are (`nodes`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::link::Link;
use super::shards::{Shards, Trouble};
use crate::store::{StoreError, StoreErrorKind};

/// How often it looks.
const TICK: Duration = Duration::from_millis(250);

/// How long Postgres may take to say whose the shards are; later it says nothing that helps.
const ANSWER_TIME: Duration = Duration::from_millis(600);

/// Looks until it is stopped.
pub(super) async fn run(shards: Arc<Shards>, stop: CancellationToken) {
    let nodes = &shards.nodes;
    let all = async {
        tokio::join!(
            nodes.beside_each(&stop, keep),
            nodes.follow(),
            look_on(&shards),
            take_over_what_moved(&shards)
        )
    };
    stop.run_until_cancelled(Box::pin(all)).await;
}

/// Keeps a link connected, and to whom it was.
async fn keep(link: Arc<Link>) {
    let both = async { tokio::join!(link.keep(), look_at(&link)) };
    link.gone.run_until_cancelled(both).await;
}

async fn look_at(link: &Link) {
    loop {
        sleep(TICK).await;
        let Some(live) = link.present() else { continue };
        if let Err(error) = live.look().await {
            // Whoever decides says so louder.
            tracing::debug!(%error, "it is not known now whom the connection leads to");
        }
    }
}

async fn look_on(shards: &Shards) {
    loop {
        let is_whole = shards.nodes.is_whole();
        metrics::gauge!("quetra_redis_connected").set(if is_whole { 1.0 } else { 0.0 });
        sleep(TICK).await;
        if let Err(trouble) = ask(shards).await {
            // Whoever decides says so louder.
            tracing::debug!(%trouble, "it is not known now who may be spent from");
        }
    }
}

/// Asks Postgres, also while Redis is away: whoever waits for a row may not have heard of it.
async fn ask(shards: &Shards) -> Result<(), Trouble> {
    let asked = Instant::now();
    let late =
        |elapsed| StoreError::new(StoreErrorKind::Timeout, "ask whose the shards are", elapsed);
    let present = timeout(ANSWER_TIME, shards.escrow.authorities()).await.map_err(late)??;
    shards.confirm(&present, asked);
    timeout(ANSWER_TIME, shards.look_for_answers()).await.map_err(late)??;
    Ok(())
}

/// Begins epochs of shards that a cluster has moved, also where nobody decides now: what waits in
/// an outbox that came along would not be recorded before.
async fn take_over_what_moved(shards: &Shards) {
    while shards.nodes.is_cluster() {
        sleep(TICK).await;
        let Ok(present) = shards.escrow.authorities().await else { continue };
        for one in present {
            let live = shards.nodes.link(one.shard).ok().and_then(|link| link.present());
            let Some(live) = live.filter(|live| *live.identity != *one.replication_id) else {
                continue;
            };
            if let Err(trouble) = shards.epoch(one.shard, &live).await {
                tracing::debug!(shard = one.shard, %trouble, "the shard cannot be taken over now");
            }
        }
    }
}
