//! Starting again in the same folder, and a second organization in the same database.
//!
//! No RPC makes an organization, so the second one is made by an engine on the stopped server's
//! files, as `quetra init` would on an empty database. Not here: the first start (`harness`).

use std::sync::Arc;
use std::time::Duration;

use quetra::app::FirstStart;
use quetra::clock::Clock;
use quetra::config::{ServerConfig, read_master_key};
use quetra::crypto::MasterKey;
use quetra::engine::{Engine, EngineParts};
use quetra::ledger::sql::SqlLedger;
use quetra::ledger::sql::sqlite::SqliteHome;
use quetra::provider::maxmind::MaxMindCountries;
use quetra::store::sqlite::SqliteStore;

use super::{Folder, Server, config, run};
use crate::checker::read::check_file;

impl Server {
    /// Stops gracefully, checks the books, and keeps the files.
    pub(crate) async fn stop_and_keep(mut self) -> (Folder, FirstStart) {
        drop(self.stop.take());
        self.task.await.unwrap().unwrap();
        check_file(&self.folder.database()).await;
        (self.folder, self.first)
    }

    /// A server on files that an earlier one has left.
    pub(crate) async fn resume(
        (folder, first): (Folder, FirstStart),
        change: impl FnOnce(&mut ServerConfig),
        clock: Arc<dyn Clock>,
    ) -> Self {
        let mut config = config(&folder);
        change(&mut config);
        let (database, redis) = (config.database.clone(), config.redis.clone());
        let (started, stop, task) = run(config, clock).await;
        assert!(started.first_start.is_none(), "the folder was not empty");
        Self { addr: started.addr, first, folder, database, redis, stop: Some(stop), task }
    }

    /// A fresh server with a second organization; the other one's admin key.
    pub(crate) async fn with_neighbour(clock: Arc<dyn Clock>) -> (Self, String) {
        Self::with_neighbour_and(|_| {}, clock).await
    }

    /// The same, with changed settings.
    pub(crate) async fn with_neighbour_and(
        change: impl FnOnce(&mut ServerConfig),
        clock: Arc<dyn Clock>,
    ) -> (Self, String) {
        let server = Self::with(|_| {}, Arc::clone(&clock)).await;
        let (folder, first) = server.stop_and_keep().await;
        let key = add_organization(&folder, "Neighbour", Arc::clone(&clock)).await;
        (Self::resume((folder, first), change, clock).await, key)
    }
}

/// Makes an organization in the files of a stopped server; its admin key.
async fn add_organization(folder: &Folder, name: &str, clock: Arc<dyn Clock>) -> String {
    let store = SqliteStore::open(&folder.database()).await.unwrap();
    let home = SqliteHome::new(store.clone(), 0);
    let (ledger, lane) = SqlLedger::open(home, Arc::clone(&clock)).await.unwrap();
    let lane = tokio::spawn(lane);
    let master = read_master_key(&folder.path().join("master.key")).unwrap();
    let engine = Engine::new(EngineParts {
        catalogue: Arc::new(store.clone()),
        ledger: Arc::new(ledger),
        clock,
        master: MasterKey::new(*master.expose()),
        countries: Arc::new(MaxMindCountries::open(None).unwrap()),
        requests_per_second: 0,
        cache_mib: 1,
        egress: Arc::default(),
        deliveries: Arc::default(),
        growth: tokio::sync::watch::channel(Default::default()).1,
        ending: tokio_util::sync::CancellationToken::new(),
        wait_max: Duration::ZERO,
    });
    let (_, key) = engine.create_organization(name, "UTC").await.unwrap();
    drop(engine);
    lane.await.unwrap();
    store.close().await;
    key.reveal().to_owned()
}
