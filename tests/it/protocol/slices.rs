//! The first model: one budget of unit amounts, leased in slices to a Redis that may lose any tail
//! of its log or be split in two; replies leave as soon as the script has run.
//!
//! It was written before the protocol was complete and is kept as it was, because its numbers of
//! states are known: the search must find the same. Not here: everything `world` adds.

use std::fmt;

use super::search::Model;

/// A natural protocol that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    RestartKeepsEpoch,
    TakeoverKeepsSlice,
    TakeoverReclaimsLeases,
    ReleaseAfterLoss,
    ReleaseBeforeDrain,
}

/// How far the search goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slices {
    pub(super) limit: i8,
    pub(super) epochs: u8,
    pub(super) grants: u8,
    pub(super) flaw: Option<Flaw>,
}

const EPOCHS: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Entry {
    Install { grant: u8 },
    Spend { id: u8, epoch: u8 },
    TakeOver,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Node {
    serving: bool,
    epoch: u8,
    log: Vec<Entry>,
    /// The process served and came back with everything it had.
    whole: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    settled: i8,
    leased: [i8; EPOCHS],
    epoch: u8,
    nodes: Vec<Node>,
    approved: i8,
    /// A bit for each spend that Postgres knows.
    projected: u16,
    /// A grant that is on its way, and its epoch.
    granted: Option<(u8, u8)>,
    next_id: u8,
}

impl State {
    fn committed(&self) -> i8 {
        self.settled + self.leased.iter().sum::<i8>()
    }

    fn knows(&self, id: u8) -> bool {
        self.projected >> id & 1 == 1
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Grant(u8, u8),
    Lose(u8),
    Install(u8, usize),
    Spend(u8, usize, u8),
    Project(u8, u8),
    Crash(usize, usize, usize),
    Fork(usize, usize),
    Release(u8, u8),
    TakeOver(usize, u8),
}

impl fmt::Display for Step {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grant(id, epoch) => write!(to, "Postgres grants lease {id} to epoch {epoch}"),
            Self::Lose(id) => write!(to, "lease {id} is lost on the way"),
            Self::Install(id, node) => write!(to, "lease {id} is installed on node {node}"),
            Self::Spend(id, node, epoch) => {
                write!(to, "node {node} approves spend {id} in epoch {epoch} and answers")
            }
            Self::Project(id, epoch) => write!(to, "spend {id} of epoch {epoch} is projected"),
            Self::Crash(node, kept, of) => write!(to, "node {node} dies, {kept} of {of} remain"),
            Self::Fork(node, kept) => write!(to, "node {node} is copied with {kept} entries"),
            Self::Release(of, epoch) => {
                write!(to, "the leases of epoch {of} are released, Postgres is at epoch {epoch}")
            }
            Self::TakeOver(node, epoch) => write!(to, "node {node} takes over as epoch {epoch}"),
        }
    }
}

/// More was approved than the limit, or Postgres holds more than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overspent;

type Found = Vec<(Step, State)>;

impl Slices {
    /// What is left in a node's slice, and the spends in its log.
    fn read(self, log: &[Entry]) -> (i8, Vec<(u8, u8)>) {
        let (mut rest, mut spends, mut installed) = (0, Vec::new(), 0_u16);
        for entry in log {
            match *entry {
                Entry::Install { grant } if installed >> grant & 1 == 0 => {
                    installed |= 1 << grant;
                    rest += 1;
                }
                Entry::Install { .. } => {}
                Entry::Spend { id, epoch } => {
                    rest -= 1;
                    spends.push((id, epoch));
                }
                Entry::TakeOver if self.flaw == Some(Flaw::TakeoverKeepsSlice) => {}
                Entry::TakeOver => rest = 0,
            }
        }
        (rest, spends)
    }

    fn grants(self, state: &State, found: &mut Found) {
        if state.committed() < self.limit && state.granted.is_none() && state.next_id < self.grants
        {
            let mut after = state.clone();
            after.leased[usize::from(state.epoch)] += 1;
            after.granted = Some((state.next_id, state.epoch));
            after.next_id += 1;
            found.push((Step::Grant(state.next_id, state.epoch), after));
        }
        let Some((grant, epoch)) = state.granted else { return };
        let mut after = state.clone();
        after.granted = None;
        found.push((Step::Lose(grant), after.clone()));
        for (index, node) in state.nodes.iter().enumerate() {
            if node.serving && node.epoch == epoch {
                let mut after = after.clone();
                after.nodes[index].log.push(Entry::Install { grant });
                found.push((Step::Install(grant, index), after));
            }
        }
    }

