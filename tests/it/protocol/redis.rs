//! What the scripts do on a node that serves, and which of their results may be answered.
//!
//! Replicas of the server hold nothing: any of them may have sent any call, so they are told apart
//! only by what is on its way (lookups, proofs, leases). Not here: what Postgres does.

use super::setup::{Ask, Flaw, Level, Setup, each};
use super::step::{Script, Step, Transaction};
use super::view::{Record, View};
use super::world::{Entry, Node, REJECTED, UNKNOWN, World};

pub(super) type Found = Vec<(Step, World)>;

fn number(value: usize) -> u8 {
    u8::try_from(value).unwrap()
}

/// Everything that may happen at one node.
pub(super) fn steps(setup: &Setup, world: &World, index: usize, found: &mut Found) {
    let node = &world.nodes[index];
    if !node.serving {
        return;
    }
    let view = world.view(setup, node);
    for key in 0..setup.asks.len() {
        if may_ask(setup, world, key) {
            decide(setup, world, (index, &view), key, found);
        }
        answer(setup, world, (index, &view), key, found);
    }
    install(setup, world, (index, &view), found);
    recall(setup, world, (index, &view), found);
    sync(setup, world, index, found);
    expire(setup, world, (index, &view), found);
}

/// Keys that are alike are used in order: which of them comes first makes no difference.
pub(super) fn may_ask(setup: &Setup, world: &World, key: usize) -> bool {
    let alike: Option<&Ask> = key.checked_sub(1).map(|before| &setup.asks[before]);
    let same_level = key.checked_sub(1).map(|before| setup.level(before)) == Some(setup.level(key));
    alike != Some(&setup.asks[key]) || !same_level || world.asked >> (key - 1) & 1 == 1
}

fn after(world: &World, index: usize, key: usize, entry: Entry) -> World {
    let mut after = *world;
    after.nodes[index].append(entry);
    after.ask(key);
    after
}

type At<'a> = (usize, &'a View);

fn decide(setup: &Setup, world: &World, (index, view): At<'_>, key: usize, found: &mut Found) {
    let node = &world.nodes[index];
    let epoch = node.epoch + 1;
    let ask = setup.asks[key];
    let budgets = setup.budgets(world, key);
    let covered = view.covers(setup, budgets, (ask.amount, setup.level(key)));
    let known = |key: usize| view.records[key].is_some_and(|record| record.epoch == node.epoch);
    if known(key) || setup.twin(key).is_some_and(known) {
        return;
    }
    // Not known to this epoch: whoever asks has to know that Postgres does not know it either.
    let old = world.old >> key & 1 == 1 && !setup.has(Flaw::OldKeyNotLookedUp);
    let young = |key: usize| world.is_young(key, node.epoch) || setup.has(Flaw::KeyNotLookedUp);
    let cold = old || !young(key) || setup.twin(key).is_some_and(|twin| !young(twin));
    if cold && world.looked_up[key] != epoch {
        look_up(setup, world, (index, view), key, found);
        return;
    }
    if setup.has(Flaw::OldRecordBelieved) && view.records[key].is_some() {
        return;
    }
    if setup.rules && !(setup.rejections && world.proved[key] == epoch && !covered) {
        reject(setup, world, index, key, found);
    }
    if covered {
        approve(setup, world, index, (key, budgets), found);
    } else if setup.rejections && world.proved[key] == epoch {
        reject(setup, world, index, key, found);
    } else if setup.rejections {
        prove(setup, world, (index, epoch - 1), (key, budgets), found);
    }
}

fn approve(setup: &Setup, world: &World, index: usize, ask: (usize, u8), found: &mut Found) {
    let (key, budgets) = (number(ask.0), ask.1);
    let node = index;
    let whole = after(world, index, ask.0, Entry::Approve { key, budgets });
    found.push((Step::Script(node, Script::Approve { key: ask.0 }), whole));
    if world.tears == setup.tears {
        return;
    }
    // INVARIANT: charge, append, record. Each prefix leaves too little to spend, never too much.
    let torn = if setup.has(Flaw::AppendBeforeCharge) {
        [(Entry::ApproveUncharged { key, budgets }, "append"); 2]
    } else {
        let charged = (Entry::ApproveCharged { key, budgets }, "charge");
        [charged, (Entry::ApproveUnrecorded { key, budgets }, "append")]
    };
    let stops = |after| Script::Torn { key: ask.0, approved: true, after };
    for (entry, after_what) in torn {
        let mut torn = after(world, index, ask.0, entry);
        torn.tears += 1;
        found.push((Step::Script(node, stops(after_what)), torn));
    }
}

