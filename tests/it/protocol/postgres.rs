//! What Postgres does: it leases, projects, gives back, releases, and decides in Redis' absence.
//!
//! Each step is one transaction. Not here: the scripts (`redis`), takeovers and deaths (`failure`).

use super::redis::{Found, may_ask};
use super::setup::{Flaw, Setup, each};
use super::step::{Step, Transaction};
use super::world::{
    BUDGETS, Batch, Entry, GRANTS, Grant, Node, Place, REJECTED, UNKNOWN, World, epoch_of, packed,
    unpacked,
};

/// Everything that Postgres may do.
pub(super) fn steps(setup: &Setup, world: &World, found: &mut Found) {
    for budget in 0..BUDGETS {
        grant(setup, world, budget, found);
        hear(setup, world, budget, found);
    }
    for key in 0..setup.asks.len() {
        answer(world, key, found);
        fallback(setup, world, key, found);
        give_back(setup, world, key, found);
    }
    projector(setup, world, found);
    if setup.moves > 0 && !world.begun && world.latest == world.epoch {
        found.push((Step::Transaction(Transaction::Begun), World { begun: true, ..*world }));
    }
    for epoch in 0..world.epoch {
        release(setup, world, epoch, found);
    }
}

fn grant(setup: &Setup, world: &World, budget: usize, found: &mut Found) {
    let node = &world.nodes[usize::from(world.authority)];
    let number = world.leases(budget, world.epoch);
    if usize::from(world.granted) == setup.grants.min(GRANTS) {
        return;
    }
    // INVARIANT: no lease for an epoch that nobody has begun; it could come back only by a proof
    // about a log that does not exist.
    if !world.begun && !setup.has(Flaw::GrantBeforeBegin) {
        return;
    }
    // INVARIANT: one lease of a budget is on its way at a time, so that leases arrive in order and
    // a repeated one is known by its number.
    let stale = setup.has(Flaw::GrantChecksThenActs);
    if number > 0 && !stale && !setup.has(Flaw::SeveralGrantsOnTheWay) {
        let installed = world.view(setup, node).installed[setup.slice(budget)];
        let forgotten = setup.has(Flaw::RecallForgetsInstalls) || setup.has(Flaw::PeriodIsReset);
        if node.epoch != world.epoch || (usize::from(installed) != number && !forgotten) {
            return;
        }
    }
    // Read before the last grant was made, and written after it.
    let before = world.grants().last().filter(|_| stale).map_or(0, |last| last.amount);
    let last = world.lease_level(budget, usize::from(world.epoch));
    for asked in setup.levels_of(budget) {
        // INVARIANT: a lease only gets weaker within an epoch.
        let known = last.filter(|_| !setup.has(Flaw::LeaseGetsStronger));
        let level = known.map_or(asked, |last| last.min(asked));
        // One of nothing, if that is all that is missing.
        let weakens = last.is_some_and(|last| level < last).then_some(0);
        for amount in setup.slices.iter().copied().chain(weakens) {
            if amount > world.free(setup, budget) + before {
                continue;
            }
            let mut after = *world;
            after.leased[budget][usize::from(world.epoch)] += amount;
            after.grants[usize::from(world.granted)] = Grant {
                budget: u8::try_from(budget).unwrap(),
                epoch: world.epoch,
                amount,
                number: u8::try_from(number + 1).unwrap(),
                level,
            };
            after.granted += 1;
            let (amount, epoch) = (amount, world.epoch);
            let granted = Transaction::Grant { budget, amount, epoch, level };
            found.push((Step::Transaction(granted), after));
        }
    }
}

/// The recalls of the wrong variants; the right one travels in the outbox.
fn hear(setup: &Setup, world: &World, budget: usize, found: &mut Found) {
    let epoch = usize::from(world.epoch);
    let (heard, leased) = (world.recalled[budget], world.leased[budget][epoch]);
    if heard > 0 && leased >= heard {
        let mut after = *world;
        after.leased[budget][epoch] -= heard;
        found.push((Step::Transaction(Transaction::RecallHeard { budget, amount: heard }), after));
    }
    if setup.has(Flaw::RecallIsBlind) && leased > 0 {
        let mut after = *world;
        after.leased[budget][epoch] = 0;
        found.push((Step::Transaction(Transaction::RecallBlind { budget, amount: leased }), after));
    }
}

/// At every level a row of Postgres may be told: to a retry, to a wait, by any replica.
fn answer(world: &World, key: usize, found: &mut Found) {
    let row = world.rows[key];
    if row != UNKNOWN && world.answered[key] & row == 0 {
        let mut after = *world;
        after.answered[key] |= row;
        found.push((Step::Answer { key, approved: row != REJECTED, from: None }, after));
    }
}

