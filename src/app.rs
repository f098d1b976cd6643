//! The composition root: the only place that chooses implementations and puts a server together.
//!
//! What must outlive a request is started and ended here, in order: the listener first stops
//! taking calls, those in flight finish, the ledger answers what is queued, webhooks under way are
//! noted, then the store closes.
//! Not here: settings (`config`), the port's protocols (`serve`), what is printed (`cli`).

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::clock::{Clock, SystemClock};
use crate::config::{MasterKeySource, Mode, ServerConfig, read_master_key};
use crate::crypto::MasterKey;
use crate::engine::{Engine, EngineParts};
use crate::grpc;
use crate::grpc::access::{AccessLayer, AccessTable};
use crate::mcp::{self, Gateway, HttpSettings};
use crate::provider::egress::{Egress, EgressLimits, EgressRules, SystemResolver};
use crate::provider::maxmind::MaxMindCountries;
use crate::rest;
use crate::serve::{self, FrontSettings, GrpcCalls, ServeLimits, front, standard_services};
use crate::webhook::deliver::{self, DeliveryParts};

mod checkpoints;
mod database;
mod demo;
mod ledger_tools;
mod operations;

use checkpoints::Checkpoints;
use database::Database;
pub use demo::FirstStart;
pub use ledger_tools::{
    AheadShard, EntrySays, LedgerStatus, Outbox, ShardStatus, StrandedLease, WaitingEntry,
    ledger_free, ledger_rebase, ledger_status, outbox_skip, outbox_waiting,
};

/// One of so many parts of the memory for agents and mandates is the ledger's: it remembers less of
/// each.
const CACHE_PARTS: u32 = 4;

/// How much earlier than a call is cut off a waiting one is answered.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// How often holds are looked for whose time is over.
const SWEEP: Duration = Duration::from_secs(1);

/// How often the uses of keys are written down, and readiness is looked at.
const UPKEEP: Duration = Duration::from_secs(5);

/// How often receipts are looked for that are kept no longer.
const FORGET: Duration = Duration::from_secs(10 * 60);

/// How often it is looked whether the clock has ended a mandate.
const CLOCKWORK: Duration = Duration::from_secs(1);

/// A server that takes calls.
#[derive(Debug)]
pub struct Started {
    /// The address it listens on, with the port that the system chose if it was asked to.
    pub addr: SocketAddr,
    /// What was made for a development server that had nothing yet.
    pub first_start: Option<FirstStart>,
}

/// The first organization of a production server.
#[derive(Debug)]
pub struct InitOutcome {
    /// Its id.
    pub org_id: String,
    /// Its admin key, which cannot be shown again.
    pub admin_key: String,
}

/// What tests may choose otherwise.
#[derive(Debug)]
pub struct Choices {
    /// The clock that every decision is made by.
    pub clock: Arc<dyn Clock>,
    /// What answers the paths of MCP.
    pub mcp: fn(Gateway, HttpSettings) -> Router,
}

impl Default for Choices {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), mcp: mcp::router }
    }
}

/// Everything that lives as long as the server.
struct Parts {
    engine: Arc<Engine>,
    database: Database,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Until they are delivered: not by a server that only makes its first organization.
    webhooks: Option<DeliveryParts>,
    /// Ends streams, before calls are waited for.
    ending: CancellationToken,
}

impl Parts {
    async fn assemble(config: &ServerConfig, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let database = Database::open(&config.database).await?;
        if config.mode == Mode::Dev {
            database.migrate().await?;
        }
        database.check().await?;
        if config.mode == Mode::Serve {
            database.advise().await?;
        }
        let ledger_mib = config.cache_mib / CACHE_PARTS;
        let ledger_bytes = usize::try_from(ledger_mib)?.saturating_mul(1 << 20);
        let redis = config.redis.as_ref();
        let (ledger, catalogue, lanes) =
            database.ledger(redis, Arc::clone(&clock), ledger_bytes).await?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let ending = CancellationToken::new();
        tasks.spawn(lanes);
        let follower = database.follower();
        let growth = follower.growth();
        tasks.spawn(follower.run(stop.clone()));
        let rules = EgressRules::new(config.egress.allows_http, config.egress.allowed.clone());
        let (rules, wake) = (Arc::new(rules), Arc::<Notify>::default());
        let master = master_key(config)?;
        let countries = MaxMindCountries::open(config.geo_database.as_deref())?;
        let engine = Arc::new(Engine::new(EngineParts {
            catalogue: Arc::clone(&catalogue),
            ledger,
            clock: Arc::clone(&clock),
            master: master.clone(),
            countries: Arc::new(countries),
            egress: Arc::clone(&rules),
            deliveries: Arc::clone(&wake),
            requests_per_second: config.requests_per_second.map_or(0, Into::into),
            cache_mib: config.cache_mib.saturating_sub(ledger_mib),
            growth,
            ending: ending.clone(),
            wait_max: config.request_timeout.saturating_sub(ANSWER_TIME),
        }));
        let unkept = "a mandate in force or an organization's floor asks for a durability";
        engine.check_durability().await.context(unkept)?;
        let wrong_key = "the master key does not open what this database has sealed; \
             start with the key it was made with (master_key_file)";
        engine.check_master_key().await.context(wrong_key)?;
        let webhooks = DeliveryParts {
            store: database.deliveries(),
            catalogue,
            events: Arc::<Engine>::clone(&engine),
            egress: egress(config, rules)?,
            most_deciding: {
                let engine = Arc::clone(&engine);
                Box::new(move || engine.most_deciding())
            },
            clock,
            master,
            wake,
        };
        let webhooks = Some(webhooks);
        Ok(Self { engine, database, tasks, stop, ending, webhooks })
    }

