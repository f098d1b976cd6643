//! What the scripts of a node see, read from its log.
//!
//! Not here: what they do with it (`redis`).

use super::setup::{Flaw, Level, Setup, each};
use super::world::{BUDGETS, Entry, KEYS, Node, Place, World, epoch_of};

/// What a key was recorded as in a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The budgets it was charged to; none for a rejection.
    pub(super) budgets: u8,
    pub(super) epoch: u8,
    /// Where in the log, and in the outbox.
    pub(super) index: usize,
    pub(super) place: Place,
}

/// What the scripts of a node see.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) rest: [i8; BUDGETS],
    /// The number of the last lease that was installed.
    pub(super) installed: [u8; BUDGETS],
    /// The weakest level that may be answered.
    pub(super) weakest: [Level; BUDGETS],
    pub(super) records: [Option<Record>; KEYS],
    pub(super) voided: u8,
}

impl View {
    /// INVARIANT: nothing is spent from a slice at a weaker level than its lease says.
    pub(super) fn covers(&self, setup: &Setup, budgets: u8, (amount, level): (i8, Level)) -> bool {
        each(budgets).map(|budget| setup.slice(budget)).all(|slice| {
            let is_known = level >= self.weakest[slice] || setup.has(Flaw::SliceKnowsNoLevel);
            self.rest[slice] >= amount && is_known
        })
    }
}

impl World {
    /// What a node's scripts see.
    pub(super) fn view(&self, setup: &Setup, node: &Node) -> View {
        let mut view = View {
            rest: [0; BUDGETS],
            installed: [0; BUDGETS],
            weakest: [Level::Strict; BUDGETS],
            records: [None; KEYS],
            voided: 0,
        };
        for (index, place, entry) in node.entries() {
            self.apply(setup, &mut view, (index, place), entry);
        }
        view
    }

    fn apply(&self, setup: &Setup, view: &mut View, at: (usize, Place), entry: Entry) {
        let (index, place) = at;
        let epoch = epoch_of(place);
        let mut record = |key: u8, budgets: u8| {
            view.records[usize::from(key)] = Some(Record { budgets, epoch, index, place });
        };
        match entry {
            Entry::Approve { key, budgets } => record(key, budgets),
            Entry::Reject { key } | Entry::RejectRecorded { key } => record(key, 0),
            Entry::Expire { key } => view.records[usize::from(key)] = None,
            Entry::Begin(_)
            | Entry::Install(_)
            | Entry::ApproveCharged { .. }
            | Entry::ApproveUnrecorded { .. }
            | Entry::ApproveUncharged { .. }
            | Entry::RejectUnrecorded { .. }
            | Entry::Recall { .. }
            | Entry::RecallUnlogged { .. }
            | Entry::Void { .. } => {}
        }
        match entry {
            Entry::Begin(_) => {
                if !setup.has(Flaw::SliceSurvivesTakeover) {
                    view.rest = [0; BUDGETS];
                }
                view.installed = [0; BUDGETS];
            }
            Entry::Install(grant) => {
                let grant = self.grants[usize::from(grant)];
                let budget = setup.slice(usize::from(grant.budget));
                view.rest[budget] += grant.amount;
                view.installed[budget] = grant.number;
                view.weakest[budget] = grant.level;
            }
            Entry::Approve { key, budgets }
            | Entry::ApproveCharged { key, budgets }
            | Entry::ApproveUnrecorded { key, budgets } => {
                for budget in each(budgets) {
                    view.rest[setup.slice(budget)] -= setup.asks[usize::from(key)].amount;
                }
            }
            Entry::Recall { budget, .. } | Entry::RecallUnlogged { budget } => {
                view.rest[usize::from(budget)] = 0;
                if setup.has(Flaw::RecallForgetsInstalls) {
                    view.installed[usize::from(budget)] = 0;
                }
            }
            Entry::Void { key, budgets } => {
                view.voided |= 1 << key;
                for budget in each(budgets) {
                    view.rest[budget] += setup.asks[usize::from(key)].amount;
                }
            }
            Entry::ApproveUncharged { .. }
            | Entry::Reject { .. }
            | Entry::RejectRecorded { .. }
            | Entry::RejectUnrecorded { .. }
            | Entry::Expire { .. } => {}
        }
    }
}
