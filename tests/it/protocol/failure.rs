//! Deaths, copies, takeovers, midnight.
//!
//! Not here: what a takeover makes worthless, which is how the scripts read the log (`world`).

use super::redis::Found;
use super::setup::{Flaw, Loss, Setup};
use super::step::{Script, Step, Transaction};
use super::world::{Entry, Node, World};

/// Everything that may befall a node, and what is done about it.
pub(super) fn steps(setup: &Setup, world: &World, index: usize, found: &mut Found) {
    crash(setup, world, index, found);
    if world.alive == 1 {
        fork(setup, world, found);
    } else if world.authority != u8::try_from(index).unwrap() && setup.synchronizes() {
        let after = drop_node(world, index);
        found.push((Step::Follow { node: index }, after));
    }
    let node = &world.nodes[index];
    // INVARIANT: a process that was superseded is never the authority again. It would have to begin
    // first, and until then it would answer, with its follower back, what nobody will ever project.
    let present = usize::from(world.authority) == index || setup.has(Flaw::SupersededReturns);
    if (!node.serving || (setup.planned && present)) && world.epoch < setup.epochs {
        let after = claim(setup, world, index);
        let epoch = after.nodes[index].given;
        found.push((Step::Transaction(Transaction::Claim { node: index, epoch }), after));
    }
    if node.given > node.epoch {
        let after = begin(world, index);
        found.push((Step::Script(index, Script::Begin { epoch: node.given }), after));
    }
}

pub(super) fn midnight(setup: &Setup, world: &World, found: &mut Found) {
    if setup.periods && world.period == 0 {
        let mut after = *world;
        after.period = 1;
        found.push((Step::Midnight, after));
    }
}

/// The fewest entries that remain.
fn least(setup: &Setup, node: &Node) -> usize {
    match setup.loss {
        Loss::Nothing => node.length(),
        Loss::Unsynced => usize::from(node.synced),
        Loss::AnyTail => 0,
    }
}

fn crash(setup: &Setup, world: &World, index: usize, found: &mut Found) {
    let node = &world.nodes[index];
    if world.crashes == setup.crashes {
        return;
    }
    let of = node.length();
    for kept in least(setup, node)..=of {
        if !node.serving && kept == of && node.given == node.epoch {
            continue;
        }
        let mut after = *world;
        after.crashes += 1;
        let died = &mut after.nodes[index];
        died.whole = node.whole && kept == of;
        died.sound = node.sound && kept >= usize::from(node.synced);
        died.truncate(kept);
        died.serving = setup.has(Flaw::RestartKeepsEpoch);
        died.given = died.epoch;
        found.push((Step::Crash { node: index, kept, of }, after));
    }
}

fn fork(setup: &Setup, world: &World, found: &mut Found) {
    let node = &world.nodes[0];
    if world.forks == setup.forks {
        return;
    }
    let of = node.length();
    for kept in least(setup, node)..=of {
        let mut after = *world;
        after.forks += 1;
        after.alive = 2;
        let copy = &mut after.nodes[1];
        *copy = *node;
        copy.truncate(kept);
        copy.serving = false;
        copy.given = copy.epoch;
        // A replica cannot know that it has everything, unless replies waited for it.
        copy.whole = false;
        copy.sound = node.sound && kept >= usize::from(node.synced);
        found.push((Step::Fork { kept, of }, after));
    }
}

/// One node is overwritten by the other, which then has a follower again.
pub(super) fn drop_node(world: &World, index: usize) -> World {
    let mut after = *world;
    after.nodes = [world.nodes[1 - index], Node::default()];
    (after.alive, after.authority) = (1, 0);
    after
}

/// First Postgres: the next epoch, for a process that is not the one it knew.
pub(super) fn claim(setup: &Setup, world: &World, index: usize) -> World {
    let mut after = *world;
    let node = world.nodes[index];
    let mut epoch = world.epoch + 1;
    if setup.has(Flaw::EpochChosenByRedis) {
        epoch = node.epoch + 1;
    }
    after.epoch = world.epoch.max(epoch);
    after.authority = u8::try_from(index).unwrap();
    after.begun = false;
    after.nodes[index].given = epoch;
    if setup.has(Flaw::TakeoverReclaimsLeases) {
        for leased in &mut after.leased {
            leased[..usize::from(epoch)].fill(0);
        }
    }
    for earlier in 0..epoch {
        // Where replies do not wait for every node, only the log of the node that served an epoch
        // can prove anything about it.
        if earlier > node.epoch || (!node.whole && earlier == node.epoch) {
            after.lost |= 1 << earlier;
        }
        if !node.sound && earlier >= node.epoch {
            after.unsound |= 1 << earlier;
        }
    }
    after
}

/// Then the script, which ignores an epoch that is not later than the one it has.
pub(super) fn begin(world: &World, index: usize) -> World {
    let mut after = *world;
    let node = &mut after.nodes[index];
    node.append(Entry::Begin(node.given));
    (node.epoch, node.serving) = (node.given, true);
    (node.whole, node.sound) = (true, true);
    let epoch = node.epoch;
    after.latest = world.latest.max(epoch);
    after.begun |= epoch == world.epoch && usize::from(world.authority) == index;
    after
}