    /// Delivers webhooks until the server stops.
    fn start_webhooks(&mut self) {
        if let Some(webhooks) = self.webhooks.take() {
            self.tasks.spawn(deliver::run(webhooks, self.stop.clone()));
        }
    }

    /// Runs until the server stops: writes down key uses, and tells health what is so.
    fn start_upkeep(&self, health: HealthReporter) {
        let (engine, stop) = (Arc::clone(&self.engine), self.stop.clone());
        self.tasks.spawn(async move {
            while stop.run_until_cancelled(tokio::time::sleep(UPKEEP)).await.is_some() {
                operations::upkeep();
                if let Err(error) = engine.try_writing().await {
                    tracing::warn!(%error, "the database still takes no writes");
                }
                report(&health, engine.ready().await.is_ok()).await;
                if let Err(error) = engine.flush_key_use().await {
                    tracing::warn!(%error, "the uses of keys could not be written down");
                }
            }
            report(&health, false).await;
        });
    }

    /// Writes down that mandates are over when their validity ends.
    fn start_clockwork(&self) {
        let (engine, stop) = (Arc::clone(&self.engine), self.stop.clone());
        self.tasks.spawn(async move {
            while stop.run_until_cancelled(tokio::time::sleep(CLOCKWORK)).await.is_some() {
                if let Err(error) = engine.expire_mandates().await {
                    tracing::warn!(%error, "mandates that are over could not be written down");
                }
            }
        });
    }

    /// Forgets the answers to mutations that nobody repeats any more, and makes room in time.
    fn start_forgetting(&self) {
        let (engine, database) = (Arc::clone(&self.engine), self.database.clone());
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            database.part_record().await;
            while stop.run_until_cancelled(tokio::time::sleep(FORGET)).await.is_some() {
                if let Err(error) = engine.forget_receipts().await {
                    tracing::warn!(%error, "old receipts could not be forgotten");
                }
                database.part_record().await;
            }
        });
    }

    /// Signs the journal until the server stops.
    fn start_checkpoints(&self, checkpoints: Checkpoints) {
        self.tasks.spawn(checkpoints.run(Arc::clone(&self.engine), self.stop.clone()));
    }

    /// Runs until the server stops: gives back what is held beyond its time.
    fn start_sweeping(&self) {
        let (engine, stop) = (Arc::clone(&self.engine), self.stop.clone());
        self.tasks.spawn(async move {
            while stop.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_some() {
                match engine.end_due().await {
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%error, "holds could not be looked through"),
                }
            }
        });
    }

    async fn close(self) {
        self.stop.cancel();
        if let Err(error) = self.engine.flush_key_use().await {
            tracing::warn!(%error, "the uses of keys could not be written down");
        }
        // The lanes end when the last handle to the ledger is gone, after all it was asked.
        drop(self.engine);
        drop(self.webhooks);
        self.tasks.close();
        self.tasks.wait().await;
        self.database.close().await;
    }
}

/// Serves until `shutdown` is ready, then finishes what is in flight.
///
/// # Errors
/// When the configuration's files, the database or the address cannot be used.
pub async fn serve(
    config: ServerConfig,
    shutdown: impl Future<Output = ()>,
    ready: impl FnOnce(&Started),
) -> anyhow::Result<()> {
    serve_with(config, Choices::default(), shutdown, ready).await
}

