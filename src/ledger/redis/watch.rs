//! The watch: the server has a connection to Redis, to the process that it was made to, and
//! Postgres still says that this one may be spent from.
//!
//! A replica may be promoted while the old master serves on, to those who are connected to it. They
//! find out here, within `shards::KNOWN_TO_ALL`, or stop. Not here: what is done in an epoch
//! (`decide`), and how one begins (`shards`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::shards::{Shards, Trouble};
use crate::store::{StoreError, StoreErrorKind};

/// How often it looks.
const TICK: Duration = Duration::from_millis(250);

/// How long Postgres may take to say whose the shards are; later it says nothing that helps.
const ANSWER_TIME: Duration = Duration::from_millis(600);

/// Looks until it is stopped.
pub(super) async fn run(shards: Arc<Shards>, stop: CancellationToken) {
    let both = Box::pin(async { tokio::join!(shards.link.keep(), look_on(&shards)) });
    stop.run_until_cancelled(both).await;
}

async fn look_on(shards: &Shards) {
    loop {
        sleep(TICK).await;
        let (redis, postgres) = tokio::join!(look(shards), ask(shards));
        for trouble in [redis, postgres].into_iter().filter_map(Result::err) {
            // Whoever decides says so louder.
            tracing::debug!(%trouble, "it is not known now who may be spent from");
        }
    }
}

/// Looks at the process.
async fn look(shards: &Shards) -> Result<(), Trouble> {
    match shards.link.present() {
        Some(live) => Ok(shards.link.look(&live).await?),
        None => Ok(()),
    }
}

/// Asks Postgres.
async fn ask(shards: &Shards) -> Result<(), Trouble> {
    if shards.link.present().is_none() {
        // Whoever connects asks.
        return Ok(());
    }
    let asked = Instant::now();
    let late =
        |elapsed| StoreError::new(StoreErrorKind::Timeout, "ask whose the shards are", elapsed);
    let present = timeout(ANSWER_TIME, shards.escrow.authorities()).await.map_err(late)??;
    shards.confirm(&present, asked);
    Ok(())
}