fn reject(setup: &Setup, world: &World, node: usize, key: usize, found: &mut Found) {
    let packed = number(key);
    found.push((
        Step::Script(node, Script::Reject { key }),
        after(world, node, key, Entry::Reject { key: packed }),
    ));
    if world.tears == setup.tears {
        return;
    }
    // INVARIANT: a rejection is recorded before it is appended: what is appended reaches Postgres,
    // and until then a second decision about the key must not be possible.
    let (entry, what) = if setup.has(Flaw::AppendBeforeRecordOfRejection) {
        (Entry::RejectUnrecorded { key: packed }, "append")
    } else {
        (Entry::RejectRecorded { key: packed }, "record")
    };
    let mut torn = after(world, node, key, entry);
    torn.tears += 1;
    let stops = Script::Torn { key, approved: false, after: what };
    found.push((Step::Script(node, stops), torn));
}

/// Asks Postgres about a key that this epoch does not know.
fn look_up(setup: &Setup, world: &World, (index, view): At<'_>, key: usize, found: &mut Found) {
    let epoch = world.nodes[index].epoch;
    let drained = world.position >> 4 >= epoch || setup.has(Flaw::OldRecordIgnored);
    // A record of an earlier epoch is one of the entries that Postgres will soon have, or one that
    // it will never have. Which one is known once the log up to this epoch is projected.
    let recorded = |key: usize| view.records[key].is_some();
    let waits = (recorded(key) || setup.twin(key).is_some_and(recorded)) && !drained;
    if !world.knows(setup, key) && !waits && !setup.has(Flaw::OldRecordBelieved) {
        let mut after = *world;
        after.ask(key);
        after.looked_up[key] = epoch + 1;
        found.push((Step::Transaction(Transaction::LookUp { key, epoch }), after));
    }
}

/// Asks Postgres for the proof that a budget cannot pay.
fn prove(
    setup: &Setup,
    world: &World,
    (_, epoch): (usize, u8),
    (key, budgets): (usize, u8),
    found: &mut Found,
) {
    let amount = setup.asks[key].amount;
    let used_up = |budget: usize| {
        if setup.has(Flaw::RejectionUnproved) {
            world.free(setup, budget) < amount
        } else {
            world.settled[budget] + amount > setup.limits[budget]
        }
    };
    if world.rows[key] != UNKNOWN || !each(budgets).any(used_up) {
        return;
    }
    let true_now = each(budgets).any(|b| committed(setup, world, b) + amount > setup.limits[b]);
    let mut after = *world;
    after.ask(key);
    after.proved[key] = epoch + 1;
    if !true_now {
        after.misproved |= 1 << key;
    }
    found.push((Step::Transaction(Transaction::Prove { key, epoch }), after));
}

/// What is really approved and not given back, whether Postgres has it yet or not.
fn committed(setup: &Setup, world: &World, budget: usize) -> i8 {
    let mut sum = 0;
    for (key, ask) in setup.asks.iter().enumerate() {
        let mut budgets = world.rows[key];
        if budgets == UNKNOWN {
            let entries = world.nodes().iter().flat_map(Node::entries);
            let mut approvals = entries.filter_map(|(_, _, entry)| entry.approval());
            let found = approvals.find(|(approved, _)| usize::from(*approved) == key);
            budgets = found.map_or(UNKNOWN, |(_, budgets)| budgets);
        }
        if budgets != REJECTED && budgets >> budget & 1 == 1 {
            sum += ask.amount - world.returned[key];
        }
    }
    sum
}

/// Whether an entry of a node may be answered at the level.
fn answerable(setup: &Setup, world: &World, level: Level, at: (&Node, Record)) -> bool {
    let (node, record) = at;
    // INVARIANT: whoever has not heard that an epoch is over when its leases are released does not
    // answer in it.
    let is_over = world.heard >> record.epoch & 1 == 1 && !setup.has(Flaw::AnswerAfterRelease);
    match level {
        Level::Fast => true,
        Level::Durable => record.index < usize::from(node.synced) && !is_over,
        Level::Strict => false,
    }
}

