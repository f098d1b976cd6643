//! Deaths, copies, takeovers, midnight.
//!
//! Not here: what a takeover makes worthless, which is how the scripts read the log (`world`).

use super::redis::Found;
use super::setup::{Flaw, Loss, Setup};
use super::step::{Script, Step, Transaction};
use super::world::{Entry, Node, World, epoch_of};

/// Everything that may befall a node, and what is done about it.
pub(super) fn steps(setup: &Setup, world: &World, index: usize, found: &mut Found) {
    crash(setup, world, index, found);
    if world.alive == 1 {
        fork(setup, world, found);
    } else if world.authority != u8::try_from(index).unwrap()
        && setup.synchronizes()
        && !world.nodes[1 - index].away
    {
        let after = drop_node(world, index);
        found.push((Step::Follow { node: index }, after));
    }
    let node = &world.nodes[index];
    if node.away {
        return;
    }
    move_on(setup, world, index, found);
    if may_claim(setup, world, index) && world.epoch < setup.epochs {
        let after = claim(setup, world, index);
        let epoch = after.nodes[index].given;
        found.push((Step::Transaction(Transaction::Claim { node: index, epoch }), after));
    }
    if node.given > node.epoch {
        let after = begin(setup, world, index);
        found.push((Step::Script(index, Script::Begin { epoch: node.given }), after));
    }
}

fn may_claim(setup: &Setup, world: &World, index: usize) -> bool {
    let node = &world.nodes[index];
    if setup.moves > 0 && world.is_superseded(index) {
        // INVARIANT: one that was superseded has the shard again only with the keys of its
        // successor, or if that one never began.
        let is_recorded = epoch_of(world.position) == world.epoch
            && !setup.has(Flaw::SupersededReturnsToRecorded);
        return (!world.begun && !is_recorded)
            || node.epoch == world.epoch
            || setup.has(Flaw::SupersededReturnsToCluster);
    }
    // INVARIANT: a process that was superseded is never the authority again. It would have to
    // begin first, and until then it would answer, with its follower back, what nobody projects.
    let present = usize::from(world.authority) == index || setup.has(Flaw::SupersededReturns);
    !node.serving || (setup.planned && present)
}

/// The keys of the shard move to the other node, whatever that had of them; until it has an epoch
/// of its own it is believed in those that Postgres gave to it.
fn move_on(setup: &Setup, world: &World, from: usize, found: &mut Found) {
    // INVARIANT: a promoted copy is taken over before the shard moves on. Where that was once, it
    // would be believed with what the copy lacks.
    let source = world.nodes[from];
    let is_present = source.whole && source.epoch == world.latest;
    let is_taken = is_present || setup.has(Flaw::MovesBeforeTakeover);
    let (to, mut after) = (1 - from, *world);
    // The cluster has the shard on the promoted copy, whatever the old master does.
    let is_there = world.alive == 1 || world.nodes[to].away || from == 1;
    if world.moves == setup.moves || !is_taken || !is_there {
        return;
    }
    after.moves += 1;
    after.alive = 2;
    let target = world.nodes[to];
    after.nodes[to] = source.known_as(&target);
    after.nodes[to].serving = target.holds >> source.epoch & 1 == 1;
    after.nodes[from] = Node::default().known_as(&source);
    after.nodes[from].away = true;
    found.push((Step::Move { to }, after));
}

pub(super) fn midnight(setup: &Setup, world: &World, found: &mut Found) {
    if setup.periods && world.period == 0 {
        let mut after = *world;
        after.period = 1;
        found.push((Step::Midnight, after));
    }
}

/// How many entries may remain.
fn remaining(setup: &Setup, world: &World, node: &Node) -> Vec<usize> {
    let is_behind = |kept: usize| {
        let last = node.entries().take(kept).map(|(_, place, _)| place).last();
        last.unwrap_or_default() < world.position
    };
    let may_remain = |kept: &usize| match setup.loss {
        Loss::Nothing => *kept == node.length(),
        Loss::Unsynced => *kept >= usize::from(node.synced),
        Loss::Behind => *kept >= usize::from(node.synced) || is_behind(*kept),
        Loss::AnyTail => true,
    };
    (0..=node.length()).filter(may_remain).collect()
}

fn crash(setup: &Setup, world: &World, index: usize, found: &mut Found) {
    let node = &world.nodes[index];
    if world.crashes == setup.crashes {
        return;
    }
    let of = node.length();
    for kept in remaining(setup, world, node) {
        let is_known = setup.moves > 0 && node.holds != 0;
        if !node.serving && kept == of && node.given == node.epoch && !is_known {
            continue;
        }
        let mut after = *world;
        after.crashes += 1;
        let died = &mut after.nodes[index];
        died.whole = node.whole && kept == of;
        died.truncate(kept);
        died.serving = setup.has(Flaw::RestartKeepsEpoch);
        died.given = died.epoch;
        died.holds = 0;
        found.push((Step::Crash { node: index, kept, of }, after));
    }
}

fn fork(setup: &Setup, world: &World, found: &mut Found) {
    let node = &world.nodes[0];
    if world.forks == setup.forks {
        return;
    }
    let of = node.length();
    for kept in remaining(setup, world, node) {
        let mut after = *world;
        after.forks += 1;
        after.alive = 2;
        let copy = &mut after.nodes[1];
        *copy = *node;
        copy.truncate(kept);
        copy.serving = false;
        copy.given = copy.epoch;
        copy.holds = 0;
        // A replica cannot know that it has everything, unless replies waited for it.
        copy.whole = false;
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
    if setup.moves > 0 {
        after.nodes[index].holds |= 1 << epoch;
    }
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
    }
    after
}

/// Then the script, which ignores an epoch that is not later than the one it has.
pub(super) fn begin(setup: &Setup, world: &World, index: usize) -> World {
    let mut after = *world;
    let node = &mut after.nodes[index];
    node.append(Entry::Begin(node.given));
    (node.epoch, node.serving) = (node.given, true);
    node.whole = true;
    let epoch = node.epoch;
    after.latest = world.latest.max(epoch);
    // In a cluster others may act on what Postgres does not know yet.
    let is_heard = setup.moves == 0;
    after.begun |= is_heard && epoch == world.epoch && usize::from(world.authority) == index;
    after
}
