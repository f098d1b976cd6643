//! `quetra dev`, `serve`, `init`, `migrate`, `health` and `config`.
//!
//! Not here: building the server (`app`) and judging its settings (`config`).

use std::future::Future;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::args::{Format, URL_HELP};
use super::banner;
use super::client::{URL_DEFAULT, connect, runtime};
use super::error::CliError;
use super::output::Output;
use super::setting_flags::{ForAll, ForDatabase, ForDev, ForServe, SettingFlags};
use crate::app::{self, Started};
use crate::config::{Environment, Purpose, ServerConfig, Settings};
use crate::telemetry;
use crate::terminal::escape_text;

/// The exit code after a second signal: the one shells use for an interrupted program.
const EXIT_INTERRUPTED: u8 = 130;

/// A server for trying things.
#[derive(Debug, Args)]
pub(super) struct DevArgs {
    #[command(flatten)]
    settings: SettingFlags<ForDev>,
}

/// A production server.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    settings: SettingFlags<ForServe>,
}

/// The first organization.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Name of the organization
    #[arg(long, value_name = "NAME")]
    org: String,
    /// A table for people, or JSON for scripts
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    settings: SettingFlags<ForDatabase>,
}

/// The schema.
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    /// Postgres role that servers work as; it is allowed what they need, and no more
    #[arg(long, value_name = "ROLE")]
    application_role: Option<String>,
    #[command(flatten)]
    settings: SettingFlags<ForDatabase>,
}

/// A probe.
#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    #[arg(long, value_name = "URL", help = URL_HELP)]
    url: Option<String>,
    /// Longest time to wait for the answer, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 3000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=60_000))]
    timeout_ms: u64,
}

/// The effective configuration.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    /// For which command
    #[arg(long = "for", value_name = "COMMAND", value_enum, default_value_t)]
    command: ConfigFor,
    #[command(flatten)]
    settings: SettingFlags<ForAll>,
}

/// A command that has a configuration.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ConfigFor {
    /// `quetra dev`.
    Dev,
    /// `quetra serve`.
    #[default]
    Serve,
}

/// Runs a development server until it is told to stop.
pub(super) fn dev(
    args: DevArgs,
    environment: &Environment,
    output: &mut Output,
) -> Result<u8, CliError> {
    let config = ServerConfig::load(Purpose::Dev, args.settings.layer, environment)?;
    let data_dir = config.data_dir.clone();
    run(config, |started| banner::greet(started, &data_dir, output))
}

/// Runs a production server until it is told to stop.
pub(super) fn serve(args: ServeArgs, environment: &Environment) -> Result<u8, CliError> {
    let config = ServerConfig::load(Purpose::Serve, args.settings.layer, environment)?;
    run(config, |started| {
        tracing::info!(address = %started.addr, "listening");
    })
}

fn run(config: ServerConfig, ready: impl FnOnce(&Started)) -> Result<u8, CliError> {
    telemetry::init(&config.log, config.log_format)?;
    let runtime = server_runtime(&config)?;
    let code = runtime.block_on(async {
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            // A dropped sender means the signals can no longer be heard: stop as well.
            let _ = stopped.await;
        };
        let interrupted = async {
            let mut signals = Signals::listen()?;
            signals.next().await?;
            tracing::info!("stopping: requests in flight are finished; a second signal stops now");
            let _ = stop.send(());
            signals.next().await
        };
        tokio::select! {
            served = Box::pin(app::serve(config, shutdown, ready)) => served.map(|()| 0),
            second = interrupted => second.map(|()| EXIT_INTERRUPTED),
        }
    });
    // After a graceful stop nothing is left to wait for; after a second signal nothing is waited
    // for.
    runtime.shutdown_background();
    Ok(code?)
}

