//! The second model: Redis holds the whole remainder and a takeover rebuilds it from what Postgres
//! knows; replies leave when the script has run, or when Postgres has the entry.
//!
//! It shows what the slices are for. Kept as it was, for its known numbers of states. Not here:
//! leases.

use std::fmt;

use super::search::Model;

/// One limit, some epochs and spends, and when replies leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rebuild {
    pub(super) limit: i8,
    pub(super) epochs: u8,
    pub(super) spends: u8,
    /// Postgres takes entries of the present epoch only.
    pub(super) fenced: bool,
    /// Replies wait for Postgres.
    pub(super) strict: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Entry {
    Rest(i8),
    Spend { id: u8, epoch: u8 },
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Node {
    serving: bool,
    epoch: u8,
    log: Vec<Entry>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    settled: i8,
    epoch: u8,
    nodes: Vec<Node>,
    approved: i8,
    projected: u16,
    next_id: u8,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Spend(u8, usize),
    Project(u8, u8),
    Crash(usize, usize),
    Fork(usize, usize),
    TakeOver(usize, u8, i8),
}

impl fmt::Display for Step {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spend(id, node) => write!(to, "node {node} approves spend {id}"),
            Self::Project(id, epoch) => write!(to, "spend {id} of epoch {epoch} is projected"),
            Self::Crash(node, kept) => write!(to, "node {node} dies, {kept} entries remain"),
            Self::Fork(node, kept) => write!(to, "node {node} is copied with {kept} entries"),
            Self::TakeOver(node, epoch, rest) => {
                write!(to, "node {node} takes over as epoch {epoch} with {rest} left")
            }
        }
    }
}

/// More was approved, or recorded, than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overspent;

type Found = Vec<(Step, State)>;

fn read(log: &[Entry]) -> (i8, Vec<(u8, u8)>) {
    let (mut rest, mut spends) = (0, Vec::new());
    for entry in log {
        match *entry {
            Entry::Rest(amount) => rest = amount,
            Entry::Spend { id, epoch } => {
                rest -= 1;
                spends.push((id, epoch));
            }
        }
    }
    (rest, spends)
}

impl Rebuild {
    fn node(self, state: &State, index: usize, found: &mut Found) {
        let node = &state.nodes[index];
        let (rest, spends) = read(&node.log);
        if node.serving && rest > 0 && state.next_id < self.spends {
            let mut after = state.clone();
            let id = state.next_id;
            after.nodes[index].log.push(Entry::Spend { id, epoch: node.epoch });
            after.approved += i8::from(!self.strict);
            after.next_id += 1;
            found.push((Step::Spend(id, index), after));
        }
        for (id, epoch) in spends {
            let known = state.projected >> id & 1 == 1;
            if !known && (!self.fenced || epoch == state.epoch) {
                let mut after = state.clone();
                after.settled += 1;
                after.approved += i8::from(self.strict);
                after.projected |= 1 << id;
                found.push((Step::Project(id, epoch), after));
            }
        }
        for kept in 0..=node.log.len() {
            let mut after = state.clone();
            after.nodes[index].serving = false;
            after.nodes[index].log.truncate(kept);
            found.push((Step::Crash(index, kept), after));
            if state.nodes.len() < 2 {
                let mut after = state.clone();
                let log = node.log[..kept].to_vec();
                after.nodes.push(Node { serving: false, epoch: node.epoch, log });
                found.push((Step::Fork(index, kept), after));
            }
        }
        if !node.serving && state.epoch < self.epochs {
            let mut after = state.clone();
            let (epoch, rest) = (state.epoch + 1, self.limit - state.settled);
            after.epoch = epoch;
            let node = &mut after.nodes[index];
            (node.serving, node.epoch) = (true, epoch);
            node.log.push(Entry::Rest(rest));
            found.push((Step::TakeOver(index, epoch, rest), after));
        }
    }
}

impl Model for Rebuild {
    type State = State;
    type Step = Step;
    type Broken = Overspent;

    fn start(&self) -> State {
        let node = Node { serving: true, epoch: 0, log: vec![Entry::Rest(self.limit)] };
        let (settled, epoch, approved, projected, next_id) = (0, 0, 0, 0, 0);
        State { settled, epoch, nodes: vec![node], approved, projected, next_id }
    }

    fn next(&self, state: &State, found: &mut Found) {
        for index in 0..state.nodes.len() {
            self.node(state, index, found);
        }
    }

    fn broken(&self, state: &State) -> Option<Overspent> {
        (state.approved > self.limit || state.settled > self.limit).then_some(Overspent)
    }
}
