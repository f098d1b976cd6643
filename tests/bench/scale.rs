//! What many transactions and many mandates cost: memory, disk, and the time of one decision.
//!
//! Not here: the loads at a fixed size (`scenarios`).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::copies;
use crate::loader::{self, AgentId, Calls, Keys, Load, Pace};
use crate::machine;
use crate::options::Extent;
use crate::prepare;
use crate::server::Server;
use crate::table::{Figures, Table, mebibytes, show_time, thousands};

/// Calls in flight in this part.
const IN_FLIGHT: usize = 64;
/// Numbers of mandates at which a decision is measured, up to the one asked for.
const STEPS: [usize; 5] = [100, 1_000, 10_000, 100_000, 1_000_000];
/// Mandates that are made through the API; more are copied.
const MADE_MAX: usize = 10_000;
/// One stretch of filling up; in between the count is looked at.
const STRETCH_MAX: Duration = Duration::from_secs(20);

/// Makes at least this many decisions on a fresh server, and adds a row on its memory and disk.
///
/// # Errors
/// The first call that fails or is answered wrongly.
pub(crate) fn memory(
    server: &Server,
    data: &Path,
    calls: &Calls,
    wanted: u64,
    table: &mut Table,
) -> anyhow::Result<()> {
    let made = at_least(server, calls, wanted)?;
    let stored = machine::folder_size(data)?;
    let note = format!(
        "memory {}; target < 150 MiB after 1,000,000; data folder {}, {} bytes each",
        resident(server),
        mebibytes(stored),
        stored / made.max(1)
    );
    table.note(format!("after {} transactions", thousands(made)), &note);
    Ok(())
}

/// Makes at least this many decisions, and says how many.
pub(crate) fn at_least(server: &Server, calls: &Calls, wanted: u64) -> anyhow::Result<u64> {
    let mut made = 0;
    let mut stretch = Duration::from_secs(1);
    while made < wanted {
        eprintln!("{} of {} transactions", thousands(made), thousands(wanted));
        let extent = Extent { rounds: 1, warm_up: Duration::ZERO, measured: stretch };
        let load = Load::new(calls.clone(), Pace::InFlight(IN_FLIGHT), extent);
        let report = loader::run(&server.target(), &load).context("many transactions")?;
        made += report.calls;
        let left = Duration::from_secs_f64(wanted.saturating_sub(made) as f64 / report.rate);
        stretch = left.clamp(Duration::from_millis(100), STRETCH_MAX);
    }
    Ok(made)
}

/// Grows a fresh server in steps and adds a row for each.
///
/// # Errors
/// The first call that fails or is answered wrongly.
pub(crate) async fn mandates(
    data: &Path,
    wanted: usize,
    extent: Extent,
    table: &mut Table,
) -> anyhow::Result<()> {
    let mut server = Server::start(data).await?;
    let keys = Arc::new(Keys::new());
    let mut agents: Vec<AgentId> = Vec::new();
    let mut first: Option<Figures> = None;
    let least = STEPS[1].min(wanted);
    for step in STEPS.into_iter().filter(|step| (least..=wanted).contains(step)) {
        eprintln!("growing to {} mandates", thousands(step as u64));
        let (before, started) = (agents.len(), Instant::now());
        let made = if step <= MADE_MAX {
            agents.extend(prepare::agents(&server.target(), before..step).await?);
            let rate = (step - before) as f64 / started.elapsed().as_secs_f64();
            format!("made {} a second", thousands(rate as u64))
        } else {
            let (key, original) = (server.target().key, agents[0]);
            server.stop()?;
            agents.extend(copies::agents(&data.join("quetra.db"), &original, before..step)?);
            let (again, _) = Server::start_cold(data, &key, &Calls::Echo).await?;
            server = again;
            "most are copies".to_owned()
        };
        let target = server.target();

        let calls = Calls::Evaluate(Arc::from(agents.as_slice()), Arc::clone(&keys));
        // The first decision about an agent reads the database; that is not what is measured.
        at_least(&server, &calls, step as u64)?;
        let load = Load::new(calls, Pace::InFlight(IN_FLIGHT), extent);
        let mut rounds = Vec::new();
        for _ in 0..extent.rounds {
            let report = loader::run(&target, &load).with_context(|| format!("{step} mandates"))?;
            rounds.push(Figures::from(&report));
        }
        let figures = Figures::median(&rounds);
        let cost = figures.cost().unwrap_or_default();
        let first = first.get_or_insert(figures).cost().unwrap_or_default();
        let note = format!(
            "{} a decision, {:.2} × the first row; memory {}; {made}",
            show_time(cost),
            cost.as_secs_f64() / first.as_secs_f64(),
            resident(&server)
        );
        table.add(format!("{} mandates", thousands(step as u64)), &figures, &note);
    }
    server.stop()
}

fn resident(server: &Server) -> String {
    machine::resident(server.process()).map_or_else(|| "unknown".to_owned(), mebibytes)
}
