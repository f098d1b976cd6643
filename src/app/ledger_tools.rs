//! What operators ask of the ledger in Redis: how it stands, to free what an ended epoch has, and
//! to go on behind what cannot be recorded.
//!
//! Not here: what that means (`ledger::redis`) and how it is printed (`cli`).

use super::database::{Database, level};
use crate::clock::{Clock, SystemClock};
use crate::config::ServerConfig;
use crate::ledger::Durability;
pub use crate::ledger::redis::rebase::AheadShard;
use crate::ledger::redis::rebase::rebase;
pub use crate::ledger::redis::repair::{EntrySays, WaitingEntry};
use crate::ledger::redis::repair::{skip, waiting};
pub use crate::ledger::redis::survey::{LedgerStatus, Outbox, ShardStatus, StrandedLease};
use crate::ledger::redis::survey::{free, status};
use crate::store::postgres::PostgresStore;

/// How the ledger of a database stands; Redis is asked where it is configured.
///
/// # Errors
/// When the database cannot be used, or is none that several servers share.
pub async fn ledger_status(config: &ServerConfig) -> anyhow::Result<LedgerStatus> {
    let store = open(config).await?;
    let redis = config.redis.as_ref().map(|redis| (redis.url.expose(), level(redis)));
    let status = status(&store, redis).await;
    store.close().await;
    Ok(status?)
}

/// Frees what an ended epoch of a shard still has; how many leases that were.
///
/// # Errors
/// When not everything of that epoch is recorded, or the database cannot be used.
pub async fn ledger_free(config: &ServerConfig, shard: i16, epoch: i64) -> anyhow::Result<u64> {
    let store = open(config).await?;
    let freed = free(&store, shard, epoch).await;
    store.close().await;
    let unrecorded = || {
        anyhow::anyhow!(
            "epoch {epoch} of shard {shard} has not ended, or not all of it is recorded; let a \
             server run until `quetra ledger status` says so"
        )
    };
    let freed = freed?.ok_or_else(unrecorded)?;
    tracing::warn!(shard, epoch, freed, "an operator has freed what an ended epoch had");
    Ok(freed)
}

/// The shards of which Redis has more than Postgres, which has lost commits; each is given a new
/// epoch if `gives_up` says so, without what is in its outbox.
///
/// # Errors
/// When no Redis is configured, something cannot be asked, or a shard is taken over meanwhile.
pub async fn ledger_rebase(
    config: &ServerConfig,
    gives_up: bool,
) -> anyhow::Result<Vec<AheadShard>> {
    let store = open(config).await?;
    let now = gives_up.then(|| SystemClock.now().as_microsecond());
    let ahead = rebase(&store, redis(config)?, now).await;
    store.close().await;
    let ahead = ahead?;
    for one in ahead.iter().filter(|one| one.rebased_to.is_some()) {
        tracing::warn!(shard = one.shard, "an operator has rebased a shard");
    }
    Ok(ahead)
}

/// The entries of a shard's outbox, or of all, that are not recorded; so many of each at most.
///
/// # Errors
/// When no Redis is configured, or something cannot be asked.
pub async fn outbox_waiting(
    config: &ServerConfig,
    shard: Option<i16>,
    most: usize,
) -> anyhow::Result<Vec<WaitingEntry>> {
    let store = open(config).await?;
    let found = waiting(&store, redis(config)?, shard, most).await;
    store.close().await;
    Ok(found?)
}

/// Goes on recording a shard behind a place, without what is in front of it.
///
/// # Errors
/// When it is no such place, no Redis is configured, or something cannot be asked.
pub async fn outbox_skip(config: &ServerConfig, shard: i16, place: &str) -> anyhow::Result<()> {
    let store = open(config).await?;
    let skipped = skip(&store, redis(config)?, shard, place).await;
    store.close().await;
    skipped?;
    tracing::warn!(shard, place, "an operator has given entries of an outbox up");
    Ok(())
}

fn redis(config: &ServerConfig) -> anyhow::Result<(&str, Durability)> {
    let redis = config.redis.as_ref().map(|redis| (redis.url.expose(), level(redis)));
    redis.ok_or_else(|| anyhow::anyhow!("set redis_url to the Redis that decisions are made in"))
}

async fn open(config: &ServerConfig) -> anyhow::Result<PostgresStore> {
    match Database::open(&config.database).await? {
        Database::Postgres(store) => {
            store.check().await?;
            Ok(store)
        }
        Database::Sqlite(_) => anyhow::bail!(
            "only a ledger in Redis beside Postgres leases anything; set database_url to a \
             postgres:// database"
        ),
    }
}