fn answer(setup: &Setup, world: &World, (index, view): At<'_>, key: usize, found: &mut Found) {
    let node = &world.nodes[index];
    let Some(record) = view.records[key] else { return };
    let present = record.epoch == node.epoch || setup.has(Flaw::OldRecordBelieved);
    // INVARIANT: only an approval is answered before Postgres has it. The fallback, which cannot
    // see the outbox, may approve the same key meanwhile, and then both said the same.
    let early = record.budgets != 0 || setup.has(Flaw::RejectionAnsweredEarly);
    let told = if record.budgets == 0 { REJECTED } else { record.budgets };
    if present
        && early
        && answerable(setup, world, setup.level(key), (node, record))
        && world.answered[key] & told == 0
    {
        let mut after = *world;
        after.answered[key] |= told;
        if setup.level(key) == Level::Durable && !setup.forgets {
            after.told_in[key] = record.epoch + 1;
        }
        let approved = told != REJECTED;
        found.push((Step::Answer { key, approved, from: Some(index) }, after));
    }
}

fn install(setup: &Setup, world: &World, (index, view): At<'_>, found: &mut Found) {
    let node = &world.nodes[index];
    for (grant, lease) in world.grants().iter().enumerate() {
        let installed = view.installed[setup.slice(usize::from(lease.budget))];
        let next = if setup.has(Flaw::InstallRepeats) {
            lease.number <= installed + 1
        } else if setup.has(Flaw::SeveralGrantsOnTheWay) {
            lease.number > installed
        } else {
            lease.number == installed + 1
        };
        let fenced = lease.epoch == node.epoch || setup.has(Flaw::InstallIgnoresEpoch);
        if next && fenced {
            let mut after = *world;
            after.nodes[index].append(Entry::Install(number(grant)));
            let script = Script::Install { lease: grant, epoch: lease.epoch };
            found.push((Step::Script(index, script), after));
        }
    }
}

fn recall(setup: &Setup, world: &World, (index, view): At<'_>, found: &mut Found) {
    let node = index;
    for budget in 0..super::world::BUDGETS {
        let amount = view.rest[budget];
        if setup.recalls && amount > 0 {
            let mut after = *world;
            let packed = number(budget);
            let by_reply = setup.has(Flaw::RecallReplyRepeats);
            if by_reply || setup.has(Flaw::RecallReplyIsLost) {
                after.nodes[index].append(Entry::RecallUnlogged { budget: packed });
                after.recalled[budget] = if by_reply { amount } else { 0 };
            } else {
                after.nodes[index].append(Entry::Recall { budget: packed, amount });
            }
            found.push((Step::Script(node, Script::Recall { budget, amount }), after));
        }
    }
    for key in 0..setup.asks.len() {
        let record = view.records[key].filter(|record| record.budgets != 0);
        let open = record.filter(|_| setup.has(Flaw::VoidInRedis) && view.voided >> key & 1 == 0);
        if let Some(record) = open {
            let mut after = *world;
            after.nodes[index].append(Entry::Void { key: number(key), budgets: record.budgets });
            after.returned[key] = setup.asks[key].amount;
            found.push((Step::Script(node, Script::Void { key }), after));
        }
    }
}

fn sync(setup: &Setup, world: &World, index: usize, found: &mut Found) {
    let node = &world.nodes[index];
    let unsynced = |at: usize, entry: Entry| {
        at >= usize::from(node.synced)
            && matches!(entry, Entry::Approve { .. } | Entry::Reject { .. })
    };
    // INVARIANT: every node of the configuration counts, not every node that is connected.
    let is_alone = world.alive == 1 || world.nodes[1 - index].away;
    let everyone = is_alone || setup.has(Flaw::SyncOfWhoeverIsThere);
    let needed = node.entries().any(|(at, _, entry)| unsynced(at, entry));
    if setup.synchronizes() && everyone && needed {
        let mut after = *world;
        after.nodes[index].synced = number(node.length());
        found.push((Step::Sync { node: index }, after));
    }
}

/// A day later. Nothing that was on its way for the key is on its way any more.
fn expire(setup: &Setup, world: &World, (node, view): At<'_>, found: &mut Found) {
    for key in 0..setup.asks.len() {
        let Some(record) = view.records[key] else { continue };
        // INVARIANT: a record outlives its entry in the outbox; an outbox with older entries than
        // that stops its shard.
        let kept = record.place > world.position && !setup.has(Flaw::RecordExpiresUnprojected);
        if setup.expiry && !kept {
            let mut after = *world;
            after.nodes[node].append(Entry::Expire { key: number(key) });
            after.old |= 1 << key;
            (after.looked_up[key], after.proved[key]) = (0, 0);
            found.push((Step::Script(node, Script::Expire { key }), after));
        }
    }
}