/// A replica that cannot reach Redis.
fn fallback(setup: &Setup, world: &World, key: usize, found: &mut Found) {
    if !setup.fallback || world.knows(setup, key) || !may_ask(setup, world, key) {
        return;
    }
    let amount = setup.asks[key].amount;
    let budgets = setup.budgets(world, key);
    let covered = each(budgets).all(|budget| {
        let unleased = world.free(setup, budget);
        let unsettled = setup.limits[budget] - world.settled[budget];
        amount <= if setup.has(Flaw::FallbackSpendsLeases) { unsettled } else { unleased }
    });
    let mut after = *world;
    after.ask(key);
    if covered {
        after.rows[key] = budgets;
        each(budgets).for_each(|budget| after.settled[budget] += amount);
    } else if setup.has(Flaw::FallbackRejects) {
        after.rows[key] = REJECTED;
    } else {
        // Not a rejection: the outbox that nobody can read may have an approval.
        return;
    }
    found.push((Step::Transaction(Transaction::Decide { key, approved: covered }), after));
}

/// A void or a refund: of all that is left, and of one unit.
fn give_back(setup: &Setup, world: &World, key: usize, found: &mut Found) {
    let row = world.rows[key];
    if !setup.voids || row == UNKNOWN || row == REJECTED || setup.has(Flaw::VoidInRedis) {
        return;
    }
    let left = setup.asks[key].amount - world.returned[key];
    let repeated = setup.has(Flaw::VoidRepeats) && left == 0;
    let amounts = if repeated { [setup.asks[key].amount, 0] } else { [left, i8::from(left > 1)] };
    for amount in amounts.into_iter().filter(|amount| *amount > 0) {
        let mut after = *world;
        for budget in each(row) {
            let this = usize::from(world.period);
            let credited = if setup.has(Flaw::VoidCreditsThisPeriod) { this } else { budget };
            after.settled[credited] -= amount;
        }
        if !repeated {
            after.returned[key] += amount;
        }
        if after.settled.iter().all(|settled| *settled >= 0) || !repeated {
            found.push((Step::Transaction(Transaction::GiveBack { key, amount }), after));
        }
    }
}

/// The next entry that a projector may take from a node: the one after the position, or the first
/// of a later epoch. Anything else would be a hole.
fn next_of(setup: &Setup, world: &World, node: usize) -> Option<(Place, Entry)> {
    let next = world.nodes[node].after(world.position);
    next.filter(|(place, entry)| {
        let follows = *place == world.position + 1 || matches!(entry, Entry::Begin(_));
        follows || setup.has(Flaw::ProjectionIgnoresOrder)
    })
}

fn projector(setup: &Setup, world: &World, found: &mut Found) {
    for node in 0..world.nodes().len() {
        if setup.has(Flaw::ProjectionIgnoresOrder) {
            project_unordered(setup, world, node, found);
            continue;
        }
        // INVARIANT: only the log of the present authority is read. What a superseded node appended
        // was never answered, and the same keys may have been decided elsewhere since.
        if usize::from(world.authority) != node && !setup.has(Flaw::ProjectionUnfenced) {
            continue;
        }
        let Some((place, entry)) = next_of(setup, world, node) else { continue };
        let mut after = *world;
        let behind = behind(&world.nodes[node], (place, entry));
        project(setup, &mut after, (place, entry), behind);
        found.push((Step::Transaction(Transaction::Project { node, place }), after));
        if setup.late_batches && world.batch.is_none() {
            let mut after = *world;
            let (position, epoch, entry) = (world.position, world.epoch, packed(entry));
            after.batch = Some(Batch { position, epoch, place, entry, behind });
            if setup.has(Flaw::TrimBeforeCommit) {
                after.nodes[node].trimmed = place;
            }
            found.push((Step::Transaction(Transaction::Read { node, place }), after));
        }
    }
    let Some(batch) = world.batch else { return };
    let mut after = *world;
    after.batch = None;
    if setup.has(Flaw::TrimBeforeCommit) {
        found.push((Step::Transaction(Transaction::ProjectorDies), after));
    }
    if may_commit(setup, world, batch) {
        project(setup, &mut after, (batch.place, unpacked(batch.entry)), batch.behind);
        found.push((Step::Transaction(Transaction::CommitLate { place: batch.place }), after));
    }
}

/// INVARIANT: the transaction that has the effects compares the epoch and moves the position by
/// compare-and-set.
pub(super) fn may_commit(setup: &Setup, world: &World, batch: Batch) -> bool {
    let present = batch.epoch == world.epoch || setup.has(Flaw::ProjectionCommitsLate);
    let next = batch.position == world.position || setup.has(Flaw::ProjectionIgnoresPosition);
    present && next
}

