//! What must hold in every state, and that everything comes back once all is healthy.
//!
//! Not here: how a state is reached.

use super::failure::{begin, claim, drop_node};
use super::postgres;
use super::setup::{Level, Loss, Setup, each};
use super::world::{BUDGETS, Entry, KEYS, Node, REJECTED, UNKNOWN, World};

/// A promise that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// More is approved and not given back than the limit.
    Overspent,
    /// The sums of Postgres contradict its rows or its limit; its constraints would stop the shard.
    Books,
    /// An answered decision is neither recorded nor on its way to the record.
    Lost,
    /// A key was answered, or recorded, in two ways.
    Changed,
    /// A rejection was answered although the budget could pay.
    FalselyRejected,
    /// All is healthy, and money is neither spent nor free, or a key can never be decided.
    Stranded,
}

/// The first promise of these that a state breaks.
pub(super) fn broken(setup: &Setup, world: &World, watched: &[Broken]) -> Option<Broken> {
    let breaks = |promise: &Broken| match promise {
        Broken::Overspent => overspent(setup, world),
        Broken::Books => books(setup, world),
        Broken::Lost => lost(setup, world),
        Broken::Changed => changed(setup, world),
        Broken::FalselyRejected => falsely_rejected(world),
        Broken::Stranded => setup.recovers && stranded(setup, world),
    };
    watched.iter().copied().find(breaks)
}

/// Whether what was answered about a key may not be forgotten. What `fast` answers may be, and a
/// disk that is emptied or put back takes along what only it had.
fn keeps_record(setup: &Setup, key: usize) -> bool {
    match setup.level(key) {
        Level::Strict => true,
        Level::Durable => !matches!(setup.loss, Loss::Behind | Loss::AnyTail),
        Level::Fast => setup.loss == Loss::Nothing && setup.forks == 0,
    }
}

/// The budgets that a decision counts in: as it is recorded, else as it was answered.
fn counted(world: &World, key: usize) -> u8 {
    let row = world.rows[key];
    (if row == UNKNOWN { world.answered[key] } else { row }) & !REJECTED
}

fn overspent(setup: &Setup, world: &World) -> bool {
    let approved = |budget: usize| -> i8 {
        let keys = setup.asks.iter().enumerate();
        let counts = keys.filter(|(key, _)| counted(world, *key) >> budget & 1 == 1);
        counts.map(|(key, ask)| ask.amount - world.returned[key]).sum()
    };
    (0..BUDGETS).any(|budget| approved(budget) > setup.limits[budget])
}

fn books(setup: &Setup, world: &World) -> bool {
    (0..BUDGETS).any(|budget| {
        let mut recorded = 0;
        for (key, ask) in setup.asks.iter().enumerate() {
            if world.rows[key] != REJECTED && each(world.rows[key]).any(|of| of == budget) {
                recorded += ask.amount - world.returned[key];
            }
        }
        let settled = world.settled[budget];
        let leased = world.leased[budget];
        recorded != settled
            || leased.iter().any(|leased| *leased < 0)
            || world.free(setup, budget) < 0
    })
}

/// Every node may be the next authority, so each must have what was answered and not recorded.
fn lost(setup: &Setup, world: &World) -> bool {
    let comes = |node: &Node, key: usize| {
        node.entries().any(|(_, place, entry)| {
            let approves = entry.approval().is_some_and(|(of, _)| usize::from(of) == key);
            approves && place > world.position.max(node.trimmed)
        })
    };
    (0..setup.asks.len()).filter(|key| keeps_record(setup, *key)).any(|key| {
        let answered = world.answered[key] != 0 && world.rows[key] == UNKNOWN;
        answered && !world.nodes().iter().all(|node| node.away || comes(node, key))
    })
}

fn changed(setup: &Setup, world: &World) -> bool {
    (0..setup.asks.len()).filter(|key| keeps_record(setup, *key)).any(|key| {
        let said = world.answered[key];
        let both = said & REJECTED != 0 && said & !REJECTED != 0;
        let row = world.rows[key];
        both || (said & REJECTED != 0 && row != REJECTED && row != UNKNOWN)
            || (said & !REJECTED != 0 && row == REJECTED)
    })
}

fn falsely_rejected(world: &World) -> bool {
    (0..KEYS).any(|key| world.answered[key] & REJECTED != 0 && world.misproved >> key & 1 == 1)
}

/// Whether what was answered may be missing from a log, and nobody can prove that it is not. At
/// `durable` a log that is behind the record proves nothing, though what it lacks was not synced.
fn may_lose(setup: &Setup, budget: usize) -> bool {
    setup.levels_of(budget).any(|level| match level {
        Level::Strict => false,
        Level::Durable => setup.loss != Loss::Nothing || setup.forks > 0,
        Level::Fast => setup.loss == Loss::AnyTail || setup.forks > 0,
    })
}

/// Lets everything heal, drain and come back, and looks for what did not.
fn stranded(setup: &Setup, world: &World) -> bool {
    let mut world = *world;
    if world.alive == 2 {
        let authority = usize::from(world.authority);
        let is_away = world.nodes[authority].away;
        world = drop_node(&world, if is_away { authority } else { 1 - authority });
    }
    if world.nodes[0].given > world.nodes[0].epoch {
        world = begin(setup, &world, 0);
    }
    if !world.nodes[0].serving || world.nodes[0].epoch != world.epoch {
        world = begin(setup, &claim(setup, &world, 0), 0);
    }
    recall_everything(setup, &mut world);
    postgres::settle(setup, &mut world, 0);
    if world.tears > 0 {
        // What a script charged and did not append comes back when its epoch ends.
        world = begin(setup, &claim(setup, &world, 0), 0);
        postgres::settle(setup, &mut world, 0);
    }
    let held = (0..BUDGETS).any(|budget| {
        let excused = |epoch| may_lose(setup, budget) && world.is_doubtful(setup, budget, epoch);
        let leased = world.leased[budget].iter().enumerate();
        leased.filter(|(epoch, _)| !excused(*epoch)).any(|(_, leased)| *leased != 0)
    });
    held || (0..setup.asks.len()).any(|key| world.rows[key] == UNKNOWN && waits(setup, &world, key))
}

/// Whether nobody may decide a key, and nobody ever has: it is recorded, and not in the record.
fn waits(setup: &Setup, world: &World, key: usize) -> bool {
    let node = &world.nodes[0];
    let record = world.view(setup, node).records[key];
    let recorded = record.is_some_and(|record| record.epoch == node.epoch);
    recorded || (keeps_record(setup, key) && world.answered[key] != 0)
}

fn recall_everything(setup: &Setup, world: &mut World) {
    for index in 0..usize::from(world.granted) {
        let lease = world.grants[index];
        let installed = world.view(setup, &world.nodes[0]).installed[usize::from(lease.budget)];
        if lease.epoch == world.nodes[0].epoch && lease.number == installed + 1 {
            world.nodes[0].append(Entry::Install(u8::try_from(index).unwrap()));
        }
    }
    let rest = world.view(setup, &world.nodes[0]).rest;
    for (budget, amount) in rest.into_iter().enumerate().filter(|(_, amount)| *amount > 0) {
        let budget = u8::try_from(budget).unwrap();
        world.nodes[0].append(Entry::Recall { budget, amount });
    }
}