    fn spends(self, state: &State, index: usize, found: &mut Found) {
        let node = &state.nodes[index];
        let (rest, spends) = self.read(&node.log);
        if node.serving && rest >= 1 && state.next_id < self.grants + 3 {
            let mut after = state.clone();
            let (id, epoch) = (state.next_id, node.epoch);
            after.nodes[index].log.push(Entry::Spend { id, epoch });
            after.approved += 1;
            after.next_id += 1;
            found.push((Step::Spend(id, index, epoch), after));
        }
        for (id, epoch) in spends {
            if !state.knows(id) {
                let mut after = state.clone();
                let leased = &mut after.leased[usize::from(epoch)];
                if *leased > 0 || self.flaw.is_some() {
                    *leased -= 1;
                }
                after.settled += 1;
                after.projected |= 1 << id;
                found.push((Step::Project(id, epoch), after));
            }
        }
    }

    fn failures(self, state: &State, index: usize, found: &mut Found) {
        let node = &state.nodes[index];
        let length = node.log.len();
        if length > 0 || node.serving {
            for kept in 0..=length {
                let mut after = state.clone();
                let died = &mut after.nodes[index];
                died.log.truncate(kept);
                died.whole = kept == length && (node.serving || node.whole);
                died.serving = self.flaw == Some(Flaw::RestartKeepsEpoch);
                if after.nodes[index] != *node {
                    found.push((Step::Crash(index, kept, length), after));
                }
            }
        }
        if state.nodes.len() < 2 {
            for kept in 0..=length {
                let mut after = state.clone();
                let log = node.log[..kept].to_vec();
                let (serving, whole) = (false, false);
                after.nodes.push(Node { serving, epoch: node.epoch, log, whole });
                found.push((Step::Fork(index, kept), after));
            }
        }
    }

    fn release(self, state: &State, index: usize, found: &mut Found) {
        let node = &state.nodes[index];
        let of = node.epoch;
        if node.serving || of > state.epoch || state.leased[usize::from(of)] <= 0 {
            return;
        }
        let complete = node.whole || self.flaw == Some(Flaw::ReleaseAfterLoss);
        let (_, spends) = self.read(&node.log);
        let drained = spends.iter().all(|(id, epoch)| *epoch != of || state.knows(*id))
            || self.flaw == Some(Flaw::ReleaseBeforeDrain);
        let served = state.nodes.iter().any(|node| node.serving && node.epoch == of);
        // An epoch that is still the present one is closed by the same transaction.
        let epoch = state.epoch.max(of + 1);
        if complete && drained && !served && epoch <= self.epochs {
            let mut after = state.clone();
            after.leased[usize::from(of)] = 0;
            after.epoch = epoch;
            after.granted = state.granted.filter(|(_, granted)| *granted != of);
            found.push((Step::Release(of, epoch), after));
        }
    }

    fn takeover(self, state: &State, index: usize, found: &mut Found) {
        if state.nodes[index].serving || state.epoch >= self.epochs {
            return;
        }
        let mut after = state.clone();
        after.epoch += 1;
        if self.flaw == Some(Flaw::TakeoverReclaimsLeases) {
            after.leased[..usize::from(after.epoch)].fill(0);
        }
        let epoch = after.epoch;
        let node = &mut after.nodes[index];
        (node.serving, node.whole, node.epoch) = (true, false, epoch);
        node.log.push(Entry::TakeOver);
        found.push((Step::TakeOver(index, epoch), after));
    }
}

impl Model for Slices {
    type State = State;
    type Step = Step;
    type Broken = Overspent;

    fn start(&self) -> State {
        let node = Node { serving: true, epoch: 0, log: Vec::new(), whole: false };
        State {
            settled: 0,
            leased: [0; EPOCHS],
            epoch: 0,
            nodes: vec![node],
            approved: 0,
            projected: 0,
            granted: None,
            next_id: 0,
        }
    }

    fn next(&self, state: &State, found: &mut Found) {
        self.grants(state, found);
        for index in 0..state.nodes.len() {
            self.spends(state, index, found);
            self.failures(state, index, found);
            self.release(state, index, found);
            self.takeover(state, index, found);
        }
    }

    fn broken(&self, state: &State) -> Option<Overspent> {
        let held = state.committed() > self.limit && self.flaw.is_none();
        (state.approved > self.limit || held).then_some(Overspent)
    }
}
