//! The SQL ledger under test, open in SQLite or in Postgres, and its rows as the same text.
//!
//! Not here: what is asked of it and what must come of that (`sides`).

use std::sync::{Arc, Mutex};

use quetra::clock::Clock;
use quetra::config::DurabilityLevel;
use quetra::ledger::redis::RedisLedger;
use quetra::ledger::sql::SqlLedger;
use quetra::ledger::sql::postgres::PostgresHome;
use quetra::ledger::sql::sqlite::SqliteHome;
use quetra::ledger::{Durability, Ledger};
use quetra::store::Catalogue;
use quetra::store::postgres::PostgresStore;
use quetra::store::sqlite::SqliteStore;
use sqlx::postgres::PgPool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::harness::application_database;
use crate::harness::postgres::as_owner;
use crate::harness::redis::fresh_redis;
use crate::harness::redis_cluster::fresh_redis_cluster;
use crate::harness::{Engine, STRICT};

/// Memory of the lane in bytes: enough for two agents of the four, so that it forgets all the time.
const REMEMBERED: usize = 512;

/// What the rows beside the record must be; as text, to be compared and shown.
const SQLITE_STATE: &str = "SELECT json_object(
  'spends', (SELECT count(*) FROM spend),
  'last', (SELECT coalesce(max(seq), 0) FROM spend),
  'tallies', (SELECT json_group_array(json_array(hex(mandate_id), approvals, approved_sum))
    FROM (SELECT mandate_id, approvals_before + 1 AS approvals, sum_before + amount AS approved_sum
    FROM spend WHERE seq IN
      (SELECT max(seq) FROM spend WHERE verdict <> 'rejected' GROUP BY mandate_id))),
  'counters', (SELECT json_group_array(json_array(
    hex(mandate_id), subject, starts_at, ends_at, spent + (
      SELECT coalesce(sum(CASE state WHEN 'approved' THEN amount
        WHEN 'settled' THEN coalesce(paid, settled)
        WHEN 'refunded' THEN coalesce(paid, settled) - coalesce(repaid, refunded) ELSE 0 END), 0)
      FROM spend WHERE seq > through AND LATER), held + (
      SELECT coalesce(sum(amount), 0)
      FROM spend WHERE seq > through AND state = 'pending_approval' AND LATER))) FROM counter))";

/// What was charged to a counter after its row was written.
const LATER: &str = "spend.mandate_id = counter.mandate_id AND EXISTS (
  SELECT 1 FROM json_each(evidence, '$.charged') charged
  WHERE charged.value ->> 0 = subject AND charged.value ->> 1 = starts_at)";

/// The same; here every organization has a record of its own.
const POSTGRES_STATE: &str = "SELECT json_build_object(
  'spends', (SELECT count(*) FROM spend),
  'last', (SELECT coalesce(sum(seq), 0) FROM ledger_head),
  'tallies', (SELECT coalesce(json_agg(
      json_build_array(encode(mandate_id, 'hex'), approvals_before + 1, sum_before + amount)), '[]')
    FROM (SELECT DISTINCT ON (mandate_id) mandate_id, approvals_before, sum_before, amount
      FROM spend WHERE verdict <> 'rejected' ORDER BY mandate_id, seq DESC) last),
  'counters', (SELECT coalesce(json_agg(json_build_array(
    encode(mandate_id, 'hex'), subject, starts_at, ends_at, spent, held)), '[]')
    FROM counter))::text";

/// Empties a database for the next sequence: quicker than making another one.
const EMPTY: &str = "DELETE FROM lease; DELETE FROM shard_authority; DELETE FROM shard_epoch;
    DELETE FROM act; DELETE FROM journal; DELETE FROM journal_head;
    DELETE FROM journal_checkpoint; DELETE FROM budget_mark;
    DELETE FROM spend; DELETE FROM spend_by_id; DELETE FROM counter; DELETE FROM receipt;
    DELETE FROM api_key; DELETE FROM mandate_version; DELETE FROM mandate; DELETE FROM agent;
    DELETE FROM signing_key; DELETE FROM ledger_head; DELETE FROM organization";

/// Migrated databases that no sequence uses now.
static FREE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Where the rows are.
pub(super) enum Place {
    Folder(TempDir),
    Database(String),
    /// Rows, the Redis that is spent from, and the level.
    Redis(String, String, DurabilityLevel),
}