/// [`serve()`] with other choices, such as a clock that a test moves.
///
/// # Errors
/// As [`serve()`].
pub async fn serve_with(
    config: ServerConfig,
    choices: Choices,
    shutdown: impl Future<Output = ()>,
    ready: impl FnOnce(&Started),
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}; choose another --listen", config.listen))?;
    if config.mode == Mode::Dev {
        private_folder(&config.data_dir)?;
    }
    let metrics = operations::recorder()?;
    let checkpoints = Checkpoints::new(&config.checkpoints, &config.egress, &choices.clock)?;
    let mut parts = Parts::assemble(&config, choices.clock).await?;
    let first_start = match config.mode {
        Mode::Dev => demo::make(&parts.engine).await?,
        Mode::Serve => None,
    };
    let routes = grpc::services(&parts.engine);
    let (routes, health) = standard_services(routes).await?;
    let table = AccessTable::read().map_err(anyhow::Error::msg)?;
    let access = AccessLayer::new(Arc::clone(&parts.engine), table, config.max_in_flight);
    let services = routes.prepare().into_axum_router().layer(access);
    let calls = GrpcCalls::new(services.clone(), config.request_timeout);
    let other = rest::router(services.clone())
        .merge((choices.mcp)(Gateway::new(calls), mcp_settings(&config)))
        .merge(operations::router(Arc::clone(&parts.engine), metrics));
    let settings = FrontSettings {
        cors_origins: config.cors_allowed_origins.clone(),
        call_time_max: config.request_timeout,
        ..FrontSettings::default()
    };
    let front = front(services, other, &settings)?;
    let limits =
        ServeLimits { streams_max: config.max_concurrent_streams, ..ServeLimits::default() };
    let addr = listener.local_addr()?;
    report(&health, true).await;
    parts.start_upkeep(health);
    parts.start_webhooks();
    parts.start_clockwork();
    parts.start_forgetting();
    parts.start_checkpoints(checkpoints);
    parts.start_sweeping();
    ready(&Started { addr, first_start });
    let ending = parts.ending.clone();
    let shutdown = async move {
        shutdown.await;
        ending.cancel();
    };
    let served = serve::serve(listener, front, limits, shutdown).await;
    parts.close().await;
    Ok(served?)
}

/// Brings the schema of the configured database up to date, and allows a role of Postgres, if one
/// is named, what servers need.
///
/// # Errors
/// When the database cannot be used, has no roles, or this one is none to work as.
pub async fn migrate(config: &ServerConfig, role: Option<&str>) -> anyhow::Result<Vec<String>> {
    let database = Database::open(&config.database).await?;
    let migrated = async {
        let applied = database.migrate().await?;
        if let Some(role) = role {
            database.grant_to(role).await?;
        }
        Ok(applied)
    };
    let migrated = migrated.await;
    database.close().await;
    migrated
}

/// Makes the first organization of an empty database.
///
/// # Errors
/// When the database has an organization already, or cannot be used.
pub async fn init(config: &ServerConfig, org_name: &str) -> anyhow::Result<InitOutcome> {
    migrate(config, None).await?;
    let parts = Parts::assemble(config, Arc::new(SystemClock)).await?;
    let made = async {
        if parts.engine.has_organizations().await? {
            anyhow::bail!("this database has an organization already; nothing was changed");
        }
        let (org, key) = parts.engine.create_organization(org_name, "UTC").await?;
        Ok(InitOutcome { org_id: org.id.to_string(), admin_key: key.reveal().to_owned() })
    };
    let made = made.await;
    parts.close().await;
    made
}

/// The road out, by the settings.
fn egress(config: &ServerConfig, rules: Arc<EgressRules>) -> anyhow::Result<Egress> {
    let authorities = config.egress.authorities.clone();
    let (limits, resolver) = (EgressLimits::default(), Arc::new(SystemResolver));
    Ok(Egress::new(rules, limits, authorities, resolver)?)
}

fn mcp_settings(config: &ServerConfig) -> HttpSettings {
    HttpSettings {
        allowed_hosts: config.mcp_allowed_hosts.clone(),
        allowed_origins: config.cors_allowed_origins.clone(),
        behind_tls_proxy: config.behind_tls_proxy,
    }
}

async fn report(health: &HealthReporter, is_serving: bool) {
    let status = if is_serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    health.set_service_status("", status).await;
    for service in grpc::SERVICE_NAMES {
        health.set_service_status(service, status).await;
    }
}

fn master_key(config: &ServerConfig) -> anyhow::Result<MasterKey> {
    let key = match &config.master_key {
        MasterKeySource::Loaded(key) => key.clone(),
        MasterKeySource::DevFile(path) => {
            if !path.exists() {
                let key = crate::crypto::random::<32>()?;
                private_file(path, &format!("{}\n", hex::encode(key)))?;
            }
            read_master_key(path).map_err(anyhow::Error::msg)?
        }
        MasterKeySource::NotNeeded => anyhow::bail!("set master_key_file"),
    };
    Ok(MasterKey::new(*key.expose()))
}

fn private_folder(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let builder = &mut std::fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the folder {}; set --data-dir", path.display()))
}

/// Writes a file that is there wholly or not at all, whenever the process is killed.
fn private_file(path: &Path, content: &str) -> anyhow::Result<()> {
    use std::fs::{File, remove_file, rename};
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let draft = path.with_extension("new");
    if draft.exists() {
        remove_file(&draft)?;
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    rename(&draft, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}
