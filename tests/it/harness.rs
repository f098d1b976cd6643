//! A real server for each test: its own folder, its own free port, its own clock if asked for.
//!
//! The server runs in the test's process, through the same composition root as the binary. When it
//! is stopped, its database is checked (`checker`): counters, tallies and the record
//! must agree. Not here: starting the binary itself, which only the crash and CLI tests do.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quetra::app::{Choices, FirstStart, Started, serve_with};
use quetra::clock::{Clock, SystemClock};
use quetra::config::{
    CheckpointConfig, DatabaseUrl, DurabilityLevel, EgressConfig, LogFormat, MasterKeySource, Mode,
    RedisConfig, Secret, ServerConfig,
};
use quetra::proto::v1;
use quetra::store::postgres::PostgresStore;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

mod again;
pub(crate) mod escrow_check;
pub(crate) mod ledger_check;
#[path = "../support/postgres.rs"]
pub(crate) mod postgres;
pub(crate) mod raw;
pub(crate) mod redis;
pub(crate) mod redis_cluster;
pub(crate) mod witness;

pub(crate) use witness::refused;

use crate::checker::read::check;

/// Makes of each function a test on SQLite, on Postgres, and in Redis at two levels.
macro_rules! on_all {
    ($($test:ident;)+) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(crate::harness::Engine::Sqlite).await;
            })+
        }

        crate::harness::on_shared! { $($test;)+ }
    };
}

/// The same, without the one that has no second server.
macro_rules! on_shared {
    ($($test:ident;)+) => {
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(crate::harness::Engine::Postgres).await;
            })+
        }

        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(crate::harness::Engine::Redis(super::FAST)).await;
            })+
        }

        mod on_redis_strictly {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(crate::harness::Engine::Redis(super::STRICT)).await;
            })+
        }
    };
}
pub(crate) use on_all;
pub(crate) use on_shared;

/// The levels that tests in Redis are run at.
pub(crate) const FAST: DurabilityLevel = DurabilityLevel::Fast;
pub(crate) const DURABLE: DurabilityLevel = DurabilityLevel::Durable;
pub(crate) const STRICT: DurabilityLevel = DurabilityLevel::Strict;

/// Adds a credential to every call.
#[derive(Clone)]
pub(crate) struct Bearer(pub(crate) String);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if !self.0.is_empty() {
            let value = MetadataValue::try_from(format!("Bearer {}", self.0)).unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

/// A channel with a credential, whose errors are held against the contract.
pub(crate) type Link = InterceptedService<witness::Witness, Bearer>;

/// A server with the demo organization.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) first: FirstStart,
    pub(crate) folder: Folder,
    database: DatabaseUrl,
    redis: Option<RedisConfig>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<anyhow::Result<()>>,
}

/// Where a server keeps its files.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::Builder::new().prefix("quetra-it-").tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.0.path().join("quetra.db")
    }
}

/// Where a test's server keeps its state: most use SQLite, some are run on both.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
    Redis(DurabilityLevel),
    /// Three nodes, at `strict`.
    RedisCluster,
}

/// A Redis database of its own, on the server that tests share.
pub(crate) fn shared_redis(level: DurabilityLevel) -> RedisConfig {
    RedisConfig { url: Secret::new(redis::fresh_redis()), level }
}

/// A Postgres database of its own, as a role that owns nothing sees it; its URL.
pub(crate) async fn application_database() -> String {
    let owner = postgres::fresh_database().await;
    let store = PostgresStore::open(&owner).await.unwrap();
    store.migrate().await.unwrap();
    store.grant_to(postgres::APPLICATION).await.unwrap();
    assert!(!store.is_walled().await.unwrap(), "the owner is bound");
    store.close().await;
    let url = postgres::as_application(&owner);
    let store = PostgresStore::open(&url).await.unwrap();
    assert!(store.is_walled().await.unwrap(), "the application is not bound");
    store.close().await;
    url
}

/// The same, for a server.
pub(crate) async fn shared_database() -> DatabaseUrl {
    DatabaseUrl::Postgres(Secret::new(application_database().await))
}

/// The settings of a test's server; change what the test is about.
pub(crate) fn config(folder: &Folder) -> ServerConfig {
    ServerConfig {
        mode: Mode::Dev,
        listen: "127.0.0.1:0".parse().unwrap(),
        data_dir: folder.path().to_owned(),
        database: DatabaseUrl::Sqlite(folder.database()),
        redis: None,
        master_key: MasterKeySource::DevFile(folder.path().join("master.key")),
        geo_database: None,
        checkpoints: CheckpointConfig::default(),
        cors_allowed_origins: Vec::new(),
        mcp_allowed_hosts: Vec::new(),
        egress: EgressConfig::default(),
        behind_tls_proxy: false,
        log: "warn".to_owned(),
        log_format: LogFormat::Text,
        request_timeout: Duration::from_secs(10),
        max_in_flight: 4_096,
        max_concurrent_streams: 1_024,
        requests_per_second: None,
        cache_mib: 16,
        worker_threads: None,
    }
}

