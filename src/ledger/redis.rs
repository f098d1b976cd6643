//! The ledger in Redis: scripts spend from slices that Postgres leased, and a projector records it.
//!
//! docs/PROTOCOL.md is its specification, and the numbers of rules in these files are its. What a
//! decision needs of Redis is in `decide`; while Redis is away, the SQL ledger approves from what
//! is not leased. Not here: rules of the domain, and how rows are written (`ledger::sql`).

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::catalogue::ToldCatalogue;
use self::decide::Deciding;
use self::keys::shard_of;
use self::leasing::Leasing;
use self::nodes::Nodes;
use self::shards::{Shards, Trouble};
use super::sql::SqlLedger;
use super::sql::postgres::PostgresHome;
use super::sql::postgres::escrow::Escrow;
use super::{AskedDurability, Durability, Ledger, LedgerError, NotKept};
use crate::clock::Clock;
use crate::domain::id::OrgId;
use crate::domain::ledger::{
    Claim, Decide, Decided, Level, Resolve, ResolveError, Resolved, WindowLevel,
};
use crate::store::postgres::PostgresStore;
use crate::store::{Catalogue, StoreError, StoreErrorKind};

mod catalogue;
mod decide;
mod facts;
mod gather;
mod keeper;
mod keys;
mod leasing;
mod link;
mod memory;
mod nodes;
mod projector;
pub mod rebase;
pub mod repair;
mod scripts;
mod settings;
mod shards;
mod standing;
pub mod survey;
mod watch;

/// The ledger; clones share the connection.
#[derive(Clone)]
pub struct RedisLedger {
    shards: Arc<Shards>,
    leasing: Arc<Leasing>,
    sql: SqlLedger,
    /// Of decisions whose mandate asks for nothing.
    default: Durability,
    // The projector ends when the last clone is gone.
    _running: Arc<DropGuard>,
}

impl fmt::Debug for RedisLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLedger").field("default", &self.default).finish_non_exhaustive()
    }
}

impl RedisLedger {
    /// Makes a ledger on a Redis and a migrated Postgres, and what must run beside it, which ends
    /// when every clone of the ledger is gone.
    ///
    /// # Errors
    /// When either cannot be reached, or Redis cannot keep the default level.
    pub async fn open(
        store: PostgresStore,
        (url, default): (&str, Durability),
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), StoreError> {
        let unusable =
            |error| StoreError::new(StoreErrorKind::Unavailable, "open the ledger in Redis", error);
        let nodes = Nodes::open(url, default).await.map_err(unusable)?;
        nodes.check().await.map_err(unusable)?;
        let home = PostgresHome::beside_redis(store.clone());
        let (sql, lanes) = SqlLedger::open_shared(home, Arc::clone(&clock)).await?;
        let shards = Arc::new(Shards::new(nodes, Escrow::new(store), clock));
        let stop = CancellationToken::new();
        let (leasing, ahead) = Leasing::new();
        let leasing = Arc::new(leasing);
        let (projecting, listening, keeping, watching, filling) = (
            projector::run(Arc::clone(&shards), stop.clone()),
            projector::listen(Arc::clone(&shards), stop.clone()),
            keeper::run(Arc::clone(&shards), stop.clone()),
            watch::run(Arc::clone(&shards), stop.clone()),
            leasing::run(Arc::clone(&shards), Arc::clone(&leasing), ahead, stop.clone()),
        );
        let running = Arc::new(stop.drop_guard());
        let ledger = Self { shards, leasing, sql, default, _running: running };
        let beside = async move {
            tokio::join!(projecting, listening, keeping, watching, filling, lanes);
        };
        Ok((ledger, beside))
    }

    /// The catalogue of a server with this ledger.
    #[must_use]
    pub fn catalogue(&self, inner: Arc<dyn Catalogue>) -> Arc<dyn Catalogue> {
        Arc::new(ToldCatalogue::new(inner, Arc::clone(&self.shards)))
    }