impl Place {
    /// An empty one. A folder is in memory if it can be: what a disk does is not compared here.
    pub(super) async fn new(engine: Engine) -> Self {
        match engine {
            Engine::Sqlite => {
                let mut builder = tempfile::Builder::new();
                builder.prefix("quetra-it-");
                let folder = builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir());
                Self::Folder(folder.unwrap())
            }
            Engine::Postgres => Self::Database(Self::database().await),
            Engine::Redis(level) => Self::Redis(Self::database().await, fresh_redis(), level),
            Engine::RedisCluster => {
                Self::Redis(Self::database().await, fresh_redis_cluster(), STRICT)
            }
        }
    }

    async fn database() -> String {
        let free = FREE.lock().unwrap().pop();
        match free {
            Some(url) => url,
            None => application_database().await,
        }
    }

    /// Makes room for the next sequence.
    pub(super) async fn leave(self) {
        if let Self::Database(url) | Self::Redis(url, ..) = self {
            let pool = PgPool::connect(&as_owner(&url)).await.unwrap();
            sqlx::raw_sql(EMPTY).execute(&pool).await.unwrap();
            pool.close().await;
            FREE.lock().unwrap().push(url);
        }
    }
}

enum Store {
    Sqlite(SqliteStore, SqlitePool),
    Postgres(PostgresStore, PgPool),
}

/// The ledger under test, open.
pub(super) struct Open {
    store: Store,
    pub(super) catalogue: Arc<dyn Catalogue>,
    pub(super) ledger: Arc<dyn Ledger>,
    lanes: JoinHandle<()>,
}

pub(super) async fn open(place: &Place, clock: Arc<dyn Clock>) -> Open {
    match place {
        Place::Folder(folder) => {
            let path = folder.path().join("quetra.db");
            let store = SqliteStore::open(&path).await.unwrap();
            store.migrate().await.unwrap();
            let home = SqliteHome::new(store.clone(), REMEMBERED);
            let (ledger, lanes) = SqlLedger::open(home, clock).await.unwrap();
            let options = SqliteConnectOptions::new().filename(&path).read_only(true);
            let probe = SqlitePool::connect_lazy_with(options);
            let (catalogue, lanes) = (Arc::new(store.clone()), tokio::spawn(lanes));
            let ledger = Arc::new(ledger);
            Open { store: Store::Sqlite(store, probe), catalogue, ledger, lanes }
        }
        Place::Database(url) => {
            let store = PostgresStore::open(url).await.unwrap();
            store.migrate().await.unwrap();
            let home = PostgresHome::new(store.clone());
            let (ledger, lanes) = SqlLedger::open_shared(home, clock).await.unwrap();
            let probe = PgPool::connect_lazy(&as_owner(url)).unwrap();
            let (catalogue, lanes) = (Arc::new(store.clone()), tokio::spawn(lanes));
            let ledger = Arc::new(ledger);
            Open { store: Store::Postgres(store, probe), catalogue, ledger, lanes }
        }
        Place::Redis(url, redis, level) => {
            let store = PostgresStore::open(url).await.unwrap();
            store.migrate().await.unwrap();
            let level = match level {
                DurabilityLevel::Fast => Durability::Fast,
                DurabilityLevel::Durable => Durability::Durable,
                DurabilityLevel::Strict => Durability::Strict,
            };
            let opened = RedisLedger::open(store.clone(), (redis, level), clock).await;
            let (ledger, beside) = opened.unwrap();
            let probe = PgPool::connect_lazy(&as_owner(url)).unwrap();
            let catalogue = ledger.catalogue(Arc::new(store.clone()));
            let (ledger, lanes) = (Arc::new(ledger), tokio::spawn(beside));
            Open { store: Store::Postgres(store, probe), catalogue, ledger, lanes }
        }
    }
}

impl Open {
    pub(super) async fn state(&self) -> String {
        match &self.store {
            Store::Sqlite(_, probe) => {
                let state = SQLITE_STATE.replace("LATER", LATER);
                sqlx::query_scalar(sqlx::AssertSqlSafe(state)).fetch_one(probe).await
            }
            Store::Postgres(_, probe) => sqlx::query_scalar(POSTGRES_STATE).fetch_one(probe).await,
        }
        .unwrap()
    }

    pub(super) async fn close(self) {
        drop((self.ledger, self.catalogue));
        self.lanes.await.unwrap();
        match self.store {
            Store::Sqlite(store, probe) => {
                probe.close().await;
                store.close().await;
            }
            Store::Postgres(store, probe) => {
                probe.close().await;
                store.close().await;
            }
        }
    }
}