/// A running server, and what was made on its first start.
pub(crate) async fn run(
    config: ServerConfig,
    clock: Arc<dyn Clock>,
) -> (Started, oneshot::Sender<()>, JoinHandle<anyhow::Result<()>>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let (tell, told) = oneshot::channel();
    let task = tokio::spawn(async move {
        let shutdown = async { drop(stopped.await) };
        let ready = |started: &Started| {
            let started = Started { addr: started.addr, first_start: started.first_start.clone() };
            drop(tell.send(started));
        };
        let choices = Choices { clock, ..Choices::default() };
        serve_with(config, choices, shutdown, ready).await
    });
    match told.await {
        Ok(started) => (started, stop, task),
        Err(_) => panic!("the server did not start: {:?}", task.await),
    }
}

/// A channel that sends this credential.
pub(crate) fn link(channel: Channel, key: &str) -> Link {
    InterceptedService::new(witness::Witness(channel), Bearer(key.to_owned()))
}

impl Server {
    /// A fresh server on the system's clock.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}, Arc::new(SystemClock)).await
    }

    /// A fresh server with changed settings and a clock.
    pub(crate) async fn with(
        change: impl FnOnce(&mut ServerConfig),
        clock: Arc<dyn Clock>,
    ) -> Self {
        let folder = Folder::new();
        let mut config = config(&folder);
        change(&mut config);
        let (database, redis) = (config.database.clone(), config.redis.clone());
        let (started, stop, task) = run(config, clock).await;
        let first = started.first_start.expect("a fresh folder has a first start");
        Self { addr: started.addr, first, folder, database, redis, stop: Some(stop), task }
    }

    /// A fresh server on this engine.
    pub(crate) async fn on(engine: Engine) -> Self {
        Self::on_with(engine, |_| {}, Arc::new(SystemClock)).await
    }

    /// A fresh server on this engine, with changed settings and a clock.
    pub(crate) async fn on_with(
        engine: Engine,
        change: impl FnOnce(&mut ServerConfig),
        clock: Arc<dyn Clock>,
    ) -> Self {
        let database = match engine {
            Engine::Sqlite => None,
            Engine::Postgres | Engine::Redis(_) => Some(shared_database().await),
            // It has one set of keys, and each database of servers needs its own.
            Engine::RedisCluster => panic!("a server needs a cluster of its own"),
        };
        let change = |config: &mut ServerConfig| {
            if let Some(database) = database {
                config.database = database;
            }
            if let Engine::Redis(level) = engine {
                config.redis = Some(shared_redis(level));
            }
            change(config);
        };
        Self::with(change, clock).await
    }

    /// Another server on the same Postgres database, with the same keys.
    pub(crate) async fn replica(&self, clock: Arc<dyn Clock>) -> Self {
        self.replica_on(self.redis.clone(), clock).await
    }

    /// The same, which reaches its Redis by another way.
    pub(crate) async fn replica_at(&self, redis: &str) -> Self {
        let level = self.redis.as_ref().unwrap().level;
        let redis = RedisConfig { url: Secret::new(redis.to_owned()), level };
        self.replica_on(Some(redis), Arc::new(SystemClock)).await
    }

    async fn replica_on(&self, redis: Option<RedisConfig>, clock: Arc<dyn Clock>) -> Self {
        let folder = Folder::new();
        let key = "master.key";
        std::fs::copy(self.folder.path().join(key), folder.path().join(key)).unwrap();
        let database = self.database.clone();
        let config =
            ServerConfig { database: database.clone(), redis: redis.clone(), ..config(&folder) };
        let (started, stop, task) = run(config, clock).await;
        assert!(started.first_start.is_none(), "the database was empty");
        let first = self.first.clone();
        Self { addr: started.addr, first, folder, database, redis, stop: Some(stop), task }
    }

    /// Stops gracefully and checks the books.
    pub(crate) async fn stop(self) {
        self.stop_and(async || ()).await;
    }

    /// Stops gracefully, looks at something, and checks the books.
    pub(crate) async fn stop_and<T>(mut self, look: impl AsyncFnOnce() -> T) -> T {
        self.halt().await;
        let seen = look().await;
        match &self.redis {
            None => check(&self.database).await,
            // Two stores, whose times need not be in one order.
            Some(redis) => ledger_check::check_with_redis(&self.database, redis.url.expose()).await,
        }
        seen
    }

    /// Stops gracefully while others go on writing the books.
    pub(crate) async fn end(mut self) {
        self.halt().await;
    }

    async fn halt(&mut self) {
        drop(self.stop.take());
        (&mut self.task).await.unwrap().unwrap();
    }

    /// Where it keeps its state.
    pub(crate) const fn database(&self) -> &DatabaseUrl {
        &self.database
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) async fn link(&self, key: &str) -> Link {
        let channel = Channel::from_shared(self.url()).unwrap().connect().await.unwrap();
        link(channel, key)
    }

    pub(crate) async fn admin(&self) -> Clients {
        Clients::new(self.link(&self.first.admin_key).await)
    }

    pub(crate) async fn agent(&self) -> Clients {
        Clients::new(self.link(&self.first.agent_key).await)
    }

    pub(crate) async fn with_key(&self, key: &str) -> Clients {
        Clients::new(self.link(key).await)
    }

    /// A second tenant on the same server: an admin of an organization made by hand.
    pub(crate) fn agent_id(&self) -> String {
        self.first.agent_id.clone()
    }
}