/// A projector that only knows which decisions it has, not where it is.
fn project_unordered(setup: &Setup, world: &World, node: usize, found: &mut Found) {
    for (_, place, entry) in world.nodes[node].entries() {
        let unknown = |key: u8| world.rows[usize::from(key)] == UNKNOWN;
        let begins = matches!(entry, Entry::Begin(_)) && place > world.position;
        if begins || entry.approval().is_some_and(|(key, _)| unknown(key)) {
            let mut after = *world;
            let behind = behind(&world.nodes[node], (place, entry));
            project(setup, &mut after, (place.max(world.position), entry), behind);
            after.position = place.max(world.position);
            found.push((Step::Transaction(Transaction::Project { node, place }), after));
        }
    }
}

/// The last place in front of an entry that begins an epoch.
fn behind(node: &Node, (place, entry): (Place, Entry)) -> Place {
    if matches!(entry, Entry::Begin(_)) { node.before(place) } else { 0 }
}

/// One entry, its money, and the position, in one transaction.
fn project(setup: &Setup, world: &mut World, (place, entry): (Place, Entry), behind: Place) {
    if let Entry::Begin(next) = entry {
        // INVARIANT: a log that begins its next epoch in front of what is recorded was put back,
        // and of an epoch in between nothing is known.
        let is_whole = behind >= world.position || setup.has(Flaw::EndNotCompared);
        let last = epoch_of(world.position);
        let ended = (last..next).filter(|epoch| *epoch > last || !is_whole);
        world.unsound |= ended.fold(0, |all, epoch| all | 1 << epoch);
    }
    world.position = place;
    let epoch = usize::from(epoch_of(place));
    if let Some((key, budgets)) = entry.approval() {
        let key = usize::from(key);
        let amount = setup.asks[key].amount;
        // INVARIANT: a duplicate is the same key with the same request. Another request with it is
        // another decision, which somebody may have been told.
        let known = if setup.has(Flaw::DuplicateByKeyAlone) {
            world.knows(setup, key)
        } else {
            world.rows[key] != UNKNOWN
        };
        let first = !known;
        for budget in each(budgets) {
            // INVARIANT: the lease of the entry's own epoch shrinks, also for a key that Postgres
            // had before: then the money goes back.
            if first || !setup.has(Flaw::DuplicateKeepsLease) {
                world.leased[budget][epoch] -= amount;
            }
            if first || setup.has(Flaw::DuplicateSettlesAgain) {
                world.settled[budget] += amount;
            }
        }
        if first {
            world.rows[key] = budgets;
        }
    }
    match entry {
        Entry::Reject { key } | Entry::RejectUnrecorded { key } => {
            let row = &mut world.rows[usize::from(key)];
            if *row == UNKNOWN {
                *row = REJECTED;
            }
        }
        Entry::Recall { budget, amount } => world.leased[usize::from(budget)][epoch] -= amount,
        Entry::Void { key, budgets } => {
            for budget in each(budgets) {
                let amount = setup.asks[usize::from(key)].amount;
                world.settled[budget] -= amount;
                world.leased[budget][epoch] += amount;
            }
        }
        Entry::Begin(_)
        | Entry::Install(_)
        | Entry::Approve { .. }
        | Entry::ApproveCharged { .. }
        | Entry::ApproveUnrecorded { .. }
        | Entry::ApproveUncharged { .. }
        | Entry::RejectRecorded { .. }
        | Entry::RecallUnlogged { .. }
        | Entry::Expire { .. } => {}
    }
}

/// What an ended epoch still leases becomes free.
fn release(setup: &Setup, world: &World, epoch: u8, found: &mut Found) {
    let of = usize::from(epoch);
    let drained = epoch_of(world.position) > epoch || setup.has(Flaw::ReleaseBeforeDrain);
    // That no other node still serves the epoch need not be asked: where it could answer alone, the
    // copy that took over could prove nothing, and the epoch counts as lost.
    let mut after = *world;
    for budget in (0..BUDGETS).filter(|_| drained) {
        if !world.is_doubtful(setup, budget, of) || setup.has(Flaw::ReleaseAfterLoss) {
            after.leased[budget][of] = 0;
        }
    }
    if after.leased != world.leased {
        if setup.synchronizes() {
            after.heard |= 1 << epoch;
        }
        found.push((Step::Transaction(Transaction::Release { epoch }), after));
    }
}

/// What a recovery does that nobody hinders.
pub(super) fn settle(setup: &Setup, world: &mut World, node: usize) {
    while let Some((place, entry)) = next_of(setup, world, node) {
        let behind = behind(&world.nodes[node], (place, entry));
        project(setup, world, (place, entry), behind);
    }
    let mut found = Vec::new();
    for epoch in 0..world.epoch {
        release(setup, world, epoch, &mut found);
        if let Some((_, after)) = found.pop() {
            *world = after;
        }
    }
}
