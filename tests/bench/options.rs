//! What a run is asked for on the command line and by the environment.
//!
//! Not here: what the scenarios are (`scenarios`), or anything of the product's configuration.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Measures the decisions of a server built with this profile and prints one table.
#[derive(Debug, Parser)]
#[command(name = "decisions")]
pub(crate) struct Options {
    /// A short run, to try the benchmark itself.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Transactions after which memory is measured.
    #[arg(long, env = "QUETRA_BENCH_TRANSACTIONS", default_value_t = 1_000_000)]
    pub(crate) transactions: u64,
    /// Mandates up to which the cost of a decision is measured; 1000000 for the full run.
    #[arg(long, env = "QUETRA_BENCH_MANDATES", default_value_t = 100_000)]
    pub(crate) mandates: usize,
    /// Cargo says it to every benchmark.
    #[arg(long, hide = true, global = true)]
    bench: bool,
    /// Something else than the table.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Something else than the table.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Loads a server that runs already, for profiling.
    Load(LoadOptions),
    /// Measures only what MCP adds to a decision.
    Mcp,
    /// Measures only what many mandates cost, up to `--mandates` of them.
    Scale,
    /// A server on Postgres alone, beside the naive design on the same Postgres.
    Postgres(PostgresOptions),
    /// What webhooks deliver, and what they cost decisions.
    Webhooks(WebhooksOptions),
    /// How fast a journal of `--transactions` events is exported and verified.
    Audit,
    /// A server that decides in Redis, beside the bare script and the naive design.
    Redis,
}

/// Where webhooks are measured.
#[derive(Args, Debug)]
pub(crate) struct WebhooksOptions {
    /// On Postgres instead of SQLite.
    #[arg(long)]
    pub(crate) postgres: bool,
}

/// The loads on Postgres.
#[derive(Args, Debug)]
pub(crate) struct PostgresOptions {
    /// Calls in flight.
    #[arg(long, default_value = "256")]
    pub(crate) in_flight: NonZeroUsize,
}

/// A load on a server that runs already.
#[derive(Args, Debug)]
pub(crate) struct LoadOptions {
    /// Its address: scheme, host and port.
    #[arg(long)]
    pub(crate) url: String,
    /// An admin key: mandates are made with it.
    #[arg(long, env = "QUETRA_API_KEY", hide_env_values = true, default_value = "")]
    pub(crate) key: String,
    /// How long.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// Calls in flight.
    #[arg(long, default_value = "64")]
    pub(crate) in_flight: NonZeroUsize,
    /// Calls a second in an open loop, instead of a number in flight.
    #[arg(long)]
    pub(crate) rate: Option<NonZeroU32>,
    /// Connections; as many as suit the calls in flight if not given.
    #[arg(long)]
    pub(crate) connections: Option<NonZeroUsize>,
    /// Mandates the calls are spread over; 1 is a hot one.
    #[arg(long, default_value = "1000")]
    pub(crate) mandates: NonZeroUsize,
    /// Its process id, to measure its processor time.
    #[arg(long)]
    pub(crate) process: Option<u32>,
    /// Call the health service instead.
    #[arg(long)]
    pub(crate) echo: bool,
}

/// How long and how often a load is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// How often; the median counts.
    pub(crate) rounds: usize,
    /// How long calls are made before they are measured.
    pub(crate) warm_up: Duration,
    /// How long they are measured.
    pub(crate) measured: Duration,
}

impl Options {
    /// How many events the journal has that is exported and verified.
    pub(crate) fn events(&self) -> u64 {
        if self.quick { self.transactions.min(100_000) } else { self.transactions }
    }

    /// How long and how often this run measures.
    pub(crate) fn extent(&self) -> Extent {
        let (rounds, warm_up, measured) =
            if self.quick { (1, 200, 1_000) } else { (3, 500, 3_000) };
        Extent {
            rounds,
            warm_up: Duration::from_millis(warm_up),
            measured: Duration::from_millis(measured),
        }
    }
}
