//! The benchmark: `just bench`, or `cargo bench --bench decisions`.
//!
//! It starts the server it was built with, loads it, and prints one table of medians and ratios.
//! It fails when a call fails or a decision is wrong, never because something was slow: targets
//! stand beside the figures, for a reader who knows the machine. `-- --quick` is a short run,
//! `-- load --url …` only loads a server that runs already, `-- postgres` measures one on
//! Postgres, `-- redis` one in Redis, `-- mcp` only MCP, `-- webhooks` what
//! is told of decisions, `-- audit` exporting and verifying their journal. Not here: tests.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark stops at the first surprise, reads the real clock and prints its table"
)]

mod audit;
mod copies;
mod echo;
mod loader;
mod machine;
mod mcp;
mod naive;
mod options;
mod postgres;
mod prepare;
mod redis;
mod rules;
mod scale;
mod scenarios;
mod server;
mod table;
mod webhooks;

use std::net::ToSocketAddrs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;

use loader::{AgentId, Calls, Keys, Load, Pace, Target};
use naive::Naive;
use options::{Command, Extent, LoadOptions, Options};
use scenarios::Subjects;
use server::Server;
use table::{Figures, Table, mebibytes, thousands};

/// The server has it too; without it the loader and the bare server would cost more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Mandates in all scenarios of a fixed size.
const MANDATES: usize = 1_000;
/// Transactions of a short run.
const QUICK_TRANSACTIONS: u64 = 10_000;
/// Cold starts, of which the median counts.
const COLD_STARTS: usize = 5;

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    // The thread of the loads is another one: this runtime is idle while they run.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match &options.command {
            Some(Command::Load(load)) => load_only(load).await,
            Some(Command::Postgres(chosen)) => postgres::measure(chosen, options.extent()).await,
            Some(Command::Redis) => redis::measure(options.extent()).await,
            Some(Command::Webhooks(chosen)) => {
                webhooks::measure(chosen.postgres, options.extent()).await
            }
            Some(Command::Audit) => audit::measure(options.events()).await,
            Some(Command::Mcp) => mcp_only().await,
            Some(Command::Scale) => scale_only(&options).await,
            None => full(&options).await,
        }
    })
}

/// Measures everything and prints the table.
async fn full(options: &Options) -> anyhow::Result<()> {
    let extent = options.extent();
    // Where cargo builds, not in a temporary folder of the system, which may be memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let (data, grown) = (folder.path().join("data"), folder.path().join("grown"));
    std::fs::create_dir(&data)?;
    std::fs::create_dir(&grown)?;
    let mut table = Table::new();
    table.note("machine", &format!("{} cores, shared with the loader", machine::cores()));

    rules::measure(&mut table)?;
    let (server, agents) = start(&data, &mut table).await?;
    let keys = Arc::new(Keys::new());
    let calls = Calls::Evaluate(Arc::clone(&agents), Arc::clone(&keys));
    let server = restart(server, &data, &calls, &mut table).await?;
    // First, so that everything else is measured on a database that has been in use.
    let transactions = if options.quick { QUICK_TRANSACTIONS } else { options.transactions };
    scale::memory(&server, &data, &calls, transactions, &mut table)?;
    let subjects = Subjects {
        bare: echo::start()?,
        server: server.target(),
        naive: Naive::open(folder.path()).await?,
        agents,
        keys,
        data: &data,
        extent,
    };
    scenarios::run(&subjects).await?.report(&mut table);
    restart(server, &data, &calls, &mut table).await?.stop()?;
    let mandates = if options.quick { MANDATES } else { options.mandates };
    scale::mandates(&grown, mandates, extent, &mut table).await?;
    println!("{table}");
    Ok(())
}

/// A fresh server with its mandates.
async fn start(data: &Path, table: &mut Table) -> anyhow::Result<(Server, Arc<[AgentId]>)> {
    eprintln!("making {} mandates", thousands(MANDATES as u64));
    let server = Server::start(data).await?;
    let memory = machine::resident(server.process()).map_or_else(String::new, mebibytes);
    let started = Instant::now();
    let agents = prepare::agents(&server.target(), 0..MANDATES).await?;
    let rate = MANDATES as f64 / started.elapsed().as_secs_f64();
    let figures = Figures { rate: Some(rate), ..Figures::default() };
    let note = format!("register, create, activate each; memory before {memory}");
    table.add(format!("{} mandates made", thousands(MANDATES as u64)), &figures, &note);
    Ok((server, Arc::from(agents)))
}

/// Kills and starts the server some times, and leaves the last one running.
async fn restart(
    mut server: Server,
    data: &Path,
    calls: &Calls,
    table: &mut Table,
) -> anyhow::Result<Server> {
    let mut taken = Vec::new();
    for _ in 0..COLD_STARTS {
        let key = server.target().key;
        server.stop()?;
        let (next, time) = Server::start_cold(data, &key, calls).await?;
        taken.push(time);
        server = next;
    }
    taken.sort_unstable();
    let stored = mebibytes(machine::folder_size(data)?);
    let note = format!("after kill -9, to the first decision, {stored} of data; target < 200 ms");
    table.add("cold start", &Figures::of_times(&taken), &note);
    Ok(server)
}

/// Measures what MCP adds, on a fresh server.
async fn mcp_only() -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let data = folder.path().join("data");
    std::fs::create_dir(&data)?;
    let server = Server::start(&data).await?;
    let agents = prepare::agents(&server.target(), 0..1).await?;
    let agent_id = std::str::from_utf8(&agents[0])?;
    let mut table = Table::new();
    mcp::measure(&server.target(), agent_id, &mut table).await?;
    println!("{table}");
    server.stop()
}

/// Measures what many mandates cost, on a fresh server.
async fn scale_only(options: &Options) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut table = Table::new();
    scale::mandates(folder.path(), options.mandates, options.extent(), &mut table).await?;
    println!("{table}");
    Ok(())
}

/// Loads a server that runs already.
async fn load_only(options: &LoadOptions) -> anyhow::Result<()> {
    let url = options.url.parse::<http::Uri>()?;
    let authority = url.authority().context("the url needs a host and a port")?;
    let port = authority.port_u16().context("the url needs a port")?;
    let mut addresses = (authority.host(), port).to_socket_addrs()?;
    let address = addresses.next().context("the host of the url has no address")?;
    let target = Target { address, key: options.key.clone(), process: options.process };

    let calls = if options.echo {
        Calls::Echo
    } else {
        let agents = prepare::agents(&target, 0..options.mandates.get()).await?;
        Calls::Evaluate(Arc::from(agents), Arc::new(Keys::new()))
    };
    let pace = match options.rate {
        Some(rate) => Pace::PerSecond(rate.get().into()),
        None => Pace::InFlight(options.in_flight.get()),
    };
    let measured = Duration::from_secs(options.seconds);
    let extent = Extent { rounds: 1, warm_up: Duration::from_millis(500), measured };
    let mut load = Load::new(calls, pace, extent);
    load.connections = options.connections.map_or(load.connections, NonZeroUsize::get);

    let mut table = Table::new();
    table.add("load", &Figures::from(&loader::run(&target, &load)?), "");
    println!("{table}");
    Ok(())
}