fn server_runtime(config: &ServerConfig) -> Result<Runtime, CliError> {
    // With one thread the scheduler that hands work between threads is only a cost.
    let mut builder = match config.worker_threads.map(usize::from) {
        Some(1) => Builder::new_current_thread(),
        Some(threads) => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
        None => Builder::new_multi_thread(),
    };
    Ok(builder.enable_all().build()?)
}

/// What tells the process to stop. Listening begins once, so that no signal is missed between two.
#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> anyhow::Result<()> {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        Ok(())
    }
}

/// What tells the process to stop.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> anyhow::Result<()> {
        Ok(tokio::signal::ctrl_c().await?)
    }
}

/// Makes the first organization and prints its admin key.
pub(super) fn init(
    args: InitArgs,
    environment: &Environment,
    output: &mut Output,
) -> Result<u8, CliError> {
    let config = ServerConfig::load(Purpose::Init, args.settings.layer, environment)?;
    let made = once(&config, app::init(&config, &args.org))?;
    if args.output == Format::Json {
        let value = serde_json::json!({ "organizationId": made.org_id, "key": made.admin_key });
        output.raw(&format!("{value}\n"))?;
        return Ok(0);
    }
    output.line(&format!("organization  {} ({})", made.org_id, args.org))?;
    output.line(&format!("admin key     {}", made.admin_key))?;
    output.line("")?;
    output.line("Store the key now: it cannot be shown again.")?;
    Ok(0)
}

/// Brings the schema up to date.
pub(super) fn migrate(
    args: MigrateArgs,
    environment: &Environment,
    output: &mut Output,
) -> Result<u8, CliError> {
    let config = ServerConfig::load(Purpose::Migrate, args.settings.layer, environment)?;
    let role = args.application_role.as_deref();
    let applied = once(&config, app::migrate(&config, role))?;
    for migration in &applied {
        output.line(&format!("applied {migration}"))?;
    }
    if applied.is_empty() {
        output.line("the schema is up to date")?;
    }
    if let Some(role) = role {
        output.line(&format!("servers may work as {}", escape_text(role)))?;
    }
    Ok(0)
}

fn once<T>(
    config: &ServerConfig,
    work: impl Future<Output = anyhow::Result<T>>,
) -> Result<T, CliError> {
    telemetry::init(&config.log, config.log_format)?;
    Ok(runtime()?.block_on(work)?)
}

/// Prints the effective configuration, then what is wrong with it.
pub(super) fn config(
    args: ConfigArgs,
    environment: &Environment,
    output: &mut Output,
) -> Result<u8, CliError> {
    let settings = Settings::collect(args.settings.layer, environment)?;
    output.raw(&settings.to_toml())?;
    let purpose = match args.command {
        ConfigFor::Dev => Purpose::Dev,
        ConfigFor::Serve => Purpose::Serve,
    };
    settings.validate(purpose)?;
    Ok(0)
}

/// Asks a server whether it is healthy.
pub(super) async fn health(
    args: HealthArgs,
    environment: &Environment,
    output: &mut Output,
) -> Result<u8, CliError> {
    let url = args.url.or_else(|| environment.get("QUETRA_GATEWAY_URL").map(str::to_owned));
    let url = url.unwrap_or_else(|| URL_DEFAULT.to_owned());
    let limit = Duration::from_millis(args.timeout_ms);
    let asked = async {
        let mut client = HealthClient::new(connect(&url, limit).await?);
        let request = HealthCheckRequest { service: String::new() };
        Ok::<_, CliError>(client.check(request).await?.into_inner().status())
    };
    let status = tokio::time::timeout(limit, asked).await.map_err(|_| {
        CliError::Refused(format!("{url} gave no answer within {} ms", args.timeout_ms))
    })??;
    let (code, word) = match status {
        ServingStatus::Serving => (0, "serving"),
        ServingStatus::NotServing => (1, "not serving"),
        ServingStatus::Unknown | ServingStatus::ServiceUnknown => (1, "unknown"),
    };
    output.line(&format!("{url}: {word}"))?;
    Ok(code)
}
