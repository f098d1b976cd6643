//! The database that a server was given, whichever it is: its store and its ledger.
//!
//! Not here: what either does with it (`store`, `ledger::sql`).

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::clock::Clock;
use crate::config::{DatabaseUrl, DurabilityLevel, RedisConfig};
use crate::journal::Follower;
use crate::journal::sql::{follow_postgres, follow_sqlite};
use crate::ledger::redis::{self, RedisLedger};
use crate::ledger::sql::SqlLedger;
use crate::ledger::sql::postgres::PostgresHome;
use crate::ledger::sql::sqlite::SqliteHome;
use crate::ledger::{Durability, Ledger};
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{Catalogue, DeliveryStore, StoreError};

/// A ledger, the catalogue of a server with it, and what must run beside it.
type Running = (Arc<dyn Ledger>, Arc<dyn Catalogue>, BoxFuture<'static, ()>);

/// What is promised on a Redis.
pub(super) const fn level(redis: &RedisConfig) -> Durability {
    match redis.level {
        DurabilityLevel::Fast => Durability::Fast,
        DurabilityLevel::Durable => Durability::Durable,
        DurabilityLevel::Strict => Durability::Strict,
    }
}

/// An open database; clones share its connections.
#[derive(Clone)]
pub(super) enum Database {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

impl Database {
    pub(super) async fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        Ok(match url {
            DatabaseUrl::Sqlite(path) => Self::Sqlite(SqliteStore::open(path).await?),
            DatabaseUrl::Postgres(url) => Self::Postgres(PostgresStore::open(url.expose()).await?),
        })
    }

    pub(super) async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Sqlite(store) => store.migrate().await,
            Self::Postgres(store) => store.migrate().await,
        }
    }

    /// Allows the role that servers work as what they need.
    pub(super) async fn grant_to(&self, role: &str) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(_) => anyhow::bail!(
                "a SQLite file has no roles; remove --application-role, or name a Postgres database"
            ),
            Self::Postgres(store) => Ok(store.grant_to(role).await?),
        }
    }

    /// Says in the log what could be safer.
    pub(super) async fn advise(&self) -> Result<(), StoreError> {
        if let Self::Postgres(store) = self
            && !store.is_walled().await?
        {
            tracing::warn!(
                "this Postgres role owns the tables or is above row-level security, which would \
                 keep tenants apart a second time; let the server work as another role \
                 (quetra migrate --application-role)"
            );
        }
        Ok(())
    }

    pub(super) async fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.check().await,
            Self::Postgres(store) => store.check().await,
        }
    }

    /// Makes room in time for the decisions of next year; says in the log where it cannot.
    pub(super) async fn part_record(&self) {
        let Self::Postgres(store) = self else { return };
        match store.part_record().await {
            Ok(true) => {}
            Ok(false) => tracing::warn!(
                "next year's decisions are recorded in `spend_later`: there are too many already \
                 to move them while servers decide; see docs/POSTGRES.md"
            ),
            Err(error) => tracing::warn!(
                %error,
                "no part could be made for next year's decisions: they would be recorded in \
                 `spend_later`; if the server's role may not, run `quetra migrate \
                 --application-role` again"
            ),
        }
    }

    fn catalogue(&self) -> Arc<dyn Catalogue> {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    /// Where webhooks move on.
    pub(super) fn deliveries(&self) -> Arc<dyn DeliveryStore> {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    /// The ledger; `cache_bytes` is about the memory for what it remembers in SQLite.
    pub(super) async fn ledger(
        &self,
        redis: Option<&RedisConfig>,
        clock: Arc<dyn Clock>,
        cache_bytes: usize,
    ) -> Result<Running, StoreError> {
        let catalogue = self.catalogue();
        Ok(match (self, redis) {
            (Self::Sqlite(store), _) => {
                let home = SqliteHome::new(store.clone(), cache_bytes);
                let (ledger, lane) = SqlLedger::open(home, clock).await?;
                (Arc::new(ledger), catalogue, Box::pin(lane))
            }
            (Self::Postgres(store), Some(redis)) => {
                let redis = (redis.url.expose(), level(redis));
                let (ledger, beside) = RedisLedger::open(store.clone(), redis, clock).await?;
                let catalogue = ledger.catalogue(catalogue);
                (Arc::new(ledger), catalogue, Box::pin(beside))
            }
            (Self::Postgres(store), None) => {
                redis::refuse_without(store).await?;
                let home = PostgresHome::new(store.clone());
                let (ledger, lanes) = SqlLedger::open_shared(home, clock).await?;
                (Arc::new(ledger), catalogue, Box::pin(lanes))
            }
        })
    }

    /// What keeps the journal up to date.
    pub(super) fn follower(&self) -> Follower {
        match self {
            Self::Sqlite(store) => follow_sqlite(store.clone()),
            Self::Postgres(store) => follow_postgres(store.clone()),
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => store.close().await,
        }
    }
}
