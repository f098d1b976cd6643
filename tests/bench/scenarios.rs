//! The loads on a server with a thousand mandates, and their rows of the table.
//!
//! All scenarios run once in every round, so that a slow minute of the machine hits all of them
//! and the ratios stay true. Not here: growing the number of mandates (`scale`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::loader::{self, AgentId, Calls, Keys, Load, Pace, Target};
use crate::machine;
use crate::naive::Naive;
use crate::options::Extent;
use crate::table::{Figures, Table, ratio, show_time};

/// What one in flight may cost beyond two disk writes.
const ALLOWANCE: Duration = Duration::from_micros(200);
/// Callers of the naive design.
const NAIVE_CALLERS: usize = 64;

/// One load; the number is of calls in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scenario {
    /// Evaluate, answered by a tonic server that decides nothing.
    Bare(usize),
    /// The health check of the product.
    Echo(usize),
    /// Evaluate, over all mandates.
    Spread(usize),
    /// Evaluate, on one mandate.
    Hot(usize),
    /// Evaluate over all mandates at half the rate of 64 in flight.
    Half,
    /// One transaction per decision, without a server.
    Naive,
}

const ALL: [Scenario; 13] = [
    Scenario::Bare(1),
    Scenario::Bare(64),
    Scenario::Bare(256),
    Scenario::Echo(1),
    Scenario::Echo(64),
    Scenario::Echo(256),
    Scenario::Spread(1),
    Scenario::Spread(64),
    Scenario::Spread(256),
    Scenario::Half,
    Scenario::Hot(64),
    Scenario::Hot(256),
    Scenario::Naive,
];

/// What the loads go to.
#[derive(Debug)]
pub(crate) struct Subjects<'a> {
    /// The server that decides nothing.
    pub(crate) bare: Target,
    /// The product.
    pub(crate) server: Target,
    /// The naive design.
    pub(crate) naive: Naive,
    /// Agents with a mandate.
    pub(crate) agents: Arc<[AgentId]>,
    /// Unused idempotency keys.
    pub(crate) keys: Arc<Keys>,
    /// The folder of the server, where the disk is measured.
    pub(crate) data: &'a Path,
    /// How long and how often.
    pub(crate) extent: Extent,
}

/// What all rounds measured.
#[derive(Debug)]
pub(crate) struct Outcome {
    rounds: Vec<Vec<Figures>>,
    disk: Vec<Duration>,
}

/// Runs all rounds.
///
/// # Errors
/// The first call that fails or is answered wrongly.
pub(crate) async fn run(subjects: &Subjects<'_>) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome { rounds: Vec::new(), disk: Vec::new() };
    for round in 0..subjects.extent.rounds {
        outcome.disk.extend(machine::disk_writes(subjects.data)?);
        let mut figures: Vec<Figures> = Vec::new();
        for (place, scenario) in ALL.into_iter().enumerate() {
            eprintln!("round {}: {scenario:?}", round + 1);
            if scenario == Scenario::Naive {
                let measured = subjects.extent.measured;
                figures.push(subjects.naive.run(NAIVE_CALLERS, measured).await?);
                continue;
            }
            let full_rate = ALL.iter().position(|one| *one == Scenario::Spread(64));
            let full_rate = full_rate.and_then(|place| figures.get(place)?.rate);
            // Another hot mandate each time: its windows are empty, as in the first round.
            let hot = (round * ALL.len() + place) % subjects.agents.len();
            let (target, load) = load(subjects, scenario, full_rate.unwrap_or_default(), hot);
            let report = loader::run(target, &load).with_context(|| name(scenario))?;
            figures.push(Figures::from(&report));
        }
        outcome.rounds.push(figures);
    }
    outcome.disk.sort_unstable();
    Ok(outcome)
}

/// Where a scenario goes, and with which load.
fn load<'a>(
    subjects: &'a Subjects<'_>,
    scenario: Scenario,
    full_rate: f64,
    hot: usize,
) -> (&'a Target, Load) {
    let agents = if matches!(scenario, Scenario::Hot(_)) {
        Arc::from([subjects.agents[hot]])
    } else {
        Arc::clone(&subjects.agents)
    };
    let evaluate = Calls::Evaluate(agents, Arc::clone(&subjects.keys));
    let (target, calls, pace) = match scenario {
        Scenario::Bare(count) => (&subjects.bare, evaluate, Pace::InFlight(count)),
        Scenario::Echo(count) => (&subjects.server, Calls::Echo, Pace::InFlight(count)),
        Scenario::Spread(count) | Scenario::Hot(count) => {
            (&subjects.server, evaluate, Pace::InFlight(count))
        }
        Scenario::Half | Scenario::Naive => {
            (&subjects.server, evaluate, Pace::PerSecond(full_rate / 2.0))
        }
    };
    (target, Load::new(calls, pace, subjects.extent))
}

impl Outcome {
    /// Adds the disk and all scenarios to the table.
    pub(crate) fn report(&self, table: &mut Table) {
        let disk = Figures::of_times(&self.disk);
        let disk_p50 = disk.p50.unwrap_or_default();
        table.add(
            "disk: append 4 KiB + fdatasync",
            &disk,
            "a durable decision waits for at least one",
        );
        for scenario in ALL {
            let figures = self.of(scenario);
            table.add(name(scenario), &figures, &self.remark(scenario, &figures, disk_p50));
        }
    }

    fn of(&self, scenario: Scenario) -> Figures {
        let place = ALL.iter().position(|one| *one == scenario).expect("ALL has them all");
        Figures::median(&self.rounds.iter().map(|round| round[place]).collect::<Vec<_>>())
    }

    fn remark(&self, scenario: Scenario, figures: &Figures, disk: Duration) -> String {
        let to_echo = |count| ratio(figures, &self.of(Scenario::Echo(count)));
        let to_bare = |count| ratio(figures, &self.of(Scenario::Bare(count)));
        let to_naive = ratio(figures, &self.of(Scenario::Naive));
        match scenario {
            Scenario::Bare(_) | Scenario::Naive => String::new(),
            Scenario::Echo(count) => format!("{:.2} × bare", to_bare(count)),
            Scenario::Spread(1) => format!(
                "{:.2} × echo; target p50 ≤ 2 × disk + 0.2 ms = {}",
                to_echo(1),
                show_time(disk * 2 + ALLOWANCE)
            ),
            Scenario::Spread(count) => format!(
                "{:.2} × echo, {:.2} × bare, {to_naive:.1} × naive; target ≥ {}",
                to_echo(count),
                to_bare(count),
                if count == 64 { "20,000" } else { "25,000" }
            ),
            Scenario::Hot(count) => {
                let spread = ratio(figures, &self.of(Scenario::Spread(count)));
                let target = if count == 64 { "; target ≥ 15,000" } else { "" };
                format!("{spread:.2} × spread, {to_naive:.1} × naive{target}")
            }
            Scenario::Half => {
                "half of what the round reached with 64 in flight; target p99 ≤ 5 ms".to_owned()
            }
        }
    }
}

fn name(scenario: Scenario) -> String {
    match scenario {
        Scenario::Bare(count) => format!("bare tonic, {count} in flight"),
        Scenario::Echo(count) => format!("echo of the server, {count} in flight"),
        Scenario::Spread(count) => format!("evaluate, {count} in flight"),
        Scenario::Hot(count) => format!("evaluate, one hot mandate, {count} in flight"),
        Scenario::Half => "evaluate at half load, open loop".to_owned(),
        Scenario::Naive => format!("naive: one transaction each, {NAIVE_CALLERS} callers"),
    }
}