/// A client of every service, with one credential.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) evaluate: v1::evaluate_service_client::EvaluateServiceClient<Link>,
    pub(crate) approvals: v1::approvals_service_client::ApprovalsServiceClient<Link>,
    pub(crate) budget: v1::budget_service_client::BudgetServiceClient<Link>,
    pub(crate) transactions: v1::transactions_service_client::TransactionsServiceClient<Link>,
    pub(crate) mandates: v1::mandates_service_client::MandatesServiceClient<Link>,
    pub(crate) agents: v1::agents_service_client::AgentsServiceClient<Link>,
    pub(crate) organization: v1::organization_service_client::OrganizationServiceClient<Link>,
    pub(crate) audit: v1::audit_service_client::AuditServiceClient<Link>,
    pub(crate) webhooks: v1::webhooks_service_client::WebhooksServiceClient<Link>,
}

impl Clients {
    pub(crate) fn new(link: Link) -> Self {
        Self {
            evaluate: v1::evaluate_service_client::EvaluateServiceClient::new(link.clone()),
            approvals: v1::approvals_service_client::ApprovalsServiceClient::new(link.clone()),
            budget: v1::budget_service_client::BudgetServiceClient::new(link.clone()),
            transactions: v1::transactions_service_client::TransactionsServiceClient::new(
                link.clone(),
            ),
            mandates: v1::mandates_service_client::MandatesServiceClient::new(link.clone()),
            agents: v1::agents_service_client::AgentsServiceClient::new(link.clone()),
            audit: v1::audit_service_client::AuditServiceClient::new(link.clone()),
            organization: v1::organization_service_client::OrganizationServiceClient::new(
                link.clone(),
            ),
            webhooks: v1::webhooks_service_client::WebhooksServiceClient::new(link),
        }
    }

    /// A new agent with an active mandate; the ids of both.
    pub(crate) async fn agent_with_mandate(
        &mut self,
        budget: v1::Budget,
        rules: Vec<v1::Rule>,
    ) -> (String, String) {
        self.agent_asking(v1::Durability::Unspecified, budget, rules).await
    }

    /// The same, with a mandate that asks for a level.
    pub(crate) async fn agent_asking(
        &mut self,
        durability: v1::Durability,
        budget: v1::Budget,
        rules: Vec<v1::Rule>,
    ) -> (String, String) {
        let name = format!("agent {}", unique());
        let request = v1::RegisterAgentRequest { name, ..Default::default() };
        let agent = self.agents.register_agent(request).await.unwrap().into_inner();
        let agent_id = agent.agent.unwrap().id;
        let request = v1::CreateMandateRequest {
            budget: Some(budget),
            rules,
            durability: durability.into(),
            ..a_mandate(&agent_id)
        };
        let created = self.mandates.create_mandate(request).await.unwrap().into_inner();
        let mandate_id = created.mandate.unwrap().id;
        let request = v1::ActivateMandateRequest { mandate_id: mandate_id.clone() };
        self.mandates.activate_mandate(request).await.unwrap();
        (agent_id, mandate_id)
    }

    /// A draft; its id.
    pub(crate) async fn mandate(
        &mut self,
        agent_id: &str,
        budget: v1::Budget,
        rules: Vec<v1::Rule>,
    ) -> String {
        let budget = Some(budget);
        let request = v1::CreateMandateRequest { budget, rules, ..a_mandate(agent_id) };
        let created = self.mandates.create_mandate(request).await.unwrap().into_inner();
        created.mandate.unwrap().id
    }

    /// Evaluates and returns the answer.
    pub(crate) async fn spend(&mut self, request: v1::EvaluateRequest) -> v1::EvaluateResponse {
        self.evaluate.evaluate(request).await.unwrap().into_inner()
    }
}

fn a_mandate(agent_id: &str) -> v1::CreateMandateRequest {
    let (agent_id, name) = (agent_id.to_owned(), "a mandate".to_owned());
    v1::CreateMandateRequest { agent_id, name, ..Default::default() }
}

/// A number that no other call in this process gets.
pub(crate) fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Dollars without a reset.
pub(crate) fn budget(total: i64, per_transaction: i64) -> v1::Budget {
    v1::Budget {
        total,
        per_transaction,
        currency: "USD".to_owned(),
        reset: v1::Period::None.into(),
        ..Default::default()
    }
}

/// A spend at an allowed vendor, with a fresh key.
pub(crate) fn ask(agent_id: &str, amount: i64) -> v1::EvaluateRequest {
    v1::EvaluateRequest {
        agent_id: agent_id.to_owned(),
        amount: Some(amount),
        currency: "USD".to_owned(),
        vendor: "firecrawl.dev".to_owned(),
        category: "research".to_owned(),
        idempotency_key: format!("test-{:08}", unique()),
        ..Default::default()
    }
}