    /// Decides in Postgres from what is not leased: it approves, or nothing can be said (rules 20
    /// and 21).
    async fn fall_back(
        &self,
        command: Decide,
        trouble: link::LinkError,
    ) -> Result<Decided, LedgerError> {
        metrics::counter!("quetra_redis_fallbacks_total").increment(1);
        match self.sql.decide(command).await? {
            Decided::Undecided => {
                const DECIDE: &str = "decide without Redis";
                Err(StoreError::new(StoreErrorKind::Unavailable, DECIDE, trouble).into())
            }
            decided @ (Decided::Ruled(_)
            | Decided::Replayed(_)
            | Decided::KeyReused
            | Decided::Stale) => Ok(decided),
        }
    }

    /// Whether one Redis keeps a level now.
    async fn keeps_at(
        link: &link::Link,
        level: Durability,
    ) -> Result<Result<(), NotKept>, link::LinkError> {
        let live = link.live().await?;
        let set = settings::settings(live.ask(&settings::question()).await?)?;
        let now = settings::unkept(&set).into_iter().find(|one| one.level == level);
        if now.as_ref() != live.unkept(level) {
            // What the connection is believed to keep is read when it is made.
            live.forget();
        }
        Ok(now.map_or(Ok(()), Err))
    }

    /// Waits for what is on its way to the record, if Redis can be asked.
    async fn settle(&self, org: OrgId) -> Result<(), LedgerError> {
        let shard = shard_of(org);
        let Ok(live) = self.shards.nodes.live(shard).await else { return Ok(()) };
        match self.shards.flush(shard, &live).await {
            Ok(()) | Err(Trouble::Away(_)) => Ok(()),
            Err(Trouble::Store(error)) => Err(error.into()),
        }
    }
}

/// Refuses a database whose budgets are leased to a Redis, to a server that was not told of one:
/// what is in the outbox would be decided again.
///
/// # Errors
/// When it is so, or the store fails.
pub async fn refuse_without(store: &PostgresStore) -> Result<(), StoreError> {
    if Escrow::new(store.clone()).authorities().await?.is_empty() {
        return Ok(());
    }
    let why = "decisions on this database are made in Redis; set redis_url";
    Err(StoreError::new(StoreErrorKind::Unavailable, "open the ledger", why))
}

#[async_trait]
impl Ledger for RedisLedger {
    async fn decide(&self, command: Decide) -> Result<Decided, LedgerError> {
        let level = self.durability(command.durability);
        let deciding = Deciding::new(&self.shards, &self.leasing, level, &command)?;
        match deciding.run().await {
            Ok(decided) => Ok(decided),
            Err(Trouble::Away(error)) => self.fall_back(command, error).await,
            Err(Trouble::Store(error)) => Err(error.into()),
        }
    }

    async fn resolve(
        &self,
        command: Resolve,
    ) -> Result<Result<Resolved, ResolveError>, LedgerError> {
        match self.sql.resolve(command.clone()).await? {
            // It may be decided and not recorded yet.
            Err(ResolveError::NotFound) => {
                self.settle(command.org_id).await?;
                self.sql.resolve(command).await
            }
            resolved => Ok(resolved),
        }
    }

    async fn peek(
        &self,
        org: OrgId,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<(Vec<Level>, Vec<WindowLevel>), LedgerError> {
        self.settle(org).await?;
        self.sql.peek(org, claim, now).await
    }

    fn durability(&self, asked: AskedDurability) -> Durability {
        asked.level(self.default)
    }

    async fn keeps(&self, level: Durability) -> Result<Result<(), NotKept>, LedgerError> {
        let away = |error| StoreError::new(StoreErrorKind::Unavailable, "ask Redis", error);
        let (mut is_kept, mut lost) = (None, link::LinkError::Lost);
        for link in self.shards.nodes.links() {
            match Self::keeps_at(&link, level).await {
                Ok(Ok(())) => is_kept = Some(Ok(())),
                Ok(Err(unkept)) => return Ok(Err(unkept)),
                // A node that comes back is asked then.
                Err(error) => lost = error,
            }
        }
        is_kept.ok_or_else(|| away(lost).into())
    }

    fn has_two_stores(&self) -> bool {
        true
    }
}
